#!/usr/bin/env python3
"""What GIMP starts. Beside it lies the package of the same name, which Python prefers to this file."""

from lazydiffusion.plugin import main

if __name__ == "__main__":
    main()

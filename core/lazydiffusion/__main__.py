"""`python -m lazydiffusion` is the `lazydiffusion` program."""

from lazydiffusion.cli import app

app()

"""Generative fill whose cost follows the selection, not the canvas."""

from lazydiffusion.version import __version__

__all__ = ["__version__"]

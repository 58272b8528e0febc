"""Generative fill whose cost follows the selection, not the canvas."""

__version__ = "0.1.0"

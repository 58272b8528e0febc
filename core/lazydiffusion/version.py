"""The version, of the core and of the editors' plugins that are built with it."""

__version__ = "0.1.0"

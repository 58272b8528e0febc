"""LazyDiffusion in Krita: a docker that fills the selection. Does nothing outside of Krita."""

from __future__ import annotations

import importlib.util
import sys

# Krita makes its module by itself; the plugin's other modules are read outside of Krita too, where nothing is shown.
if "krita" in sys.modules or importlib.util.find_spec("krita") is not None:
    from .docker import register

    register()

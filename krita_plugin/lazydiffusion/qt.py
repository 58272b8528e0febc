"""Qt as Krita brings it: PyQt5 in Krita 5, PyQt6 in Krita 6. Enum members are written in full: both know them so."""

from __future__ import annotations

import sys

# What Krita itself has loaded decides: where both are installed, the other one would bring a second Qt.
if "PyQt5.QtCore" in sys.modules:
    from PyQt5 import QtCore, QtGui, QtWidgets
else:
    try:
        from PyQt6 import QtCore, QtGui, QtWidgets
    except ImportError:
        from PyQt5 import QtCore, QtGui, QtWidgets

__all__ = ["QtCore", "QtGui", "QtWidgets"]

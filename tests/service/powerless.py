"""Python that may not read what is forbidden to it, even where the tests run as root, who may read everything."""

from __future__ import annotations

POWERLESS = """
import ctypes, os, sys
if sys.platform == "linux":
    for power in (1, 2):  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH are given up, 24: for this and what it starts
        ctypes.CDLL(None).prctl(24, power, 0, 0, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""To be run by `python -c` with the arguments of another Python, which has the same pid."""

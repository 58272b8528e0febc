"""Puts the test driver into the process of a GIMP plug-in, whose own code knows nothing of it.

GIMP runs a Python plug-in as a program of its own and hands its environment on, PYTHONPATH too; Python imports the
first module of this name before the program. Debian's own, which this one is found before, would only look for
apport. All that GIMP starts in Python comes by here: the plug-in alone, told by the end of its path, gets the driver,
and what the plug-in starts in turn (the core) gets back the environment without this folder.
"""

import os
import sys
from pathlib import Path

PLUGIN = os.environ.get("LAZYDRIVER_PLUGIN")

if PLUGIN and any(word.endswith("/" + PLUGIN) for word in sys.orig_argv[:3]):  # sys.argv is not there yet
    from lazydriver import uncaught

    uncaught.install(os.environ["LAZYDRIVER_UNCAUGHT"])
    if "-run" in sys.orig_argv:  # and not for -query or -init, by which GIMP learns what the plug-in offers
        from lazydriver import plugin

        plugin.listen(Path(os.environ["LAZYDRIVER_FOLDER"], f"plugin-{os.getpid()}.sock"))
    sys.path.remove(str(Path(__file__).parent))
    del os.environ["PYTHONPATH"]

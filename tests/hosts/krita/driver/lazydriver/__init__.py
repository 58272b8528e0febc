"""A Krita plugin that lets a test ask things inside Krita; does nothing unless a test started this Krita."""

import os

if "LAZYDRIVER_SOCKET" in os.environ:
    from . import uncaught

    uncaught.install(os.environ["LAZYDRIVER_UNCAUGHT"])

    from krita import Extension, Krita

    from .driver import Driver

    class DriverExtension(Extension):
        """Starts to listen when Krita has its plugins, and gives them nothing."""

        def setup(self):
            self.driver = Driver(os.environ["LAZYDRIVER_SOCKET"])

        def createActions(self, window):  # noqa: N802 - Krita's name
            pass

    Krita.instance().addExtension(DriverExtension(Krita.instance()))

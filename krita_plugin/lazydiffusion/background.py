"""Work in threads of its own, with the outcome back on the GUI thread."""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Callable, Optional

from .qt import QtCore


class _Relay(QtCore.QObject):
    """Calls functions on the thread that made it. There is one, and nothing deletes it while Krita runs.

    Other threads may only emit signals of an object that cannot be deleted at the same moment: that it is gone could
    not be told in time, and Krita would crash.
    """

    called = QtCore.pyqtSignal(object, object)

    def __init__(self) -> None:
        super().__init__()
        self.called.connect(self._call, QtCore.Qt.ConnectionType.QueuedConnection)

    def _call(self, owner: QtCore.QObject, function: Callable[[], Any]) -> None:
        # On the owner's own thread, which alone deletes it. Not its signal `destroyed`: a function that is connected to
        # that was collected as garbage before it was called.
        try:
            owner.signalsBlocked()
        except RuntimeError:
            return
        function()


class GuiThread(QtCore.QObject):
    """Called from any thread, it has the given function called on the thread that made it, in order."""

    _made: Optional[_Relay] = None

    def __init__(self, parent: Optional[QtCore.QObject] = None) -> None:
        super().__init__(parent)
        GuiThread._made = self._relay = GuiThread._made or _Relay()

    def __call__(self, function: Callable[[], Any]) -> None:
        """Have it called; nothing happens when this object is gone."""
        # RuntimeError: Krita has ended and Qt with it.
        with contextlib.suppress(RuntimeError):
            self._relay.called.emit(self, function)


class Background(QtCore.QObject):
    """Runs functions in daemon threads: a core that does not answer must not keep Krita waiting."""

    def __init__(self, parent: Optional[QtCore.QObject] = None) -> None:
        super().__init__(parent)
        self._gui = GuiThread(self)

    def run(
        self,
        work: Callable[[], Any],
        done: Callable[[Any], None],
        failed: Optional[Callable[[Exception], None]] = None,
    ) -> None:
        """Do `work` and then, on the GUI thread, `done(result)` or `failed(exception)`."""

        def body() -> None:
            try:
                result = work()
            except Exception as error:
                if failed is not None:
                    told, report = error, failed
                    self._gui(lambda: report(told))
                return
            self._gui(lambda: done(result))

        threading.Thread(target=body, name="lazydiffusion-background", daemon=True).start()

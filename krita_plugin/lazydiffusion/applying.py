"""Making a layer of a result, in short turns."""

from __future__ import annotations

from typing import Optional

from lazydiffusion.client.placing import LiesOutside, placement
from lazydiffusion.client.words import tr

from .document import Document, NewLayer
from .qt import QtCore
from .results import Result
from .turns import Turns


class Applying(QtCore.QObject):
    """Makes one layer at a time: one undo step of its document."""

    changed = QtCore.pyqtSignal()
    """`busy`, `text` or `share` changed."""
    applied = QtCore.pyqtSignal(object, object, str)
    """A Result, the NewLayer that was made of it, and what the artist should know about it (or "")."""
    failed = QtCore.pyqtSignal(str)

    def __init__(self, parent: Optional[QtCore.QObject] = None) -> None:
        super().__init__(parent)
        self._turns: Optional[Turns] = None
        self.text = ""
        """What it is doing; empty when nothing is."""
        self.share: Optional[float] = None

    @property
    def busy(self) -> bool:
        """Whether a layer is being made."""
        return self._turns is not None

    def start(self, document: Document, result: Result, notice: str = "") -> None:
        """Begin, and return at once; nothing happens while another layer is being made.

        `notice`: what else the artist should know of it.
        """
        if self.busy:
            return
        try:
            placed = placement(result.box, result.canvas_size, document.size)
        except LiesOutside as error:
            self.failed.emit(str(error))
            return
        self._turns = Turns(
            document.add_layer(result.layer_name, result.box, result.fill.rgba),
            done=lambda layer: self._done(result, layer, " ".join(filter(None, (notice, placed)))),
            failed=self._failed,
            progressed=self._progressed,
            parent=self,
        )

    def stop(self) -> None:
        """Let it be; no half layer stays."""
        turns, self._turns = self._turns, None
        if turns is not None:
            turns.stop()
            turns.deleteLater()
        self.text, self.share = "", None

    def _progressed(self, share: float) -> None:
        self.text, self.share = tr("Making the layer…"), share
        self.changed.emit()

    def _done(self, result: Result, layer: NewLayer, notice: str) -> None:
        self.stop()
        self.applied.emit(result, layer, notice)
        self.changed.emit()

    def _failed(self, error: Exception) -> None:
        self.stop()
        self.failed.emit(str(error))
        self.changed.emit()

"""One edit after the other for a docker: reading the document, the core's work, and what comes of it.

What is asked for while an edit runs is read at once, while the selection is the right one, and waits its turn.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Optional

from lazydiffusion.client import CoreError, EditController, FillPixels, State
from lazydiffusion.client.controller import ENDED
from lazydiffusion.client.modes import Mode, settings_for
from lazydiffusion.client.words import edit_state, progress, share_done, tr
from lazydiffusion.events import Event, Filled, Previewed, Stepped
from lazydiffusion.protocol import EditSettings
from lazydiffusion.window import WINDOW_TOKENS, Box

from .background import GuiThread
from .document import Document
from .pictures import Mipmap
from .qt import QtCore, QtGui
from .results import Result
from .snapshot import Snapshot, snapshot
from .turns import Turns

PAUSE = 200
"""Milliseconds between two steps that are told, and between two previews: each costs Krita a frame of its window."""
MOST_WAITING = 4
"""Edits that may wait: each holds the pixels that it was asked with."""
CLIENT = "krita-%d" % os.getpid()
"""Who asks: the docks of one Krita take turns with other editors as one."""


@dataclass(frozen=True)
class StepPreview:
    """How far a fill has come."""

    document: Document
    box: Box
    picture: Mipmap
    """Smaller than the box; transparent outside the selection."""


@dataclass
class _Asked:
    """An edit that was asked for."""

    settings: EditSettings
    ratio: float
    """The screen's px for each, for thumbnails."""
    snapshot: Optional[Snapshot] = None
    """None as long as the document is being read."""


class EditSession(QtCore.QObject):
    """Runs one edit at a time. Everything happens on the GUI thread, but the waiting."""

    changed = QtCore.pyqtSignal()
    """`busy`, `text` or `share` changed."""
    previewed = QtCore.pyqtSignal(object)
    """A StepPreview."""
    begun = QtCore.pyqtSignal()
    """An edit that had been waiting runs now."""
    found = QtCore.pyqtSignal(object)
    """A Result."""
    failed = QtCore.pyqtSignal(str)
    """Why the edit came to nothing, or to less: sentences for the artist."""
    ended = QtCore.pyqtSignal(object)
    """The State that the edit came to: done, failed or cancelled."""

    def __init__(self, parent: Optional[QtCore.QObject] = None) -> None:
        super().__init__(parent)
        self._gui = GuiThread(self)
        self._controller = EditController(
            on_state=self._enter,
            on_event=self._hear,
            on_fill=self._take,
            prepare=lambda fill: (fill, Mipmap.of_fill(fill)),
            on_error=lambda error: self.failed.emit(str(error)),
            call=self._gui,
            client=CLIENT,
        )
        # The window was closed: nobody waits any more. A bound method: Python may collect a lambda before it is called.
        self.destroyed.connect(self._controller.cancel)
        self._reading: Optional[Turns] = None
        self._now: Optional[_Asked] = None
        """The edit that runs."""
        self._waiting: list[_Asked] = []
        self._mask: Optional[tuple[Box, QtCore.QSize, QtGui.QImage]] = None
        self._notices: dict[int, str] = {}
        self._cancelling = False
        self._told, self._previewed = QtCore.QElapsedTimer(), QtCore.QElapsedTimer()
        self._told.start()
        self._text = ""
        self.share: Optional[float] = None
        """How much of it is done, 0..1; None while nobody knows."""

    @property
    def busy(self) -> bool:
        """Whether an edit runs, or is about to."""
        return bool(self._now or self._reading or self._waiting)

    @property
    def waiting(self) -> int:
        """How many edits wait for the one that runs."""
        return len(self._waiting)

    @property
    def text(self) -> str:
        """What the running edit is doing, and how many wait."""
        if not self._waiting:
            return self._text
        return tr("%s (%d more waiting)") % (self._text, len(self._waiting))

    def start(
        self,
        document: Document,
        mode: Mode,
        settings: EditSettings,
        everything: bool = False,
        sketch_layer: str = "",
        window_tokens: int = WINDOW_TOKENS,
        ratio: float = 1.0,
    ) -> None:
        """Begin, after the edits that were asked for before, and return at once; see `snapshot`.

        `ratio`: the screen's px for each, for thumbnails. Raises BadInput for settings that do not fit the mode,
        CoreError while too many edits wait, or the canvas is still being read for the last one.
        """
        if self._reading is not None:
            raise CoreError(tr("The canvas is still being read for the last edit. Try again in a moment."))
        if len(self._waiting) >= MOST_WAITING:
            raise CoreError(tr("%d edits are waiting already. Let one end, or cancel it.") % MOST_WAITING)
        asked = _Asked(settings_for(mode, settings), ratio)
        if not mode.uses_prompt:
            sketch_layer = ""
        self._reading = Turns(
            snapshot(document, asked.settings, everything, sketch_layer, window_tokens),
            done=lambda read: self._read(asked, read),
            failed=self._unreadable,
            parent=self,
        )
        if self._now is None:
            self._say(tr("Reading the canvas…"), None)

    def cancel(self) -> None:
        """End the running edit soon; what is finished stays. Once more, and what waits is given up as well."""
        if self._now is None or self._cancelling:
            waited = bool(self._waiting)
            self._waiting.clear()
            if self._reading is not None:
                self._stop_reading()
                if self._now is None:
                    self._end(State.CANCELLED)
            elif waited:
                self.changed.emit()
            return
        self._cancelling = True
        self._controller.cancel()
        self._say(tr("Cancelling…"), self.share)

    def close(self) -> None:
        """The docker is going: nobody will be told of the edit any more; its finished fills are in the history."""
        self.blockSignals(True)
        self._waiting.clear()
        self._stop_reading()
        self._controller.cancel()

    def _read(self, asked: _Asked, read: Snapshot) -> None:
        self._stop_reading()
        asked.snapshot = read
        self._waiting.append(asked)
        if self._now is None:
            self._next()
        else:
            self.changed.emit()

    def _next(self) -> None:
        """Run what has waited longest."""
        now = self._now = self._waiting.pop(0)
        assert now.snapshot is not None
        read = now.snapshot
        self._mask, self._cancelling = None, False
        self._previewed.invalidate()
        self._notices.clear()
        self.begun.emit()
        # A function, because it keeps the snapshot, whose memory the request shares, as long as the edit runs.
        self._controller.start(lambda: read.request)

    def _unreadable(self, error: Exception) -> None:
        self._stop_reading()
        self.failed.emit(str(error))
        if self._now is None:
            self._end(State.FAILED)

    def _stop_reading(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.stop()
            reading.deleteLater()

    def _enter(self, state: State) -> None:
        if state in ENDED:
            self._end(state)
        elif not self._cancelling:
            self._say(edit_state(state), None)

    def _hear(self, event: Event) -> None:
        if isinstance(event, Filled):
            self._notices[event.fill] = event.notice
        if self._cancelling:
            return
        if isinstance(event, Previewed):
            if not self._previewed.isValid() or self._previewed.elapsed() >= PAUSE:
                self._preview(event)
                self._previewed.start()
            return
        if self._now is None:
            return
        count = self._now.settings.variations
        share = self.share
        if isinstance(event, Stepped):
            share = share_done(event, count)
            if 1 < event.step < event.steps and self._told.elapsed() < PAUSE:
                self.share = share
                return
            self._told.start()
        text = progress(event, count)
        if text:
            self._say(text, share)

    def _take(self, prepared: tuple[FillPixels, Mipmap]) -> None:
        now = self._now
        if now is None or now.snapshot is None:
            return
        notice = self._notices.get(prepared[0].fill, "")
        self.found.emit(Result.made(prepared, now.snapshot, now.settings, now.ratio, notice))

    def _preview(self, event: Previewed) -> None:
        known = self._now.snapshot if self._now is not None else None
        picture = QtGui.QImage.fromData(event.picture())
        if known is None or picture.isNull():
            return
        box = Box(*event.box)
        picture = picture.convertToFormat(QtGui.QImage.Format.Format_ARGB32_Premultiplied)
        painter = QtGui.QPainter(picture)
        painter.setCompositionMode(QtGui.QPainter.CompositionMode.CompositionMode_DestinationIn)
        painter.drawImage(0, 0, self._mask_of(known, box, picture.size()))
        painter.end()
        self.previewed.emit(StepPreview(known.document, box, Mipmap(picture)))

    def _mask_of(self, known: Snapshot, box: Box, size: QtCore.QSize) -> QtGui.QImage:
        """The selection in a box, at a preview's size: the same for all previews of an edit."""
        if self._mask is None or self._mask[:2] != (box, size):
            mask = QtGui.QImage(size, QtGui.QImage.Format.Format_ARGB32_Premultiplied)
            mask.fill(QtCore.Qt.GlobalColor.transparent)
            source = box.moved(-known.region.x, -known.region.y)
            painter = QtGui.QPainter(mask)
            painter.drawImage(
                QtCore.QRectF(QtCore.QPointF(0, 0), QtCore.QSizeF(size)),
                known.mask,
                QtCore.QRectF(source.x, source.y, source.w, source.h),
            )
            painter.end()
            self._mask = (box, size, mask)
        return self._mask[2]

    def _end(self, state: State) -> None:
        self._now, self._mask = None, None
        if self._waiting:
            self.ended.emit(state)
            self._next()
            return
        if self._reading is None:
            self._say("", None)
        self.ended.emit(state)

    def _say(self, text: str, share: Optional[float]) -> None:
        self._text, self.share = text, share
        self.changed.emit()

    def wait(self, seconds: float) -> bool:
        """Whether the controller's threads have ended within that time; for tests and for Krita's end."""
        return self._controller.wait(seconds)

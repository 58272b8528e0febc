"""Live: the picture is looked at again and again, and filled anew whenever it, the selection or a setting has changed.

Its fills are drafts: each takes the last one's place, and only those that the artist keeps come into the history.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Callable, Optional, Union

from lazydiffusion.client import EditController, FillPixels, State, connect
from lazydiffusion.client.controller import ENDED
from lazydiffusion.client.modes import Mode, settings_for
from lazydiffusion.client.words import edit_state, progress, tr
from lazydiffusion.errors import LazyDiffusionError
from lazydiffusion.events import Event
from lazydiffusion.protocol import EditSettings

from .background import Background, GuiThread
from .document import Document
from .pictures import Mipmap
from .qt import QtCore
from .results import Result
from .session import CLIENT, PAUSE
from .snapshot import Snapshot, snapshot
from .turns import Turns, Work

LOOK_AGAIN = 250
"""Milliseconds between two looks at the picture."""
SHARE = 4
"""The pause is at least this many times as long as the look took: a large selection must not keep Krita busy."""
LONG = 1000
"""Milliseconds after which a fill that is being made is told of."""
PIECE = 1 << 20
"""Bytes that are hashed at once: a millisecond."""


@dataclass(frozen=True)
class Wanted:
    """What is to be filled now, and how."""

    document: Document
    mode: Mode
    settings: EditSettings
    sketch_layer: str
    window_tokens: int
    ratio: float
    """The screen's px for each, for thumbnails."""


@dataclass(frozen=True)
class _Look:
    """What a look has seen."""

    wanted: Wanted
    snapshot: Snapshot
    pixels: bytes
    """A hash of the pictures."""

    def shows_the_same(self, other: Optional[_Look]) -> bool:
        """Whether a fill of it would be the other's."""
        if other is None:
            return False
        ours, theirs = self.snapshot.request, other.snapshot.request
        return (
            self.pixels == other.pixels
            and self.snapshot.document == other.snapshot.document
            and (ours.settings, ours.canvas_size, ours.region)
            == (theirs.settings, theirs.canvas_size, theirs.region)
        )


class LiveEdit(QtCore.QObject):
    """Looks, fills, and looks again, from `start` to `stop`. All of it on the GUI thread, but the waiting."""

    changed = QtCore.pyqtSignal()
    """`on` or `text` changed."""
    found = QtCore.pyqtSignal(object)
    """A Result, which takes the last one's place."""
    failed = QtCore.pyqtSignal(str)
    """Why it was ended, or why a fill could not be kept: a sentence for the artist."""
    kept = QtCore.pyqtSignal(object)
    """A Result that is in the history now."""

    def __init__(
        self, wanted: Callable[[], Union[Wanted, str]], parent: Optional[QtCore.QObject] = None
    ) -> None:
        """`wanted()`: what is to be filled now; where that is nothing, what the artist should do, or "" to wait."""
        super().__init__(parent)
        self._wanted = wanted
        self._background = Background(self)
        self._controller = EditController(
            on_state=self._enter,
            on_event=self._hear,
            on_fill=self._take,
            prepare=lambda fill: (fill, Mipmap.of_fill(fill)),
            on_error=self._broken,
            call=GuiThread(self),
            client=CLIENT,
        )
        self.destroyed.connect(self._controller.cancel)
        self.on = False
        self.text = ""
        """What it is doing, or what the artist should do."""
        self._running = False
        """Whether the core is at work, perhaps on what nobody wants any more."""
        self._filling: Optional[_Look] = None
        """What the fill that is being made is of."""
        self._last: Optional[_Look] = None
        """What the last fill was made of, or is being."""
        self._resting = False
        """Whether what is seen next is left as it is."""
        self._looking: Optional[Turns] = None
        self._took = 0
        """Milliseconds of the last look."""
        self._clock, self._told = QtCore.QElapsedTimer(), QtCore.QElapsedTimer()
        self._news = ""
        """What is told of a fill that takes long."""
        self._long = QtCore.QTimer(self)
        self._long.setSingleShot(True)
        self._long.setInterval(LONG)
        self._long.timeout.connect(self._tell_news)
        self._timer = QtCore.QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._look)

    def start(self) -> None:
        """Look, and fill what is selected."""
        self.on, self._resting = True, False
        self.look()
        self.changed.emit()

    def stop(self) -> None:
        """Look no more; a fill that is being made comes to nothing."""
        self.on = False
        self._let_go()
        self._timer.stop()
        self._last = None
        self.text = ""
        self.changed.emit()

    def look(self) -> None:
        """Look at once instead of in a moment."""
        if self.on and self._looking is None and not self._running:
            self._timer.start(0)

    def rest(self) -> None:
        """Make nothing of what is there now, until it changes: a layer was made of the last fill."""
        if not self.on:
            return
        self._resting = True
        self._let_go()
        self._again()

    def keep(self, result: Result) -> None:
        """Have a fill put into the history; `kept` or `failed` tells how that went."""
        self._background.run(
            lambda: connect(start=False, client=CLIENT).edit(result.fill.edit).keep(),
            lambda nothing: self.kept.emit(result),
            lambda error: self.failed.emit(tr("This fill is not in the history: %s") % error),
        )

    def wait(self, seconds: float) -> bool:
        """Whether the controller's threads have ended within that time."""
        return self._controller.wait(seconds)

    def _look(self) -> None:
        try:
            wanted = self._wanted()
            if isinstance(wanted, Wanted):
                settings = settings_for(wanted.mode, replace(wanted.settings, variations=1))
                sketch = wanted.sketch_layer if wanted.mode.uses_prompt else ""
                self._clock.start()
                self._looking = Turns(
                    self._seen(replace(wanted, settings=settings, sketch_layer=sketch)),
                    done=self._compare,
                    failed=lambda error: self._not_seen(str(error)),
                    parent=self,
                )
                return
        except LazyDiffusionError as error:
            wanted = str(error)
        self._not_seen(wanted)

    def _seen(self, wanted: Wanted) -> Work:
        """Work whose result is a _Look."""
        last, earlier = self._last, None
        if last is not None and last.snapshot.document == wanted.document:
            earlier = last.snapshot.request
        read: Snapshot = yield from snapshot(
            wanted.document, wanted.settings, False, wanted.sketch_layer, wanted.window_tokens, earlier
        )
        pixels = hashlib.blake2b(digest_size=16)
        for image in (read.request.canvas, read.request.mask, read.request.sketch):
            data = memoryview(image.data if image is not None else b"")
            for start in range(0, data.nbytes, PIECE):
                pixels.update(data[start : start + PIECE])
                yield 1.0
        return _Look(wanted, read, pixels.digest())

    def _not_seen(self, text: str) -> None:
        self._stop_looking()
        if text:
            self._say(text)
        self._again()

    def _compare(self, look: _Look) -> None:
        self._stop_looking()
        last = self._last
        # The first look at a place reads the whole canvas for its overview, once.
        first = last is None or last.snapshot.region != look.snapshot.region
        self._took = 0 if first else self._clock.elapsed()
        if self._resting or look.shows_the_same(self._last):
            self._last, self._resting = look, False
            self._say(hint(look.wanted))
            self._again()
            return
        self._last = self._filling = look
        self._running = True
        self._news = ""
        self._long.start()
        # A function, because it keeps the snapshot, whose memory the request shares, as long as the edit runs.
        self._controller.start(lambda: replace(look.snapshot.request, draft=True))

    def _enter(self, state: State) -> None:
        if state in ENDED:
            self._long.stop()
            self._running, self._filling = False, None
            self._again()
        else:
            self._note(edit_state(state))

    def _hear(self, event: Event) -> None:
        self._note(progress(event, 1))

    def _note(self, text: str) -> None:
        if text and self._filling is not None:
            self._news = text
            if not self._long.isActive() and self._told.elapsed() > PAUSE:
                self._tell_news()

    def _tell_news(self) -> None:
        self._told.start()
        self._say(self._news)

    def _take(self, prepared: tuple[FillPixels, Mipmap]) -> None:
        look = self._filling
        if look is None:
            return
        self._long.stop()
        self._say(hint(look.wanted))
        wanted = look.wanted
        self.found.emit(Result.made(prepared, look.snapshot, wanted.settings, wanted.ratio, draft=True))

    def _broken(self, error: Exception) -> None:
        if self._filling is not None:
            self.stop()
            self.failed.emit(tr("Live is off: %s") % error)

    def _let_go(self) -> None:
        """Have what is being seen or made come to nothing."""
        self._stop_looking()
        self._long.stop()
        self._filling = None
        self._controller.cancel()

    def _stop_looking(self) -> None:
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.stop()
            looking.deleteLater()

    def _again(self) -> None:
        if self.on and self._looking is None and not self._running:
            self._timer.start(max(LOOK_AGAIN, SHARE * self._took))

    def _say(self, text: str) -> None:
        if text != self.text and self.on:
            self.text = text
            self.changed.emit()


def hint(wanted: Wanted) -> str:
    """What the artist may do while Live is on."""
    if wanted.sketch_layer or wanted.settings.strength < 1:
        return tr("Live: paint, select or type, and the fill follows.")
    return tr(
        "Live: the fill follows. For your strokes inside the selection choose a sketch layer, or a lower strength."
    )

"""What the docker holds, and what its buttons do."""

from __future__ import annotations

from typing import Optional, Union

from lazydiffusion.client import State
from lazydiffusion.client.model_choice import Download
from lazydiffusion.client.words import nothing_selected, tr
from lazydiffusion.errors import LazyDiffusionError
from lazydiffusion.protocol import EditSettings

from .applying import Applying
from .core_watch import CoreWatch
from .document import CanvasView, Document, NewLayer, active_document, window_of
from .drafts import Drafts
from .live import LiveEdit, Wanted
from .panel_fields import PanelFields
from .pen import Pen
from .preview import Preview
from .qt import QtCore, QtGui, QtWidgets
from .results import Result
from .session import EditSession, StepPreview

Qt = QtCore.Qt

DOT = {"ready": "#4caf50", "busy": "#e0a030", "problem": "#d04545", "": "#888888"}
"""Colours of the core's state: readable on light and dark grounds."""


class Panel(PanelFields):
    """The docker of one window."""

    def __init__(self, parent: Optional[QtWidgets.QWidget] = None) -> None:
        super().__init__(parent)
        self.session = EditSession(self)
        self.live = LiveEdit(self._wanted, self)
        self.drafts = Drafts(self.live, self.results, self)
        self.pen = Pen(self)
        self.watch = CoreWatch(self)
        self.preview = Preview(self)
        self.applying = Applying(self)
        self._started = QtCore.QElapsedTimer()
        self._first = True
        """Whether the running edit has no result yet."""
        self._hidden = False
        """Whether the artist has hidden what the running edit makes, or applied it: nothing comes back by itself."""
        self._connect()
        self._show_edit()

    # What actions and buttons do.

    def generate(self, everything: bool = False) -> None:
        """Begin an edit of the picture in this window, or have it wait for the one that runs; with Live, keep its fill.

        What is missing is said in the notice.
        """
        if self.live.on:
            self._keep()
            return
        waits = self.session.busy
        document = active_document(self)
        if document is None:
            self.notice.error(tr("No picture is open. Open one, and select what is to be filled."))
            return
        if not everything and not document.has_selection:
            self.notice.ask(
                nothing_selected(),
                tr("Fill the whole canvas"),
                lambda: self.generate(everything=True),
            )
            return
        self.read_fields()
        try:
            self.preferences.edit_settings()  # refused before the dice are thrown
            if not self.preferences.seed_locked:
                self.settings.throw_dice()
                self.read_fields()
            settings = self.preferences.edit_settings()
            self.session.start(
                document,
                self.preferences.edit_mode,
                settings,
                everything,
                self.settings.sketch.layer,
                self.watch.core.window_tokens(settings.model),
                self.devicePixelRatioF(),
            )
        except LazyDiffusionError as error:
            self.notice.error(str(error))
            return
        self.preferences.save()
        self.notice.clear()
        if not waits:
            self.results.choose(None)
        self._hidden = False
        self._started.start()

    def cancel(self) -> None:
        """End the running edit; its finished results stay."""
        self.session.cancel()

    def switch_live(self, on: bool) -> None:
        """Have the fill follow what the artist does, or no more; the last one stays."""
        if on and not self.live.on:
            self.read_fields()
            self.notice.clear()
            self.drafts.hidden = False
            self.live.start()
        elif not on and self.live.on:
            self.live.stop()
            self.drafts.keep()

    def apply(self) -> None:
        """Make the chosen result a layer."""
        result = self.results.current
        if result is not None:
            self._apply(result)

    def discard(self) -> None:
        """Take the chosen result off the list; the picture was never touched, and the history keeps the fill."""
        result = self.results.current
        if result is not None:
            self.results.remove(result)

    def step(self, by: int) -> None:
        """Choose the next (1) or the previous (-1) result."""
        self.results.step(by)

    def use_settings(self, settings: EditSettings) -> None:
        """Take the fields of an earlier edit."""
        self.take(settings)
        self.notice.tell(tr("The seed is kept, as that edit's. Unlock it in the settings for another one."))

    def canvas_changed(self) -> None:
        """The window shows another picture, or none."""
        self.settings.sketch.refill()
        self._watch_pen()
        chosen = self.results.current
        if chosen is not None and chosen.is_lost:
            self.results.choose(None)  # so that one click shows it, if the artist asks for it
        else:
            self._show(chosen, asked=False)

    def close_down(self) -> None:
        """Krita is closing."""
        self.watch.watch(False)
        self.preview.hide()
        self.session.close()
        self.switch_live(False)
        self.pen.watch(None)
        self.applying.stop()
        self.save_now()

    def _connect(self) -> None:
        for prompt in (self.prompt, self.negative):
            prompt.submitted.connect(lambda: self.generate())
        self.prompt.textChanged.connect(self.watch.core.warm)
        self.history_fold.toggled.connect(lambda open: self.history.load() if open else None)
        self.go.clicked.connect(self._go)
        self.live_button.toggled.connect(self.switch_live)
        self.apply_button.clicked.connect(lambda: self.apply())
        self.discard_button.clicked.connect(lambda: self.discard())
        self.previous.clicked.connect(lambda: self.step(-1))
        self.next.clicked.connect(lambda: self.step(1))
        self.results.chosen.connect(self._show_chosen)
        self.results.put_aside.connect(self._put_aside)
        self.history.fetched.connect(self._fetched)
        self.history.reuse.connect(self.use_settings)
        self.history.failed.connect(self.notice.error)
        self.history.asked.connect(self.notice.ask)
        self.session.changed.connect(self._show_edit)
        self.session.previewed.connect(self._show_preview)
        self.session.begun.connect(self._begun)
        self.session.found.connect(self._found)
        self.session.failed.connect(self.notice.error)
        self.session.ended.connect(self._ended)
        self.live.changed.connect(self._show_edit)
        self.live.found.connect(lambda result: self._enable())
        self.live.kept.connect(self._kept)
        self.live.failed.connect(self.notice.error)
        self.pen.moved.connect(self._pen_moved)
        self.applying.changed.connect(self._show_edit)
        self.applying.failed.connect(self.notice.error)
        self.applying.applied.connect(self._applied)
        self.watch.changed.connect(self._show_core)
        self.watch.news.connect(lambda text, bad: self.notice.error(text) if bad else self.notice.tell(text))
        self.settings.downloads.asked.connect(self._ask_download)
        QtWidgets.QApplication.instance().aboutToQuit.connect(self.close_down)

    def showEvent(self, event: QtGui.QShowEvent) -> None:
        """Look at the core while the docker can be seen."""
        super().showEvent(event)
        self.watch.watch(True)

    def hideEvent(self, event: QtGui.QHideEvent) -> None:
        """Look no more."""
        super().hideEvent(event)
        self.watch.watch(False)
        self.save_now()

    # Live.

    def _wanted(self) -> Union[Wanted, str]:
        """What Live is to fill now, or what keeps it from that."""
        if self.session.busy or self.applying.busy or self.pen.down or self.being_edited:
            return ""  # soon: also when the artist has stopped typing
        if self.window().isMinimized():
            return ""
        document = active_document(self)
        if document is None:
            return tr("Live: open a picture.")
        if not document.has_selection:
            return tr("Live: select what is to be filled.")
        settings = self.preferences.edit_settings()
        return Wanted(
            document,
            self.preferences.edit_mode,
            settings,
            self.settings.sketch.layer,
            self.watch.core.window_tokens(settings.model),
            self.devicePixelRatioF(),
        )

    def _keep(self) -> None:
        if self.drafts.keep():
            self.notice.clear()
        else:
            self.notice.tell(tr("There is no new fill of Live to keep."))

    def _kept(self, result: Result) -> None:
        self._enable()
        if self.history_fold.open:
            self.history.load()

    def _watch_pen(self) -> None:
        window = window_of(self) if self.live.on else None
        self.pen.watch(CanvasView(window).controller() if window is not None else None)

    def _pen_moved(self, down: bool) -> None:
        # Only Live's: other fills are looked at, and nothing is painted below them.
        chosen = self.results.current
        self.preview.step_aside(down and chosen is not None and chosen is self.drafts.current)
        if not down:
            self.live.look()

    # The running edit and its results.

    def _go(self) -> None:
        if self.live.on or not self.session.busy:
            self.generate()
        elif self._started.elapsed() > QtWidgets.QApplication.doubleClickInterval():
            self.cancel()  # not by the second half of a double-click

    def _show_edit(self) -> None:
        busy, applying = self.session.busy, self.applying.busy
        if self.live.on:
            self.go.setText(tr("Keep"))
            self.go.setToolTip(
                tr("Keep this fill, in the list and in the history; the next one gets another place")
            )
        else:
            self.go.setText(tr("Cancel") if busy else tr("Generate"))
            self.go.setToolTip(
                tr("End this edit. Shift+Enter in the prompt asks for another one after it")
                if busy
                else tr("Shift+Enter in the prompt does the same")
            )
        if self.live_button.isChecked() != self.live.on:
            self.live_button.setChecked(self.live.on)
        self._watch_pen()
        share = self.session.share if busy else self.applying.share
        self.progress.setVisible(busy or applying)
        # Not Qt's bar that runs to and fro: each of its frames would have Krita paint its whole window.
        self.progress.setValue(round(1000 * (share or 0)))
        self._show_core()
        self._enable()

    def _enable(self) -> None:
        some = bool(self.results.results)
        self.result_part.setVisible(some)
        chosen = self.results.current is not None
        self.apply_button.setEnabled(chosen and not self.applying.busy)
        self.discard_button.setEnabled(chosen)
        kept = self.results.current is None or not self.results.current.draft
        self.discard_button.setToolTip(
            tr("Take it off this list; the history keeps it") if kept else tr("Take it off this list")
        )
        for button in (self.previous, self.next):
            button.setEnabled(len(self.results.results) > 1)

    def _begun(self) -> None:
        self._first = self.results.current is None  # what the artist looks at stays

    def _found(self, result: Result) -> None:
        # The artist may be looking at an earlier variation of the same edit, or at another picture than it is for.
        free = not (self._hidden or result.is_lost)
        self.results.add(result, choose=free and (self._first or self.results.current is None))
        self._first = False
        if result.notice:
            self.notice.tell(result.notice)
        self._enable()

    def _ended(self, state: State) -> None:
        if self.results.current is None:
            self.preview.hide()
        self.watch.core.look()
        if self.history_fold.open and state is not State.FAILED:
            self.history.load()

    def _show_preview(self, preview: StepPreview) -> None:
        if self.results.current is None and not self._hidden:
            window = window_of(self)
            if window is not None:
                self.preview.show(CanvasView(window), preview.document, preview.box, preview.picture)

    def _show_chosen(self, result: Optional[Result]) -> None:
        self._hidden = self._hidden and result is None
        self.drafts.hidden = self.drafts.hidden and result is None
        # A draft comes by itself.
        self._show(result, asked=result is None or not result.draft)

    def _put_aside(self) -> None:
        self._hidden = self.session.busy
        self.drafts.hidden = self.live.on

    def _show(self, result: Optional[Result], asked: bool) -> None:
        """Show a result on the canvas, or none. `asked`: by the artist, who is told where it cannot be seen."""
        self._enable()
        window = window_of(self)
        document = self._document_of(result, asked) if result is not None else None
        if result is None or document is None or window is None:
            self.preview.hide()
            return
        self.preview.show(CanvasView(window), document, result.box, result.picture)
        if asked and document != active_document(self):
            self.notice.tell(tr('This fill belongs to "%s". Show that picture to see it.') % document.name)

    def _document_of(self, result: Result, asked: bool = True) -> Optional[Document]:
        """Where a result belongs: the document that it was made for while that is open.

        Else, where the artist asks for it, the one that is shown: it may be the same picture, opened again.
        """
        made_for = result.document
        if made_for is not None and made_for.is_open:
            return made_for
        return active_document(self) if asked or made_for is None else None

    def _apply(self, result: Result) -> None:
        document = self._document_of(result)
        if document is None:
            self.notice.error(tr("No picture is open that the fill could be applied to. Open one."))
            return
        notice = ""
        if document != active_document(self):
            notice = tr('The layer was added to "%s".') % document.name
        elif result.document is not None and result.document != document:
            notice = tr("The fill was made for another picture, which is closed.")
        self.applying.start(document, result, notice)

    def _applied(self, result: Result, layer: NewLayer, notice: str) -> None:
        self.results.mark_applied(result)
        if result is self.drafts.current:
            self.drafts.keep()
        self.live.rest()
        # The layer is there now; the preview would hide what the artist does with it.
        if self.results.current is result:
            self.results.choose(None)
        self._hidden = self.session.busy
        if layer.is_covered:
            covered = tr("Layers above the new one cover it, or change its look.")
            self.notice.ask((notice + " " + covered).strip(), tr("Move it to the top"), layer.move_to_top)
        elif notice:
            self.notice.tell(notice)
        else:
            self.notice.clear()

    def _fetched(self, result: Result, apply: bool) -> None:
        # One that is listed already may belong to another picture: shown and applied is the one that belongs to none.
        listed = [
            it
            for it in self.results.results
            if (it.fill, it.settings) == (result.fill, result.settings)
            and self._document_of(it) == active_document(self)
        ]
        if not listed:
            self.results.add(result, choose=True)
        elif not apply:
            self.results.choose(listed[0])
        self._enable()
        if apply:
            self._apply(result)

    def _ask_download(self, download: Download) -> None:
        self.notice.ask(download.text, download.answer, lambda: self.watch.core.answer(download))

    def _show_core(self) -> None:
        state = "problem" if self.watch.core.problem else str((self.watch.core.info or {}).get("state", ""))
        if state == "loading" or self.watch.core.starting or self.session.busy:
            state = "busy"
        self.dot.set_colour(DOT.get(state, DOT[""]))
        self.status.setText(self.session.text or self.applying.text or self.live.text or self.watch.core.text)
        self.settings.model.offer(self.watch.core.choices)
        self._show_hint()
        self.settings.downloads.offer(self.watch.core.downloads)

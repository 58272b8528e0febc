"""The dialog "Fill Selection": prompt, settings, a view of the result in its place, variations to choose from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

from lazydiffusion.client import CoreError, EditController, FillPixels, State
from lazydiffusion.client.controller import ENDED
from lazydiffusion.client.core_view import CoreView
from lazydiffusion.client.fields import FieldValues
from lazydiffusion.client.model_choice import Download
from lazydiffusion.client.modes import settings_for
from lazydiffusion.client.placing import placement
from lazydiffusion.client.words import edit_state, progress, share_done
from lazydiffusion.errors import LazyDiffusionError
from lazydiffusion.events import Event, Filled, Previewed, Stepped
from lazydiffusion.protocol import EditSettings
from lazydiffusion.window import Box, Size

from .arguments import sketch_of, store_values, values_of
from .background import in_background, in_main
from .form import FieldForm
from .gtk import (
    SPACE,
    Gdk,
    GLib,
    Gtk,
    Scrolling,
    button,
    column,
    dialog,
    room_for,
    row,
    tr,
    wrapping,
)
from .history_dialog import HistoryDialog
from .image import Picture
from .notice import Notice
from .questions import may_convert
from .remembered import ALL, remember, with_remembered
from .results import VIEW, Result, ResultList, View
from .snapshot import CLIENT, Snapshot, snapshot

HISTORY = 1
"""Response of the button that opens the history."""
LOOK_EVERY = 2000
"""Milliseconds between two looks at the core."""
BESIDE_FORM = 330
"""Px of the dialog's height that are not the fields': buttons, progress, state, a notice of some lines, its answer."""
LEAST_FORM = 160
"""Px of the fields that are in sight on the smallest screen."""
PATIENCE = 6.0
"""Seconds that a closed dialog waits until the core has heard that its edit is cancelled."""
DOUBLE_CLICK = 0.5
"""Seconds in which the second half of a double click on Generate does not cancel."""


class FillDialog:
    """One run of the dialog."""

    def __init__(self, picture: Picture, config: Any, settings: Optional[EditSettings] = None) -> None:
        """`config`: the procedure's arguments, which take what is chosen. `settings`: of an earlier edit."""
        self.picture, self._config = picture, config
        self._layers: list[Any] = []
        self._settings = EditSettings()
        self._view: Optional[View] = None
        """Of the edit that was begun last."""
        self._looked_at: list[Optional[Box]] = []
        """What was selected when the canvas was shown last; empty before that."""
        self._canvas_size: Size = (0, 0)
        self._cancelling = False
        self._everything = bool(config.get_property("whole-canvas"))
        self._convert = bool(config.get_property("convert-indexed"))
        self._first = True
        """Whether the running edit has no result yet."""
        self._left_alone = False
        """Whether the artist has put a result aside during the edit: then none is chosen without asking."""
        self._notices: dict[int, str] = {}
        self._started = 0.0
        self._open = True
        self.controller = EditController(
            on_state=self._enter,
            on_event=self._hear,
            on_fill=self._take,
            on_error=lambda error: self.tell(str(error)),
            call=in_main,
            client=CLIENT,
        )
        self.core = CoreView(self._show_core, in_background, CLIENT, lambda text, bad: self.tell(text))
        self._make()
        self._given = with_remembered(values_of(config), ALL)
        self.form.show_values(self._given)
        self.form.choose_sketch(sketch_of(config) or self.picture.sketch)
        if settings is not None:
            self._use(settings)
        self._show_edit()

    @property
    def busy(self) -> bool:
        """Whether an edit runs."""
        return self.controller.state not in ENDED

    def run(self) -> Optional[list[Any]]:
        """Show it until it is closed; gives the layers that were made, None where nothing was done."""
        self.window.show_all()
        self.form.prompt.text.grab_focus()
        self._timer = GLib.timeout_add(LOOK_EVERY, self._look_at_core)
        self.core.warm()
        in_main(self._look_at_canvas)
        loop = GLib.MainLoop()
        self.window.connect("response", self._answered, loop)
        loop.run()
        return self._end()

    # What is there to be seen.

    def _make(self) -> None:
        self.window = dialog(self.picture.titled(tr("Fill Selection")), "lazyFill")
        self.window.add_button(tr("_History…"), HISTORY).set_name("lazyHistoryOpen")
        self.window.add_button(tr("_Close"), Gtk.ResponseType.CLOSE).set_name("lazyClose")
        self.apply_button = self.window.add_button(tr("_Apply"), Gtk.ResponseType.APPLY)
        self.apply_button.set_name("lazyApply")
        self.apply_button.set_tooltip_text(tr("Make it a layer above the selected one"))
        self.form = FieldForm(lambda: self.picture.layers(), self.generate, self._ask_download)
        self.go = button(tr("_Generate"), "lazyGenerate")
        self.go.connect("clicked", lambda button: self._go())
        self.bar = Gtk.ProgressBar()
        self.bar.set_name("lazyProgress")
        self.status = wrapping("lazyStatus")
        self.notice = Notice("lazyNotice", Gtk.MessageType.WARNING)
        self._form_part = Scrolling(self.form.widget, "lazyForm")
        left = column(
            self._form_part.widget, self.go, self.bar, self.status, self.form.untaught, self.notice.widget
        )
        left.set_size_request(300, -1)
        self.view = Gtk.Image()
        self.view.set_name("lazyView")
        frame = Gtk.Frame()
        frame.set_size_request(VIEW + 2, VIEW + 2)
        frame.add(self.view)
        self.results = ResultList(self._chosen, self.apply)
        right = column(frame, self.results.widget)
        content = self.window.get_content_area()
        content.set_border_width(2 * SPACE)
        body = row(left, right, space=2 * SPACE)
        left.set_hexpand(True)
        content.pack_start(body, True, True, 0)
        self.window.connect("key-press-event", self._pressed)
        self.window.connect("realize", lambda window: self.fit(room_for(window)))
        self.window.connect("focus-in-event", lambda *_: self._look_at_canvas())

    def fit(self, height: int) -> None:
        """Let the fields scroll where the dialog would be higher than that, px, with a notice of some lines below."""
        self._form_part.limit(max(LEAST_FORM, height - BESIDE_FORM))

    # What buttons and keys do.

    def generate(self, everything: bool = False) -> None:
        """Begin an edit of what is selected now; what is missing is said in the notice."""
        if self.busy:
            return
        self._everything = everything or bool(self._config.get_property("whole-canvas"))
        values = self.form.values()
        try:
            if not values.seed_locked:
                values.edit_settings()  # refused before the dice are thrown
                self.form.throw_dice()
                values = self.form.values()
            settings = settings_for(values.edit_mode, values.edit_settings())
            self.tell("")
            self.status.set_text(tr("Reading the canvas…"))
            read = self._read(settings, values)
            if self.picture.is_indexed and not self._may_convert():
                self._show_edit()
                return
        except LazyDiffusionError as error:
            self._show_edit()
            asks = self.picture.is_open and self.picture.selection_box() is None and not self._everything
            whole = tr("Fill th_e whole canvas"), lambda: self.generate(everything=True)
            self.tell(str(error), whole if asks else None)
            return
        view = View(read)
        self._view, self._settings, self._canvas_size = view, settings, read.request.canvas_size
        self._store(values)
        self.picture.sketch = self.form.sketch_layer
        self._first, self._left_alone, self._cancelling = True, False, False
        self._notices.clear()
        self.results.choose(None)
        self.view.set_from_pixbuf(view.empty)
        self._started = GLib.get_monotonic_time() / 1e6
        self.controller.start(read.request)
        self._show_edit()

    def cancel(self) -> None:
        """End the running edit; its finished results stay."""
        if self.busy and not self._cancelling:
            self._cancelling = True
            self.controller.cancel()
            self.status.set_text(tr("Cancelling…"))

    def apply(self) -> None:
        """Make the chosen result a layer."""
        result = self.results.current
        if result is None:
            return
        try:
            self.picture.check_ready()
            place = placement(result.fill.box, result.canvas_size, self.picture.size)
            if self.picture.is_indexed and not self._may_convert():
                return
            [layer] = self.picture.add_layers([result.layer], result.settings.feather > 0)
        except CoreError as error:
            self.tell(str(error))
            return
        self._layers.insert(0, layer)
        self._left_alone = self.busy
        self.results.mark_applied(result)
        self.notice.tell_of_layer(self.picture, layer, place)

    def tell(self, text: str, answer: Optional[tuple[str, Callable[[], None]]] = None) -> None:
        """Say something in the notice; "" takes it away. `answer`: what a button below it says, and does."""
        if self._open:
            self.notice.tell(text, answer)

    def _ask_download(self, download: Download) -> None:
        self.tell(download.text, (download.answer, lambda: self.core.answer(download)))

    def _go(self) -> None:
        if not self.busy:
            self.generate()
        elif GLib.get_monotonic_time() / 1e6 - self._started > DOUBLE_CLICK:
            self.cancel()

    def _pressed(self, window: Any, event: Any) -> bool:
        if event.keyval in (Gdk.KEY_Return, Gdk.KEY_KP_Enter) and event.state & Gdk.ModifierType.CONTROL_MASK:
            self.generate()
            return True
        return False

    def _answered(self, window: Any, response: int, loop: Any) -> None:
        if response == Gtk.ResponseType.APPLY:
            self.apply()
        elif response == HISTORY:
            history = HistoryDialog(self.picture, self.window)
            history.run()
            self._layers = history.layers + self._layers
            if history.reuse is not None:
                self._use(history.reuse)
        else:
            loop.quit()

    def _use(self, settings: EditSettings) -> None:
        values = self.form.values()
        values.take(settings)
        self.form.show_values(values)
        self.tell(tr("The seed is kept, as that edit's. Unlock it in the settings for another one."))

    # Reading, and what the core tells.

    def _read(self, settings: EditSettings, values: FieldValues) -> Snapshot:
        tokens = self.core.window_tokens(values.model)
        sketch = self.form.sketch_layer
        return snapshot(self.picture, settings, self._everything, sketch, tokens)

    def _look_at_canvas(self) -> None:
        """Show what would be read, as long as nothing has been asked, and again where something else is selected."""
        selected = [self.picture.selection_box() if self.picture.is_open else None]
        if self._view is not None or selected == self._looked_at:
            return
        self._looked_at = selected
        values = self.form.values()
        try:
            view = View(self._read(EditSettings(grow=values.grow, feather=values.feather), values))
        except LazyDiffusionError:
            self.view.clear()  # Generate says why
        else:
            self.view.set_from_pixbuf(view.empty)

    def _may_convert(self) -> bool:
        self._convert = self._convert or may_convert(self.window)  # asked once
        return self._convert

    def _enter(self, state: State) -> None:
        if self._open:
            self._show_edit(edit_state(state))
            if state in ENDED:
                self._cancelling = False
                if self._view is not None:
                    self._view.let_go()
                if self.results.current is None and self._view is not None:
                    self.view.set_from_pixbuf(self._view.empty)
                self.core.look()

    def _hear(self, event: Event) -> None:
        if isinstance(event, Filled):
            self._notices[event.fill] = event.notice
        if self._cancelling or not self._open:
            return
        if isinstance(event, Previewed):
            if self._view is not None and self.results.current is None:
                self.view.set_from_pixbuf(self._view.with_preview(event.picture(), Box(*event.box)))
            return
        text = progress(event, self._settings.variations)
        if isinstance(event, Stepped):
            self.bar.set_fraction(share_done(event, self._settings.variations))
        if text:
            self.status.set_text(text)

    def _take(self, fill: FillPixels) -> None:
        view = self._view
        if view is None or not self._open:
            return
        result = Result(fill, self._settings, self._canvas_size, view)
        # The artist may be looking at an earlier variation of the same edit, or at what the next one is like so far.
        choose = not self._left_alone and (self._first or self.results.current is None)
        self.results.add(result, choose)
        self._first = False
        if self._notices.get(fill.fill):
            self.tell(self._notices[fill.fill])

    def _chosen(self, result: Optional[Result], by_artist: bool) -> None:
        self.apply_button.set_sensitive(result is not None)
        if result is not None:
            self.view.set_from_pixbuf(result.view.with_fill(result.fill))
        elif by_artist:
            self._left_alone = self.busy
            if self._view is not None:
                self.view.set_from_pixbuf(self._view.empty)

    def _show_edit(self, text: str = "") -> None:
        busy = self.busy
        self.go.set_label(tr("Canc_el") if busy else tr("_Generate"))
        self.go.set_tooltip_text(tr("End this edit") if busy else tr("Ctrl+Enter does the same"))
        self.bar.set_fraction(0)
        self.apply_button.set_sensitive(self.results.current is not None)
        if text and not self._cancelling:
            self.status.set_text(text)
        self._show_core()

    def _look_at_core(self) -> bool:
        self.core.look()
        return True

    def _show_core(self) -> None:
        if not self._open:
            return
        self.form.model.offer(self.core.choices)
        self.form.show_hint()
        self.form.downloads.offer(self.core.downloads)
        if not self.busy:
            said = self.core.text == self.notice.text
            self.status.set_text("" if said else self.core.text)

    # The end.

    def _store(self, values: FieldValues) -> None:
        store_values(values, self._config)
        remember(values)
        self._given = values

    def _end(self) -> Optional[list[Any]]:
        self._open = False
        GLib.source_remove(self._timer)
        self.window.hide()
        typed = self.form.values()
        changed = typed != self._given
        self._store(typed)
        self._config.set_property("sketch", None)
        if self.busy:
            self.controller.cancel()
        self.controller.wait(PATIENCE)
        self.window.destroy()
        # Also without a layer what was typed is worth keeping, which GIMP does where a run succeeds.
        return self._layers if self._layers or changed or self.results.results else None

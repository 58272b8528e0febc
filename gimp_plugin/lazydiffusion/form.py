"""The fields of an edit as GTK widgets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

from lazydiffusion.client.fields import FieldValues, fields, prompt_hint, thrown_seed
from lazydiffusion.client.model_choice import Download
from lazydiffusion.client.modes import Mode
from lazydiffusion.client.taught import untaught_note
from lazydiffusion.client.words import mode_name
from lazydiffusion.protocol import MAX_SEED

from .arguments import label_of
from .gtk import SPACE, Gdk, GLib, Gtk, column, fold, row, tr, wrapping
from .image import Layer
from .model_box import DownloadButtons, ModelBox

MODE_MNEMONICS = {Mode.FILL: "i", Mode.ADD: "b", Mode.REMOVE: "R"}
PROMPT_LINES = 3
PAUSE_MS = 700
"""After the last letter typed, until a prompt is looked at."""
NUMBERS = ("variations", "steps", "guidance", "strength", "grow", "feather")
"""The fields that are spin buttons."""
AUTOMATIC = ("lazySteps", "lazyGuidance")
"""The names of those of which 0 leaves the choice to the model."""


class FieldForm:
    """All fields; `widget` holds them."""

    def __init__(
        self,
        layers: Callable[[], list[Layer]],
        submitted: Callable[[], None],
        asked: Callable[[Download], None],
    ) -> None:
        """`layers`: those that could be a sketch, asked when the list opens. `submitted`: Shift+Enter in a prompt.

        `asked`: the button of a model that could be had was clicked.
        """
        self._layers = layers
        self.modes = {mode: self._mode(mode) for mode in Mode}
        self.prompt = PromptText("lazyPrompt", submitted)
        self.prompt.when_typed(self.show_untaught)
        self.untaught = wrapping("lazyUntaught")  # for below what is clicked: it comes and goes
        self.untaught.set_no_show_all(True)
        self.negative = PromptText("lazyNegative", submitted)
        self.negative_fold = fold(tr("_Negative prompt"), self.negative.widget, "lazyNegativeFold")
        known = fields()
        self.variations = _number("variations")
        self.steps, self.guidance, self.strength = _number("steps"), _number("guidance"), _number("strength")
        self.grow, self.feather = _number("grow"), _number("feather")
        self.seed = Gtk.Entry(hexpand=True, max_length=len(str(MAX_SEED)))
        self.seed.set_name("lazySeed")
        self.seed.set_input_purpose(Gtk.InputPurpose.DIGITS)
        self.seed.connect("changed", lambda entry: self._seed_changed())
        self._seed = ""
        """The text that was shown or typed last."""
        self.lock = Gtk.ToggleButton(image=Gtk.Image.new_from_icon_name("changes-prevent-symbolic", 1))
        self.lock.set_name("lazySeedLock")
        self.lock.set_tooltip_text(tr("Keep this seed"))
        dice = Gtk.Button(image=Gtk.Image.new_from_icon_name("view-refresh-symbolic", 1))
        dice.set_name("lazySeedDice")
        dice.set_tooltip_text(tr("Throw the dice: a new seed"))
        dice.connect("clicked", lambda button: self.throw_dice())
        self.sketch = Gtk.ComboBoxText()
        self.sketch.set_name("lazySketch")
        self.sketch.connect("notify::popup-shown", lambda *_: self.refill_sketch())
        self.model = ModelBox()
        self.model.widget.connect("changed", lambda box: self.show_hint())
        self.downloads = DownloadButtons(asked)
        grid = Gtk.Grid(column_spacing=SPACE, row_spacing=4, margin_top=4)
        shown = {
            "variations": self.variations,
            "seed": row(self.seed, self.lock, dice, space=2),
            "steps": self.steps,
            "guidance": self.guidance,
            "strength": self.strength,
            "grow": self.grow,
            "feather": self.feather,
            "sketch": self.sketch,
            "model": self.model.widget,
        }
        for line, (name, field) in enumerate(known.items()):
            label = Gtk.Label.new_with_mnemonic(label_of(name))
            label.set_xalign(0)
            label.set_mnemonic_widget(self.seed if name == "seed" else shown[name])
            shown[name].set_hexpand(True)
            for widget in (label, shown[name]):
                widget.set_tooltip_text(field.tip)
            grid.attach(label, 0, line, 1, 1)
            grid.attach(shown[name], 1, line, 1 if field.unit else 2, 1)
            if field.unit:
                grid.attach(Gtk.Label(label=field.unit, xalign=0), 2, line, 1, 1)
        grid.attach(self.downloads.widget, 1, len(known), 2, 1)
        self.settings_fold = fold(tr("Se_ttings"), grid, "lazySettingsFold")
        prompt_label = Gtk.Label.new_with_mnemonic(tr("_Prompt"))
        prompt_label.set_xalign(0)
        prompt_label.set_mnemonic_widget(self.prompt.text)
        modes = row(*self.modes.values(), space=0)
        modes.get_style_context().add_class("linked")
        modes.set_homogeneous(True)
        self.widget = column(modes, prompt_label, self.prompt.widget, self.negative_fold, self.settings_fold)
        self.refill_sketch()

    @property
    def mode(self) -> Mode:
        """The chosen one."""
        return next(mode for mode, button in self.modes.items() if button.get_active())

    @property
    def sketch_layer(self) -> Optional[int]:
        """The chosen layer's id."""
        chosen = self.sketch.get_active_id()
        return int(chosen) if chosen and self.mode.uses_prompt else None

    def show_values(self, values: FieldValues) -> None:
        """Fill the fields."""
        self.modes[values.edit_mode].set_active(True)
        self.prompt.content, self.negative.content = values.prompt, values.negative_prompt
        self.negative_fold.set_expanded(bool(values.negative_prompt))
        for name in NUMBERS:
            getattr(self, name).set_value(getattr(values, name))
        self._show_seed(values.seed)
        self.lock.set_active(values.seed_locked)
        self.model.choose(values.model)
        self._show_mode()

    def values(self) -> FieldValues:
        """What the fields hold, also what is just being typed."""
        for name in NUMBERS:
            _take_typed(getattr(self, name))
        return FieldValues(
            mode=self.mode.value,
            prompt=self.prompt.content,
            negative_prompt=self.negative.content,
            variations=self.variations.get_value_as_int(),
            seed=min(int(self.seed.get_text() or 0), MAX_SEED),
            seed_locked=self.lock.get_active(),
            steps=self.steps.get_value_as_int(),
            guidance=round(self.guidance.get_value(), 1),
            strength=self.strength.get_value_as_int(),
            grow=self.grow.get_value_as_int(),
            feather=self.feather.get_value_as_int(),
            model=self.model.name or FieldValues.model,
        )

    def throw_dice(self) -> None:
        """A new seed."""
        self._show_seed(thrown_seed())

    def choose_sketch(self, layer: Optional[int]) -> None:
        """Choose a layer, if it is (still) one of the image's."""
        self.sketch.set_active_id(str(layer or ""))
        if self.sketch.get_active_id() is None:
            self.sketch.set_active_id("")

    def refill_sketch(self) -> None:
        """Look the layers up; a chosen one that is gone is chosen no more."""
        wanted = [("", tr("None")), *((str(layer.id), layer.name) for layer in self._layers())]
        if wanted != [(line[1], line[0]) for line in self.sketch.get_model()]:
            chosen = self.sketch.get_active_id() or ""
            self.sketch.remove_all()
            for id, name in wanted:
                self.sketch.append(id, name)
            self.choose_sketch(int(chosen) if chosen else None)

    def _show_seed(self, seed: int) -> None:
        self._seed = str(seed)
        self.seed.set_text(self._seed)

    def _seed_changed(self) -> None:
        # Digits only, after the fact: PyGObject cannot hand on the position of GTK's "insert-text".
        text = self.seed.get_text()
        digits = "".join(sign for sign in text if sign in "0123456789")
        if digits != text:
            self.seed.set_text(digits)  # which comes here again
        elif digits and digits != self._seed:
            self._seed = digits
            self.lock.set_active(True)  # or the dice would be thrown over what was typed

    def _mode(self, mode: Mode) -> Gtk.RadioButton:
        first = next(iter(getattr(self, "modes", {}).values()), None) or getattr(self, "_first", None)
        letter = MODE_MNEMONICS[mode]
        text = mode_name(mode).replace(letter, "_" + letter, 1)
        made = Gtk.RadioButton.new_with_mnemonic_from_widget(first, text)
        self._first = first or made
        made.set_name("lazyMode%s" % mode.value.capitalize())
        made.set_mode(False)  # looks like a button
        made.connect("toggled", lambda button: self._show_mode() if button.get_active() else None)
        return made

    def _show_mode(self) -> None:
        if not hasattr(self, "sketch"):
            return  # while the buttons are being made
        mode = self.mode
        for widget in (self.prompt.widget, self.negative_fold, self.strength, self.sketch):
            widget.set_sensitive(mode.uses_prompt)
        self.show_hint()
        self.negative.set_hint(tr("What to keep away from"))

    def show_hint(self) -> None:
        """What the prompt says while it is empty: some models can tell what they draw."""
        self.prompt.set_hint(prompt_hint(self.mode, self.model.chosen.things))
        self.show_untaught()

    def show_untaught(self) -> None:
        """Tell of a prompt that the chosen model does not know."""
        asked = self.prompt.content if self.mode.uses_prompt else ""
        note = untaught_note(asked, self.model.chosen.words)
        self.untaught.set_text(note)
        self.untaught.set_visible(bool(note))


class PromptText:
    """A text of several lines that says what it is for as long as it is empty."""

    def __init__(self, name: str, submitted: Callable[[], None]) -> None:
        self._submitted = submitted
        self.text = Gtk.TextView(wrap_mode=Gtk.WrapMode.WORD_CHAR, accepts_tab=False)
        self.text.set_name(name)
        for margin in ("left_margin", "right_margin", "top_margin", "bottom_margin"):
            self.text.set_property(margin, 4)
        self.text.connect("key-press-event", self._pressed)
        self._hint = Gtk.Label(xalign=0, yalign=0, margin=5, wrap=True, max_width_chars=30)
        self._hint.set_name(name + "Hint")
        self._hint.get_style_context().add_class("dim-label")
        self._hint.set_halign(Gtk.Align.START)
        self._hint.set_valign(Gtk.Align.START)
        scrolled = Gtk.ScrolledWindow(shadow_type=Gtk.ShadowType.IN, hscrollbar_policy=Gtk.PolicyType.NEVER)
        scrolled.set_size_request(-1, PROMPT_LINES * 22 + 8)
        scrolled.add(self.text)
        self.widget = Gtk.Overlay()
        self.widget.add(scrolled)
        self.widget.add_overlay(self._hint)
        self.widget.set_overlay_pass_through(self._hint, True)
        self.text.get_buffer().connect("changed", lambda buffer: self._show_hint())

    @property
    def content(self) -> str:
        """What was typed."""
        buffer = self.text.get_buffer()
        return str(buffer.get_text(buffer.get_start_iter(), buffer.get_end_iter(), True))

    @content.setter
    def content(self, text: str) -> None:
        self.text.get_buffer().set_text(text)

    def set_hint(self, text: str) -> None:
        """What is said while it is empty."""
        self._hint.set_text(text)
        self._show_hint()

    def when_typed(self, paused: Callable[[], None]) -> None:
        """Have `paused` called when nothing has been typed for a moment."""
        waiting: list[int] = []

        def stop(*_: Any) -> None:
            while waiting:
                GLib.source_remove(waiting.pop())

        def over() -> bool:
            waiting.clear()
            paused()
            return bool(GLib.SOURCE_REMOVE)

        def typed(*_: Any) -> None:
            stop()
            waiting.append(GLib.timeout_add(PAUSE_MS, over))

        self.text.get_buffer().connect("changed", typed)
        self.text.connect("destroy", stop)

    def _show_hint(self) -> None:
        self._hint.set_visible(self.text.get_buffer().get_char_count() == 0)

    def _pressed(self, text: Any, event: Any) -> bool:
        enter = event.keyval in (Gdk.KEY_Return, Gdk.KEY_KP_Enter)
        if enter and event.state & Gdk.ModifierType.SHIFT_MASK:
            self._submitted()
            return True
        return False


def _number(name: str) -> Gtk.SpinButton:
    field = fields()[name]
    real = isinstance(field.high, float)
    made = Gtk.SpinButton.new_with_range(field.low, field.high, 0.5 if real else 1)
    made.set_digits(1 if real else 0)
    made.set_name("lazy" + name.capitalize())
    made.set_width_chars(10)
    made.set_numeric(False)  # or "Automatic" would be refused

    def show(spin: Gtk.SpinButton) -> bool:
        text = _text_of(spin)
        if spin.get_text() != text:
            spin.set_text(text)
        return True

    made.connect("output", show)
    show(made)
    return made


def _text_of(spin: Gtk.SpinButton) -> str:
    # Not a unit: GTK reads the text back, and takes only a number, or leaves the value as it is.
    if spin.get_value() == 0 and spin.get_name() in AUTOMATIC:
        return tr("Automatic")
    return "%.*f" % (spin.get_digits(), spin.get_value())


def _take_typed(spin: Gtk.SpinButton) -> None:
    """GTK takes a typed number only when Enter is pressed or the field is left."""
    if spin.get_text() != _text_of(spin):  # or it would have to make a number of "Automatic"
        spin.update()

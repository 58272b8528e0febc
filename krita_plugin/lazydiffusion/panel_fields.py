"""What the docker's fields hold, from one day to the next."""

from __future__ import annotations

from typing import Optional

from lazydiffusion.client.fields import prompt_hint
from lazydiffusion.client.modes import Mode
from lazydiffusion.client.taught import untaught_note
from lazydiffusion.protocol import EditSettings

from .panel_widgets import PanelWidgets
from .preferences import Preferences
from .qt import QtCore, QtWidgets

SAVE_AFTER = 700
"""Milliseconds after the last change of a field until the preferences are saved."""


class PanelFields(PanelWidgets):
    """The fields and the preferences say the same."""

    def __init__(self, parent: Optional[QtWidgets.QWidget] = None) -> None:
        super().__init__(parent)
        self.preferences = Preferences.load()
        self._saving = QtCore.QTimer(self)
        self._saving.setSingleShot(True)
        self._saving.setInterval(SAVE_AFTER)
        self._saving.timeout.connect(lambda: self.preferences.save())
        self._saving.timeout.connect(self._show_untaught)
        self._fill_in()
        self.modes.buttonToggled.connect(lambda button, on: self._mode_chosen() if on else None)
        for prompt in (self.prompt, self.negative):
            prompt.textChanged.connect(self.read_fields)
        self.settings.edited.connect(self.read_fields)
        self.settings.edited.connect(self._show_hint)
        for fold in (self.negative_fold, self.settings_fold):
            fold.toggled.connect(lambda open: self.read_fields())

    @property
    def being_edited(self) -> bool:
        """Whether a field was changed a moment ago."""
        return self._saving.isActive()

    def take(self, settings: EditSettings) -> None:
        """Have the fields say what an earlier edit was."""
        self.preferences.take(settings)
        # What it would keep away from must be seen.
        self.preferences.show_negative |= bool(settings.negative_prompt)
        self._fill_in()
        self.preferences.save()

    def _fill_in(self) -> None:
        values = self.preferences
        known = (self.prompt, self.negative, self.modes, self.negative_fold, self.settings_fold)
        was = [it.blockSignals(True) for it in known]
        self.prompt.setPlainText(values.prompt)
        self.negative.setPlainText(values.negative_prompt)
        self.modes.button(list(Mode).index(values.edit_mode)).setChecked(True)
        self.negative_fold.open = values.show_negative
        self.settings_fold.open = values.show_settings
        for it, blocked in zip(known, was):
            it.blockSignals(blocked)
        self.settings.show_values(values)
        self._show_mode()

    def read_fields(self) -> None:
        """Take over what the fields hold, and save it in a moment."""
        values = self.preferences
        values.mode = list(Mode)[self.modes.checkedId()].value
        values.prompt, values.negative_prompt = self.prompt.toPlainText(), self.negative.toPlainText()
        values.show_negative, values.show_settings = self.negative_fold.open, self.settings_fold.open
        self.settings.store_values(values)
        self._saving.start()
        if not self.untaught.isHidden():
            self._show_untaught()

    def save_now(self) -> None:
        """Save what is still to be saved."""
        if self._saving.isActive():
            self._saving.stop()
            self.preferences.save()

    def _mode_chosen(self) -> None:
        self.read_fields()
        self._show_mode()

    def _show_mode(self) -> None:
        mode = self.preferences.edit_mode
        self.prompt.setEnabled(mode.uses_prompt)
        self.negative.setEnabled(mode.uses_prompt)
        self.settings.sketch.setEnabled(mode.uses_prompt)
        self.settings.strength.setEnabled(mode.uses_prompt)
        self._show_hint()

    def _show_hint(self) -> None:
        """What the prompt says while it is empty: some models can tell what they draw."""
        hint = prompt_hint(self.preferences.edit_mode, self.settings.model.chosen.things)
        if self.prompt.placeholderText() != hint:
            self.prompt.setPlaceholderText(hint)
        if not self.being_edited:
            self._show_untaught()

    def _show_untaught(self) -> None:
        """Tell of a prompt that the chosen model does not know; not before a word is finished."""
        values = self.preferences
        asked = values.prompt if values.edit_mode.uses_prompt else ""
        note = untaught_note(asked, self.settings.model.chosen.words)
        if self.untaught.text() != note:
            self.untaught.setText(note)
        self.untaught.setVisible(bool(note))

"""The list of models: those that cannot be used yet are shown, say why, and cannot be chosen; and how to have them."""

from __future__ import annotations

from collections.abc import Callable

from lazydiffusion.client.fields import fields
from lazydiffusion.client.model_choice import Download, ModelChoice, chosen_of, tip_of_list, with_chosen

from .gtk import Gtk, column

NAME, TEXT, USABLE = range(3)
"""Columns of the rows."""


class ModelBox:
    """`widget` is the list; its rows have a model's name as their id."""

    def __init__(self) -> None:
        self._choices: list[ModelChoice] = []
        self._rows = Gtk.ListStore(str, str, bool)
        self.widget = Gtk.ComboBox(model=self._rows, id_column=NAME)
        self.widget.set_name("lazyModel")
        text = Gtk.CellRendererText()
        self.widget.pack_start(text, True)
        self.widget.add_attribute(text, "text", TEXT)
        self.widget.add_attribute(text, "sensitive", USABLE)  # GTK chooses no row that is not
        self.widget.connect("changed", lambda box: self._show_tip())

    @property
    def name(self) -> str:
        """The chosen model's; empty where none is."""
        return self.widget.get_active_id() or ""

    @property
    def chosen(self) -> ModelChoice:
        """The chosen one, with what it was taught to draw."""
        return chosen_of(self._choices, self.name)

    def offer(self, choices: list[ModelChoice]) -> None:
        """What there is to choose from; the chosen one stays, even if the core does not know it (yet)."""
        self._choices = choices
        self.choose(self.name)

    def choose(self, name: str) -> None:
        """Choose a model, whether it can be used or not: the artist once could."""
        choices = with_chosen(self._choices, name)
        if [choice.name for choice in choices] == [row[NAME] for row in self._rows]:
            for row, choice in zip(self._rows, choices):  # in place: the list may be open
                for column, value in ((TEXT, choice.text), (USABLE, choice.usable)):
                    if row[column] != value:
                        row[column] = value
        else:
            self._rows.clear()
            for choice in choices:
                self._rows.append([choice.name, choice.text, choice.usable])
        self.widget.set_active_id(name)
        self._show_tip()

    def _show_tip(self) -> None:
        # GTK has no tips of single rows.
        choices = with_chosen(self._choices, self.name)
        tip = tip_of_list(fields()["model"].tip, choices, self.name)
        if self.widget.get_tooltip_text() != tip:
            self.widget.set_tooltip_text(tip)


class DownloadButtons:
    """A button for each model that could be had; `widget` is hidden where there is none."""

    def __init__(self, asked: Callable[[Download], None]) -> None:
        """`asked(download)`: its button was clicked."""
        self._asked = asked
        self._buttons: dict[str, Gtk.Button] = {}
        self._downloads: dict[str, Download] = {}
        self.widget = column(space=2)
        self.widget.set_name("lazyDownloads")
        self.widget.set_no_show_all(True)

    def offer(self, downloads: list[Download]) -> None:
        """What could be had now."""
        self._downloads = {it.name: it for it in downloads}
        for name in [name for name in self._buttons if name not in self._downloads]:
            self._buttons.pop(name).destroy()
        for name, it in self._downloads.items():
            if name not in self._buttons:
                button = self._buttons[name] = Gtk.Button()
                button.set_name("lazyDownload-" + name)
                button.connect("clicked", lambda clicked, name=name: self._asked(self._downloads[name]))
                self.widget.pack_start(button, False, True, 0)
                button.show()
            if self._buttons[name].get_label() != it.button:
                self._buttons[name].set_label(it.button)
            self._buttons[name].set_tooltip_text(it.text)
        self.widget.set_visible(bool(self._buttons))

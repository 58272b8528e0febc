"""The models as an editor's list shows them, also those that cannot be chosen yet (standard library, Python 3.9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lazydiffusion.client.words import size, tr
from lazydiffusion.protocol import EditSettings
from lazydiffusion.window import WINDOW_TOKENS

LARGE = 10**9
"""Bytes from which a model's size is worth telling."""
TOLD = 20
"""Things that a list's tip names, of a model that was taught some."""
UNKNOWN_WINDOW_TOKENS = 64
"""Side of the window that a model is taken to have of which nothing is known: 1024 px, as large models have. Where its
window is smaller, some bytes were sent for nothing; where it were larger than said, the model would see a blur."""


@dataclass(frozen=True)
class Download:
    """A model that could be had, or is being had: a button, what it asks, and what its answer does."""

    name: str
    running: bool
    """Whether it is being downloaded now: then the answer stops that, else it starts it."""
    button: str
    """What the button says that leads to the question."""
    text: str
    """The question: what there is to know first, or how far it is."""
    answer: str
    problem: str = ""
    """Why the last try failed, a sentence; empty if it did not."""


@dataclass(frozen=True)
class ModelChoice:
    """One row of the list."""

    name: str
    """What an edit names it by."""
    text: str
    """What the row says."""
    usable: bool = True
    """Whether it can be chosen."""
    tip: str = ""
    """More of it: where it cannot be chosen, why and what to do."""
    things: tuple[str, ...] = ()
    """Names of what it was taught to draw; empty where they are no list."""
    words: tuple[str, ...] = ()
    """What a prompt may call them."""


def model_choices(info: dict[str, Any]) -> list[ModelChoice]:
    """What there is to choose from. `info`: as `Core.info` gave it; empty where no core runs."""
    here = [_installed(model) for model in info.get("models", [])]
    return here + [_downloadable(known) for known in _known(info)]


def downloads(info: dict[str, Any]) -> list[Download]:
    """The models that could be had. `info`: as `Core.info` gave it; empty where no core runs.

    None as long as the core has not found its device: what an artist should know first depends on that.
    """
    if info.get("state") == "loading":
        return []
    return [_download(known) for known in _known(info) if known.by_core]


def window_tokens(info: dict[str, Any], model: str) -> int:
    """Side of a model's window, tokens. `info`: as `Core.info` gave it; empty where no core runs."""
    for known in info.get("models", []):
        if known.get("name") == model and known.get("window_tokens"):
            return int(known["window_tokens"])
    return WINDOW_TOKENS if model == EditSettings.model else UNKNOWN_WINDOW_TOKENS


def with_chosen(choices: list[ModelChoice], chosen: str) -> list[ModelChoice]:
    """The choices; before them the chosen one, if the core does not know it (yet)."""
    if not chosen or chosen in [choice.name for choice in choices]:
        return choices
    return [ModelChoice(chosen, chosen), *choices]


def examples(things: tuple[str, ...], count: int) -> tuple[str, ...]:
    """So many of the names, from all over the list, of one word where there are such."""
    short = [name for name in things if " " not in name] or list(things)
    count = min(count, len(short))
    return tuple(short[(2 * row + 1) * len(short) // (2 * count)] for row in range(count))


def chosen_of(choices: list[ModelChoice], chosen: str) -> ModelChoice:
    """The chosen one; of one that the core does not know (yet) nothing but its name."""
    return next((choice for choice in choices if choice.name == chosen), ModelChoice(chosen, chosen))


def words_of(info: dict[str, Any], model: str) -> tuple[str, ...]:
    """What a prompt may call what a model was taught. `info`: as `Core.info` gave it."""
    return chosen_of(model_choices(info), model).words


def tip_of_list(tip: str, choices: list[ModelChoice], chosen: str) -> str:
    """What the list itself says: its own tip, then of the chosen model, and of those that cannot be chosen."""
    told = [choice for choice in choices if choice.tip and (choice.name == chosen or not choice.usable)]
    return "\n".join([tip, *("%s: %s" % (choice.name, choice.tip) for choice in told)])


def _installed(model: dict[str, Any]) -> ModelChoice:
    name, problem = str(model.get("name")), str(model.get("problem") or "")
    if problem:
        return ModelChoice(name, tr("%s – cannot be used") % name, False, problem)
    count = int(model.get("bytes") or 0)
    text = tr("%s (%s)") % (name, size(count)) if count >= LARGE else name
    tips = {
        "absent": tr("Ready. Its first edit takes longer: it is loaded then."),
        "loading": tr("It is being loaded."),
        "loaded": tr("In memory: the next edit starts at once."),
    }
    tip, things = tips.get(str(model.get("state")), ""), tuple(map(str, model.get("things") or ()))
    if things:
        some = ", ".join(examples(things, TOLD))
        told = tr("It was taught to draw %d things, among them %s.") % (len(things), some)
        tip = ("%s %s" % (tip, told)).strip()
    return ModelChoice(name, text, True, tip, things, tuple(map(str, model.get("words") or ())))


def _downloadable(known: _Known) -> ModelChoice:
    if known.running:
        return ModelChoice(known.name, tr("%s – %s") % (known.name, known.progress), False, known.meanwhile)
    how = tr("The button below the list downloads it.")
    if not known.by_core:
        how = tr("Run `%s` in a terminal.") % known.command
    tip = "%s %s" % (known.facts, how)
    row = tr("%s – not downloaded, %s") % (known.name, size(known.count))
    return ModelChoice(known.name, row, False, known.problem or tip)


def _download(known: _Known) -> Download:
    if known.running:
        button = tr("%s: %s") % (known.name, known.progress)
        return Download(known.name, True, button, known.meanwhile, tr("Stop the download"))
    button, text = tr("Get %s…") % known.name, "%s %s" % (known.problem, known.facts)
    answer = tr("Go on with the download") if known.downloaded else tr("Download it")
    return Download(known.name, False, button, text.strip(), answer, known.problem)


class _Known:
    """What the core says of a model that is not here."""

    def __init__(self, model: dict[str, Any], on_cpu: bool) -> None:
        """`on_cpu`: whether the core has nothing better to run it on."""
        self._on_cpu, self.command = on_cpu, str(model.get("command") or "")
        self.name, self.problem = str(model.get("name")), str(model.get("problem") or "")
        self.count = int(model.get("bytes") or 0)
        self.downloaded = min(int(model.get("downloaded") or 0), self.count)
        self._licence, self._needs = str(model.get("licence") or ""), str(model.get("needs") or "")
        self._state = str(model.get("state") or "")

    @property
    def by_core(self) -> bool:
        """Whether the core downloads it when asked to: one of an older version does not."""
        return bool(self._state)

    @property
    def running(self) -> bool:
        """Whether it is being downloaded."""
        return self._state in ("downloading", "checking")

    @property
    def progress(self) -> str:
        """In a few words."""
        if self._state == "checking":
            return tr("checking…")
        return tr("downloading, %d %%") % (100 * self.downloaded // max(self.count, 1))

    @property
    def meanwhile(self) -> str:
        """What goes on while it is being downloaded."""
        text = tr("%s is being downloaded (%s). When all of it is here, it can be chosen as the model.")
        return text % (self.name, size(self.count)) + " " + tr("Edits go on meanwhile.")

    @property
    def facts(self) -> str:
        """What somebody should know who might download it."""
        licence = tr("licence %s") % self._licence
        if self.downloaded:
            text = tr("%s is not downloaded yet: %s, of which %s are here already, %s.")
            text = text % (self.name, size(self.count), size(self.downloaded), licence)
        else:
            text = tr("%s is not downloaded yet: %s, %s.") % (self.name, size(self.count), licence)
        if self._needs:
            text += " " + tr("It needs %s.") % self._needs
            if self._on_cpu:
                text += " " + tr("Here the core works on the CPU, where an edit with it takes minutes.")
        return text


def _known(info: dict[str, Any]) -> list[_Known]:
    on_cpu = (info.get("device") or {}).get("type") == "cpu"
    return [_Known(model, on_cpu) for model in info.get("downloadable", [])]

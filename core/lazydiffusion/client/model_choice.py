"""The models as an editor's list shows them, also those that cannot be chosen yet (standard library, Python 3.9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lazydiffusion.client.words import size, tr

LARGE = 10**9
"""Bytes from which a model's size is worth telling."""


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


def model_choices(info: dict[str, Any]) -> list[ModelChoice]:
    """What there is to choose from. `info`: as `Core.info` gave it; empty where no core runs."""
    here = [_installed(model) for model in info.get("models", [])]
    return here + [_downloadable(model) for model in info.get("downloadable", [])]


def with_chosen(choices: list[ModelChoice], chosen: str) -> list[ModelChoice]:
    """The choices; before them the chosen one, if the core does not know it (yet)."""
    if not chosen or chosen in [choice.name for choice in choices]:
        return choices
    return [ModelChoice(chosen, chosen), *choices]


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
    return ModelChoice(name, text, True, tips.get(str(model.get("state")), ""))


def _downloadable(model: dict[str, Any]) -> ModelChoice:
    name, count = str(model.get("name")), size(int(model.get("bytes") or 0))
    command, licence = model.get("command"), model.get("licence")
    downloaded = int(model.get("downloaded") or 0)
    if downloaded:
        tip = tr(
            "Run `%s` in a terminal: %s, of which %s are here already, licence %s. Then it can be chosen here."
        )
        tip = tip % (command, count, size(downloaded), licence)
    else:
        tip = tr("Run `%s` in a terminal: %s, licence %s. Then it can be chosen here.")
        tip = tip % (command, count, licence)
    return ModelChoice(name, tr("%s – not downloaded, %s") % (name, count), False, tip)

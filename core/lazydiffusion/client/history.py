"""What the core keeps of earlier edits, as a client reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from lazydiffusion.errors import BadInput
from lazydiffusion.protocol import EditSettings, settings_of
from lazydiffusion.window import Box, Size


@dataclass(frozen=True)
class HistoryFill:
    """One fill of an earlier edit; `Core.edit(id).fill(fill)` fetches it."""

    fill: int
    seed: int
    box: Box
    """Where it belongs on the canvas, px."""


@dataclass(frozen=True)
class HistoryEntry:
    """An earlier edit."""

    id: str
    created: float
    """Seconds since 1970."""
    settings: EditSettings
    canvas_size: Size
    """(width, height) in px."""
    client: str
    fills: tuple[HistoryFill, ...]
    state: str
    """How the edit ended: done, failed or cancelled."""


def entries_of(values: dict[str, Any]) -> list[HistoryEntry]:
    """The entries of the answer to `GET /v1/history`; one that this version cannot read is left out."""
    entries = (_entry(value) for value in values.get("edits", []))
    return [entry for entry in entries if entry is not None]


def _entry(value: dict[str, Any]) -> Optional[HistoryEntry]:
    try:
        width, height = (int(side) for side in value["canvas_size"])
        return HistoryEntry(
            id=str(value["id"]),
            created=float(value["created"]),
            settings=settings_of(value["settings"]),
            canvas_size=(width, height),
            client=str(value["client"]),
            fills=tuple(
                HistoryFill(int(fill["fill"]), int(fill["seed"]), Box(*(int(side) for side in fill["box"])))
                for fill in value["fills"]
            ),
            state=str(value["state"]),
        )
    except (BadInput, TypeError, ValueError, KeyError, AttributeError):
        return None

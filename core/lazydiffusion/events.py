"""What happens to an edit, as the core tells it and a client hears it (standard library only, valid Python 3.9)."""

from __future__ import annotations

import base64
import dataclasses
from dataclasses import dataclass, field
from typing import Any, Union


@dataclass(frozen=True)
class Queued:
    """The edit waits; sent again whenever its place changes."""

    position: int
    """How many edits come before it; 0 is next."""


@dataclass(frozen=True)
class Started:
    """The core has begun with the edit."""


@dataclass(frozen=True)
class Loading:
    """The edit's model is not in memory yet and is being loaded."""

    model: str


@dataclass(frozen=True)
class Retrying:
    """Memory was short; the edit is tried once more with less."""

    message: str


@dataclass(frozen=True)
class Stepped:
    """A denoising step was taken."""

    fill: int
    """Which variation, from 0."""
    step: int
    """From 1 to `steps`."""
    steps: int
    seconds_left: float
    """Estimated time until the edit's last fill is finished."""


@dataclass(frozen=True)
class Previewed:
    """What a fill looks like so far."""

    fill: int
    box: list[int]
    """[x, y, w, h] on the canvas that the picture covers; it may have fewer px than that."""
    png: str
    """A PNG file, base64."""

    def picture(self) -> bytes:
        """The PNG file."""
        return base64.b64decode(self.png)


@dataclass(frozen=True)
class Filled:
    """A fill is finished and can be fetched."""

    fill: int
    seed: int
    box: list[int]
    """[x, y, w, h] on the canvas."""
    saved: bool
    """Whether the fill is in the history, on disk. If not, the core still has it, but not for long."""
    notice: str = ""
    """Why it could not be saved: a sentence for the user. Empty for a draft's, which was not to be saved."""


@dataclass(frozen=True)
class Done:
    """All fills are finished."""

    fills: int
    report: dict[str, Any] = field(default_factory=dict)
    """What the edit cost: window, scale, hidden_tokens, steps, device, ms by stage."""


@dataclass(frozen=True)
class Failed:
    """The edit ended with an error. Fills that were announced before can still be fetched."""

    code: str
    """bad-input, bad-model, out-of-memory, stopped or internal."""
    message: str
    """A sentence for the user."""


@dataclass(frozen=True)
class Cancelled:
    """The edit was cancelled. Fills that were announced before can still be fetched."""


Event = Union[Queued, Started, Loading, Retrying, Stepped, Previewed, Filled, Done, Failed, Cancelled]

KINDS: dict[str, type[Any]] = {
    "queued": Queued,
    "started": Started,
    "loading": Loading,
    "retrying": Retrying,
    "step": Stepped,
    "preview": Previewed,
    "fill": Filled,
    "done": Done,
    "failed": Failed,
    "cancelled": Cancelled,
}
"""The events by the name that they have in the stream."""
LAST = (Done, Failed, Cancelled)
"""After one of these an edit's stream ends."""

_NAMES = {kind: name for name, kind in KINDS.items()}


def name_of(event: Event) -> str:
    """The event's name in the stream."""
    return _NAMES[type(event)]


def to_json(event: Event) -> dict[str, Any]:
    """The event's fields, ready for JSON."""
    return dataclasses.asdict(event)


def from_json(name: str, values: dict[str, Any]) -> Event | None:
    """The event of that name; None for one that this version does not know. Unknown fields are left out.

    Raises TypeError when a field is missing.
    """
    kind = KINDS.get(name)
    if kind is None:
        return None
    known = {f.name for f in dataclasses.fields(kind)}
    event: Event = kind(**{key: value for key, value in values.items() if key in known})
    return event

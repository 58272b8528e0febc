"""What the dialog's fields held last, for the procedure that has no dialog: GIMP itself keeps values by procedure."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from lazydiffusion.client.fields import FieldValues

from .gi_modules import Gimp

NAME = "lazydiffusion-fields"
"""Of the parasite that holds them: one of GIMP's, not of an image's."""
SHARED = ("model", "steps", "grow", "feather")
"""The fields that mean the same with and without the dialog."""


def remember(values: FieldValues) -> None:
    """Keep the shared fields, also for the next time that GIMP is started."""
    kept = {name: getattr(values, name) for name in SHARED}
    Gimp.attach_parasite(Gimp.Parasite.new(NAME, Gimp.PARASITE_PERSISTENT, json.dumps(kept).encode()))


def with_remembered(values: FieldValues) -> FieldValues:
    """The values with the shared fields as the dialog had them last; as they are where it never was open."""
    note = Gimp.get_parasite(NAME)
    kept = _read(bytes(note.get_data())) if note is not None else {}
    fitting = {name: kept[name] for name in SHARED if type(kept.get(name)) is type(getattr(values, name))}
    return replace(values, **fitting)


def _read(data: bytes) -> dict[str, Any]:
    # Parasites can be written by anybody: what cannot be read is as if it were not there.
    try:
        kept = json.loads(data.rstrip(b"\0"))
    except ValueError:
        return {}
    return kept if isinstance(kept, dict) else {}

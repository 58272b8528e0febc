"""What the dialog's fields held last.

GIMP keeps values by procedure, but Remove has no dialog, and the history's dialog belongs to another procedure than the
one that Fill Again and the next dialog take their values from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from lazydiffusion.client.fields import FieldValues, thrown_seed
from lazydiffusion.client.modes import settings_for
from lazydiffusion.errors import LazyDiffusionError

from .gi_modules import Gimp

NAME = "lazydiffusion-fields"
"""Of the parasite that holds them: one of GIMP's, not of an image's."""
SHARED = ("model", "steps", "grow", "feather")
"""The fields that mean the same with and without the dialog."""
ALL = tuple(FieldValues.__dataclass_fields__)


def remember(values: FieldValues) -> None:
    """Keep the fields, also for the next time that GIMP is started."""
    kept = json.dumps(asdict(values))
    Gimp.attach_parasite(Gimp.Parasite.new(NAME, Gimp.PARASITE_PERSISTENT, kept.encode()))


def with_remembered(values: FieldValues, names: Sequence[str] = SHARED) -> FieldValues:
    """The values with these fields as the dialog had them last; as they are where it never was open.

    A seed that is not kept is thrown anew.
    """
    note = Gimp.get_parasite(NAME)
    kept = _read(bytes(note.get_data())) if note is not None else {}
    fitting = {name: kept[name] for name in names if type(kept.get(name)) is type(getattr(values, name))}
    found = replace(values, **fitting)
    try:
        settings_for(found.edit_mode, found.edit_settings())
    except (LazyDiffusionError, ValueError):
        return values
    return found if found.seed_locked else replace(found, seed=thrown_seed())


def _read(data: bytes) -> dict[str, Any]:
    # Parasites can be written by anybody: what cannot be read is as if it were not there.
    try:
        kept = json.loads(data.rstrip(b"\0"))
    except ValueError:
        return {}
    return kept if isinstance(kept, dict) else {}

"""The procedures' arguments: typed, described for the procedure browser, and what they mean as fields."""

from __future__ import annotations

from typing import Any, Optional

from lazydiffusion.client.fields import LARGEST_THROW, FieldValues, fields, thrown_seed
from lazydiffusion.client.modes import Mode
from lazydiffusion.client.words import mode_name, tr
from lazydiffusion.protocol import EditSettings

from .gi_modules import Gimp, GObject

RANDOM_SEED = -1
"""As an argument: throw the dice."""
READ_WRITE = GObject.ParamFlags.READWRITE


def add_fill_arguments(procedure: Any) -> None:
    """What to paint, how, and where."""
    choice = Gimp.Choice.new()
    for number, mode in enumerate(Mode):
        choice.add(mode.value, number, mode_name(mode), "")
    procedure.add_choice_argument(
        "mode", tr("_Mode"), tr("What is to happen to the selection"), choice, Mode.FILL.value, READ_WRITE
    )
    _text(
        procedure,
        "prompt",
        tr("_Prompt"),
        tr("What to paint, in English. Empty: what is around goes on"),
    )
    _text(procedure, "negative-prompt", tr("_Negative prompt"), tr("What to keep away from"))
    _add_number(procedure, "guidance", tr("0 is automatic, what the model was made for"))
    _add_number(procedure, "strength", tr("the mode remove always paints all of it anew"))
    known = fields()["sketch"]
    procedure.add_drawable_argument(
        "sketch",
        _mnemonic("sketch", known.label),
        tr("%s. Its own pixels count, not its opacity or mask") % known.tip,
        True,
        READ_WRITE,
    )
    add_common_arguments(procedure)


def add_common_arguments(procedure: Any) -> None:
    """What filling and removing share."""
    known = fields()
    _add_number(procedure, "variations", tr("each is a layer"))
    procedure.add_int_argument(
        "seed",
        _mnemonic("seed", known["seed"].label),
        tr("%s; -1 takes another one each time") % known["seed"].tip,
        RANDOM_SEED,
        LARGEST_THROW,
        RANDOM_SEED,
        READ_WRITE,
    )
    _add_number(procedure, "steps", tr("0 is automatic"))
    _add_number(procedure, "grow")
    _add_number(procedure, "feather", tr("the layer then has a mask"))
    procedure.add_string_argument(
        "model", _mnemonic("model", known["model"].label), known["model"].tip, EditSettings.model, READ_WRITE
    )
    procedure.add_boolean_argument(
        "whole-canvas",
        tr("Whole _canvas if nothing is selected"),
        tr("Fill the whole canvas where nothing is selected; otherwise that is an error"),
        False,
        READ_WRITE,
    )
    procedure.add_boolean_argument(
        "convert-indexed",
        tr("Convert _indexed images"),
        tr(
            "Convert an indexed image to RGB, in the same undo step: with a palette the fill's colours would be "
            "lost; otherwise an indexed image is an error"
        ),
        False,
        READ_WRITE,
    )


def add_layers_result(procedure: Any) -> None:
    """What every procedure gives back."""
    procedure.add_core_object_array_return_value(
        "layers", tr("Layers"), tr("The new layers, one for each fill, the first one on top"),
        Gimp.Layer.__gtype__, READ_WRITE,
    )  # fmt: skip


def values_of(config: Any) -> FieldValues:
    """The fields as a procedure's arguments have them; those that it does not have are as ever."""
    given = {_name(argument): config.get_property(argument) for argument in _arguments_of(config)}
    seed = int(given.pop("seed"))
    locked = seed != RANDOM_SEED
    values = FieldValues(seed=seed if locked else thrown_seed(), seed_locked=locked, **given)
    values.guidance = round(values.guidance, 6)
    return values


def store_values(values: FieldValues, config: Any) -> None:
    """The fields into a procedure's arguments, for the next time."""
    for argument in _arguments_of(config):
        if argument == "seed":
            small = values.seed_locked and values.seed <= LARGEST_THROW
            config.set_property(argument, values.seed if small else RANDOM_SEED)
        else:
            config.set_property(argument, getattr(values, _name(argument)))


def sketch_of(config: Any) -> Optional[int]:
    """The id of the drawable that is the sketch, if one is given."""
    drawable = config.get_property("sketch") if config.find_property("sketch") is not None else None
    return drawable.get_id() if drawable is not None else None


def _arguments_of(config: Any) -> list[str]:
    """The arguments of a procedure that are fields."""
    names = (name.replace("_", "-") for name in FieldValues.__dataclass_fields__)
    return [name for name in names if config.find_property(name) is not None]


def _name(argument: str) -> str:
    return argument.replace("-", "_")


def _text(procedure: Any, name: str, label: str, what: str) -> None:
    procedure.add_string_argument(name, label, what, "", READ_WRITE)


def _add_number(procedure: Any, name: str, more: str = "") -> None:
    field = fields()[name]
    unit = " (%s)" % field.unit if field.unit else ""
    what = "%s%s%s" % (field.tip, unit, "; " + more if more else "")
    default = getattr(FieldValues, name)
    add = procedure.add_double_argument if isinstance(default, float) else procedure.add_int_argument
    add(name, _mnemonic(name, field.label), what, field.low, field.high, default, READ_WRITE)


MNEMONICS = {
    "variations": "V", "seed": "d", "steps": "Q", "guidance": "u", "strength": "S", "grow": "w", "feather": "F",
    "sketch": "k", "model": "o",
}  # fmt: skip
"""The letter of a field's label that Alt takes to it; all of a dialog's are different, also from its buttons'."""


def _mnemonic(name: str, label: str) -> str:
    letter = MNEMONICS[name]
    return label.replace(letter, "_" + letter, 1)


def label_of(name: str) -> str:
    """A field's label with its mnemonic."""
    return _mnemonic(name, fields()[name].label)

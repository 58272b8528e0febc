"""The plug-in: its procedures, and what each does when it is run from a menu or by a script."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Optional

from lazydiffusion.client.core import look
from lazydiffusion.client.fields import FieldValues
from lazydiffusion.client.model_choice import window_tokens
from lazydiffusion.client.modes import Mode, settings_for
from lazydiffusion.client.running import run
from lazydiffusion.client.words import layer_name, tr
from lazydiffusion.errors import LazyDiffusionError

from .arguments import (
    add_common_arguments,
    add_fill_arguments,
    add_layers_result,
    sketch_of,
    store_values,
    values_of,
)
from .gi_modules import Gimp, GLib, GObject
from .image import ImageError, NewLayer, Picture
from .remembered import ALL, with_remembered
from .snapshot import CLIENT, snapshot

FILL = "plug-in-lazydiffusion-fill"
REMOVE = "plug-in-lazydiffusion-remove"
AGAIN = "plug-in-lazydiffusion-fill-again"
HISTORY = "plug-in-lazydiffusion-history"
MENU = "<Image>/Filters/Lazy Diffusion"


class LazyDiffusion(Gimp.PlugIn):
    """What GIMP asks for procedures."""

    def do_set_i18n(self, name: str) -> bool:
        """There are no translations of GIMP's kind."""
        return False

    def do_query_procedures(self) -> list[str]:
        """The names of all procedures."""
        return [FILL, REMOVE, AGAIN, HISTORY]

    def do_create_procedure(self, name: str) -> Any:
        """One of them."""
        run = {FILL: run_fill, REMOVE: run_remove, AGAIN: run_again, HISTORY: run_history}[name]
        procedure = Gimp.ImageProcedure.new(self, name, Gimp.PDBProcType.PLUGIN, run, None)
        procedure.set_image_types("*")
        mask = Gimp.ProcedureSensitivityMask
        procedure.set_sensitivity_mask(mask.DRAWABLE | mask.DRAWABLES | mask.NO_DRAWABLES)
        procedure.set_menu_label(
            {
                FILL: tr("_Fill Selection..."),
                REMOVE: tr("_Remove Selection"),
                AGAIN: tr("Fill _Again"),
                HISTORY: tr("_History..."),
            }[name]
        )
        procedure.set_icon_name("document-open-recent" if name == HISTORY else "gimp-tool-heal")
        procedure.add_menu_path(MENU)
        procedure.set_documentation(*_documentation(name), name)
        procedure.set_attribution("LazyDiffusion maintainers", "LazyDiffusion maintainers", "2026")
        if name == FILL:
            add_fill_arguments(procedure)
        elif name == REMOVE:
            add_common_arguments(procedure)
        add_layers_result(procedure)
        return procedure


def _documentation(name: str) -> tuple[str, str]:
    """(in a line, in full) what a procedure is for."""
    return {
        FILL: (
            tr("Generative fill: paint the selection anew, from a few words (LazyDiffusion)"),
            tr(
                "Reads what is visible of the image and the selection, has the LazyDiffusion core paint what the "
                "prompt says, and adds each fill as a layer above the selected one; nothing else is changed. The "
                "core is another process, which is started if need be and stays for the next edit. Without a "
                "dialog it fails with a sentence that says what to do."
            ),
        ),
        REMOVE: (
            tr("Remove what is selected: what is around goes on (LazyDiffusion)"),
            tr(
                "As plug-in-lazydiffusion-fill in the mode remove: no prompt is needed. Run interactively, it takes "
                "model, quality, grow and feather from the dialog of plug-in-lazydiffusion-fill."
            ),
        ),
        AGAIN: (
            tr("Fill the selection as the last time, without a dialog (LazyDiffusion)"),
            tr("Runs plug-in-lazydiffusion-fill with its last values; a seed that is not kept is a new one."),
        ),
        HISTORY: (
            tr("The fills that were made before, to be added as layers (LazyDiffusion)"),
            tr("Shows every fill that the core keeps, also those made in other editors. Interactive only."),
        ),
    }[name]


def run_fill(procedure: Any, mode: Any, image: Any, drawables: Any, config: Any, data: Any) -> Any:
    """The dialog, or the fill at once."""
    if mode == Gimp.RunMode.INTERACTIVE:
        from .dialog import FillDialog

        return _answered(procedure, lambda: FillDialog(Picture(image), config).run())
    picture, sketch, values = Picture(image), sketch_of(config), values_of(config)
    if mode == Gimp.RunMode.WITH_LAST_VALS:
        values = with_remembered(values, ALL)
        sketch = sketch or picture.sketch  # GIMP keeps no drawables among a procedure's last values
    scripted = mode == Gimp.RunMode.NONINTERACTIVE
    return _answered(procedure, lambda: _fill(picture, values, config, sketch, scripted))


def run_remove(procedure: Any, mode: Any, image: Any, drawables: Any, config: Any, data: Any) -> Any:
    """Never with a dialog, but for the question whether to convert an indexed image."""
    values = values_of(config)
    if mode == Gimp.RunMode.INTERACTIVE:
        values = with_remembered(values)
        store_values(values, config)  # for GIMP's "Repeat"
    values.mode = Mode.REMOVE.value
    picture = Picture(image)

    def remove() -> Optional[Sequence[Any]]:
        if mode == Gimp.RunMode.INTERACTIVE and picture.is_indexed:
            from .questions import may_convert

            if not may_convert(None):
                return None
            return _fill(picture, values, config, None, scripted=False, convert=True)
        return _fill(picture, values, config, None, scripted=mode == Gimp.RunMode.NONINTERACTIVE)

    return _answered(procedure, remove)


def run_again(procedure: Any, mode: Any, image: Any, drawables: Any, config: Any, data: Any) -> Any:
    """The fill with its last values, by a run of its own procedure: GIMP keeps the others by procedure."""
    fill = Gimp.get_pdb().lookup_procedure(FILL)
    given = fill.create_config()
    given.set_property("run-mode", Gimp.RunMode.WITH_LAST_VALS)
    given.set_property("image", image)
    given.set_core_object_array("drawables", drawables)
    return fill.run(given)


def run_history(procedure: Any, mode: Any, image: Any, drawables: Any, config: Any, data: Any) -> Any:
    """The list of earlier fills."""

    def show() -> Optional[Sequence[Any]]:
        if mode != Gimp.RunMode.INTERACTIVE:
            raise ImageError(tr("The history is a dialog: run it from the menu, or interactively."))
        from .dialog import FillDialog
        from .history_dialog import HistoryDialog

        history = HistoryDialog(Picture(image))
        history.run()
        layers = history.layers
        if history.reuse is not None:
            fill = Gimp.get_pdb().lookup_procedure(FILL).create_config()
            layers = (FillDialog(Picture(image), fill, history.reuse).run() or []) + layers
        return layers or None

    return _answered(procedure, show)


def _fill(
    picture: Picture,
    values: FieldValues,
    config: Any,
    sketch: Optional[int],
    scripted: bool,
    convert: bool = False,
) -> list[Any]:
    """Fill at once, told in GIMP's own bar. Raises LazyDiffusionError, which names arguments only to a script."""
    settings = settings_for(values.edit_mode, values.edit_settings())
    if picture.is_open and picture.is_indexed and not (convert or config.get_property("convert-indexed")):
        raise ImageError(_indexed(scripted))
    everything = config.get_property("whole-canvas")
    if picture.is_open and picture.selection_box() is None and not everything:
        raise ImageError(_nothing_selected(values.edit_mode, scripted))
    Gimp.progress_init(tr("Reading the canvas…"))
    try:
        tokens = window_tokens(look() or {}, settings.model)
        read = snapshot(picture, settings, everything, sketch, tokens)
        fills = run(read.request, _tell, CLIENT)
        layers = [NewLayer(layer_name(settings.prompt, it.seed), it.box, it.rgba) for it in fills]
        return picture.add_layers(layers, masks=settings.feather > 0)
    finally:
        Gimp.progress_end()


def _indexed(scripted: bool) -> str:
    if scripted:
        return tr(
            "The image is indexed: with its palette the fill's colours would be lost. Convert it by Image > Mode > "
            "RGB first, or set convert-indexed."
        )
    return tr(
        "The image is indexed: with its palette the fill's colours would be lost. Convert it by Image > Mode > RGB, "
        "then try again."
    )


def _nothing_selected(mode: Mode, scripted: bool) -> str:
    if scripted:
        return tr("Nothing is selected. Select what is to be filled, or set whole-canvas.")
    if mode is Mode.REMOVE:
        return tr("Nothing is selected. Select what is to be removed, then try again.")
    return tr("Nothing is selected. Select what is to be filled, then try again.")


def _tell(text: str, share: Optional[float]) -> None:
    if text:
        Gimp.progress_set_text(text)
    if share is None:
        Gimp.progress_pulse()
    else:
        Gimp.progress_update(share)


def _answered(procedure: Any, work: Any) -> Any:
    """What a procedure returns: the layers that `work` made, that it was cancelled (None), or what went wrong."""
    try:
        layers = work()
    except LazyDiffusionError as error:
        return procedure.new_return_values(Gimp.PDBStatusType.EXECUTION_ERROR, GLib.Error(str(error)))
    if layers is None:
        return procedure.new_return_values(Gimp.PDBStatusType.CANCEL, GLib.Error())
    found = procedure.new_return_values(Gimp.PDBStatusType.SUCCESS, GLib.Error())
    found.remove(1)
    found.insert(1, _array_of(procedure, layers))
    return found


def _array_of(procedure: Any, layers: Sequence[Any]) -> Any:
    """A GValue of Gimp.Layers. PyGObject makes none by itself, but a procedure's arguments can hold one."""
    array = GObject.Value()
    array.init(GObject.GType.from_name("GimpCoreObjectArray"))
    if layers:
        holder = procedure.create_config()
        holder.set_core_object_array("drawables", layers)
        array.set_boxed(holder.get_property("drawables"))
    return array


def main() -> None:
    """Register the plug-in, or run what GIMP asks for."""
    Gimp.main(LazyDiffusion.__gtype__, sys.argv)

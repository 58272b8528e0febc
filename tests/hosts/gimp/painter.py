"""Somebody at work in a real GIMP that has the plug-in: by scripts, and in its dialog."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tests.hosts.gimp.plugin_process import Plugin
from tests.hosts.gimp.real_gimp import RealGimp
from tests.hosts.installing import MODEL, install_plugin, install_tiny_core

FILL, REMOVE = "plug-in-lazydiffusion-fill", "plug-in-lazydiffusion-remove"

# What snippets in GIMP's Python may use: `keep["image"]` is the image that the last `create` made.
HELPERS = """
def rectangle(x, y, w, h):
    return Gegl.Rectangle.new(x, y, w, h)
def read(drawable, x, y, w, h, format="R'G'B'A u8"):
    return bytes(drawable.get_buffer().get(rectangle(x, y, w, h), 1.0, format, Gegl.AbyssPolicy.NONE))
def write(drawable, pixels, w, h, format="R'G'B'A u8"):
    buffer = drawable.get_buffer()
    buffer.set(rectangle(0, 0, w, h), format, pixels)
    buffer.flush()
def layer_of(image, name, w, h, pixels=None, x=0, y=0, alpha=True):
    grey = image.get_base_type() == Gimp.ImageBaseType.GRAY
    kind = getattr(Gimp.ImageType, ("GRAY" if grey else "RGB") + ("A" if alpha else "") + "_IMAGE")
    layer = Gimp.Layer.new(image, name, w, h, kind, 100.0, Gimp.LayerMode.NORMAL)
    if pixels is not None:
        write(layer, pixels, w, h)
    layer.set_offsets(x, y)
    return layer
def run(name, image, **values):
    procedure = pdb.lookup_procedure(name)
    config = procedure.create_config()
    config.set_property("run-mode", Gimp.RunMode.NONINTERACTIVE)
    config.set_property("image", image)
    config.set_core_object_array("drawables", image.get_selected_layers())
    for argument, value in values.items():
        config.set_property(argument.replace("_", "-"), value)
    result = procedure.run(config)
    status = result.index(0)
    known = ("SUCCESS", "EXECUTION_ERROR", "CALLING_ERROR", "CANCEL")
    status = {int(getattr(Gimp.PDBStatusType, name)): name for name in known}.get(int(status))
    if status != "SUCCESS":
        return {"status": status, "error": pdb.get_last_error(), "layers": []}
    return {"status": status, "error": "", "layers": [told(it) for it in result.get_core_object_array(1) or []]}
def told(layer):
    _, x, y = layer.get_offsets()
    mask = layer.get_mask()
    parent = layer.get_parent()
    return {"id": layer.get_id(), "name": layer.get_name(), "box": [x, y, layer.get_width(), layer.get_height()],
            "mask": mask.get_id() if mask else None, "parent": parent.get_name() if parent else None}
def tree(layers):
    return [[it.get_name(), tree(it.get_children())] if it.is_group() else it.get_name() for it in layers]
"""

CREATE = """
P = Gimp.Precision
image = Gimp.Image.new_with_precision(w, h, getattr(Gimp.ImageBaseType, base), getattr(P, precision))
if profile:
    image.set_color_profile(Gimp.ColorProfile.new_rgb_adobe())
with open(path, "rb") as file:
    pixels = file.read()
image.insert_layer(layer_of(image, "Background", w, h, pixels, alpha=alpha), None, 0)
if indexed:
    image.convert_indexed(Gimp.ConvertDitherType.NONE, Gimp.ConvertPaletteType.GENERATE, 64, False, False, "")
keep["image"] = image
if show:
    keep["display"] = Gimp.Display.new(image)
    Gimp.displays_flush()
return image.get_id()
"""


def with_plugin(model: Path | None = None) -> Callable[[Path], None]:
    """Puts the built plug-in into a home as its user would: by `build_plugins.py --install gimp`.

    `model`: a tiny checkpoint that the core has instead of the embedded one.
    """

    def install(home: Path) -> None:
        install_plugin("gimp", home, GIMP3_DIRECTORY=str(home / "gimp"))
        if model is not None:
            install_tiny_core(model, home)

    return install


class Painter:
    """Works in a GIMP that has the plug-in."""

    def __init__(self, gimp: RealGimp) -> None:
        self.gimp = gimp

    def ask(self, snippet: str, timeout: float = 120, /, **values: object) -> Any:
        """A snippet in GIMP's Python that may use the helpers; `image` is the image at work."""
        return self.gimp.ask(f"{HELPERS}\nimage = keep.get('image')\n{snippet}", timeout, **values)

    def create(
        self,
        picture: np.ndarray,
        base: str = "RGB",
        precision: str = "U8_NON_LINEAR",
        *,
        profile: bool = False,
        alpha: bool = True,
        indexed: bool = False,
        show: bool = False,
    ) -> None:
        """An image of one layer that shows a picture (h, w, 4) in sRGB; it becomes the image at work."""
        path = self.gimp.folder / "pixels"
        path.write_bytes(np.ascontiguousarray(picture).tobytes())
        self.gimp.ask(
            HELPERS + CREATE, 120, w=picture.shape[1], h=picture.shape[0], path=str(path), base=base,
            precision=precision, profile=profile, alpha=alpha, indexed=indexed, show=show,
        )  # fmt: skip
        if show:
            self.gimp.activate_image_window(f"{picture.shape[1]}x{picture.shape[0]}")

    def select(self, x: int, y: int, w: int, h: int) -> None:
        self.ask("image.select_rectangle(Gimp.ChannelOps.REPLACE, x, y, w, h)", x=x, y=y, w=w, h=h)

    def run(self, name: str = FILL, /, **values: object) -> dict[str, Any]:
        """Run a procedure without a dialog: its status, its error, its layers."""
        values = {"model": MODEL, **values}
        found: dict[str, Any] = self.ask("return run(name, image, **given)", name=name, given=values)
        return found

    def run_well(self, name: str = FILL, /, **values: object) -> list[dict[str, Any]]:
        """The same, which must succeed; its layers."""
        found = self.run(name, **values)
        assert found["status"] == "SUCCESS", found["error"]
        layers: list[dict[str, Any]] = found["layers"]
        return layers

    @property
    def layers(self) -> list[Any]:
        """Names from the top down; a group is [name, [names]]."""
        found: list[Any] = self.ask("return tree(image.get_layers())")
        return found

    def pixels(self, item: int, box: list[int]) -> np.ndarray:
        """A drawable's own pixels in its own coordinates: (h, w, 4) in sRGB."""
        return self._array("read(Gimp.Item.get_by_id(item), *box)", box, 4, item=item)

    def levels(self, item: int, box: list[int]) -> np.ndarray:
        """A mask's levels: (h, w)."""
        return self._array("read(Gimp.Item.get_by_id(item), *box, 'Y u8')", box, 1, item=item)[..., 0]

    def visible(self, box: list[int]) -> np.ndarray:
        """What is to be seen of the image: (h, w, 4)."""
        return self._array("read(Gimp.Layer.new_from_visible(image, image, 'v'), *box)", box, 4)

    def saved(self) -> np.ndarray:
        """The image as GIMP saves it as PNG, read by Pillow: (h, w, 4)."""
        path = self.gimp.folder / "saved.png"
        self.ask(
            "from gi.repository import Gio\n"
            "assert Gimp.file_save(Gimp.RunMode.NONINTERACTIVE, image, Gio.File.new_for_path(path), None)",
            path=str(path),
        )
        return self.file(path)

    @staticmethod
    def file(path: Path) -> np.ndarray:
        """A picture file: (h, w, 4)."""
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGBA"))

    def last_fills(self) -> list[np.ndarray]:
        """The fills of the last edit, as the core has kept them: (h, w, 4) each."""
        history = self.gimp.folder / "core" / "history"
        newest = max(history.iterdir(), key=lambda folder: int(folder.name.partition("-")[0]))
        fills = []
        for path in sorted(newest.glob("fill-*.png")):
            fills.append(self.file(path))
        return fills

    def delete(self) -> None:
        """Let the image at work go; one that is shown goes with its display."""
        self.gimp.ask(
            "display = keep.pop('display', None)\n"
            "image = keep.pop('image', None)\n"
            "if display is not None and display.is_valid():\n"
            "    image.clean_all()\n"
            "    display.delete()\n"
            "elif image is not None and image.is_valid():\n"
            "    image.delete()"
        )

    def open_dialog(self) -> Plugin:
        """Fill Selection, by GIMP's search for actions; with the tiny model chosen once the core has named it."""
        plugin = self.gimp.open_plugin("Generative fill")
        plugin.wait_for("find('lazyModel').set_active_id(model)", 90, model=MODEL)
        plugin.wait_for("find('lazyFill').has_toplevel_focus()", 30)  # or a key would go to GIMP's window
        return plugin

    def _array(self, expression: str, box: list[int], channels: int, **values: object) -> np.ndarray:
        path = self.gimp.folder / "read"
        self.ask(f"open(path, 'wb').write({expression})", path=str(path), box=box, **values)
        return np.frombuffer(path.read_bytes(), np.uint8).reshape(box[3], box[2], channels)


def picture(width: int = 160, height: int = 120) -> np.ndarray:
    """A colourful opaque picture without hard edges, (h, w, 4)."""
    y, x = np.mgrid[:height, :width]
    channels = [40 + 150 * x / width, 60 + 120 * y / height, 200 - 100 * (x + y) / (width + height)]
    return np.dstack(
        [*(channel.round().astype(np.uint8) for channel in channels), np.full((height, width), 255, np.uint8)]
    )

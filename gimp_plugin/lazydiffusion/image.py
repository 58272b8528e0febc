"""GIMP's images: the only file that touches Gimp.Image and Gegl's buffers. Coordinates are image px.

Pixels are R'G'B'A u8: sRGB with straight alpha. GEGL converts them from and to every precision and colour profile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from lazydiffusion.client.errors import CoreError
from lazydiffusion.client.words import tr
from lazydiffusion.window import Box, Size

from .gi_modules import Gegl, Gimp
from .pixbufs import pixbuf_of, pixels_of, scaled

PIXELS = "R'G'B'A u8"
LEVELS = "Y u8"
"""Of a selection or a layer's mask, which are linear: "Y' u8" would change the values."""
STRIP = 1 << 22
"""Px that are written at once."""
SAMPLES = 4
"""Rows of the canvas, evenly spread, of which a row of the overview is made."""
HUGE = 4
"""How many times the px of the region a canvas must have until a copy of the region alone is faster."""
SKETCH = "lazydiffusion-sketch"
"""The name of what an image keeps of the last edit."""
OPAQUE = bytes([0]) + bytes([255]) * 255


class ImageError(CoreError):
    """An image cannot be read or changed; the message says why, and what to do."""


@dataclass(frozen=True)
class Layer:
    """A layer that could be a sketch."""

    id: int
    name: str


@dataclass(frozen=True)
class NewLayer:
    """A layer that is to be made of a fill."""

    name: str
    box: Box
    rgba: bytes
    """box.w * box.h * 4 bytes."""


class Picture:
    """An image that is, or was, open."""

    def __init__(self, image: Any) -> None:
        self._image = image

    @property
    def is_open(self) -> bool:
        """Whether it can be worked with; after that all of GIMP's answers about it are empty."""
        return bool(self._image.is_valid())

    def titled(self, words: str) -> str:
        """The title of a dialog about it, with its name and number as GIMP's window shows them."""
        if not self.is_open:
            return words
        return "%s – %s-%d" % (words, self._image.get_name(), self._image.get_id())

    @property
    def size(self) -> Size:
        """(width, height) in px."""
        return int(self._image.get_width()), int(self._image.get_height())

    @property
    def whole(self) -> Box:
        """All of the canvas."""
        return Box(0, 0, *self.size)

    @property
    def is_indexed(self) -> bool:
        """Whether it has a palette, so that a fill's colours would be lost."""
        return bool(self._image.get_base_type() == Gimp.ImageBaseType.INDEXED)

    def selection_box(self) -> Optional[Box]:
        """Around what is selected; None where nothing is."""
        _, selected, left, top, right, bottom = Gimp.Selection.bounds(self._image)
        return Box(left, top, right - left, bottom - top) if selected else None

    def selection(self, box: Box) -> bytes:
        """How much each px of the box is selected: box.w * box.h bytes, 0..255."""
        return _read(self._image.get_selection(), box, LEVELS)

    def pixels(self, box: Box) -> bytes:
        """What the artist sees there: box.w * box.h * 4 bytes."""
        if HUGE * box.w * box.h >= self.size[0] * self.size[1] or self._has_filters():
            with _visible(self._image) as layer:
                return _read(layer, box, PIXELS)
        # The projection of a huge image takes seconds, that of a copy without the rest does not; the copy shares its
        # memory with the image. Filters, however, look beyond a px: they would see the edges of the copy.
        copy = self._image.duplicate()
        try:
            copy.undo_disable()
            if copy.crop(box.w, box.h, box.x, box.y):
                with _visible(copy) as layer:
                    return _read(layer, Box(0, 0, box.w, box.h), PIXELS)
        finally:
            copy.delete()
        with _visible(self._image) as layer:
            return _read(layer, box, PIXELS)

    def overview(self, size: Size) -> bytes:
        """The whole canvas at `size` (width, height): size[0] * size[1] * 4 bytes."""
        found = self._thumbnail(size)
        if found is not None:
            return found
        width, height = self.size
        rows = bytearray()
        with _visible(self._image) as layer:
            for row in range(SAMPLES * size[1]):
                y = (2 * row + 1) * height // (2 * SAMPLES * size[1])
                rows += _read(layer, Box(0, y, width, 1), PIXELS)
        return pixels_of(scaled(pixbuf_of(bytes(rows), (width, SAMPLES * size[1])), size))

    def layers(self) -> list[Layer]:
        """The layers that could be a sketch, from the top down."""
        found: list[Layer] = []

        def visit(layers: Sequence[Any]) -> None:
            for layer in layers:
                found.append(Layer(layer.get_id(), layer.get_name()))
                visit(layer.get_children() if layer.is_group() else [])

        visit(self._image.get_layers() if self.is_open else [])
        return found

    def layer_pixels(self, id: int, box: Box) -> Optional[bytes]:
        """A drawable's own pixels there, without its mask and opacity: box.w * box.h * 4 bytes.

        None where it is not in this image (any more).
        """
        drawable = Gimp.Item.get_by_id(id) if Gimp.Item.id_is_drawable(id) else None
        if drawable is None or drawable.get_image() != self._image:
            return None
        _, x, y = drawable.get_offsets()
        return _read(drawable, box.moved(-x, -y), PIXELS)

    @property
    def sketch(self) -> Optional[int]:
        """The id of the layer that was the last edit's sketch; GIMP keeps it for as long as the image is open."""
        note = self._image.get_parasite(SKETCH) if self.is_open else None
        return int(bytes(note.get_data()).decode()) if note is not None else None

    @sketch.setter
    def sketch(self, id: Optional[int]) -> None:
        if id is not None:
            # Without flags: neither saved with the image nor an undo step.
            self._image.attach_parasite(Gimp.Parasite.new(SKETCH, 0, str(id).encode()))
        elif self._image.get_parasite(SKETCH) is not None:
            self._image.detach_parasite(SKETCH)

    def check_ready(self) -> None:
        """Raises ImageError where no layer can be made: said before the work, not after."""
        if not self.is_open:
            raise ImageError(tr("The image was closed. The fills are in the history."))
        if self._image.get_floating_sel() is not None:
            raise ImageError(
                tr("The image has a floating selection. Anchor it or make it a layer, then try again.")
            )

    def add_layers(self, layers: Sequence[NewLayer], masks: bool = False) -> list[Any]:
        """Make Gimp.Layers, the first one on top: one undo step, of which an indexed image's conversion is part.

        They come above the selected layer, and out of groups that are hidden or locked: there they could not be
        seen, or not be touched. `masks`: what is transparent is so by a layer mask, which can be painted on.
        Raises ImageError.
        """
        self.check_ready()
        image = self._image
        image.undo_group_start()
        try:
            if self.is_indexed and not image.convert_rgb():
                raise ImageError(
                    tr("GIMP could not convert the image to RGB. Image > Mode > RGB may say why.")
                )
            parent, position = self._place()
            made: list[Any] = []
            for layer in reversed(layers):
                new = self._layer(layer, masks)
                if not image.insert_layer(new, parent, position):
                    raise ImageError(tr("GIMP did not take the layer. The fill is in the history."))
                if masks:
                    new.set_edit_mask(False)  # the artist goes on painting on the layer
                made.insert(0, new)
            return made
        finally:
            image.undo_group_end()
            Gimp.displays_flush()

    def is_covered(self, layer: Any) -> bool:
        """Whether visible layers lie above a layer, there where it is, or a group that it is in shows it differently.

        What lies above such a group counts too.
        """
        place, below = _extents(layer), layer
        while below is not None:
            parent = below.get_parent()
            beside = parent.get_children() if parent is not None else self._image.get_layers()
            above = beside[: self._image.get_item_position(below)]
            if any(_is_seen_in(it, place) for it in above) or (parent is not None and _alters(parent, place)):
                return True
            below = parent
        return False

    def raise_to_top(self, layer: Any) -> None:
        """Move a layer above all others, out of its groups: one undo step. Raises ImageError."""
        self.check_ready()
        if layer.get_id() not in [it.id for it in self.layers()]:
            raise ImageError(
                tr("The layer is not in the image any more. Choose the fill and apply it again.")
            )
        if not self._image.reorder_item(layer, None, 0):
            raise ImageError(tr("GIMP did not move the layer. Drag it to the top in the list of layers."))
        Gimp.displays_flush()

    def _layer(self, layer: NewLayer, masked: bool) -> Any:
        box = layer.box
        grey = self._image.get_base_type() == Gimp.ImageBaseType.GRAY
        kind = Gimp.ImageType.GRAYA_IMAGE if grey else Gimp.ImageType.RGBA_IMAGE
        new = Gimp.Layer.new(self._image, layer.name, box.w, box.h, kind, 100.0, Gimp.LayerMode.NORMAL)
        if new is None:
            raise ImageError(tr("GIMP could not make a layer of %d x %d px.") % (box.w, box.h))
        rgba = layer.rgba
        if masked:
            alpha = rgba[3::4]
            opaque = bytearray(rgba)
            opaque[3::4] = alpha.translate(OPAQUE)
            rgba = bytes(opaque)
            mask = new.create_mask(Gimp.AddMaskType.WHITE)
            _write(mask, (box.w, box.h), LEVELS, alpha)
            new.add_mask(mask)
        # All of it before the image has the layer: what is there when it is inserted is part of that step.
        _write(new, (box.w, box.h), PIXELS, rgba)
        new.set_offsets(box.x, box.y)
        return new

    def _place(self) -> tuple[Any, int]:
        """(parent, position) of a new layer."""
        selected = self._image.get_selected_layers()
        if not selected:
            return None, 0
        path = [selected[0]]
        while path[-1].get_parent() is not None:
            path.append(path[-1].get_parent())
        unusable = [group for group in path[1:] if not group.get_visible() or group.get_lock_content()]
        above = unusable[-1] if unusable else path[0]
        return above.get_parent(), self._image.get_item_position(above)

    def _has_filters(self) -> bool:
        return any(Gimp.Item.get_by_id(layer.id).get_filters() for layer in self.layers())

    def _thumbnail(self, size: Size) -> Optional[bytes]:
        """GIMP's own, which it has at hand of an image that is shown; None where its colours would be wrong."""
        precision = (Gimp.Precision.U8_NON_LINEAR, Gimp.Precision.U8_PERCEPTUAL)
        if self._image.get_precision() not in precision or self._image.get_color_profile() is not None:
            return None
        found = self._image.get_thumbnail(*size, Gimp.PixbufTransparency.KEEP_ALPHA)
        if found is None:
            return None
        return pixels_of(scaled(found if found.get_has_alpha() else found.add_alpha(False, 0, 0, 0), size))


class _visible:  # noqa: N801 - used as a function
    """An image's projection as a layer that is in no image, let go at the end."""

    def __init__(self, image: Any) -> None:
        self._layer = Gimp.Layer.new_from_visible(image, image, "LazyDiffusion")
        if self._layer is None:
            raise ImageError(tr("GIMP could not show what is visible of the image. Is it still open?"))

    def __enter__(self) -> Any:
        return self._layer

    def __exit__(self, *error: object) -> None:
        self._layer.delete()


def _extents(layer: Any) -> Box:
    _, x, y = layer.get_offsets()
    return Box(x, y, layer.get_width(), layer.get_height())


def _is_seen_in(layer: Any, box: Box) -> bool:
    """Whether a layer, or one in a group, is shown and reaches into a box."""
    if not layer.get_visible():
        return False
    if layer.is_group():
        return any(_is_seen_in(it, box) for it in layer.get_children())
    shared = _extents(layer).overlap(box)
    return shared.w > 0 and shared.h > 0


def _alters(group: Any, box: Box) -> bool:
    """Whether a group's opacity, mode or mask changes what is in it in a box."""
    modes = (Gimp.LayerMode.NORMAL, Gimp.LayerMode.NORMAL_LEGACY, Gimp.LayerMode.PASS_THROUGH)
    if group.get_opacity() < 100 or group.get_mode() not in modes:
        return True
    mask = group.get_mask() if group.get_apply_mask() else None
    if mask is None:
        return False
    _, x, y = mask.get_offsets()
    return min(_read(mask, box.moved(-x, -y), LEVELS)) < 255


def _read(drawable: Any, box: Box, format: str) -> bytes:
    area = Gegl.Rectangle.new(box.x, box.y, box.w, box.h)
    return bytes(drawable.get_buffer().get(area, 1.0, format, Gegl.AbyssPolicy.NONE))


def _write(drawable: Any, size: Size, format: str, pixels: bytes) -> None:
    buffer = drawable.get_buffer()
    for top, rows in _strips(size):
        row = len(pixels) // size[1]
        area = Gegl.Rectangle.new(0, top, size[0], rows)
        buffer.set(area, format, pixels[top * row : (top + rows) * row])
    buffer.flush()


def _strips(size: Size) -> Iterator[tuple[int, int]]:
    """(first row, number of rows) of each strip."""
    rows = max(1, STRIP // size[0])
    for top in range(0, size[1], rows):
        yield top, min(rows, size[1] - top)

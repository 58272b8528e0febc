"""What of a document is read and sent: the selection's surroundings exactly, the rest as an overview."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from krita_plugin.lazydiffusion.document import Document, DocumentError
from krita_plugin.lazydiffusion.snapshot import SAMPLES, Snapshot, snapshot
from krita_plugin.lazydiffusion.turns import Work
from PIL import Image
from PyQt6 import QtGui
from tests.krita_plugin import fake_krita
from tests.krita_plugin.fake_krita import Krita, Node, Selection

from lazydiffusion.protocol import EditSettings, ImageData
from lazydiffusion.window import Box, overview_size, region_to_send

pytestmark = pytest.mark.unit

NOW_OPEN = "The document was closed while it was being read."
NOW_SIZED = "The canvas was resized while it was being read. Generate again."
PLAIN = EditSettings()


class Painted(fake_krita.Document):
    """A document of any size that has no pixels until they are asked for: colours go on from corner to corner."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(QtGui.QImage(1, 1, QtGui.QImage.Format.Format_ARGB32))
        self.resize(width, height)
        Krita.instance().open.append(self)

    def painted(self, x: int, y: int, w: int, h: int) -> QtGui.QImage:
        return image_of(self.colours(Box(x, y, w, h)))

    def colours(self, box: Box) -> np.ndarray:
        """(h, w, 4), BGRA."""
        across = np.arange(box.x, box.right)[None, :] / self.width()
        down = np.arange(box.y, box.bottom)[:, None] / self.height()
        found = np.full((box.h, box.w, 4), 255.0)
        found[..., 0], found[..., 1] = 255 * across, 255 * down
        found[..., 2] = 127.5 * (across + down)
        return found.astype(np.uint8)


def image_of(bgra: np.ndarray) -> QtGui.QImage:
    h, w, _ = bgra.shape
    return QtGui.QImage(bgra.tobytes(), w, h, 4 * w, QtGui.QImage.Format.Format_ARGB32).copy()


def opened(bgra: np.ndarray, chosen: Selection | None = None) -> fake_krita.Document:
    """A document with these pixels, open and with a selection."""
    document = fake_krita.Document(image_of(bgra))
    document.chosen = chosen
    Krita.instance().open.append(document)
    return document


def noise(width: int, height: int, channels: int = 4) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (height, width, channels), dtype=np.uint8)


def read(document: fake_krita.Document, settings: EditSettings = PLAIN, **options: Any) -> Snapshot:
    return finished(snapshot(Document(document), settings, **options))


def finished(work: Work) -> Any:
    shares = []
    try:
        while True:
            shares.append(next(work))
    except StopIteration as end:
        assert all(0 <= share <= 1 for share in shares)
        return end.value


def pixels(image: ImageData | None) -> np.ndarray:
    """(h, w, bytes of a px)."""
    assert image is not None
    return np.frombuffer(image.data, np.uint8).reshape(image.size[1], image.size[0], -1)


def test_a_small_canvas_is_sent_whole_and_exact() -> None:
    bgra = noise(150, 90)
    bgra[..., 3] = 255
    sent = read(opened(bgra, Selection.box(20, 10, 30, 30)))
    request = sent.request
    assert (request.canvas_size, request.region, request.overview) == ((150, 90), Box(0, 0, 150, 90), None)
    assert sent.box == Box(20, 10, 30, 30)
    np.testing.assert_array_equal(pixels(request.canvas), bgra)


def test_of_a_large_canvas_the_region_is_exact_and_the_rest_an_overview() -> None:
    bgra = noise(1500, 1100)
    bgra[..., 3] = 255
    settings = EditSettings(grow=30, feather=12)
    sent = read(opened(bgra, Selection.box(900, 700, 50, 40)), settings)
    region = region_to_send((1500, 1100), Box(900, 700, 50, 40), 30, 12)
    assert sent.region == sent.request.region == region
    np.testing.assert_array_equal(pixels(sent.request.canvas), bgra[region.slices()])
    assert sent.request.overview is not None
    assert sent.request.overview.size == overview_size((1500, 1100))


def test_transparent_parts_are_seen_on_white() -> None:
    bgra = noise(120, 80)
    bgra[:40, :, 3], bgra[40:50, :, 3] = 255, 0
    sent = read(opened(bgra, Selection.box(20, 10, 30, 30)))  # it has the canvas's memory
    found = pixels(sent.request.canvas)
    assert (found[..., 3] == 255).all()
    np.testing.assert_array_equal(found[:40], bgra[:40])
    assert (found[40:50] == 255).all()
    opacity = bgra[50:, :, 3:] / 255
    expected = opacity * bgra[50:, :, :3] + (1 - opacity) * 255
    assert np.abs(found[50:, :, :3] - expected).max() <= 3


def test_the_mask_is_the_selection_level_by_level() -> None:
    levels = noise(64, 48, 1)[..., 0]
    coverage = QtGui.QImage(levels.tobytes(), 64, 48, 64, QtGui.QImage.Format.Format_Grayscale8).copy()
    sent = read(opened(noise(700, 500), Selection(300, -10, coverage)))
    assert sent.box == Box(300, 0, 64, 38)
    whole = np.zeros((500, 700), np.uint8)
    whole[:38, 300:364] = levels[10:]
    np.testing.assert_array_equal(pixels(sent.request.mask)[..., 0], whole[sent.region.slices()])
    assert sent.mask.size().width() == sent.region.w
    assert sent.mask.pixelColor(300 - sent.region.x, 0).alpha() == levels[10, 0]


def test_everything_means_all_of_the_canvas() -> None:
    sent = read(opened(noise(700, 500), Selection.box(20, 10, 30, 30)), everything=True)
    assert sent.box == sent.region == Box(0, 0, 700, 500)
    assert (pixels(sent.request.mask) == 255).all()


def test_what_is_sent_does_not_grow_with_the_canvas_and_what_is_read_with_its_width_only() -> None:
    sent, beside = {}, {}
    for side in (1024, 8192):
        document = Painted(side, side)
        document.chosen = Selection.box(400, 300, 300, 200)
        whole = read(document)
        request = whole.request
        region = request.part.w * request.part.h
        assert sum(copy.read_px for copy in document.chosen.copies) == region
        sent[side] = sum(memoryview(image.data).nbytes for image in request.images().values())
        beside[side] = document.read_px - region
        np.testing.assert_array_equal(pixels(request.canvas), document.colours(request.part))
    assert sent[8192] == sent[1024]
    assert beside[8192] <= 8192 * SAMPLES * overview_size((8192, 8192))[1] == 8192**2 / 8


@pytest.mark.parametrize("size", [(2048, 1536), (1100, 3000), (1027, 555)], ids=str)
def test_the_overview_is_the_canvas_made_smaller(size: tuple[int, int]) -> None:
    document = Painted(*size)
    document.chosen = Selection.box(10, 10, 20, 20)
    found = pixels(read(document).request.overview)
    reference = Image.fromarray(document.colours(Box(0, 0, *size))).resize(
        overview_size(size), Image.Resampling.BOX
    )
    assert (found[..., 3] == 255).all()
    assert np.abs(found.astype(int) - np.asarray(reference).astype(int)).mean() < 1.5


def test_the_overview_of_fine_texture_has_its_mean_colour() -> None:
    bgra = noise(1536, 1536)
    bgra[..., 3] = 255
    found = pixels(read(opened(bgra, Selection.box(10, 10, 20, 20))).request.overview)
    assert found[..., :3].mean() == pytest.approx(127.5, abs=2)
    assert found[..., :3].std() < 25, "a single px of each field would have 74"


@pytest.mark.parametrize("turns", [1, 2, 5, 100])
def test_a_document_that_is_closed_or_resized_between_two_turns_is_told(turns: int) -> None:
    for change, sentence in ((lambda it: it.close(), NOW_OPEN), (lambda it: it.resize(900, 900), NOW_SIZED)):
        document = Painted(1200, 1000)
        document.chosen = Selection.box(900, 700, 50, 40)
        work = snapshot(Document(document), PLAIN)
        for _ in range(turns):
            next(work)
        change(document)
        with pytest.raises(DocumentError) as told:
            finished(work)
        assert str(told.value) == sentence


def with_sketch(width: int = 700, height: int = 500) -> tuple[fake_krita.Document, Node, np.ndarray]:
    """A document with a layer of noise, colours under transparent px too."""
    document = opened(noise(width, height), Selection.box(20, 10, 30, 30))
    drawn = noise(width, height)[::-1].copy()
    layer = document.createNode("sketch", "paintlayer")
    layer.pixels = image_of(drawn)
    document.root.addChildNode(layer, None)
    return document, layer, drawn


@pytest.mark.parametrize("kind", ["paintlayer", "grouplayer"])
def test_the_sketch_is_the_layers_own_pixels_with_straight_alpha(kind: str) -> None:
    document, layer, drawn = with_sketch()
    layer._type, layer.is_visible = kind, False
    sent = read(document, sketch_layer=layer.uniqueId().toString())
    np.testing.assert_array_equal(pixels(sent.request.sketch), drawn[sent.region.slices()])


def test_a_sketch_whose_layer_is_gone_is_told() -> None:
    document, layer, _ = with_sketch()
    document.root.children.remove(layer)
    with pytest.raises(DocumentError, match="The sketch's layer is not there any more"):
        read(document, sketch_layer=layer.uniqueId().toString())


def test_a_document_that_is_closed_while_the_sketch_is_read_is_told() -> None:
    document, layer, _ = with_sketch(300, 280)
    work = snapshot(Document(document), PLAIN, sketch_layer=layer.uniqueId().toString())
    without = len(list(snapshot(Document(document), PLAIN)))
    for _ in range(without + 1):
        next(work)
    document.close()
    with pytest.raises(DocumentError) as told:
        finished(work)
    assert str(told.value) == NOW_OPEN

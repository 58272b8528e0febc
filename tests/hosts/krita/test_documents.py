"""Documents of every kind in a real Krita: colour spaces, groups, masks, moved layers, odd selections."""

from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image, ImageFilter
from tests.hosts.krita.artist import PANEL, Artist

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SRGB, LINEAR = "sRGB-elle-V2-srgbtrc.icc", "sRGB-elle-V2-g10.icc"
SPACES = {
    "rgb-u8": ("RGBA", "U8", SRGB),
    "rgb-u8-linear": ("RGBA", "U8", LINEAR),
    "rgb-u16": ("RGBA", "U16", SRGB),
    "rgb-u16-linear": ("RGBA", "U16", LINEAR),
    "rgb-f16-linear": ("RGBA", "F16", LINEAR),
    "rgb-f32-linear": ("RGBA", "F32", LINEAR),
    "rgb-f32": ("RGBA", "F32", SRGB),
    "grey-u8": ("GRAYA", "U8", "Gray-D50-elle-V2-srgbtrc.icc"),
    "grey-u16": ("GRAYA", "U16", "Gray-D50-elle-V2-g10.icc"),
    "cmyk-u8": ("CMYKA", "U8", "Chemical proof"),
    "lab-u16": ("LABA", "U16", "Lab identity built-in"),
}
CONVERTED = """
fill = QtGui.QImage(path).convertToFormat(QtGui.QImage.Format.Format_ARGB32)
document = app.createDocument(fill.width(), fill.height(), "converted", "RGBA", "U8", "sRGB-elle-V2-srgbtrc.icc", 72.0)
bits = fill.constBits()
bits.setsize(fill.sizeInBytes())
document.topLevelNodes()[0].setPixelData(bytes(bits), 0, 0, fill.width(), fill.height())
document.refreshProjection()
document.setColorSpace(*space)
document.waitForDone()
saved = document.projection(0, 0, fill.width(), fill.height()).save(path)
document.setModified(False)
document.close()
return saved
"""
"""The picture in the file as Krita shows it in another colour space, in place of it."""
NODE_SPACE = """
node = app.activeDocument().topLevelNodes()[1]
return [node.colorModel(), node.colorDepth(), node.colorProfile()]
"""
CANVAS_AS_SENT = """
from lazydiffusion.document import Document
from lazydiffusion.protocol import EditSettings
from lazydiffusion.snapshot import snapshot
work = snapshot(Document(app.activeDocument()), EditSettings())
try:
    while True:
        next(work)
except StopIteration as end:
    return end.value.canvas.save(path), end.value.region.as_list()
"""


def projection(artist: Artist, name: str) -> np.ndarray:
    """What the canvas shows, sRGB, (h, w, 4)."""
    path = artist.krita.folder / name
    artist.krita.ask("app.activeDocument().waitForDone()")
    assert artist.krita.ask(
        "d = app.activeDocument()\nreturn d.projection(0, 0, d.width(), d.height()).save(path)",
        path=str(path),
    )
    return np.asarray(Image.open(path).convert("RGBA")).astype(int)


def picture_in(artist: Artist, picture: np.ndarray, space: tuple[str, str, str]) -> np.ndarray:
    """What an sRGB picture looks like in a document of another colour space."""
    path = artist.krita.folder / "converted.png"
    Image.fromarray(picture).save(path)
    assert artist.krita.ask(CONVERTED, path=str(path), space=space)
    return np.asarray(Image.open(path).convert("RGBA")).astype(int)


@pytest.mark.parametrize("space", SPACES)
def test_a_fill_in_every_colour_space(artist: Artist, space: str) -> None:
    model, depth, profile = SPACES[space]
    profiles = artist.krita.ask("app.profiles(model, depth)", model=model, depth=depth)
    if profile not in profiles:
        [profile] = profiles[:1]
    artist.create(300, 200, (model, depth, profile))
    artist.select(100, 60, 90, 70)
    before = projection(artist, "before.png")
    undo = artist.undo_text()
    artist.generate()
    fill = artist.fill_picture()
    artist.apply()
    after = projection(artist, "after.png")

    assert artist.krita.ask(NODE_SPACE) == [model, depth, profile], "the layer is of the document's kind"
    inside = np.zeros(before.shape[:2], bool)
    inside[60:130, 100:190] = True
    assert np.array_equal(after[~inside], before[~inside])
    # As if the artist had pasted it: what Krita's own Image > Convert makes of it.
    expected = picture_in(artist, fill, (model, depth, profile))
    # CMYK is shown by another rounding of the same inks.
    assert np.abs(after[60:130, 100:190] - expected).max() <= (8 if model == "CMYKA" else 1)
    if model == "RGBA" and space != "rgb-u8-linear":  # whose dark levels are few
        assert np.abs(expected - fill.astype(int)).max() <= 2

    artist.krita.key("ctrl+z")
    artist.krita.wait_for("len(app.activeDocument().topLevelNodes()) == 2")
    assert artist.undo_text() == undo, "one step was all"
    assert np.array_equal(projection(artist, "undone.png"), before)


@pytest.mark.parametrize("space", ["rgb-u8", "rgb-f32-linear", "grey-u8"])
def test_the_core_sees_what_the_artist_sees(artist: Artist, space: str) -> None:
    artist.create(300, 200, SPACES[space])
    artist.select(100, 60, 90, 70)
    path = artist.krita.folder / "sent.png"
    saved, (x, y, w, h) = artist.krita.ask(CANVAS_AS_SENT, path=str(path))
    assert saved
    sent = np.asarray(Image.open(path).convert("RGB")).astype(int)
    shown = projection(artist, "shown.png")[y : y + h, x : x + w, :3]
    assert np.array_equal(sent, shown)
    if space == "rgb-u8":
        # As it was painted: red grows to the right, green upwards.
        assert abs(sent[5, 5, 0] - (60 + (x + 5) * 128 / 300)) < 3
        assert abs(sent[5, 5, 1] - (255 - (y + 5) * 255 / 200)) < 3


def test_a_soft_selection_gives_a_soft_layer(artist: Artist) -> None:
    artist.create(300, 200)
    artist.select(100, 60, 90, 70)
    artist.krita.ask(
        "d = app.activeDocument(); s = d.selection(); s.feather(12); d.setSelection(s); d.waitForDone()"
    )
    coverage = np.array(
        artist.krita.ask("list(bytes(app.activeDocument().selection().pixelData(0, 0, 300, 200)))")
    ).reshape(200, 300)
    assert 0 < coverage[95, 100] < 255
    artist.generate()
    artist.apply()
    alpha = np.array(
        artist.krita.ask(
            "list(bytes(app.activeDocument().topLevelNodes()[1].pixelData(0, 0, 300, 200))[3::4])"
        )
    ).reshape(200, 300)
    assert np.abs(alpha - coverage).max() <= 1


def test_a_selection_partly_outside(artist: Artist) -> None:
    artist.create(300, 200)
    artist.select(-30, 150, 100, 90)
    artist.generate()
    assert artist.results[0][1] == [0, 150, 70, 50]
    artist.apply()
    alpha = np.array(
        artist.krita.ask(
            "list(bytes(app.activeDocument().topLevelNodes()[1].pixelData(0, 0, 300, 200))[3::4])"
        )
    ).reshape(200, 300)
    assert (alpha[150:, :70] == 255).all()
    assert alpha.sum() == 255 * 70 * 50


def test_a_moved_layer_is_read_where_it_is_seen(artist: Artist) -> None:
    artist.create(300, 200)
    artist.krita.ask("d = app.activeDocument(); d.topLevelNodes()[0].move(40, 25); d.refreshProjection()")
    artist.select(100, 60, 90, 70)
    path = artist.krita.folder / "sent.png"
    _, (x, y, w, h) = artist.krita.ask(CANVAS_AS_SENT, path=str(path))
    shown = projection(artist, "shown.png")[y : y + h, x : x + w].astype(float)
    on_white = shown[..., :3] * shown[..., 3:] / 255 + 255 - shown[..., 3:]
    assert np.abs(np.asarray(Image.open(path).convert("RGB")) - on_white).max() <= 1
    artist.generate()
    fill = artist.fill_picture()
    artist.apply()
    assert np.array_equal(artist.export()[60:130, 100:190], fill)


NEST = """
d = app.activeDocument()
group = d.createNode("group", "grouplayer")
d.rootNode().addChildNode(group, None)
inner = d.createNode("ink", "paintlayer")
group.addChildNode(inner, None)
mask = d.createNode("mask", "transparencymask")
inner.addChildNode(mask, None)
top = d.createNode("top", "paintlayer")
d.rootNode().addChildNode(top, None)
group.setVisible(visible)
group.setLocked(locked)
d.refreshProjection()
d.waitForDone()
keep["nodes"] = {"ink": inner, "mask": mask, "group": group, "top": top}
"""
ACTIVATE = "d = app.activeDocument(); d.setActiveNode(keep['nodes'][name]); d.waitForDone()"


@pytest.mark.parametrize("active", ["ink", "mask"])
def test_in_a_group_the_layer_stays_above_the_active_one(artist: Artist, active: str) -> None:
    artist.create()
    artist.krita.ask(NEST, visible=True, locked=False)
    artist.select(50, 60, 80, 40)
    artist.krita.ask(ACTIVATE, name=active)
    artist.krita.wait_for("app.activeDocument().activeNode().name() == name", name=active)
    [(_, _, name)] = artist.generate()
    artist.apply()
    assert artist.layers == ["Background", ["group", [["ink", ["mask"]], name]], "top"]


@pytest.mark.parametrize(("visible", "locked"), [(False, False), (True, True)], ids=["hidden", "locked"])
def test_the_layer_is_put_out_of_a_group_that_is_hidden_or_locked(
    artist: Artist, visible: bool, locked: bool
) -> None:
    artist.create()
    artist.krita.ask(NEST, visible=visible, locked=locked)
    artist.select(50, 60, 80, 40)
    artist.krita.ask(ACTIVATE, name="ink")
    artist.krita.wait_for("app.activeDocument().activeNode().name() == 'ink'")
    [(_, _, name)] = artist.generate()
    fill = artist.fill_picture()
    artist.apply()
    assert artist.layers == ["Background", ["group", [["ink", ["mask"]]]], name, "top"]
    assert np.array_equal(artist.export()[60:100, 50:130], fill)


def test_a_locked_and_hidden_active_layer_stays_as_it_is(artist: Artist) -> None:
    artist.create()
    artist.krita.ask("n = app.activeDocument().activeNode(); n.setLocked(True); n.setVisible(False)")
    artist.select(50, 60, 80, 40)
    artist.generate()
    fill = artist.fill_picture()
    artist.apply()
    assert len(artist.layers) == 2
    assert artist.krita.ask(
        "n = app.activeDocument().topLevelNodes()[0]; return n.locked(), n.visible()"
    ) == [True, False]
    assert np.array_equal(artist.export()[60:100, 50:130], fill)


def test_a_sketch_layer_changes_the_fill(artist: Artist) -> None:
    artist.create()
    artist.select(50, 60, 80, 40)
    artist.panel("panel.settings.lock.setChecked(True)")
    artist.generate()
    plain = artist.fill_picture()
    artist.krita.ask(
        "d = app.activeDocument(); n = d.createNode('sketch', 'paintlayer')\n"
        "n.setPixelData(bytes([0, 0, 255, 255]) * 60 * 30, 60, 65, 60, 30)\n"
        "n.setVisible(False); d.rootNode().addChildNode(n, None)"
    )
    artist.panel("panel.settings.sketch.refill()")
    assert artist.panel("[panel.settings.sketch.itemText(row) for row in range(panel.settings.sketch.count())]") == [
        "None", "sketch", "Background"
    ]  # fmt: skip
    artist.panel("panel.settings.sketch.setCurrentIndex(1)")
    artist.generate()
    assert artist.results[0][0] == artist.results[1][0], "the seed is the same"
    sketched = artist.fill_picture()
    assert (sketched != plain).any()
    artist.panel("panel.settings.sketch.setCurrentIndex(0)")
    artist.generate()
    assert np.array_equal(artist.fill_picture(), plain)


ON_SCREEN = f"""{PANEL}
import math
canvas = app.activeWindow().activeView().canvas()
canvas.setZoomLevel(zoom)
canvas.setRotation(rotation)
canvas.setMirror(mirror)
"""


@pytest.mark.parametrize(
    ("zoom", "rotation", "mirror"), [(1.0, 0.0, False), (0.5, 0.0, True), (1.3, 30.0, False), (3.0, -90.0, True)],
    ids=["as it is", "small and mirrored", "turned", "large, turned and mirrored"],
)  # fmt: skip
def test_the_preview_lies_exactly_where_the_layer_will_be(
    artist: Artist, zoom: float, rotation: float, mirror: bool
) -> None:
    """The screen with the preview, and then with the layer: the same picture, but for how each scales."""
    krita = artist.krita
    artist.create(400, 300)
    artist.select(130, 100, 120, 90)
    artist.generate()
    krita.ask("app.action('toggle_display_selection').trigger()")  # no ants
    krita.ask(ON_SCREEN, zoom=zoom, rotation=rotation, mirror=mirror)
    krita.display.move(5, 995)
    krita.settle()
    time.sleep(0.5)
    assert artist.overlay
    previewed = krita.screenshot(krita.folder / "previewed.png")
    artist.apply()
    krita.display.move(5, 995)
    time.sleep(0.8)
    assert not artist.overlay
    applied = krita.screenshot(krita.folder / "applied.png")
    krita.ask("app.action('toggle_display_selection').trigger()")
    corners = [artist.on_screen(x, y) for x, y in ((130, 100), (250, 100), (250, 190), (130, 190))]
    area = krita.ask(
        "from lazydiffusion.document import CanvasView\n"
        "v = CanvasView(app.activeWindow()).controller().viewport()\n"
        "p = v.mapToGlobal(QtCore.QPoint(0, 0)); return p.x(), p.y(), v.width(), v.height()"
    )
    left, top = (max(area[k], min(c[k] for c in corners) - 20) for k in (0, 1))
    right, bottom = (min(area[k] + area[k + 2], max(c[k] for c in corners) + 20) for k in (0, 1))

    def read(path: object) -> np.ndarray:
        with Image.open(path) as image:
            part = image.convert("RGB").crop((left, top, right, bottom))
            return np.asarray(part.filter(ImageFilter.BoxBlur(3))).astype(float)

    one, other = read(previewed), read(applied)
    near = np.abs(one - other).mean()
    shifted = np.abs(one[6:] - other[:-6]).mean()
    assert near < 6, f"mean difference of {near:.1f} levels"
    assert near < shifted / 2

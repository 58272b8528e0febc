"""The procedures without a dialog, in a real GIMP with a real core: values exact, nothing else changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.hosts.gimp.painter import FILL, REMOVE, Painter, picture
from tests.hosts.installing import MODEL

pytestmark = [pytest.mark.integration, pytest.mark.slow]

BOX = [60, 40, 50, 30]
INSIDE = (slice(40, 70), slice(60, 110))
HERE = [0, 0, 50, 30]


@pytest.fixture
def painter(scripted_painter: Painter) -> Painter:
    return scripted_painter


def test_a_fill_is_a_layer_and_the_rest_is_untouched(painter: Painter) -> None:
    canvas = picture()
    painter.create(canvas)
    painter.select(*BOX)
    [layer] = painter.run_well(prompt="a red apple", seed=7)
    assert layer["name"] == "a red apple (seed 7)"
    assert (layer["box"], layer["mask"], layer["parent"]) == (BOX, None, None)
    assert painter.layers == ["a red apple (seed 7)", "Background"]
    [fill] = painter.last_fills()
    assert np.array_equal(painter.pixels(layer["id"], HERE), fill)
    expected = canvas.copy()
    expected[INSIDE] = fill
    assert np.array_equal(painter.saved(), expected)


TYPES: dict[str, tuple[dict[str, Any], int]] = {
    "u8": ({}, 0),
    "u8-linear": ({"precision": "U8_LINEAR"}, 7),  # its second level is 13 in sRGB
    "u8-perceptual": ({"precision": "U8_PERCEPTUAL"}, 0),
    "u16": ({"precision": "U16_NON_LINEAR"}, 0),
    "u16-linear": ({"precision": "U16_LINEAR"}, 0),
    "u32-linear": ({"precision": "U32_LINEAR"}, 0),
    "half": ({"precision": "HALF_LINEAR"}, 0),
    "float": ({"precision": "FLOAT_NON_LINEAR"}, 0),
    "float-linear": ({"precision": "FLOAT_LINEAR"}, 0),
    "double": ({"precision": "DOUBLE_LINEAR"}, 0),
    "adobe-rgb": ({"profile": True}, 8),  # its first levels lie far apart in sRGB
    "adobe-rgb-float": ({"profile": True, "precision": "FLOAT_LINEAR"}, 1),
    "without-alpha": ({"alpha": False}, 0),
}


@pytest.mark.parametrize("kind", TYPES)
def test_colours_in_every_kind_of_image(painter: Painter, kind: str) -> None:
    """The canvas reaches the core in sRGB, and the fill comes back as what it is in sRGB."""
    options, tolerance = TYPES[kind]
    canvas = picture()
    painter.create(canvas, **options)
    painter.select(*BOX)
    [layer] = painter.run_well(seed=7, prompt="x")
    [fill] = painter.last_fills()
    assert np.abs(painter.pixels(layer["id"], HERE).astype(int) - fill).max() <= tolerance
    seen = painter.visible([0, 0, 160, 120]).astype(int)
    assert np.abs(seen[INSIDE] - fill).max() <= tolerance
    outside = np.ones((120, 160), bool)
    outside[INSIDE] = False
    assert np.abs(seen - canvas)[outside].max() <= tolerance
    # The same picture and seed: the core was shown the same, whatever the image is made of.
    painter.delete()
    painter.create(canvas)
    painter.select(*BOX)
    painter.run_well(seed=7, prompt="x")
    [reference] = painter.last_fills()
    assert np.abs(fill.astype(int) - reference).max() <= 4 * tolerance + 1


@pytest.mark.parametrize("precision", ["U8_NON_LINEAR", "U16_NON_LINEAR", "FLOAT_LINEAR"])
def test_grey_images_get_grey_layers(painter: Painter, precision: str) -> None:
    painter.create(picture(), "GRAY", precision)
    painter.select(*BOX)
    [layer] = painter.run_well(seed=7, prompt="x")
    assert (
        painter.ask(
            "return str(Gimp.Item.get_by_id(id).type_with_alpha() == Gimp.ImageType.GRAYA_IMAGE)",
            id=layer["id"],
        )
        == "True"
    )
    [fill] = painter.last_fills()
    made = painter.pixels(layer["id"], HERE).astype(int)
    # ICC profiles are relative to D50, and so are the weights of sRGB's luminance in them.
    grey = from_linear(to_linear(fill[..., :3]) @ np.array([0.22249, 0.71689, 0.06062]))
    assert np.abs(made[..., :3] - grey[..., None]).max() <= 1
    assert np.array_equal(made[..., 3], fill[..., 3])


def to_linear(levels: np.ndarray) -> np.ndarray:
    """Of sRGB, 0..255, to 0..1."""
    share = levels / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def from_linear(linear: np.ndarray) -> np.ndarray:
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def test_an_indexed_image_is_refused_unless_it_may_be_converted(painter: Painter) -> None:
    painter.create(picture(), indexed=True)
    painter.select(*BOX)
    before = painter.visible([0, 0, 160, 120])
    found = painter.run(seed=7, prompt="x")
    assert found["status"] == "EXECUTION_ERROR"
    assert "The image is indexed" in found["error"]
    assert "set convert-indexed" in found["error"]
    assert painter.ask("return image.get_base_type() == Gimp.ImageBaseType.INDEXED")
    assert painter.layers == ["Background"]

    [layer] = painter.run_well(seed=7, prompt="x", convert_indexed=True)
    assert painter.ask("return image.get_base_type() == Gimp.ImageBaseType.RGB")
    [fill] = painter.last_fills()
    assert np.array_equal(painter.pixels(layer["id"], HERE), fill)
    after = painter.visible([0, 0, 160, 120]).copy()
    after[INSIDE] = before[INSIDE]
    assert np.array_equal(after, before)


def test_nothing_selected(painter: Painter) -> None:
    painter.create(picture())
    found = painter.run(prompt="x")
    assert found == {
        "status": "EXECUTION_ERROR",
        "error": "Nothing is selected. Select what is to be filled, or set whole-canvas.",
        "layers": [],
    }
    [layer] = painter.run_well(prompt="x", whole_canvas=True)
    assert layer["box"] == [0, 0, 160, 120]


def test_an_image_without_layers(painter: Painter) -> None:
    painter.create(picture())
    painter.ask("image.remove_layer(image.get_layers()[0])")
    painter.select(*BOX)
    [layer] = painter.run_well(prompt="x")
    assert painter.layers == [layer["name"]]


def test_a_selection_partly_outside_and_one_wholly(painter: Painter) -> None:
    painter.create(picture())
    painter.select(-20, 100, 50, 50)
    [layer] = painter.run_well(prompt="x")
    assert layer["box"] == [0, 100, 30, 20]
    painter.select(-50, -50, 20, 20)
    assert "Nothing is selected" in painter.run(prompt="x")["error"]


def test_a_soft_selection_gives_a_soft_layer(painter: Painter) -> None:
    painter.create(picture())
    painter.select(*BOX)
    painter.ask("Gimp.Selection.feather(image, 12.0)")
    [layer] = painter.run_well(prompt="x")
    x, y, w, h = layer["box"]
    levels = painter.ask("return read(image.get_selection(), *box, 'Y u8').hex()", box=[x, y, w, h])
    selected = np.frombuffer(bytes.fromhex(levels), np.uint8).reshape(h, w)
    alpha = painter.pixels(layer["id"], [0, 0, w, h])[..., 3]
    assert 0 < selected[h // 2, 1] < 255
    assert np.abs(alpha.astype(int) - selected).max() <= 1
    assert layer["mask"] is None


def test_a_feathered_fill_has_a_mask_to_paint_on(painter: Painter) -> None:
    painter.create(picture())
    painter.select(*BOX)
    [layer] = painter.run_well(prompt="x", feather=8)
    [fill] = painter.last_fills()
    assert 0 < fill[15, 1, 3] < 255, "the border is soft"
    assert np.array_equal(painter.levels(layer["mask"], HERE), fill[..., 3])
    assert not painter.ask("return Gimp.Item.get_by_id(id).get_edit_mask()", id=layer["id"])
    own = painter.pixels(layer["id"], HERE)
    assert np.array_equal(own[..., :3][fill[..., 3] > 0], fill[..., :3][fill[..., 3] > 0])
    assert set(own[..., 3][fill[..., 3] > 0]) == {255}
    share = fill[..., 3:] / 255  # GIMP mixes light, not levels
    light = to_linear(fill[..., :3]) * share + to_linear(picture()[INSIDE][..., :3]) * (1 - share)
    assert np.abs(painter.visible(BOX)[..., :3] - from_linear(light)).max() <= 1


def test_variations_are_layers_the_first_one_on_top(painter: Painter) -> None:
    painter.create(picture())
    painter.select(*BOX)
    layers = painter.run_well(prompt="x", seed=3, variations=3)
    names = ["x (seed 3)", "x (seed 4)", "x (seed 5)"]
    assert [layer["name"] for layer in layers] == names
    assert painter.layers == [*names, "Background"]
    for layer, fill in zip(layers, painter.last_fills(), strict=True):
        assert np.array_equal(painter.pixels(layer["id"], HERE), fill)


def test_the_resident_core_does_the_next_edit_too(painter: Painter) -> None:
    painter.create(picture())
    painter.select(*BOX)
    painter.run_well(prompt="x", seed=1)
    first = painter.gimp.core_pid()
    painter.run_well(prompt="y", seed=1)
    assert painter.gimp.core_pid() == first is not None


def test_a_seed_is_kept_or_thrown(painter: Painter) -> None:
    painter.create(picture())
    painter.select(*BOX)
    names = {painter.run_well(prompt="x")[0]["name"] for _ in range(3)}
    assert len(names) == 3
    first = painter.run_well(prompt="x", seed=5)[0]
    second = painter.run_well(prompt="x", seed=5)[0]  # what lies in the selection is not seen
    assert np.array_equal(painter.pixels(first["id"], HERE), painter.pixels(second["id"], HERE))


BROWSER = """
found = {}
for name in names:
    procedure = pdb.lookup_procedure(name)
    found[name] = {
        "menu": [procedure.get_menu_paths(), procedure.get_menu_label()],
        "blurb": procedure.get_blurb(), "help": procedure.get_help(),
        "arguments": {it.get_name(): it.get_blurb() for it in procedure.get_arguments()},
        "results": [it.get_name() for it in procedure.get_return_values()],
    }
return found
"""


def test_the_procedure_browser_tells_all(painter: Painter) -> None:
    again, history = "plug-in-lazydiffusion-fill-again", "plug-in-lazydiffusion-history"
    found = painter.ask(BROWSER, names=[FILL, REMOVE, again, history])
    labels = {name: told["menu"] for name, told in found.items()}
    menu = ["<Image>/Filters/Lazy Diffusion"]
    assert labels == {
        FILL: [menu, "_Fill Selection..."],
        REMOVE: [menu, "_Remove Selection"],
        again: [menu, "Fill _Again"],
        history: [menu, "_History..."],
    }
    common = {"variations", "seed", "steps", "grow", "feather", "model", "whole-canvas", "convert-indexed"}
    own = {"run-mode", "image", "drawables"}
    assert set(found[REMOVE]["arguments"]) == own | common
    assert set(found[FILL]["arguments"]) == own | common | {
        "mode", "prompt", "negative-prompt", "guidance", "strength", "sketch"
    }  # fmt: skip
    for told in found.values():
        assert told["results"] == ["layers"]
        assert len(told["blurb"]) > 20
        assert len(told["help"]) > 20
        for name in set(told["arguments"]) - own:
            assert len(told["arguments"][name]) > 10, name
    assert "(px)" in found[FILL]["arguments"]["grow"]
    assert "(px)" in found[FILL]["arguments"]["feather"]
    assert "(steps)" in found[FILL]["arguments"]["steps"]


def test_remove_and_again(painter: Painter) -> None:
    painter.create(picture())
    painter.select(*BOX)
    [layer] = painter.run_well(REMOVE, seed=2)
    assert layer["box"] == BOX
    again = painter.ask("return run('plug-in-lazydiffusion-fill-again', image)")
    assert again["status"] == "SUCCESS"
    assert painter.layers == [again["layers"][0]["name"], layer["name"], "Background"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"prompt": "x" * 1001}, "The prompt has 1001 characters; shorten it to 1000 at most."),
        ({"mode": "add"}, "The prompt is empty. Say what to add, or choose Fill to continue what is around."),
        ({"prompt": "x", "model": "nowhere"}, "nowhere"),
    ],
    ids=["long prompt", "nothing to add", "no such model"],
)
def test_what_is_wrong_is_said_in_a_sentence(painter: Painter, values: dict[str, Any], told: str) -> None:
    painter.create(picture())
    painter.select(*BOX)
    found = painter.run(**values)
    assert found["status"] == "EXECUTION_ERROR"
    assert told in found["error"]
    assert painter.layers == ["Background"]


def test_a_floating_selection_is_told_before_the_work(painter: Painter) -> None:
    painter.create(picture())
    painter.select(*BOX)
    painter.ask("Gimp.Selection.float(image, image.get_selected_layers(), 3, 3)")
    painter.ask("image.select_rectangle(Gimp.ChannelOps.REPLACE, *box)", box=BOX)
    assert "floating selection" in painter.run(prompt="x", whole_canvas=True)["error"]


def test_the_place_above_the_selected_layer(painter: Painter) -> None:
    """Locked layers and groups are never written; out of what is hidden or locked a layer goes."""
    painter.create(picture())
    painter.ask(
        """
        group = Gimp.GroupLayer.new(image, "Group")
        image.insert_layer(group, None, 0)
        image.insert_layer(layer_of(image, "Inner", 40, 40), group, 0)
        image.insert_layer(layer_of(image, "Top", 20, 20), None, 0)
        """.replace("\n        ", "\n")
    )
    painter.select(*BOX)

    def made_at(selected: str, more: str = "") -> list[Any]:
        painter.ask(
            "layer = image.get_layer_by_name(name)\nimage.set_selected_layers([layer])\n"
            f"group = layer.get_parent()\n{more}",
            name=selected,
        )
        [layer] = painter.run_well(prompt="x", seed=1)
        found = painter.layers
        painter.ask("image.remove_layer(Gimp.Item.get_by_id(id))", id=layer["id"])
        return found

    new = "x (seed 1)"
    assert made_at("Background") == ["Top", ["Group", ["Inner"]], new, "Background"]
    assert made_at("Group") == ["Top", new, ["Group", ["Inner"]], "Background"]
    assert made_at("Inner") == ["Top", ["Group", [new, "Inner"]], "Background"]
    assert made_at("Inner", "layer.set_lock_content(True)") == [
        "Top",
        ["Group", [new, "Inner"]],
        "Background",
    ]
    assert made_at("Inner", "group.set_visible(False)") == ["Top", new, ["Group", ["Inner"]], "Background"]
    assert made_at("Inner", "group.set_visible(True); group.set_lock_content(True)") == [
        "Top", new, ["Group", ["Inner"]], "Background"
    ]  # fmt: skip


def test_what_is_seen_counts_whatever_it_is_made_of(painter: Painter) -> None:
    """Moved layers, a layer's opacity and mask: the core is shown the projection."""
    canvas = picture()
    painter.create(canvas)
    painter.ask(
        """
        half = layer_of(image, "Half", 100, 80, bytes([255, 0, 0, 255]) * 8000, 30, 20)
        half.set_opacity(50.0)
        image.insert_layer(half, None, 0)
        """.replace("\n        ", "\n")
    )
    flat = painter.visible([0, 0, 160, 120])
    painter.select(*BOX)
    painter.run_well(prompt="x", seed=7)
    [fill] = painter.last_fills()
    painter.delete()
    painter.create(flat)
    painter.select(*BOX)
    painter.run_well(prompt="x", seed=7)
    assert np.abs(painter.last_fills()[0].astype(int) - fill).max() <= 1


def test_a_sketch_is_followed_and_must_be_of_the_image(painter: Painter) -> None:
    painter.create(picture())
    painter.ask(
        "image.insert_layer(layer_of(image, 'Sketch', 60, 40, bytes([250, 20, 20, 255]) * 2400, 55, 35), None, 0)\n"
        "image.get_layer_by_name('Sketch').set_visible(False)"
    )
    painter.select(*BOX)
    painter.run_well(prompt="x", seed=7)
    [without] = painter.last_fills()
    sketch = "sketch=image.get_layer_by_name('Sketch')"
    script = f"return run(name, image, model=model, prompt='x', seed=7, {sketch})"
    assert painter.ask(script, name=FILL, model=MODEL)["status"] == "SUCCESS"
    [followed] = painter.last_fills()
    assert np.abs(followed.astype(int) - without).max() > 3

    other = (
        "other = Gimp.Image.new(50, 50, Gimp.ImageBaseType.RGB); layer = layer_of(other, 'Elsewhere', 50, 50)\n"
        "other.insert_layer(layer, None, 0)\n"
        "found = run(name, image, model=model, prompt='x', sketch=layer)\nother.delete()\nreturn found"
    )
    assert "not a layer of this image" in painter.ask(other, name=FILL, model=MODEL)["error"]


# The plug-in's own way of reading, run in GIMP's Python: of a huge canvas a copy of the region alone.
READ = """
import sys
if folder not in sys.path:
    sys.path.insert(0, folder)
from lazydiffusion.image import Picture
from lazydiffusion.window import Box
"""


@pytest.mark.parametrize("precision", ["U8_NON_LINEAR", "FLOAT_LINEAR"])
def test_a_region_of_a_huge_canvas_is_what_is_seen_there(painter: Painter, precision: str) -> None:
    painter.create(picture(900, 700), precision=precision)
    painter.ask(
        """
        for number in range(4):
            colour = bytes([60 * number, 200, 40, 128])
            layer = layer_of(image, "L%d" % number, 300, 300, colour * 90000, 150 * number, 90 * number)
            layer.set_mode(getattr(Gimp.LayerMode, ("NORMAL", "MULTIPLY", "SCREEN", "OVERLAY")[number]))
            layer.set_lock_content(number % 2 == 0)
            image.insert_layer(layer, None, 0)
        """.replace("\n        ", "\n")
    )  # fmt: skip
    folder = str(painter.gimp.home / "gimp/plug-ins/lazydiffusion")
    box = [250, 150, 200, 120]
    path = painter.gimp.folder / "region"
    before = painter.ask("return [it.get_id() for it in Gimp.get_images()]")
    painter.ask(
        READ + "open(path, 'wb').write(Picture(image).pixels(Box(*box)))",
        folder=folder,
        box=box,
        path=str(path),
    )
    region = np.frombuffer(path.read_bytes(), np.uint8).reshape(120, 200, 4)
    assert np.array_equal(region, painter.visible(box))
    assert painter.ask("return [it.get_id() for it in Gimp.get_images()]") == before, "the copy is gone"


@pytest.mark.parametrize(
    "options", [{}, {"precision": "U8_LINEAR"}, {"precision": "FLOAT_LINEAR"}, {"profile": True}, {"base": "GRAY"}],
    ids=["u8", "u8-linear", "float", "adobe-rgb", "grey"],
)  # fmt: skip
def test_the_overview_is_the_whole_canvas_small(painter: Painter, options: dict[str, Any]) -> None:
    painter.create(picture(900, 700), **options)
    folder = str(painter.gimp.home / "gimp/plug-ins/lazydiffusion")
    path = painter.gimp.folder / "overview"
    painter.ask(
        READ + "open(path, 'wb').write(Picture(image).overview((90, 70)))", folder=folder, path=str(path)
    )
    overview = np.frombuffer(path.read_bytes(), np.uint8).reshape(70, 90, 4)
    mean = painter.visible([0, 0, 900, 700]).reshape(70, 10, 90, 10, 4).mean((1, 3))
    assert np.abs(overview - mean).max() <= 4

"""What the dialog and the history do with fills in a real GIMP: choosing, layers that cover a new one, forgetting."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from tests.hosts.gimp.dialog import (
    NOTICE,
    READY,
    RESULTS,
    THUMBNAIL,
    fresh,
    generate,
    open_history,
    set_numbers,
    until_layers,
)
from tests.hosts.gimp.painter import Painter, picture
from tests.hosts.gimp.plugin_process import Plugin

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CHOSEN = "[it.get_indices()[0] for it in find('lazyResults').get_selected_items()]"
VIEW = "find('lazyView').get_pixbuf().get_pixels()"
COVERED = "Layers above this one, or a group that it is in, cover it or change its look."
ROWS = "len(find('lazyHistory').get_model())"
ASKS = "any(it.get_name() == 'lazyForgetAll' for it in widgets())"


def choose(plugin: Plugin, number: int) -> None:
    """By a click on its thumbnail, once that is laid out."""
    plugin.settle()
    plugin.click_at("lazyResults", *plugin.ask(THUMBNAIL, number=number))
    plugin.wait_for(f"({CHOSEN}) == [number]", number=number)


def test_a_result_that_was_put_aside_does_not_come_back_by_itself(painter: Painter, plugin: Plugin) -> None:
    set_numbers(plugin, steps=200, variations=3)
    plugin.click("lazyGenerate")
    plugin.wait_for(f"{RESULTS} == 1 and ({CHOSEN}) == [0]", 120)
    with painter.gimp.held_core():
        plugin.ask(f"keep['fill'] = {VIEW}")
        plugin.click_at("lazyResults", 0.97, 0.9)  # beside the thumbnails
        assert plugin.ask(CHOSEN) == []
        assert plugin.ask(f"{VIEW} != keep['fill']"), "the view is free for what is being made"
        assert not plugin.ask("find('lazyApply').is_sensitive()")
    plugin.wait_for(f"{RESULTS} == 3 and {READY}", 120)
    assert plugin.ask(CHOSEN) == []

    set_numbers(plugin, steps=0, variations=1)
    generate(plugin)
    assert plugin.ask(CHOSEN) == [3], "the next edit shows its first fill again"


def test_what_is_applied_while_an_edit_runs_stays_in_view(painter: Painter, plugin: Plugin) -> None:
    generate(plugin)
    set_numbers(plugin, steps=200, variations=2)
    plugin.click("lazyGenerate")
    plugin.wait_for("find('lazyProgress').get_fraction() > 0", 90)
    with painter.gimp.held_core():  # however busy the machine is, the edit makes no fill meanwhile
        assert plugin.ask(RESULTS) == 1
        choose(plugin, 0)
        plugin.key("alt+a")
        until_layers(painter, 2)
    plugin.wait_for(f"{RESULTS} == 3 and {READY}", 120)
    assert plugin.ask(CHOSEN) == [0]
    assert painter.layers[1:] == ["Background"]


def test_a_tiny_picture_is_shown_large_with_sharp_px(painter: Painter) -> None:
    painter.create(picture(20, 16), show=True)
    painter.select(4, 2, 8, 6)
    plugin = fresh(painter.open_dialog())
    plugin.wait_for("find('lazyView').get_pixbuf() is not None")
    generate(plugin)
    for image, least in (
        ("find('lazyView').get_pixbuf()", 300),
        ("find('lazyResults').get_model()[0][0]", 70),
    ):
        path = painter.gimp.folder / "shown.png"
        plugin.ask(f"{image}.savev(path, 'png', [], [])", path=str(path))
        shown = painter.file(path)
        assert shown.shape[1] >= least
        for side in (0, 1):
            edges = np.any(np.diff(shown[..., :3].astype(int), axis=side), axis=(1 - side, 2))
            steps = np.diff(np.flatnonzero(edges))
            assert len(set(steps)) == 1, "each px is a square"
            assert steps[0] >= 5
    plugin.key("Escape")
    plugin.wait_until_ended()


ARRANGE = """
for layer in image.get_layers():
    if layer.get_name() != "Background":
        image.remove_layer(layer)
group = Gimp.GroupLayer.new(image, "Group")
image.insert_layer(group, None, 0)
image.insert_layer(layer_of(image, "Below", 20, 20), group, 0)
image.insert_layer(layer_of(image, "Over", w, h, bytes([0, 90, 0, 255]) * (w * h), x, y), group if into else None, 0)
image.set_selected_layers([image.get_layer_by_name(selected)])
for name in hidden:
    image.get_layer_by_name(name).set_visible(False)
Gimp.displays_flush()
"""


def generate_and_apply(painter: Painter, plugin: Plugin) -> None:
    """Make a fill, and a layer of it."""
    generate(plugin)
    plugin.key("alt+a")
    deadline = time.monotonic() + 20
    while " (seed " not in str(painter.layers):
        assert time.monotonic() < deadline, painter.layers
    plugin.settle()


@pytest.mark.parametrize(
    ("selected", "over", "into", "hidden", "told"),
    [
        ("Background", [0, 0, 160, 120], False, [], True),
        ("Background", [0, 0, 160, 120], False, ["Over"], False),
        ("Background", [0, 0, 61, 41], False, [], True),
        ("Background", [0, 0, 60, 120], False, [], False),
        ("Below", [0, 0, 160, 120], False, [], True),
        ("Below", [0, 0, 160, 120], True, [], True),
        ("Background", [0, 0, 160, 120], True, [], True),
        ("Background", [0, 0, 160, 120], True, ["Group"], False),
        ("Background", [0, 0, 160, 120], True, ["Over"], False),
        ("Over", [0, 0, 160, 120], False, [], False),
    ],
    ids=[
        "above it", "hidden", "a corner", "beside it", "above its group", "in its group", "in a group above",
        "in a hidden group", "hidden in a group", "below it",
    ],
)  # fmt: skip
def test_a_layer_that_covers_a_new_one_is_told(
    painter: Painter,
    plugin: Plugin,
    selected: str,
    over: list[int],
    into: bool,
    hidden: list[str],
    told: bool,
) -> None:
    x, y, w, h = over
    painter.ask(ARRANGE, x=x, y=y, w=w, h=h, into=into, selected=selected, hidden=hidden)
    generate_and_apply(painter, plugin)
    assert plugin.ask(NOTICE) == (COVERED if told else "")


MASK = "group.add_mask(group.create_mask(Gimp.AddMaskType.%s))"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("group.set_mode(Gimp.LayerMode.PASS_THROUGH)", False),
        ("group.set_opacity(40.0)", True),
        ("group.set_mode(Gimp.LayerMode.MULTIPLY)", True),
        (MASK % "WHITE", False),
        (MASK % "BLACK", True),
        (MASK % "BLACK" + "\ngroup.set_apply_mask(False)", False),
    ],
    ids=["pass through", "opacity", "mode", "white mask", "black mask", "black mask that is off"],
)
def test_a_group_that_changes_a_new_layer_is_told(
    painter: Painter, plugin: Plugin, change: str, told: bool
) -> None:
    painter.ask(ARRANGE, x=0, y=0, w=160, h=120, into=True, selected="Below", hidden=[])
    painter.ask("group = image.get_layer_by_name('Group')\n" + change)
    painter.ask("image.reorder_item(image.get_layer_by_name('Over'), image.get_layer_by_name('Group'), 1)")
    generate_and_apply(painter, plugin)
    [[_, [new, *_]], _] = painter.layers
    assert " (seed " in new, "it lies on top of its group"
    assert plugin.ask(NOTICE) == (COVERED if told else "")


def test_a_covered_layer_can_be_moved_to_the_top(painter: Painter, plugin: Plugin) -> None:
    painter.ask(ARRANGE, x=0, y=0, w=160, h=120, into=True, selected="Below", hidden=[])
    generate(plugin)
    covered = painter.visible([60, 40, 50, 30]).copy()
    plugin.key("alt+a")
    plugin.wait_until_shown("lazyNoticeAnswer", 10)
    before: list[Any] = painter.layers
    [_, [over, new, below]] = before[0]
    assert (over, below, before[1:]) == ("Over", "Below", ["Background"])
    assert np.array_equal(painter.visible([60, 40, 50, 30]), covered), "it is covered"
    plugin.key("alt+m")
    until_layers(painter, 3)
    assert painter.layers == [new, ["Group", ["Over", "Below"]], "Background"]
    assert np.array_equal(painter.visible([60, 40, 50, 30]), painter.last_fills()[0])
    assert plugin.ask(NOTICE) == ""

    painter.gimp.activate_image_window()
    painter.gimp.key("ctrl+z")
    assert until_layers(painter, 2) == before, "the move is a step of its own"
    painter.gimp.key("ctrl+z")
    painter.ask("Gimp.displays_flush()")
    assert painter.layers == [["Group", ["Over", "Below"]], "Background"]


def test_the_history_tells_of_layers_above_and_moves_the_new_one_to_the_top(
    painter: Painter, plugin: Plugin
) -> None:
    painter.ask(ARRANGE, x=0, y=0, w=160, h=120, into=True, selected="Below", hidden=[])
    generate(plugin)
    open_history(plugin)
    assert not plugin.ask("find('lazyHistoryNoticePart').get_visible()")
    plugin.click("lazyHistoryApply")
    plugin.wait_until_shown("lazyHistoryNoticeAnswer", 10)
    assert plugin.ask("find('lazyHistoryNotice').get_text()") == COVERED
    [[_, [over, new, below]], background] = painter.layers
    assert (over, below, background) == ("Over", "Below", "Background")
    plugin.key("alt+m")
    until_layers(painter, 3)
    assert painter.layers == [new, ["Group", ["Over", "Below"]], "Background"]
    plugin.wait_for("not find('lazyHistoryNoticePart').get_visible()", 10)
    plugin.click("lazyHistoryApply")
    until_layers(painter, 4)
    plugin.settle()
    assert not plugin.ask("find('lazyHistoryNoticePart').get_visible()"), "nothing lies above this one"
    plugin.click("lazyHistoryClose")
    plugin.wait_for("find('lazyFill').has_toplevel_focus()", 10)


def test_a_layer_that_is_gone_cannot_be_moved(painter: Painter, plugin: Plugin) -> None:
    painter.ask(ARRANGE, x=0, y=0, w=160, h=120, into=False, selected="Background", hidden=[])
    generate(plugin)
    plugin.key("alt+a")
    plugin.wait_until_shown("lazyNoticeAnswer", 10)
    [_, _, new, _] = painter.layers
    painter.ask("image.remove_layer(image.get_layer_by_name(name))", name=new)
    plugin.key("alt+m")
    told = "The layer is not in the image any more. Choose the fill and apply it again."
    plugin.wait_for(f"({NOTICE}) == told", told=told)


def test_forgetting_an_edit_of_several_fills_asks_first(painter: Painter, plugin: Plugin) -> None:
    generate(plugin)
    set_numbers(plugin, variations=2)
    generate(plugin)
    open_history(plugin)
    rows = plugin.ask(ROWS)
    plugin.click("lazyForget")
    plugin.wait_for(ASKS)
    assert plugin.ask("find('lazyForgetAll').get_property('text')") == "Forget all 2 fills of this edit?"
    plugin.key("Return")
    plugin.wait_for(f"not {ASKS}")
    plugin.settle()
    assert plugin.ask(ROWS) == rows, "Return forgets nothing"
    plugin.click("lazyForget")
    plugin.wait_for(ASKS)
    plugin.key("alt+f")
    plugin.wait_for(f"not {ASKS} and {ROWS} == rows - 2", 30, rows=rows)
    plugin.ask("find('lazyHistory').get_selection().select_path(Gtk.TreePath.new_first())")
    plugin.click("lazyForget")  # an edit of one fill, for which the row stands
    plugin.wait_for(f"{ROWS} == rows - 3 and not {ASKS}", 30, rows=rows)
    plugin.click("lazyHistoryClose")
    plugin.wait_for("find('lazyFill').has_toplevel_focus()", 10)

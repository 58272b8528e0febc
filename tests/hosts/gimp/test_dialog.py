"""The dialog in a real GIMP, by mouse and keyboard: from the selection to the saved layer, and what can go wrong."""

from __future__ import annotations

import time

import numpy as np
import pytest
from tests.hosts.gimp.conftest import StartGimp
from tests.hosts.gimp.dialog import (
    BOX,
    NOTICE,
    PROMPT,
    READY,
    RESULTS,
    STATUS,
    THUMBNAIL,
    core_state,
    fill_with_sketch,
    fresh,
    newest_edit,
    newest_fill,
    set_numbers,
    until_layers,
)
from tests.hosts.gimp.painter import Painter, picture, with_plugin
from tests.hosts.gimp.plugin_process import Plugin
from tests.hosts.installing import MODEL

pytestmark = [pytest.mark.integration, pytest.mark.slow]

HERE = [0, 0, 50, 30]

# Of everything in a window that Alt with a letter goes to.
MNEMONICS = """
found = []
def look(widget):
    if isinstance(widget, Gtk.Label) and widget.get_use_underline() and widget.get_mapped():
        found.append([Gdk.keyval_name(widget.get_mnemonic_keyval()), widget.get_text()])
    if isinstance(widget, Gtk.Container):
        widget.forall(look)
look(find('lazyFill'))
return found
"""


def test_from_the_prompt_to_the_saved_file_by_keys(painter: Painter, plugin: Plugin) -> None:
    gimp = painter.gimp
    before = painter.saved()
    plugin.type_into("lazyPrompt", "a red apple")
    plugin.key("alt+t")  # the settings
    plugin.wait_until_shown("lazyVariations")
    plugin.key("alt+v", "ctrl+a", "2", "Tab")
    plugin.key("alt+q", "ctrl+a", "4", "0", "Tab")
    assert plugin.ask("[find('lazyVariations').get_value(), find('lazySteps').get_value()]") == [2, 40]
    plugin.key("ctrl+Return")
    plugin.wait_for(
        f"'step' in {STATUS} and 'left' in {STATUS} and find('lazyProgress').get_fraction() > 0", 90
    )
    plugin.wait_for(f"{RESULTS} == 2 and {READY}", 120)
    assert painter.layers == ["Background"], "nothing is touched before Apply"

    plugin.settle()  # the list lays out a new thumbnail when nothing else is to be done
    plugin.click_at("lazyResults", *plugin.ask(THUMBNAIL, number=1))
    plugin.wait_for("[it.get_indices()[0] for it in find('lazyResults').get_selected_items()] == [1]")
    seed = int(plugin.ask("find('lazySeed').get_text()"))
    plugin.key("alt+a")
    name = f"a red apple (seed {seed + 1})"
    assert until_layers(painter, 2) == [name, "Background"]
    # A green badge in the corner of its thumbnail, and on no other.
    badge = "p = find('lazyResults').get_model()[number][0]\nw, h = p.get_width(), p.get_height()\n"
    badge += "at = (h - 3) * p.get_rowstride() + 4 * (w - 10)\nreturn list(p.get_pixels()[at : at + 3])"
    assert plugin.ask(badge, number=1) == [46, 139, 87]
    assert plugin.ask(badge, number=0) != [46, 139, 87]
    fill = painter.last_fills()[1]
    expected = before.copy()
    expected[40:70, 60:110] = fill
    assert np.array_equal(painter.saved(), expected)

    plugin.key("Escape")
    plugin.wait_until_ended()
    gimp.activate_image_window()
    gimp.key("ctrl+z")
    assert until_layers(painter, 1) == ["Background"]
    assert np.array_equal(painter.saved(), before)
    gimp.key("ctrl+y")
    assert until_layers(painter, 2) == [name, "Background"]
    assert np.array_equal(painter.saved(), expected)


def test_the_fields_are_there_again_and_fill_again_uses_them(painter: Painter, plugin: Plugin) -> None:
    plugin.type_into("lazyPrompt", "an old house")
    set_numbers(plugin, grow=3, feather=2)
    plugin.key("ctrl+Return")
    plugin.wait_for(f"{RESULTS} == 1 and {READY}", 90)
    plugin.key("Escape")
    plugin.wait_until_ended()
    painter.gimp.run_action("Fill the selection as the last time")
    [name, _] = until_layers(painter, 2, 90)
    assert name.startswith("an old house (seed ")
    edit = newest_edit(painter)
    assert (edit["settings"]["grow"], edit["settings"]["feather"]) == (3, 2)
    again = painter.open_dialog()
    assert again.ask(PROMPT) == "an old house"
    assert again.ask("[find('lazyGrow').get_value(), find('lazyFeather').get_value()]") == [3, 2]
    again.key("Escape")
    again.wait_until_ended()


def test_fill_again_and_the_next_dialog_have_the_sketch_of_the_last_edit(painter: Painter) -> None:
    painter.create(picture(), show=True)
    painter.ask(
        "image.insert_layer(layer_of(image, 'Sketch', 60, 40, bytes([250, 20, 20, 255]) * 2400, 55, 35), None, 0)\n"
        "image.get_layer_by_name('Sketch').set_visible(False)"
    )
    painter.select(*BOX)
    painter.ask("image.clean_all()")
    plugin = painter.open_dialog()
    plugin.ask("find('lazySeed').set_text('7'); find('lazySeedLock').set_active(True)")
    sketched, plain = fill_with_sketch(painter, plugin, "Sketch"), fill_with_sketch(painter, plugin, "None")
    assert sketched != plain
    assert fill_with_sketch(painter, plugin, "Sketch") == sketched
    assert not painter.ask("return image.is_dirty()"), "which sketch it was is no change of the image"
    plugin.key("Escape")
    plugin.wait_until_ended()
    painter.gimp.run_action("Fill the selection as the last time")
    until_layers(painter, 3, 90)
    assert newest_fill(painter) == sketched
    again = painter.open_dialog()
    assert again.ask("find('lazySketch').get_active_text()") == "Sketch"
    again.ask("find('lazySketch').set_active(0)")
    assert fill_with_sketch(painter, again, "None") == plain
    again.key("Escape")
    again.wait_until_ended()
    painter.ask("image.remove_layer(image.get_layer_by_name('Sketch'))")
    last = painter.open_dialog()
    assert last.ask("find('lazySketch').get_active_text()") == "None"
    last.key("Escape")
    last.wait_until_ended()


def test_remove_from_the_menu_needs_no_dialog(painter: Painter) -> None:
    painter.create(picture(), show=True)
    painter.select(*BOX)
    painter.gimp.run_action("Remove what is selected")
    until_layers(painter, 2, 120)
    assert (newest_edit(painter)["settings"]["prompt"], newest_edit(painter)["state"]) == ("", "done")
    painter.gimp.activate_image_window()
    painter.gimp.key("ctrl+z")
    until_layers(painter, 1)


def test_cancel_really_cancels(painter: Painter, plugin: Plugin) -> None:
    set_numbers(plugin, steps=200, variations=8)
    plugin.click("lazyGenerate")
    plugin.wait_for("find('lazyProgress').get_fraction() > 0", 90)
    time.sleep(0.6)  # longer than a double click
    assert plugin.ask("find('lazyGenerate').get_label()") == "Canc_el"
    plugin.click("lazyGenerate")
    plugin.wait_for(READY, 20)
    assert plugin.ask(RESULTS) < 8
    assert plugin.ask(NOTICE) == ""
    deadline = time.monotonic() + 10
    while core_state(painter) == "busy":
        assert time.monotonic() < deadline, "the core goes on with a cancelled edit"
    assert painter.layers == ["Background"]


def test_escape_closes_and_cancels(painter: Painter, plugin: Plugin) -> None:
    set_numbers(plugin, steps=200, variations=8)
    plugin.click("lazyGenerate")
    plugin.wait_for("find('lazyProgress').get_fraction() > 0", 90)
    plugin.key("Escape")
    plugin.wait_until_ended(20)
    deadline = time.monotonic() + 10
    while core_state(painter) == "busy":
        assert time.monotonic() < deadline, "the core goes on with an edit whose dialog was closed"
    assert painter.layers == ["Background"]


def test_a_plugin_that_gimp_kills_leaves_no_edit_behind(painter: Painter, plugin: Plugin) -> None:
    """As the cancel button of GIMP's own progress bar does."""
    set_numbers(plugin, steps=200, variations=8)
    plugin.click("lazyGenerate")
    plugin.wait_for("find('lazyProgress').get_fraction() > 0", 90)
    plugin.kill()
    deadline = time.monotonic() + 20
    while core_state(painter) == "busy":
        assert time.monotonic() < deadline, "the core goes on with an edit that nobody waits for"
        time.sleep(0.2)


def test_a_core_that_is_killed_is_told_and_the_next_edit_starts_another(
    painter: Painter, plugin: Plugin
) -> None:
    set_numbers(plugin, steps=200, variations=8)
    plugin.click("lazyGenerate")
    plugin.wait_for(f"{RESULTS} >= 1", 120)
    painter.gimp.kill_core()
    plugin.wait_for(READY, 30)
    assert plugin.ask(NOTICE) == (
        "The LazyDiffusion core no longer answers. Try again: it is started anew if it has ended."
    )
    made = plugin.ask(RESULTS)
    assert made >= 1, "what was finished stays"
    set_numbers(plugin, steps=0, variations=1)
    plugin.click("lazyGenerate")
    plugin.wait_for(f"{RESULTS} == made + 1 and {READY}", 120, made=made)
    assert plugin.ask(NOTICE) == ""
    plugin.key("alt+a")
    until_layers(painter, 2)


def test_nothing_selected_is_told_with_a_way_out(painter: Painter) -> None:
    painter.create(picture(), show=True)
    plugin = fresh(painter.open_dialog())
    plugin.click("lazyGenerate")
    told = "Nothing is selected. Select what is to be filled, or fill the whole canvas."
    plugin.wait_for(f"({NOTICE}) == told", told=told)
    letters = [letter for letter, _ in plugin.ask(MNEMONICS)]
    assert len(letters) == len(set(letters))
    plugin.key("alt+e")
    plugin.wait_for(f"{RESULTS} == 1 and {READY}", 120)
    assert plugin.ask(NOTICE) == ""
    plugin.key("alt+a")
    [name, _] = until_layers(painter, 2)
    assert painter.ask("return told(image.get_layers()[0])['box']") == [0, 0, 160, 120], name


def test_an_indexed_image_is_converted_after_a_question_in_one_step(painter: Painter) -> None:
    painter.create(picture(), indexed=True, show=True)
    painter.select(*BOX)
    plugin = fresh(painter.open_dialog())
    plugin.click("lazyGenerate")
    plugin.wait_for("any(widget.get_name() == 'lazyConvert' for widget in widgets())")
    plugin.key("Escape")
    plugin.wait_for(f"not any(widget.get_name() == 'lazyConvert' for widget in widgets()) and {READY}")
    assert plugin.ask(RESULTS) == 0
    plugin.click("lazyGenerate")
    plugin.wait_for("any(widget.get_name() == 'lazyConvertYes' for widget in widgets())")
    plugin.click("lazyConvertYes")
    plugin.wait_for(f"{RESULTS} == 1 and {READY}", 120)
    assert painter.ask("return image.get_base_type() == Gimp.ImageBaseType.INDEXED"), "nothing before Apply"
    plugin.key("alt+a")
    until_layers(painter, 2)
    assert painter.ask("return image.get_base_type() == Gimp.ImageBaseType.RGB")
    layer = painter.ask("return image.get_layers()[0].get_id()")
    assert np.array_equal(painter.pixels(layer, HERE), painter.last_fills()[0])
    plugin.key("Escape")
    plugin.wait_until_ended()
    painter.gimp.activate_image_window()
    painter.gimp.key("ctrl+z")
    until_layers(painter, 1)
    assert painter.ask("return image.get_base_type() == Gimp.ImageBaseType.INDEXED"), "one step back is all"


def test_a_core_that_is_not_installed_is_told_once(start_gimp: StartGimp) -> None:
    gimp = start_gimp(install=with_plugin())
    (gimp.home / ".config/lazydiffusion/connect.json").unlink()
    painter = Painter(gimp)
    painter.create(picture(), show=True)
    painter.select(*BOX)
    plugin = gimp.open_plugin("Generative fill")
    told = (
        "LazyDiffusion is not installed, or this editor does not know where. Install it and run "
        "`lazydiffusion connect`."
    )
    plugin.wait_for(f"{STATUS} == told", 30, told=told)
    plugin.click("lazyGenerate")
    plugin.wait_for(f"({NOTICE}) == told and {READY}", 30, told=told)
    assert plugin.ask(STATUS) == "", "the notice says it"
    plugin.key("Escape")
    plugin.wait_until_ended()
    assert painter.layers == ["Background"]
    painter.delete()


def test_an_image_that_is_closed_during_the_edit(painter: Painter, plugin: Plugin) -> None:
    set_numbers(plugin, steps=60)
    plugin.click("lazyGenerate")
    plugin.wait_for("find('lazyProgress').get_fraction() > 0", 90)
    painter.delete()
    plugin.wait_for(f"{RESULTS} == 1 and {READY}", 90)
    plugin.key("alt+a")
    told = "The image was closed. The fills are in the history."
    plugin.wait_for(f"({NOTICE}) == told", told=told)
    plugin.click("lazyGenerate")
    plugin.wait_for(f"({NOTICE}) == told", told=told)
    plugin.key("Escape")
    plugin.wait_until_ended()


def test_add_needs_a_prompt_and_remove_none(painter: Painter, plugin: Plugin) -> None:
    plugin.click("lazyModeAdd")
    plugin.click("lazyGenerate")
    plugin.wait_for(f"'The prompt is empty' in ({NOTICE})")
    plugin.click("lazyModeRemove")
    assert not plugin.ask("find('lazyPrompt').is_sensitive()")
    plugin.click("lazyGenerate")
    plugin.wait_for(f"{RESULTS} == 1 and {READY}", 90)


def test_the_view_shows_what_would_be_painted_and_then_the_fill(painter: Painter, plugin: Plugin) -> None:
    def seen(name: str) -> np.ndarray:
        path = painter.gimp.folder / f"{name}.png"
        plugin.ask("find('lazyView').get_pixbuf().savev(path, 'png', [], [])", path=str(path))
        return painter.file(path)[..., :3].astype(int)

    plugin.wait_for("find('lazyView').get_pixbuf() is not None")
    marked = seen("marked")
    scale = marked.shape[1] / 160
    middle = (round(55 * scale), round(85 * scale))
    canvas = picture()[55, 85, :3].astype(int)
    assert np.abs(marked[middle] - canvas).max() > 20, "the selection is marked"
    assert np.abs(marked[5, 5] - picture()[5, 5, :3]).max() <= 3, "around it the canvas is as it is"
    # While it runs, what the fill looks like so far is there, in its place only.
    set_numbers(plugin, steps=200)
    plugin.click("lazyGenerate")
    plugin.wait_for("find('lazyProgress').get_fraction() > 0", 90)
    plugin.ask("keep['marked'] = find('lazyView').get_pixbuf().get_pixels()")
    plugin.wait_for(f"{RESULTS} == 0 and find('lazyView').get_pixbuf().get_pixels() != keep['marked']", 30)
    assert np.abs(seen("live")[5, 5] - picture()[5, 5, :3]).max() <= 3
    plugin.wait_for(f"{RESULTS} == 1 and {READY}", 90)
    filled = seen("filled")
    fill = painter.last_fills()[0].astype(int)
    assert np.abs(filled[middle] - fill[15, 25, :3]).max() <= 40, "enlarged, so a mean of neighbours"
    mean = filled[round(40 * scale) : round(70 * scale), round(60 * scale) : round(110 * scale)].mean((0, 1))
    assert np.abs(mean - fill[..., :3].mean((0, 1))).max() <= 4


def test_the_view_follows_the_selection_until_something_is_asked(painter: Painter, plugin: Plugin) -> None:
    shown = "find('lazyView').get_pixbuf()"
    named = painter.ask("return '%s-%d' % (image.get_name(), image.get_id())")
    assert plugin.title == f"Fill Selection – {named}", "which of several pictures it is about"
    assert any(f"{named}." in title for title in painter.gimp.window_titles()), "as GIMP names it"
    plugin.wait_for(f"{shown} is not None")
    plugin.ask(f"keep['first'] = {shown}.get_pixels()")
    painter.gimp.activate_image_window()
    painter.select(10, 10, 40, 40)
    plugin.activate()
    plugin.wait_for(f"{shown} is not None and {shown}.get_pixels() != keep['first']", 10)
    painter.gimp.activate_image_window()
    painter.ask("Gimp.Selection.none(image)")
    plugin.activate()
    plugin.wait_for(f"{shown} is None", 10)
    painter.gimp.activate_image_window()
    painter.select(*BOX)
    plugin.activate()
    plugin.wait_for(f"{shown} is not None and {shown}.get_pixels() == keep['first']", 10)


def test_every_letter_goes_to_one_widget(plugin: Plugin) -> None:
    plugin.key("alt+t")
    plugin.wait_until_shown("lazyVariations")
    found = plugin.ask(MNEMONICS)
    letters = [letter for letter, _ in found]
    assert len(letters) == len(set(letters)) >= 15, found


def test_the_history_gives_layers_and_settings(painter: Painter, plugin: Plugin) -> None:
    plugin.type_into("lazyPrompt", "a blue boat")
    set_numbers(plugin, feather=4)
    plugin.key("ctrl+Return")
    plugin.wait_for(f"{RESULTS} == 1 and {READY}", 90)
    seed = newest_edit(painter)["fills"][0]["seed"]
    plugin.key("Escape")
    plugin.wait_until_ended()

    history = painter.gimp.open_plugin("The fills that were made before")
    history.wait_for("len(find('lazyHistory').get_model()) >= 1", 90)
    assert history.ask("find('lazyHistory').get_model()[0][1]").startswith(f"a blue boat\nseed {seed} · ")
    history.ask("find('lazyHistory').get_selection().select_path(Gtk.TreePath.new_first())")
    history.click("lazyHistoryApply")
    assert until_layers(painter, 2)[0] == f"a blue boat (seed {seed})"
    assert painter.ask("return told(image.get_layers()[0])['mask'] is not None")
    history.wait_for("not find('lazyHistoryNoticePart').get_visible()")
    history.click("lazyReuse")
    history.wait_until_shown("lazyPrompt")
    assert history.ask(PROMPT) == "a blue boat"
    assert history.ask("[find('lazySeed').get_text(), find('lazySeedLock').get_active()]") == [
        str(seed),
        True,
    ]
    history.key("Escape")
    history.wait_until_ended()
    painter.gimp.activate_image_window()
    painter.gimp.key("ctrl+z")
    assert until_layers(painter, 1) == ["Background"], "layer and mask are one step"


def test_fill_again_takes_the_settings_that_were_taken_from_the_history(
    painter: Painter, plugin: Plugin
) -> None:
    for made, prompt in enumerate(("a white bird", "a brown rock"), start=1):
        plugin.ask("find('lazyPrompt').get_buffer().set_text(prompt)", prompt=prompt)
        plugin.key("ctrl+Return")
        plugin.wait_for(f"{RESULTS} == made and {READY}", 90, made=made)
    plugin.key("Escape")
    plugin.wait_until_ended()
    assert newest_edit(painter)["settings"]["prompt"] == "a brown rock"

    history = painter.gimp.open_plugin("The fills that were made before")
    history.wait_for("len(find('lazyHistory').get_model()) >= 2", 90)
    history.ask("find('lazyHistory').get_selection().select_path(Gtk.TreePath.new_from_indices([1]))")
    history.click("lazyReuse")
    history.wait_until_shown("lazyPrompt")
    assert history.ask(PROMPT) == "a white bird"
    history.key("Escape")
    history.wait_until_ended()
    painter.gimp.run_action("Fill the selection as the last time")
    [name, _] = until_layers(painter, 2, 90)
    assert name.startswith("a white bird (seed ")
    for filling in painter.gimp.plugins():
        filling.wait_until_ended()


def test_the_history_opens_from_the_dialog_too(painter: Painter, plugin: Plugin) -> None:
    plugin.type_into("lazyPrompt", "a green hill")
    plugin.key("ctrl+Return")
    plugin.wait_for(f"{RESULTS} == 1 and {READY}", 90)
    plugin.ask("find('lazyPrompt').get_buffer().set_text('something else')")
    plugin.click("lazyHistoryOpen")
    plugin.wait_for("any(it.get_name() == 'lazyHistory' and len(it.get_model()) for it in widgets())", 60)
    plugin.ask("find('lazyHistory').get_selection().select_path(Gtk.TreePath.new_first())")
    plugin.click("lazyReuse")
    plugin.wait_for("not any(widget.get_name() == 'lazyHistory' for widget in widgets())")
    assert plugin.ask(PROMPT) == "a green hill"
    assert plugin.ask("find('lazyModel').get_active_id()") == MODEL

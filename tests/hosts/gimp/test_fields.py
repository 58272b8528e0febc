"""The dialog's fields in a real GIMP: what is typed is used and is there again, and a seed that was typed stays."""

from __future__ import annotations

import pytest
from tests.hosts.gimp.dialog import NOTICE, generate, newest_edit, open_history, set_numbers, until_layers
from tests.hosts.gimp.painter import Painter
from tests.hosts.gimp.plugin_process import Plugin
from tests.hosts.installing import MODEL

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SEED = "[find('lazySeed').get_text(), find('lazySeedLock').get_active()]"
KEPT = "The seed is kept, as that edit's. Unlock it in the settings for another one."


@pytest.fixture
def unfolded(plugin: Plugin) -> Plugin:
    """The dialog with its settings in sight."""
    plugin.key("alt+t")
    plugin.wait_until_shown("lazyVariations")
    return plugin


def test_a_number_that_is_still_being_typed_is_used(painter: Painter, unfolded: Plugin) -> None:
    unfolded.key("alt+q", "ctrl+a", "1", "2", "ctrl+Return")
    unfolded.wait_for("len(find('lazyResults').get_model()) == 1", 120)
    settings = newest_edit(painter)["settings"]
    assert (settings["steps"], settings["guidance"]) == (12, None)
    assert unfolded.ask("find('lazyGuidance').get_text()") == "Automatic"
    unfolded.key("alt+u", "ctrl+a", "2", "period", "5", "ctrl+Return")
    unfolded.wait_for("len(find('lazyResults').get_model()) == 2", 120)
    settings = newest_edit(painter)["settings"]
    assert (settings["steps"], settings["guidance"]) == (12, 2.5)
    unfolded.key("alt+q", "ctrl+a", "7", "Escape")
    unfolded.wait_until_ended()
    again = painter.open_dialog()
    assert again.ask("find('lazySteps').get_text()") == "7", "closed while it was typed"


def test_strength_is_used_and_kept_and_used_again(painter: Painter, unfolded: Plugin) -> None:
    assert unfolded.ask("find('lazyStrength').get_text()") == "100"
    unfolded.key("alt+s", "ctrl+a", "4", "0")
    generate(unfolded)
    assert newest_edit(painter)["settings"]["strength"] == 0.4
    unfolded.key("Escape")
    unfolded.wait_until_ended()

    again = painter.open_dialog()
    assert again.ask("find('lazyStrength').get_value()") == 40
    set_numbers(again, strength=100)
    open_history(again)
    again.click("lazyReuse")
    again.wait_for("find('lazyStrength').get_value() == 40")
    again.click("lazyModeRemove")
    assert not again.ask("find('lazyStrength').is_sensitive()")
    generate(again)
    assert newest_edit(painter)["settings"]["strength"] == 1
    again.click("lazyModeFill")
    assert again.ask("find('lazyStrength').is_sensitive()")


def test_a_typed_seed_stays_and_a_thrown_one_does_not(painter: Painter, unfolded: Plugin) -> None:
    generate(unfolded)
    thrown, locked = unfolded.ask(SEED)
    assert not locked
    unfolded.key("alt+d", "End", "x")
    assert unfolded.ask(SEED) == [thrown, False], "a letter is not taken, and locks nothing"
    unfolded.key("ctrl+a", "4", "2")
    assert unfolded.ask(SEED) == ["42", True]
    generate(unfolded)
    assert newest_edit(painter)["fills"][0]["seed"] == 42
    unfolded.click("lazySeedLock")
    unfolded.click("lazySeedDice")
    thrown, locked = unfolded.ask(SEED)
    assert (thrown != "42", locked) == (True, False)
    generate(unfolded)
    assert unfolded.ask(SEED)[0] != thrown


def test_the_seed_of_an_earlier_edit_is_said_to_be_kept(painter: Painter, plugin: Plugin) -> None:
    generate(plugin)
    seed = str(newest_edit(painter)["fills"][0]["seed"])
    open_history(plugin)
    plugin.click("lazyReuse")
    plugin.wait_for(f"({NOTICE}) == told", told=KEPT)
    assert plugin.ask(SEED) == [seed, True]
    generate(plugin)
    assert newest_edit(painter)["fills"][0]["seed"] == int(seed)
    plugin.key("Escape")
    plugin.wait_until_ended()

    history = painter.gimp.open_plugin("The fills that were made before")
    history.wait_for("len(find('lazyHistory').get_model()) >= 1", 90)
    history.ask("find('lazyHistory').get_selection().select_path(Gtk.TreePath.new_first())")
    history.click("lazyReuse")
    history.wait_until_shown("lazyPrompt")
    assert history.ask(NOTICE) == KEPT
    assert not history.exists("lazyNoticeAnswer")


def test_remove_from_the_menu_takes_the_dialogs_model_and_numbers(painter: Painter, plugin: Plugin) -> None:
    set_numbers(plugin, steps=12, grow=3, feather=2, strength=50)
    plugin.key("Escape")
    plugin.wait_until_ended()
    painter.gimp.run_action("Remove what is selected")
    until_layers(painter, 2, 120)
    for removing in painter.gimp.plugins():
        removing.wait_until_ended()
    settings = newest_edit(painter)["settings"]
    assert [settings[name] for name in ("model", "steps", "grow", "feather")] == [MODEL, 12, 3, 2]
    assert (settings["strength"], settings["prompt"]) == (1, "")

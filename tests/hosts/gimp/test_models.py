"""The dialog's list of models in a real GIMP, by mouse and keyboard."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tests.hosts.chroots import Host
from tests.hosts.gimp.conftest import StartGimp
from tests.hosts.gimp.painter import Painter, picture, with_plugin
from tests.hosts.gimp.plugin_process import Plugin
from tests.hosts.installing import MODEL
from tests.loopback_hub import KLEIN, WEIGHTS, Hub

pytestmark = [pytest.mark.integration, pytest.mark.slow]

# Of each row of the list of models: its id, its text, and whether it can be chosen.
MODELS = "[[row[0], row[1], row[2]] for row in find('lazyModel').get_model()]"
CHOSEN = "find('lazyModel').get_active_id()"
# Where a row of the open list is on the screen.
MENU_ROW = """
item = find("lazyModel").get_popup_accessible().get_widget().get_children()[number]
size = item.get_allocation()
_, x, y = item.get_window().get_origin()
return [x + size.x + size.width // 2, y + size.y + size.height // 2, item.get_sensitive()]
"""
OPEN_LIST = "find('lazyModel').get_property('popup-shown')"
NOTICE = "find('lazyNotice').get_text() if find('lazyNoticePart').get_visible() else ''"

BUTTON = f"lazyDownload-{KLEIN}"
SAYS = f"find('{BUTTON}').get_label()"
FACTS = (
    "flux2-klein is not downloaded yet: 16 GB, licence Apache-2.0. It needs an NVIDIA GPU with 8 GB or more. "
    "Here the core works on the CPU, where an edit with it takes minutes."
)


@pytest.fixture
def painter(start_gimp: StartGimp, tiny_model: Path, klein_hub: Hub) -> Painter:
    """In a GIMP whose core downloads from that hub, with a small picture and a selection."""
    made = Painter(start_gimp(install=with_plugin(tiny_model), environment=klein_hub.environment))
    made.create(picture(), show=True)
    made.select(60, 40, 50, 30)
    return made


def open_settings(painter: Painter) -> Plugin:
    """The dialog, with the button of the model that could be had: it comes when the core knows its device."""
    plugin = painter.open_dialog()
    plugin.key("alt+t")
    plugin.wait_until_shown(BUTTON)
    return plugin


def question(plugin: Plugin) -> list[str]:
    """What a click on that button asks, and what the answer's button says."""
    plugin.click(BUTTON)
    plugin.wait_until_shown("lazyNoticeAnswer", 10)
    return [plugin.ask(NOTICE), plugin.ask("find('lazyNoticeAnswer').get_label()")]


def row_of_klein(plugin: Plugin) -> list[object]:
    """Its text, and whether it can be chosen."""
    [found] = [row[1:] for row in plugin.ask(MODELS) if row[0] == KLEIN]
    return list(found)


def test_a_model_that_is_not_downloaded_is_seen_and_cannot_be_chosen(
    start_gimp: StartGimp,
    tiny_model: Path,
    gimp_host: Host,
    tmp_path: Path,
    keep_picture: Callable[[Image.Image, str], None],
) -> None:
    gimp = start_gimp(install=with_plugin(tiny_model))
    painter = Painter(gimp)
    painter.create(picture(), show=True)
    painter.select(60, 40, 50, 30)
    plugin = painter.open_dialog()
    assert plugin.ask(MODELS) == [
        ["clipart", "clipart", True],
        [MODEL, MODEL, True],
        ["flux2-klein", "flux2-klein – not downloaded, 16 GB", False],
    ]
    plugin.key("alt+t")  # the settings
    plugin.wait_until_shown(BUTTON)
    tip = plugin.ask("find('lazyModel').get_tooltip_text()")
    assert f"flux2-klein: {FACTS} The button below the list downloads it." in tip
    assert plugin.ask(CHOSEN) == MODEL

    plugin.click("lazyModel")
    plugin.wait_for(OPEN_LIST)
    x, y, sensitive = plugin.ask(MENU_ROW, number=2)
    assert not sensitive
    gimp.screen.move(x, y)
    time.sleep(0.5)
    with Image.open(gimp.screenshot(tmp_path / "open.png")) as screen:
        keep_picture(screen.convert("RGB"), f"gimp{gimp_host.recipe.version}-models")
    gimp.screen.click(x, y)
    plugin.settle()
    assert plugin.ask(CHOSEN) == MODEL
    plugin.key("Down", "Return")
    plugin.settle()
    assert plugin.ask(CHOSEN) != "flux2-klein"
    if plugin.ask(OPEN_LIST):
        plugin.key("Escape")
    plugin.ask("find('lazyModel').set_active_id(model)", model=MODEL)

    plugin.ask("find('lazyModel').emit('move-active', Gtk.ScrollType.STEP_DOWN)")
    plugin.ask("find('lazyModel').emit('move-active', Gtk.ScrollType.END)")
    assert plugin.ask(CHOSEN) == MODEL
    plugin.ask("find('lazyModel').emit('move-active', Gtk.ScrollType.STEP_UP)")
    assert plugin.ask(CHOSEN) == "clipart"
    plugin.ask("find('lazyModel').emit('move-active', Gtk.ScrollType.STEP_DOWN)")
    assert plugin.ask(CHOSEN) == MODEL

    # One that was chosen while it could be used stays; the core says what is wrong.
    plugin.ask("find('lazyModel').set_active_id('flux2-klein')")
    plugin.key("ctrl+Return")
    plugin.wait_for("find('lazyNoticePart').get_visible()", 60)
    assert plugin.ask("find('lazyNotice').get_text()") == (
        "The model flux2-klein is not downloaded. Get it in the settings of Krita's or GIMP's panel, or by "
        "`lazydiffusion models pull flux2-klein` in a terminal; or choose another: clipart, tiny."
    )
    assert plugin.ask(CHOSEN) == "flux2-klein"
    plugin.key("Escape")
    plugin.wait_until_ended()
    painter.delete()


def test_a_model_is_downloaded_can_be_stopped_goes_on_and_paints(
    painter: Painter,
    klein_hub: Hub,
    gimp_host: Host,
    tmp_path: Path,
    keep_picture: Callable[[Image.Image, str], None],
) -> None:
    klein_hub.stall, klein_hub.cut = True, {WEIGHTS: [1000]}
    plugin = open_settings(painter)
    assert plugin.ask(SAYS) == "Get flux2-klein…"
    assert question(plugin) == [FACTS, "Download it"]
    time.sleep(0.5)
    with Image.open(painter.gimp.screenshot(tmp_path / "question.png")) as screen:
        keep_picture(screen.convert("RGB"), f"gimp{gimp_host.recipe.version}-download")

    plugin.click("lazyNoticeAnswer")
    plugin.wait_for(f"{SAYS}.startswith('flux2-klein: downloading, ')")
    assert plugin.ask(NOTICE) == ""
    text, usable = row_of_klein(plugin)
    assert str(text).startswith("flux2-klein – downloading, ")
    assert not usable
    asked, answer = question(plugin)
    assert asked.startswith("flux2-klein is being downloaded (")
    assert asked.endswith("When all of it is here, it can be chosen as the model. Edits go on meanwhile.")
    assert answer == "Stop the download"
    plugin.click("lazyNoticeAnswer")
    plugin.wait_for(f"{SAYS} == 'Get flux2-klein…'")
    assert row_of_klein(plugin) == ["flux2-klein – not downloaded, 16 GB", False]

    asked, answer = question(plugin)
    assert "16 GB, of which" in asked
    assert "are here already, licence Apache-2.0." in asked
    assert answer == "Go on with the download"
    plugin.click("lazyNoticeAnswer")
    plugin.wait_for(f"{SAYS}.startswith('flux2-klein: downloading, ')")
    klein_hub.stall = False
    plugin.wait_for(f"({NOTICE}) == 'flux2-klein is here. It can be chosen as the model now.'")
    assert not plugin.ask("find('lazyNoticeAnswer').get_visible()")
    assert not plugin.exists(BUTTON)
    assert not plugin.exists("lazyDownloads")
    assert row_of_klein(plugin) == [KLEIN, True]
    assert plugin.ask(CHOSEN) == MODEL
    assert (painter.gimp.home / ".local/share/lazydiffusion/models" / KLEIN / "model_index.json").is_file()

    plugin.ask("find('lazyModel').set_active_id(model)\nfind('lazySteps').set_value(1)", model=KLEIN)
    plugin.click("lazyGenerate")
    plugin.wait_for("len(find('lazyResults').get_model()) == 1", 120)
    [edit] = (painter.gimp.folder / "core/history").glob("*/edit.json")
    assert json.loads(edit.read_text())["settings"]["model"] == KLEIN
    plugin.key("Escape")
    plugin.wait_until_ended()
    painter.delete()


def test_why_a_download_failed_is_told_each_time(painter: Painter, klein_hub: Hub) -> None:
    klein_hub.error = (503, "")
    problem = "The hub refused with HTTP status 503: try again later; what is downloaded is kept."
    plugin = open_settings(painter)
    for asked in (FACTS, f"{problem} {FACTS}"):
        assert question(plugin) == [asked, "Download it"]
        plugin.click("lazyNoticeAnswer")
        plugin.wait_for(f"({NOTICE}) == problem", 30, problem=problem)
        assert not plugin.ask("find('lazyNoticeAnswer').get_visible()")
        assert plugin.ask(SAYS) == "Get flux2-klein…"
        assert f"flux2-klein: {problem}" in plugin.ask("find('lazyModel').get_tooltip_text()")
    plugin.key("Escape")
    plugin.wait_until_ended()
    painter.delete()


def test_a_prompt_that_the_chosen_model_was_not_taught_is_told_when_it_has_been_typed(
    painter: Painter,
) -> None:
    plugin = open_settings(painter)
    shown = "find('lazyUntaught').get_visible()"
    plugin.type_into("lazyPrompt", "dragonfly")
    time.sleep(1)
    assert not plugin.ask(shown), "the tests' own model is for anything"
    plugin.ask("find('lazyModel').set_active_id('clipart')")
    plugin.wait_for(shown)
    said = plugin.ask("find('lazyUntaught').get_text()")
    assert said.startswith(
        "This model was not taught “dragonfly” and may paint no more than colours. It knows: "
    )
    assert "dragon" in said.partition("It knows: ")[2]
    plugin.ask("find('lazyPrompt').get_buffer().set_text('a butterfly')")
    plugin.wait_for(f"not {shown}")

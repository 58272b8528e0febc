"""The ground that the plug-in's tests stand on: what a test asks of a real GIMP happens, and is told truly."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from tests.hosts.chroots import Host
from tests.hosts.gimp.conftest import StartGimp
from tests.hosts.gimp.real_gimp import GimpFailed, Plugin, RealGimp

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ACTION = "Driven Sample"

# Named like ours, and as unaware of the driver.
SAMPLE = """#!/usr/bin/env python3
import os
import sys
import gi
gi.require_version("Gimp", "3.0")
from gi.repository import Gimp, GLib


class Sample(Gimp.PlugIn):
    def do_query_procedures(self):
        return ["plug-in-driven-sample"]

    def do_set_i18n(self, name):
        return False

    def do_create_procedure(self, name):
        procedure = Gimp.ImageProcedure.new(self, name, Gimp.PDBProcType.PLUGIN, self.run, None)
        procedure.set_image_types("*")
        mask = Gimp.ProcedureSensitivityMask
        procedure.set_sensitivity_mask(mask.DRAWABLE | mask.DRAWABLES | mask.NO_DRAWABLES | mask.NO_IMAGE)
        procedure.set_menu_label("Driven Sample")
        procedure.add_menu_path("<Image>/Filters")
        return procedure

    def run(self, procedure, mode, image, drawables, config, data):
        if mode == Gimp.RunMode.INTERACTIVE:
            show()
        elif image.get_width() == 13:
            raise ValueError("thirteen")
        else:
            layer = Gimp.Layer.new(image, "environment", 5, 5, Gimp.ImageType.RGBA_IMAGE, 100, Gimp.LayerMode.NORMAL)
            layer.set_name(os.environ.get("PYTHONPATH", "none"))
            image.insert_layer(layer, None, 0)
        return procedure.new_return_values(Gimp.PDBStatusType.SUCCESS, None)


def show():
    gi.require_version("GimpUi", "3.0")
    gi.require_version("Gtk", "3.0")
    from gi.repository import GimpUi, Gtk

    GimpUi.init("lazydiffusion")
    dialog = GimpUi.Dialog(use_header_bar=False, title="The Sample", role="sample")
    dialog.set_default_size(500, 300)
    box = Gtk.Box(orientation=Gtk.Orientation.VERTICAL, spacing=10, margin=20)
    entry = Gtk.Entry(name="entry")
    label = Gtk.Label(label="0", name="label")
    button = Gtk.Button(label="Press", name="press")
    fail = Gtk.Button(label="Fail", name="fail")
    close = Gtk.Button(label="Close", name="close")
    box.pack_start(entry, False, False, 0)
    box.pack_start(label, False, False, 0)
    scrolled = Gtk.ScrolledWindow(name="scrolled", height_request=60)
    rows = Gtk.Box(orientation=Gtk.Orientation.VERTICAL)
    for number in range(9):
        rows.pack_start(Gtk.Button(label=str(number), name=f"row{number}"), False, False, 0)
    scrolled.add(rows)
    box.pack_start(scrolled, False, False, 0)
    overlay = Gtk.Overlay()
    overlay.add(button)
    box.pack_start(overlay, False, False, 0)
    box.pack_start(fail, False, False, 0)
    box.pack_start(close, False, False, 0)
    dialog.get_content_area().add(box)
    button.connect("clicked", lambda _: label.set_text(str(int(label.get_text()) + 1)))
    fail.connect("clicked", lambda _: int("not a number"))
    loop = GLib.MainLoop()
    close.connect("clicked", lambda _: loop.quit())
    dialog.connect("response", lambda _, response: loop.quit())
    dialog.overlay = overlay
    dialog.show_all()
    loop.run()
    dialog.destroy()


Gimp.main(Sample.__gtype__, sys.argv)
"""

RUN = """
image = Gimp.Image.new(width, 10, Gimp.ImageBaseType.RGB)
procedure = pdb.lookup_procedure("plug-in-driven-sample")
config = procedure.create_config()
config.set_property("run-mode", Gimp.RunMode.NONINTERACTIVE)
config.set_property("image", image)
status = procedure.run(config).index(0)
names = [layer.get_name() for layer in image.get_layers()]
image.delete()
return status == Gimp.PDBStatusType.SUCCESS, names
"""

SHOW_IMAGE = """
image = Gimp.Image.new(200, 150, Gimp.ImageBaseType.RGB)
layer = Gimp.Layer.new(image, "ground", 200, 150, Gimp.ImageType.RGB_IMAGE, 100, Gimp.LayerMode.NORMAL)
image.insert_layer(layer, None, 0)
keep["image"] = image
Gimp.Display.new(image)
"""


def install_sample(home: Path) -> None:
    program = home / "gimp/plug-ins/lazydiffusion/lazydiffusion.py"
    program.parent.mkdir(parents=True)
    program.write_text(SAMPLE)
    program.chmod(0o755)


@pytest.fixture(scope="module")
def console(start_shared_gimp: StartGimp) -> RealGimp:
    return start_shared_gimp(install_sample, gui=False)


@pytest.fixture(scope="module")
def gimp(start_shared_gimp: StartGimp) -> RealGimp:
    gimp = start_shared_gimp(install_sample)
    gimp.ask(SHOW_IMAGE)
    return gimp


@pytest.fixture
def plugin(gimp: RealGimp) -> Plugin:
    plugin = gimp.open_plugin(ACTION)
    yield plugin
    if not plugin.ended:
        plugin.click("close")
        plugin.wait_until_ended()


def test_gimp_has_the_version_that_the_host_is_for(console: RealGimp, gimp_host: Host) -> None:
    assert console.ask("Gimp.version()").startswith(gimp_host.recipe.version)
    assert console.start_seconds < 60


def test_a_snippet_answers(console: RealGimp) -> None:
    assert console.ask("1 + 1") == 2
    assert console.ask("total = sum(numbers)\nreturn {'total': total}", numbers=[1, 2, 3]) == {"total": 6}
    console.ask("keep['word'] = 'kept'")
    assert console.ask("keep['word']") == "kept"
    assert console.ask("pdb.procedure_exists('plug-in-driven-sample')") is True
    console.later("keep['later'] = True")
    assert console.wait_for("keep.get('later')") is True


def test_what_a_snippet_raises_is_told_with_its_line(console: RealGimp) -> None:
    with pytest.raises(GimpFailed, match=r"(?s)line 2.*return 1 // zero.*ZeroDivisionError"):
        console.ask("zero = 0\nreturn 1 // zero")
    with pytest.raises(GimpFailed, match="SyntaxError"):
        console.ask("return (")
    with pytest.raises(GimpFailed, match="not JSON serializable"):
        console.ask("pdb")
    assert console.take_uncaught() == []


def test_the_plugin_runs_without_a_screen(console: RealGimp) -> None:
    """And hands on an environment without the driver."""
    assert console.ask(RUN, width=10) == [True, ["none"]]


def test_an_exception_in_a_procedure_is_reported(console: RealGimp) -> None:
    assert console.ask(RUN, width=13)[0] is False
    (uncaught,) = console.take_uncaught()
    assert "ValueError: thirteen" in uncaught
    assert len(console.complaints()) == 2
    # What libgimp has to say of it.
    console.harmless += ["no return values, shouldn't happen", "g_error_new: assertion"]
    assert console.complaints() == []


def test_a_gimp_with_a_window_shows_it_where_tests_expect_it(gimp: RealGimp) -> None:
    assert gimp.start_seconds < 60
    gimp.activate_image_window("200x150")
    gimp.screen.screenshot(gimp.folder / "shown.png")
    with Image.open(gimp.folder / "shown.png") as image:  # its frame of 10 px is the root window's black
        assert image.convert("RGB").getpixel((1595, 995)) == (0, 0, 0)
        assert image.convert("RGB").getpixel((1580, 980)) != (0, 0, 0)


def test_the_search_for_actions_opens_the_plugin(gimp: RealGimp, plugin: Plugin) -> None:
    assert plugin.title == "The Sample"
    assert "The Sample" in gimp.window_titles()
    assert plugin.exists("entry")
    assert not plugin.exists("nowhere")
    assert gimp.plugin().pid == plugin.pid
    assert gimp.ask("1 + 1") == 2  # while the dialog is open


def test_an_action_that_is_not_there_is_an_error(gimp: RealGimp) -> None:
    with pytest.raises(GimpFailed, match='no action "No Such Words Anywhere"'):
        gimp.run_action("No Such Words Anywhere")
    assert "Search Actions" not in gimp.window_titles()


def test_a_snippet_answers_in_the_plugin(plugin: Plugin) -> None:
    assert plugin.ask("find('label').get_text()") == "0"
    assert plugin.ask("isinstance(find(name), Gtk.Button)", name="press") is True
    plugin.ask("keep['word'] = 'kept'")
    assert plugin.ask("keep['word']") == "kept"
    with pytest.raises(GimpFailed, match=r"(?s)line 2.*return 1 // zero.*ZeroDivisionError"):
        plugin.ask("zero = 0\nreturn 1 // zero")
    plugin.later("dialog = Gtk.MessageDialog(text='Sure?'); dialog.set_name('sure'); dialog.run()")
    plugin.wait_until_shown("sure")  # it answers behind a dialog with a loop of its own
    plugin.ask("find('sure').response(0); find('sure').destroy()")


def test_a_click_on_a_real_button_is_heard(plugin: Plugin) -> None:
    plugin.click("press")
    plugin.wait_for("find('label').get_text() == '1'")
    plugin.click_at("press", 0.9, 0.2)
    plugin.wait_for("find('label').get_text() == '2'")
    plugin.click("label")
    assert plugin.ask("find('label').get_text()") == "2"


def test_a_click_that_would_miss_is_an_error(gimp: RealGimp, plugin: Plugin) -> None:
    with pytest.raises(GimpFailed, match='no widget "nowhere"'):
        plugin.click("nowhere")
    with pytest.raises(GimpFailed, match='"row8" is scrolled out of view'):
        plugin.click("row8")
    plugin.click("row0")
    plugin.ask("find('press').set_sensitive(False)")
    with pytest.raises(GimpFailed, match='"press" is disabled'):
        plugin.click("press")
    plugin.ask("find('press').set_sensitive(True)")
    plugin.ask(
        "cover = Gtk.EventBox(name='cover', visible=True)\nfind('press').get_parent().add_overlay(cover)"
    )
    plugin.settle()
    with pytest.raises(GimpFailed, match='would hit EventBox "cover"'):
        plugin.click("press")
    plugin.ask("find('cover').destroy(); find('press').hide()")
    with pytest.raises(GimpFailed, match='"press" is not visible'):
        plugin.click("press")
    plugin.ask("find('press').show()")
    plugin.wait_for("visible_part(find('press'), 9, 9)")  # GTK gives it its place with the next redrawing
    plugin.later("dialog = Gtk.Dialog(name='modal', modal=True); dialog.run(); dialog.destroy()")
    plugin.wait_until_shown("modal")
    with pytest.raises(GimpFailed, match='would do nothing: Dialog "modal" has the input'):
        plugin.click("press")
    plugin.ask("find('modal').response(0)")
    assert plugin.ask("find('label').get_text()") == "0"


def test_what_lies_below_another_window_is_not_clicked(gimp: RealGimp, plugin: Plugin) -> None:
    plugin.ask("find('entry').get_toplevel().set_transient_for(None)")
    gimp.activate_image_window()
    with pytest.raises(GimpFailed, match="the window of another program"):
        plugin.click("press")
    plugin.activate()
    plugin.click("press")
    plugin.wait_for("find('label').get_text() == '1'")


def test_typing_arrives(plugin: Plugin) -> None:
    plugin.type_into("entry", "A red apple, 2 (ripe)!")
    plugin.wait_for("find('entry').get_text() == 'A red apple, 2 (ripe)!'")
    plugin.key("ctrl+a", "BackSpace")
    plugin.wait_for("find('entry').get_text() == ''")


def test_what_needs_the_keyboard_must_take_it(plugin: Plugin) -> None:
    plugin.ask("find('press').grab_focus(); find('entry').set_can_focus(False)")
    with pytest.raises(GimpFailed, match="Not true within 10 s"):
        plugin.type_into("entry", "nobody hears this")
    assert plugin.ask("find('entry').get_text()") == ""


def test_a_widget_is_saved_as_a_picture(gimp: RealGimp, plugin: Plugin, tmp_path: Path) -> None:
    width, height = plugin.ask("size = find('press').get_allocation(); return size.width, size.height")
    with Image.open(plugin.grab(tmp_path / "press.png", "press")) as image:
        assert image.size == (width, height)
    with Image.open(plugin.grab(tmp_path / "dialog.png")) as image:
        assert image.size >= (500, 300)
        assert len(image.convert("RGB").getcolors(1 << 20)) > 10
    with Image.open(gimp.screenshot(tmp_path / "screen.png")) as image:
        assert image.size == (1600, 1000)


def test_an_exception_in_a_callback_is_reported_and_the_plugin_goes_on(
    gimp: RealGimp, plugin: Plugin
) -> None:
    plugin.click("fail")
    plugin.ask(
        "import threading\ndef fail():\n    raise OSError('in a thread')\nthreading.Thread(target=fail).start()"
    )
    plugin.settle()
    found = [re.findall(r"^(\w+Error: .*)$", text, re.MULTILINE) for text in gimp.take_uncaught()]
    assert found == [
        ["ValueError: invalid literal for int() with base 10: 'not a number'"],
        ["OSError: in a thread"],
    ]
    assert gimp.take_uncaught() == []
    assert plugin.exists("press")


def test_a_plugin_that_ends_is_noticed(gimp: RealGimp) -> None:
    first = gimp.open_plugin(ACTION)
    first.click("close")
    first.wait_until_ended()
    second = gimp.open_plugin(ACTION)
    assert second.pid != first.pid
    second.kill()
    assert second.ended
    with pytest.raises(GimpFailed, match="process has ended"):
        second.ask("1 + 1")
    assert gimp.ask("1 + 1") == 2
    gimp.screen.key("Escape")  # what GIMP has to say about a plug-in that died


def test_keys_reach_the_image(gimp: RealGimp) -> None:
    gimp.ask(
        "image = keep['image']\nimage.insert_layer(image.get_layers()[0].copy(), None, 0)\nGimp.displays_flush()"
    )
    gimp.activate_image_window()
    gimp.key("ctrl+z")
    gimp.wait_for("len(keep['image'].get_layers()) == 1")
    gimp.key("ctrl+y")
    gimp.wait_for("len(keep['image'].get_layers()) == 2")


def test_quitting_fails_when_nobody_caught_an_exception(start_gimp: StartGimp) -> None:
    gimp = start_gimp(install_sample)
    gimp.open_plugin(ACTION).click("fail")
    with pytest.raises(GimpFailed, match=r"(?s)Nobody caught.*ValueError: invalid literal"):
        gimp.quit()
    assert not gimp.running


def test_a_dialog_that_is_open_does_not_keep_gimp_from_quitting(start_gimp: StartGimp) -> None:
    gimp = start_gimp(install_sample)
    plugin = gimp.open_plugin(ACTION)
    gimp.quit()
    assert not gimp.running
    assert plugin.ended


def test_quitting_fails_for_what_the_log_has(start_gimp: StartGimp) -> None:
    gimp = start_gimp(gui=False)
    gimp.ask("import sys; print('(lazydiffusion.py:7): Gtk-CRITICAL **: wrong', file=sys.stderr, flush=True)")
    with pytest.raises(GimpFailed, match=r"GIMP's log has:\n\(lazydiffusion.py:7\)"):
        gimp.quit()


def test_a_gimp_that_dies_is_told(start_gimp: StartGimp) -> None:
    gimp = start_gimp(gui=False)
    with pytest.raises(GimpFailed, match=r"GIMP (ended with status|gave no answer)"):
        gimp.ask("import os; os.kill(os.getppid(), 9); import time; time.sleep(60)")
    assert not gimp.running


def test_a_second_gimp_starts_from_the_home_of_the_first(start_gimp: StartGimp) -> None:
    first = start_gimp(install=lambda home: (home / "mark").write_text("installed"), gui=False)
    first.ask("from pathlib import Path; (Path.home() / 'mark').write_text('used')")
    first.quit()
    second = start_gimp(environment={"MARK": "given"}, home=first.home, gui=False)
    assert second.ask("from pathlib import Path; return (Path.home() / 'mark').read_text()") == "used"
    assert second.ask("import os; return os.environ['MARK']") == "given"

"""The ground that the plugin's tests stand on: what a test asks of a real Krita happens, and is told truly."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from PIL import Image
from tests.hosts.chroots import Host
from tests.hosts.conftest import StartKrita
from tests.hosts.display import Display
from tests.hosts.krita.real_krita import KritaFailed, RealKrita

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PANEL = """
panel = QtWidgets.QWidget(window)
panel.setObjectName("testPanel")
layout = QtWidgets.QVBoxLayout(panel)
button = QtWidgets.QPushButton("Press", panel)
button.setObjectName("testButton")
keep["clicks"] = 0
def clicked():
    keep["clicks"] += 1
button.clicked.connect(clicked)
text = QtWidgets.QPlainTextEdit(panel)
text.setObjectName("testText")
layout.addWidget(button)
layout.addWidget(text)
panel.setGeometry(300, 200, 500, 300)
panel.setAutoFillBackground(True)
panel.show()
panel.raise_()
keep["panel"] = panel
"""

DIALOG = """
dialog = QtWidgets.QDialog(window)
dialog.setObjectName("testDialog")
close = QtWidgets.QPushButton("Close", dialog)
close.setObjectName("testClose")
close.setGeometry(50, 50, 200, 60)
close.clicked.connect(dialog.accept)
dialog.resize(300, 200)
keep["answer"] = dialog.exec()
"""


@pytest.fixture(scope="module")
def krita(start_shared_krita: StartKrita) -> RealKrita:
    return start_shared_krita()


@pytest.fixture
def panel(krita: RealKrita) -> RealKrita:
    krita.ask(PANEL)
    yield krita
    krita.ask("keep.pop('panel').deleteLater()")


def test_krita_has_the_version_that_the_host_is_for(krita: RealKrita, krita_host: Host) -> None:
    assert krita.ask("app.version()").startswith(krita_host.recipe.version)
    major = krita.ask("QtCore.QT_VERSION_STR").partition(".")[0]
    assert major == ("6" if krita_host.recipe.version == "6." else "5")


def test_a_warm_start_shows_the_window_where_tests_expect_it(krita: RealKrita) -> None:
    assert krita.ask("window.geometry().getRect()") == [0, 0, 1590, 990]
    assert krita.start_seconds < 60


def test_a_snippet_answers(krita: RealKrita) -> None:
    assert krita.ask("1 + 1") == 2
    assert krita.ask("total = sum(numbers)\nreturn {'total': total}", numbers=[1, 2, 3]) == {"total": 6}
    krita.ask("keep['word'] = 'kept'")
    assert krita.ask("keep['word']") == "kept"
    assert krita.ask("app.activeDocument() is None") is True


def test_what_a_snippet_raises_is_told_with_its_line(krita: RealKrita) -> None:
    with pytest.raises(KritaFailed, match=r"(?s)line 2.*return 1 // zero.*ZeroDivisionError"):
        krita.ask("zero = 0\nreturn 1 // zero")
    with pytest.raises(KritaFailed, match="SyntaxError"):
        krita.ask("return (")
    with pytest.raises(KritaFailed, match="not JSON serializable"):
        krita.ask("window")
    assert krita.take_uncaught() == []


def test_an_exception_that_nobody_catches_is_reported_and_krita_goes_on(krita: RealKrita) -> None:
    krita.ask("def fail():\n    raise ValueError('in a timer')\nQtCore.QTimer.singleShot(0, fail)")
    krita.ask(
        "import threading\ndef fail():\n    raise OSError('in a thread')\nthreading.Thread(target=fail).start()"
    )
    krita.settle()
    uncaught = sorted(krita.take_uncaught(), key=len)
    assert [re.findall(r"^(\w+Error: .*)$", text, re.MULTILINE) for text in uncaught] in (
        [["ValueError: in a timer"], ["OSError: in a thread"]],
        [["OSError: in a thread"], ["ValueError: in a timer"]],
    )
    assert krita.ask("QtWidgets.QApplication.activeModalWidget() is None")
    assert krita.take_uncaught() == []


def test_a_click_on_a_real_button_is_heard(panel: RealKrita) -> None:
    panel.click("testButton")
    panel.wait_for("keep['clicks'] == 1")
    panel.click_at("testButton", 0.9, 0.2)
    panel.wait_for("keep['clicks'] == 2")
    panel.display.click(*panel.ask("[window.x() + 250, window.y() + 700]"))
    panel.settle()
    assert panel.ask("keep['clicks']") == 2


def test_a_click_that_would_miss_is_an_error(panel: RealKrita) -> None:
    with pytest.raises(KritaFailed, match='no widget "nowhere"'):
        panel.click("nowhere")
    panel.ask("find('testButton').setEnabled(False)")
    with pytest.raises(KritaFailed, match='"testButton" is disabled'):
        panel.click("testButton")
    panel.ask("find('testButton').setEnabled(True)")
    panel.ask(
        "cover = QtWidgets.QLabel('cover', keep['panel'])\ncover.setObjectName('cover')\n"
        "cover.resize(500, 300)\ncover.show()\ncover.raise_()"
    )
    with pytest.raises(KritaFailed, match='would hit QLabel "cover"'):
        panel.click("testButton")
    panel.ask("find('cover').hide(); find('testButton').hide()")
    with pytest.raises(KritaFailed, match='"testButton" is not visible'):
        panel.click("testButton")
    assert panel.ask("keep['clicks']") == 0


def test_typing_arrives(panel: RealKrita) -> None:
    panel.type_into("testText", "A red apple, 2 (ripe)!")
    panel.wait_for("find('testText').toPlainText() == 'A red apple, 2 (ripe)!'")
    panel.key("ctrl+a", "BackSpace")
    panel.wait_for("find('testText').toPlainText() == ''")


def test_what_needs_the_keyboard_must_take_it(panel: RealKrita) -> None:
    panel.ask("find('testText').setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus); window.setFocus()")
    with pytest.raises(KritaFailed, match="Not true within 5 s"):
        panel.type_into("testText", "nobody hears this")
    assert panel.ask("find('testText').toPlainText()") == ""


def test_krita_answers_behind_a_modal_dialog(krita: RealKrita) -> None:
    krita.later(DIALOG)
    krita.wait_for("QtWidgets.QApplication.activeModalWidget() is not None")
    assert krita.ask("find('testDialog').isVisible()")
    krita.click("testClose")
    krita.wait_for("keep.get('answer') == 1")


def test_the_heartbeat_sees_a_stall(krita: RealKrita) -> None:
    krita.reset_heartbeat()
    krita.ask("import time; time.sleep(1)")
    assert 980 <= krita.longest_stall_ms() < 10_000
    krita.reset_heartbeat()
    time.sleep(0.5)
    beat = krita.ask("heartbeat.read()")
    assert beat["longest_ms"] < 980
    assert beat["since_ms"] >= 500
    assert beat["ticks"] > 20


def test_a_stall_is_told_with_what_ran_in_it(krita: RealKrita) -> None:
    krita.reset_heartbeat()
    krita.ask("import time; time.sleep(0.2)")
    krita.settle()
    gap = max(krita.ask("heartbeat.read()")["gaps"], key=lambda gap: gap["ms"])
    [ran] = [ms for name, ms in gap["ran"] if "time.sleep(0.2)" in name]
    assert 200 <= ran <= gap["ms"]
    assert gap["cpu_ms"] < 100, "who sleeps is not on a processor"
    krita.reset_heartbeat()
    krita.ask("import time\nend = time.thread_time() + 0.2\nwhile time.thread_time() < end: pass")
    krita.settle()
    gap = max(krita.ask("heartbeat.read()")["gaps"], key=lambda gap: gap["ms"])
    assert 200 <= gap["cpu_ms"] <= gap["ms"]


def test_a_widget_is_saved_as_a_picture(panel: RealKrita, tmp_path: Path) -> None:
    panel.ask("keep['panel'].setStyleSheet('#testPanel { background: #ff0000 }')")
    with Image.open(panel.grab("testPanel", tmp_path / "panel.png")) as image:
        assert image.size == (500, 300)
        assert image.convert("RGB").getpixel((2, 2)) == (255, 0, 0)
    panel.settle()
    with Image.open(panel.screenshot(tmp_path / "screen.png")) as image:
        assert image.size == (1600, 1000)
        assert image.convert("RGB").getpixel((302, 202)) == (255, 0, 0)


def test_a_changed_document_is_closed_without_a_question(start_krita: StartKrita) -> None:
    krita = start_krita()
    krita.ask(
        "document = app.createDocument(300, 200, 'test', 'RGBA', 'U8', '', 72.0)\n"
        "app.activeWindow().addView(document)\ndocument.setModified(True)"
    )
    krita.wait_for("app.activeDocument() is not None")
    krita.quit()
    assert not krita.running


def test_quitting_fails_when_nobody_caught_an_exception(start_krita: StartKrita) -> None:
    krita = start_krita()
    krita.later("raise ValueError('in a slot')")
    with pytest.raises(KritaFailed, match=r"(?s)Nobody caught.*ValueError: in a slot"):
        krita.quit()


def test_a_krita_that_dies_is_told(start_krita: StartKrita) -> None:
    krita = start_krita()
    with pytest.raises(KritaFailed, match="Krita ended with status 3"):
        krita.ask("import os; os._exit(3)")
    assert not krita.running


def test_a_second_krita_starts_from_the_home_of_the_first(start_krita: StartKrita, display: Display) -> None:
    first = start_krita(install=lambda home: (home / "mark").write_text("installed"))
    assert first.ask("from pathlib import Path; return (Path.home() / 'mark').read_text()") == "installed"
    first.ask("from pathlib import Path; (Path.home() / 'mark').write_text('used')")
    first.quit()
    second = start_krita(environment={"MARK": "given"}, home=first.home)
    assert second.ask("from pathlib import Path; return (Path.home() / 'mark').read_text()") == "used"
    assert second.ask("import os; return os.environ['MARK'], os.environ['DISPLAY']") == [
        "given",
        display.name,
    ]

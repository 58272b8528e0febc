"""Long work in short turns, and work in threads whose outcome comes back on the GUI thread."""

from __future__ import annotations

import threading
import types

import pytest
from krita_plugin.lazydiffusion import turns
from krita_plugin.lazydiffusion.background import Background, GuiThread
from krita_plugin.lazydiffusion.turns import BUDGET, Turns, Work
from PyQt6 import QtCore, sip
from pytestqt.qtbot import QtBot

pytestmark = pytest.mark.unit

PIECE = 0.002
"""Seconds that a piece of work takes, on the clock of these tests."""
MANY = 10**9
"""Pieces that do not end within a test."""


class Log:
    """What came of some work."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.failed: list[str] = []
        self.shares: list[float] = []
        self.runs: list[Turns] = []

    def run(self, work: Work) -> Turns:
        run = Turns(work, self.done.append, lambda error: self.failed.append(str(error)), self.shares.append)
        self.runs.append(run)
        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """The clock of the turns; it stands still unless work moves it."""
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(turns, "time", types.SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def pieces(count: int, clock: types.SimpleNamespace) -> Work:
    for done in range(count):
        yield done / count
        clock.now += PIECE
    return "finished"


def test_a_turn_takes_its_budget_and_one_piece_at_most(qtbot: QtBot, clock: types.SimpleNamespace) -> None:
    log = Log()
    running = log.run(pieces(100, clock))
    assert running.running
    qtbot.waitUntil(lambda: bool(log.done))
    assert log.done == ["finished"]
    assert not running.running
    most = BUDGET / PIECE + 1
    ends = [round(100 * share) for share in log.shares]
    assert all(later - earlier <= most for earlier, later in zip([0, *ends], ends, strict=False))
    assert len(ends) >= 100 / most - 1


def test_it_tells_how_far_it_is_after_each_turn_but_the_last(
    qtbot: QtBot, clock: types.SimpleNamespace
) -> None:
    log = Log()
    log.run(pieces(100, clock))
    qtbot.waitUntil(lambda: bool(log.done))
    assert log.shares == sorted(log.shares)
    assert 0 < log.shares[0] < log.shares[-1] < 1
    quick = Log()
    quick.run(pieces(2, clock))
    qtbot.waitUntil(lambda: bool(quick.done))
    assert quick.shares == []


def test_other_events_are_served_between_two_turns(qtbot: QtBot, clock: types.SimpleNamespace) -> None:
    log, served = Log(), []
    timer = QtCore.QTimer()
    timer.timeout.connect(lambda: served.append(len(log.shares)))
    timer.start(0)
    log.run(pieces(100, clock))
    qtbot.waitUntil(lambda: bool(log.done))
    timer.stop()
    assert len(set(served)) > 5


def test_stopped_work_ends_where_it_is_and_says_nothing_more(
    qtbot: QtBot, clock: types.SimpleNamespace
) -> None:
    log, cleaned = Log(), []

    def work() -> Work:
        try:
            yield from pieces(MANY, clock)
        finally:
            cleaned.append(True)

    running = log.run(work())
    qtbot.waitUntil(lambda: bool(log.shares))
    running.stop()
    assert cleaned == [True]
    assert not running.running
    told = list(log.shares)
    qtbot.wait(20)
    assert (log.done, log.failed, log.shares) == ([], [], told)
    running.stop()


def test_work_that_is_stopped_by_what_hears_of_its_progress(
    qtbot: QtBot, clock: types.SimpleNamespace
) -> None:
    log = Log()
    running = Turns(pieces(MANY, clock), log.done.append, log.done.append, lambda share: running.stop())
    qtbot.waitUntil(lambda: not running.running)
    qtbot.wait(20)
    assert log.done == []


@pytest.mark.parametrize("before", [0, 30])
def test_an_error_is_told_and_ends_the_work(qtbot: QtBot, clock: types.SimpleNamespace, before: int) -> None:
    log = Log()

    def work() -> Work:
        yield from pieces(before, clock)
        raise ValueError("no such layer")

    running = log.run(work())
    qtbot.waitUntil(lambda: bool(log.failed))
    qtbot.wait(20)
    assert (log.failed, log.done, running.running) == (["no such layer"], [], False)


@pytest.fixture
def owner() -> QtCore.QObject:
    """An object that others belong to."""
    return QtCore.QObject()


def test_calls_come_on_the_gui_thread_in_order(qtbot: QtBot, owner: QtCore.QObject) -> None:
    call, calls = GuiThread(owner), []

    def work() -> None:
        for number in range(50):
            call(lambda number=number: calls.append((number, threading.current_thread())))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert calls == [], "not before this thread comes to it"
    qtbot.waitUntil(lambda: len(calls) == 50)
    assert calls == [(number, threading.current_thread()) for number in range(50)]


def test_a_call_from_the_gui_thread_itself_waits_its_turn_too(qtbot: QtBot, owner: QtCore.QObject) -> None:
    call, calls = GuiThread(owner), []
    call(lambda: calls.append(1))
    assert calls == []
    qtbot.waitUntil(lambda: calls == [1])


def test_after_its_end_nothing_is_called(qtbot: QtBot) -> None:
    call, calls = GuiThread(), []
    call(lambda: calls.append("on its way"))
    sip.delete(call)
    call(lambda: calls.append("too late"))
    qtbot.wait(20)
    assert calls == []


def test_an_object_may_go_while_other_threads_call(qtbot: QtBot) -> None:
    """A signal of an object that the GUI thread deletes at that moment crashed, now and then."""
    calls: list[str] = []
    current = [GuiThread()]

    def work() -> None:
        for _ in range(5000):
            current[0](lambda: calls.append("one of many"))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        going, current[0] = current[0], GuiThread()
        sip.delete(going)
    current[0](lambda: calls.append("the last"))
    qtbot.waitUntil(lambda: "the last" in calls)


def test_background_work_is_done_elsewhere_and_told_here(qtbot: QtBot, owner: QtCore.QObject) -> None:
    background, told = Background(owner), []
    background.run(threading.current_thread, lambda result: told.append((result, threading.current_thread())))
    qtbot.waitUntil(lambda: bool(told))
    [(worker, here)] = told
    assert worker is not here
    assert worker.daemon, "Krita's end does not wait for it"
    assert here is threading.main_thread()


def test_background_errors_are_told_here_or_to_nobody(qtbot: QtBot, owner: QtCore.QObject) -> None:
    background, told = Background(owner), []

    def work() -> None:
        raise OSError("gone")

    background.run(work, told.append)
    background.run(
        work, told.append, lambda error: told.append((str(error), threading.current_thread().name))
    )
    qtbot.waitUntil(lambda: bool(told))
    qtbot.wait(20)
    assert told == [("gone", threading.main_thread().name)]


def test_background_work_outlives_its_owner_quietly(qtbot: QtBot) -> None:
    owner = QtCore.QObject()
    background, told, go = Background(owner), [], threading.Event()

    def work() -> str:
        go.wait(10)
        return "late"

    def done(result: str) -> None:
        told.append(result)

    background.run(work, done)
    [thread] = [it for it in threading.enumerate() if it.name == "lazydiffusion-background"]
    with qtbot.waitSignal(background.destroyed):
        owner.deleteLater()
    go.set()
    thread.join(10)
    assert not thread.is_alive()
    qtbot.wait(20)
    assert told == []

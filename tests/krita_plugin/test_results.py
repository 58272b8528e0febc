"""The row of thumbnails: what it holds, what is chosen, and how a thumbnail looks."""

from __future__ import annotations

import pytest
from krita_plugin.lazydiffusion import results
from krita_plugin.lazydiffusion.pictures import THUMBNAIL, Mipmap, thumbnail
from krita_plugin.lazydiffusion.results import Result, ResultList
from PyQt6 import QtCore, QtGui
from pytestqt.qtbot import QtBot
from tests.krita_plugin.conftest import Bench

from lazydiffusion.client.edit import FillPixels
from lazydiffusion.protocol import EditSettings
from lazydiffusion.window import Box

pytestmark = pytest.mark.integration

TICK = "#2e8b57"


def result(number: int, side: int = 10) -> Result:
    """A fill of one grey."""
    fill = FillPixels(number, Box(0, 0, side, side), number, bytes([128, 128, 128, 255]) * side * side)
    picture = Mipmap.of_fill(fill)
    return Result(fill, EditSettings(), (100, 100), None, picture, thumbnail(picture, fill.box, None))


@pytest.fixture
def row(qtbot: QtBot) -> ResultList:
    made = ResultList()
    qtbot.addWidget(made)
    made.resize(300, 100)
    made.show()
    return made


@pytest.fixture
def chosen(row: ResultList) -> list[Result | None]:
    """What was chosen, one after the other."""
    heard: list[Result | None] = []
    row.chosen.connect(heard.append)
    return heard


def test_nothing_is_chosen_unless_asked_for(row: ResultList, chosen: list[Result | None]) -> None:
    row.add(result(0), choose=False)
    assert (row.current, chosen) == (None, [])
    second = result(1)
    row.add(second, choose=True)
    assert (row.current, chosen) == (second, [second])


def test_the_oldest_go_where_memory_gets_too_full(
    row: ResultList, chosen: list[Result | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "MOST_BYTES", 3 * 400)
    first, *others = [result(number) for number in range(4)]
    row.add(first, choose=True)
    for other in others:
        row.add(other, choose=False)
    assert row.results == others
    assert row.count() == 3
    assert row.current is others[0], "its neighbour, since the chosen one is gone"
    assert chosen == [first, others[0]]
    row.choose(others[1])
    row.add(result(4), choose=False)
    assert row.current is others[1]


def test_a_single_result_stays_however_large_it_is(row: ResultList, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MOST_BYTES", 100)
    for number in range(2):
        row.add(result(number), choose=True)
    assert [it.fill.fill for it in row.results] == [1]


def test_taking_out_another_one_keeps_the_chosen_one(row: ResultList, chosen: list[Result | None]) -> None:
    first, second, third = [result(number) for number in range(3)]
    for it in (first, second, third):
        row.add(it, choose=it is second)
    row.remove(first)
    row.remove(third)
    assert (row.results, row.current, chosen) == ([second], second, [second])


def test_taking_out_the_chosen_one_chooses_its_neighbour(
    row: ResultList, chosen: list[Result | None]
) -> None:
    first, second, third = [result(number) for number in range(3)]
    for it in (first, second, third):
        row.add(it, choose=it is second)
    row.remove(second)
    assert row.current is third
    row.remove(third)
    row.remove(first)
    assert chosen == [second, third, first, None]


def test_taking_out_an_unchosen_one_chooses_none(row: ResultList, chosen: list[Result | None]) -> None:
    first, second = result(0), result(1)
    row.add(first, choose=False)
    row.add(second, choose=False)
    row.remove(first)
    assert (row.current, chosen) == (None, [])


def test_steps_go_round_and_begin_at_either_end(row: ResultList) -> None:
    row.step(1)
    assert row.current is None
    all_of_them = [result(number) for number in range(3)]
    for it in all_of_them:
        row.add(it, choose=False)
    row.step(-1)
    assert row.current is all_of_them[2]
    row.step(1)
    assert row.current is all_of_them[0]
    row.choose(None)
    row.step(1)
    assert row.current is all_of_them[0]


def ticked(row: ResultList, number: int) -> bool:
    shown = row.viewport().grab(row.visualItemRect(row.item(number))).toImage()
    points = ((x, y) for x in range(shown.width()) for y in range(shown.height()))
    return any(shown.pixelColor(x, y).name() == TICK for x, y in points)


def test_an_applied_result_is_ticked(row: ResultList) -> None:
    both = result(0), result(1)
    for it in both:
        row.add(it, choose=False)
    assert [ticked(row, number) for number in range(2)] == [False, False]
    row.mark_applied(both[1])
    assert [ticked(row, number) for number in range(2)] == [False, True]


def test_apply_ticks_the_result(bench: Bench) -> None:
    bench.open()
    [made] = bench.generate()
    bench.apply()
    assert made.applied
    assert ticked(bench.panel.results, 0)


def test_it_grows_to_three_rows_and_scrolls_to_the_newest(row: ResultList) -> None:
    heights = []
    for number in range(12):
        row.add(result(number), choose=False)
        heights.append(row.height())
    assert heights[0] == heights[2] < heights[3] == heights[5] < heights[6] == heights[11]
    assert row.viewport().rect().contains(row.visualItemRect(row.item(11)).center())


def test_a_thumbnail_shows_the_fill_in_its_surroundings(bench: Bench) -> None:
    bench.open()
    [made] = bench.generate()
    shown = made.thumbnail.toImage()
    assert max(shown.width(), shown.height()) == THUMBNAIL
    middle = shown.height() // 2
    # The fill with 15 % of its longer side around it, on green to the left and blue to the right.
    assert shown.pixelColor(1, middle).name() == QtGui.QColor("seagreen").name()
    assert shown.pixelColor(shown.width() - 2, middle).name() == QtGui.QColor("royalblue").name()
    average = QtGui.QColor(shown.copy(14, 14, 50, 50).scaled(1, 1, transformMode=SMOOTH).pixel(0, 0))
    filled = QtGui.QColor(made.picture.full.scaled(1, 1, transformMode=SMOOTH).pixel(0, 0))
    for channel in ("red", "green", "blue"):
        assert getattr(average, channel)() == pytest.approx(getattr(filled, channel)(), abs=20)


SMOOTH = QtCore.Qt.TransformationMode.SmoothTransformation


@pytest.mark.parametrize("ratio", [1.0, 2.0])
def test_a_thumbnail_has_the_screens_resolution(qtbot: QtBot, ratio: float) -> None:
    fill = FillPixels(0, Box(5, 5, 300, 100), 0, bytes([1, 2, 3, 255]) * 30000)
    made = thumbnail(Mipmap.of_fill(fill), fill.box, None, ratio)
    assert (made.width(), made.height()) == (
        round(THUMBNAIL * ratio),
        round(THUMBNAIL / 3 * ratio),
    )
    assert made.devicePixelRatio() == ratio


def test_huge_and_tiny_fills_have_thumbnails_too(qtbot: QtBot) -> None:
    for w, h in ((1, 4000), (4000, 1), (1, 1)):
        fill = FillPixels(0, Box(0, 0, w, h), 0, bytes([1, 2, 3, 255]) * (w * h))
        made = thumbnail(Mipmap.of_fill(fill), fill.box, None)
        assert 1 <= min(made.width(), made.height()) <= max(made.width(), made.height()) == THUMBNAIL
        assert made.toImage().pixelColor(made.rect().center()).name() == "#010203"

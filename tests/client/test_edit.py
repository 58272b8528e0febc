"""Following an edit to its end and fetching its fills."""

from __future__ import annotations

import pytest
from tests.client.stand_in import DONE, TOKEN, UNTIL_CANCELLED, StandIn

from lazydiffusion.client import CoreError, Edit, EditFailed, FillPixels
from lazydiffusion.client.transport import Transport
from lazydiffusion.events import Cancelled, Done, Failed, Filled, Queued, Started, Stepped
from lazydiffusion.window import Box

pytestmark = pytest.mark.unit

FILL = FillPixels(0, Box(3, 4, 2, 1), 7, bytes(range(8)), "e1")


def edit_at(core: StandIn) -> Edit:
    return Edit(Transport(core.address, TOKEN), "e1")


def test_events_come_in_their_order_and_end(core: StandIn) -> None:
    core.drops = {2}
    assert list(edit_at(core).events()) == [
        Queued(0), Started(), Stepped(0, 1, 2, 0.5), Filled(0, 7, [3, 4, 2, 1], True), Done(1)
    ]  # fmt: skip


def test_events_of_a_newer_core_are_left_out(core: StandIn) -> None:
    core.script = [("sung", {"tune": 1}), ("done", {"fills": 0, "tune": 1})]
    assert list(edit_at(core).events()) == [Done(0)]


@pytest.mark.parametrize("values", [{}, []])
def test_an_event_that_makes_no_sense_is_said(core: StandIn, values: dict[str, int]) -> None:
    core.script = [("done", values)]
    with pytest.raises(CoreError, match="Update both"):
        list(edit_at(core).events())


def test_a_fill_is_pixels_or_a_png(core: StandIn) -> None:
    assert edit_at(core).fill(0) == FILL
    assert edit_at(core).fill_png(0) == b"a png"
    assert "rgba" not in repr(FILL)


def test_waiting_gives_the_fills(core: StandIn) -> None:
    assert edit_at(core).wait() == [FILL]


def test_waiting_for_an_edit_that_fails_raises(core: StandIn) -> None:
    core.script = [*DONE[:-1], ("failed", {"code": "out-of-memory", "message": "Use a smaller window."})]
    assert list(edit_at(core).events())[-1] == Failed("out-of-memory", "Use a smaller window.")
    with pytest.raises(EditFailed, match=r"^Use a smaller window\.$") as failure:
        edit_at(core).wait()
    assert failure.value.code == "out-of-memory"


def test_a_cancelled_edit_ends_and_may_be_cancelled_again(core: StandIn) -> None:
    core.script = [*DONE[:4], UNTIL_CANCELLED]
    edit = edit_at(core)
    events = []
    for event in edit.events():
        events.append(event)
        if isinstance(event, Filled):
            edit.cancel()
    edit.cancel()
    assert events[-1] == Cancelled()
    assert edit.wait() == [FILL]

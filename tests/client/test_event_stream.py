"""Server-sent events: reading them, and following them over connections that break."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.client.stand_in import DONE, TOKEN, StandIn, stand_in

from lazydiffusion.client.errors import CoreLost, EditRejected
from lazydiffusion.client.event_stream import Message, follow, parse
from lazydiffusion.client.transport import Transport

pytestmark = pytest.mark.unit

EVENTS = "/v1/edits/e1/events"


def messages(text: str) -> list[Message]:
    return list(parse(line.encode() for line in text.splitlines(keepends=True)))


def is_done(message: Message) -> bool:
    return message.event == "done"


def followed(server: StandIn, silence: float = 5.0) -> list[int]:
    return [int(it.id) for it in follow(Transport(server.address, TOKEN), EVENTS, is_done, silence)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_event_ends_with_an_empty_line(end: str) -> None:
    text = end.join(["id: 1", "event: step", 'data: {"a": 1}', "", "id: 2", "data: x", "", ""])
    assert messages(text) == [Message("1", "step", '{"a": 1}'), Message("2", "message", "x")]


def test_comments_and_unknown_fields_are_left_out() -> None:
    assert messages(": alive\n\nretry: 5\nid:7\nevent:e\n: in between\ndata:  x\n\n") == [
        Message("7", "e", " x")
    ]


def test_data_may_have_several_lines() -> None:
    assert messages("data: a\ndata:\ndata: ü: b\n\n") == [Message("", "message", "a\n\nü: b")]


def test_an_event_without_data_and_half_an_event_at_the_end_are_none() -> None:
    assert messages("event: a\n\ndata: b\n") == []


@given(st.lists(st.binary(max_size=30)))
def test_no_bytes_are_too_odd(lines: list[bytes]) -> None:
    list(parse(lines))


def test_each_event_comes_once_over_broken_connections(core: StandIn) -> None:
    core.drops = {0, 1, 3}
    assert followed(core) == [1, 2, 3, 4, 5]
    assert [headers.get("Last-Event-ID") for _, _, headers in core.seen] == [None, None, "1", "3"]


def test_an_unknown_stream_is_refused(core: StandIn) -> None:
    with pytest.raises(EditRejected, match=r"There is no /v1/edits/x/events\.") as refusal:
        list(follow(Transport(core.address, TOKEN), "/v1/edits/x/events", is_done))
    assert refusal.value.code == "not-found"


def test_a_core_that_has_ended_is_noticed_at_once(tmp_path: Path) -> None:
    with stand_in("unix:%s" % (tmp_path / "s")) as server:
        server.script = DONE[:2]  # then the connection ends
        stream = follow(Transport(server.address, TOKEN), EVENTS, is_done)
        assert [next(stream).event for _ in range(2)] == ["queued", "started"]
    begin = time.monotonic()
    with pytest.raises(CoreLost):
        next(stream)
    assert time.monotonic() - begin < 2


def test_a_core_that_only_breaks_connections_is_given_up(core: StandIn) -> None:
    core.script = []
    with pytest.raises(CoreLost):
        followed(core, silence=0.3)


def test_a_silent_core_is_asked_again_and_then_given_up(core: StandIn) -> None:
    core.silent.set()
    with pytest.raises(CoreLost):
        followed(core, silence=0.2)
    assert len(core.seen) > 1

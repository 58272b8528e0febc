"""What happens to an edit is told as JSON and heard as it was."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazydiffusion import events

pytestmark = pytest.mark.unit

EVENTS = st.one_of([st.from_type(kind) for kind in events.KINDS.values() if kind is not events.Done])


@given(EVENTS)
def test_an_event_comes_back_as_it_was(event: Any) -> None:
    sent = json.loads(json.dumps(events.to_json(event)))
    heard = events.from_json(events.name_of(event), sent)
    assert repr(heard) == repr(event)  # NaN does not equal itself


def test_an_end_with_its_report_comes_back_as_it_was() -> None:
    done = events.Done(2, {"window": [0, 0, 5, 5], "ms": {"plan": 0.5}})
    assert events.from_json("done", json.loads(json.dumps(events.to_json(done)))) == done


def test_what_a_newer_core_adds_is_left_out() -> None:
    assert events.from_json("started", {"by": "somebody"}) == events.Started()
    assert events.from_json("sung", {}) is None


def test_an_event_without_what_it_must_tell_is_an_error() -> None:
    with pytest.raises(TypeError):
        events.from_json("step", {"fill": 0})


def test_a_preview_holds_a_file() -> None:
    preview = events.Previewed(0, [1, 2, 3, 4], base64.b64encode(b"a file").decode())
    assert preview.picture() == b"a file"

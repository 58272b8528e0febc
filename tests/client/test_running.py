"""An edit from its beginning to its end in one call."""

from __future__ import annotations

import threading

import pytest
from tests.client.stand_in import DONE, StandIn

from lazydiffusion.client import EditFailed, EditRejected
from lazydiffusion.client.running import run
from lazydiffusion.protocol import EditRequest

pytestmark = pytest.mark.integration

Told = list[tuple[str, float | None]]


def test_it_gives_the_fills_and_tells_what_happens(core: StandIn, request_16: EditRequest) -> None:
    told: Told = []
    threads = set()

    def tell(text: str, share: float | None) -> None:
        told.append((text, share))
        threads.add(threading.current_thread())

    [fill] = run(request_16, tell, "gimp-1")
    assert (fill.seed, fill.box.as_list(), len(fill.rgba)) == (7, [3, 4, 2, 1], 8)
    assert threads == {threading.current_thread()}, "an editor's own API belongs to its main thread"
    assert ("Starting the core…", None) in told
    assert ("Step 1 of 2 · 1 s left", 0.5) in told
    assert b'"client": "gimp-1"' in core.parts[0]["request"]


def test_what_goes_wrong_is_raised(core: StandIn, request_16: EditRequest) -> None:
    core.script = [*DONE[:3], ("failed", {"code": "out-of-memory", "message": "Too large."})]
    with pytest.raises(EditFailed, match="Too large"):
        run(request_16, lambda text, share: None)
    core.refusals = [(422, "bad-input", "The selection is empty.")]
    with pytest.raises(EditRejected, match="The selection is empty"):
        run(request_16, lambda text, share: None)


def test_an_edit_that_somebody_else_cancels(core: StandIn, request_16: EditRequest) -> None:
    core.script = [*DONE[:3], ("cancelled", {})]
    with pytest.raises(EditFailed, match="was cancelled"):
        run(request_16, lambda text, share: None)

"""Edits at a real core, through the real client, as an editor makes them."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.service.core_process import MODEL, CoreProcess, edit_request, long_request, picture

from lazydiffusion import events
from lazydiffusion.canvas import Canvas
from lazydiffusion.client import Core, Edit, EditRejected
from lazydiffusion.devices import choose_device
from lazydiffusion.engines import base
from lazydiffusion.engines.choose import load_engine
from lazydiffusion.events import Cancelled, Done, Event, Filled, Previewed, Queued, Started, Stepped
from lazydiffusion.protocol import EditRequest, EditSettings, ImageData
from lazydiffusion.service import intake
from lazydiffusion.window import Box, overview_size, region_to_send

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> base.Engine:
    """The same model in this process."""
    return load_engine(str(tiny_model), choose_device("cpu"))


def expected(engine: base.Engine, request: EditRequest) -> list[np.ndarray]:
    """The fills that the engine makes of a request."""
    width, height = request.canvas_size
    canvas = np.frombuffer(request.canvas.data, np.uint8).reshape(height, width, 3)
    mask = np.frombuffer(request.mask.data, np.uint8).reshape(height, width).astype(np.float32) / 255
    edit = base.Edit(Canvas.of(canvas), mask, request.settings)
    return [fill.pixels for fill in engine.run(edit, base.Report())]


def array(rgba: bytes, box: Box) -> np.ndarray:
    return np.frombuffer(rgba, np.uint8).reshape(box.h, box.w, 4)


def until(stream: Iterator[Event], kind: type) -> Event:
    return next(event for event in stream if isinstance(event, kind))


def test_an_edit_tells_what_happens_and_gives_the_engines_own_pixels(core: Core, engine: base.Engine) -> None:
    request = edit_request(variations=2, feather=4)
    edit = core.submit(request)
    told = list(edit.events())

    kinds = [type(event) for event in told if not isinstance(event, Previewed)]
    assert kinds == [Queued, Started, *([Stepped] * 3 + [Filled]) * 2, Done]
    steps = [event for event in told if isinstance(event, Stepped)]
    assert [(step.fill, step.step, step.steps) for step in steps] == [
        (fill, step, 3) for fill in (0, 1) for step in (1, 2, 3)
    ]
    assert steps[-1].seconds_left == 0
    done = told[-1]
    assert isinstance(done, Done)
    assert done.report["hidden_tokens"] > 0
    assert done.report["device"] == "cpu"
    assert {"load", "plan", "encode", "denoise", "compose", "save", "total"} <= set(done.report["ms"])
    for number, pixels in enumerate(expected(engine, request)):
        made = edit.fill(number)
        assert (made.box, made.seed) == (Box(50, 30, 60, 50), 7 + number)
        # One level may differ where the two processes share the work over threads in another way.
        assert np.abs(array(made.rgba, made.box).astype(int) - pixels).max() <= 1
        with Image.open(io.BytesIO(edit.fill_png(number))) as png:
            assert np.array_equal(np.asarray(png), array(made.rgba, made.box))


@pytest.mark.parametrize("format", ["rgba8", "bgra8", "png"])
def test_pixels_come_in_the_formats_that_editors_have(core: Core, format: str) -> None:
    plain = edit_request()
    rgb = picture(200, 120)
    alpha = np.full((120, 200, 1), 255, np.uint8)
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "PNG")
    data = {
        "rgba8": np.concatenate([rgb, alpha], -1).tobytes(),
        "bgra8": np.concatenate([rgb[..., ::-1], alpha], -1).tobytes(),
        "png": file.getvalue(),
    }[format]
    same = EditRequest(plain.settings, (200, 120), ImageData(format, (200, 120), data), plain.mask)

    assert core.submit(same).wait()[0].rgba == core.submit(plain).wait()[0].rgba


def test_a_region_and_an_overview_are_enough_of_a_large_canvas(core: Core) -> None:
    size = (3000, 2000)
    y, x = np.mgrid[: size[1], : size[0]]
    canvas = np.stack([x // 12, y // 8, (x + y) // 20], -1).astype(np.uint8)
    box = Box(1200, 900, 150, 100)
    region = region_to_send(size, box, grow=3, feather=5)
    mask = np.zeros((region.h, region.w), np.uint8)
    mask[box.moved(-region.x, -region.y).slices()] = 255
    small = np.asarray(Image.fromarray(canvas).resize(overview_size(size)))
    request = EditRequest(
        EditSettings("a cat", seed=1, grow=3, feather=5, model=MODEL),
        size,
        ImageData("rgb8", (region.w, region.h), canvas[region.slices()].tobytes()),
        ImageData("grey8", (region.w, region.h), mask.tobytes()),
        region=region,
        overview=ImageData("rgb8", (small.shape[1], small.shape[0]), small.tobytes()),
    )
    made = core.submit(request).wait()[0]

    assert made.box == box.enlarged(3)
    assert len(request.canvas.data) < canvas.nbytes / 10
    alpha = array(made.rgba, made.box)[..., 3]
    assert alpha.max() == 255
    assert 0 < alpha[50, 0] < 128  # feathered


def test_a_region_that_does_not_hold_what_the_mask_needs_is_rejected(core: Core) -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[:50] = 255
    request = EditRequest(
        EditSettings(feather=20, model=MODEL), (400, 300),
        ImageData("rgb8", (100, 100), bytes(30000)), ImageData("grey8", (100, 100), mask.tobytes()),
        region=Box(100, 100, 100, 100), overview=ImageData("rgb8", (64, 48), bytes(64 * 48 * 3)),
    )  # fmt: skip
    with pytest.raises(EditRejected, match=r"send at least \[72, 72, 156, 106\]") as rejected:
        core.submit(request)
    assert rejected.value.code == "bad-input"


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ({"model": "no such model"}, "bad-model", "no model 'no such model'; it has"),
        ({"model": "/etc"}, "bad-model", "no model '/etc'"),
        ({"model": "../../secret"}, "bad-model", "no model"),
        ({"model": "owner/name"}, "bad-model", "no model"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(
    core: Core, settings: dict[str, object], code: str, words: str
) -> None:
    with pytest.raises(EditRejected, match=words) as rejected:
        core.submit(edit_request(**settings))
    assert rejected.value.code == code


def test_an_empty_mask_is_rejected(core: Core) -> None:
    request = edit_request()
    empty = ImageData("grey8", (200, 120), bytes(200 * 120))
    with pytest.raises(EditRejected, match="selection is empty"):
        core.submit(EditRequest(request.settings, (200, 120), request.canvas, empty))


def test_a_long_edit_shows_previews_of_what_it_becomes(core: Core) -> None:
    edit = core.submit(long_request(variations=2))
    previews = [event for event in edit.events() if isinstance(event, Previewed)]

    assert previews
    for preview in previews:
        assert preview.box == [50, 30, 60, 50]
        with Image.open(io.BytesIO(preview.picture())) as shown:
            assert shown.size == (60, 50)


def test_cancelling_ends_that_edit_and_leaves_the_worker_free(core: Core) -> None:
    edit = core.submit(long_request())
    stream = edit.events()
    until(stream, Stepped)
    edit.cancel()
    rest = list(stream)
    assert isinstance(rest[-1], Cancelled)
    edit.cancel()  # twice is once

    started = time.monotonic()
    assert len(core.submit(edit_request()).wait()) == 1
    assert time.monotonic() - started < 5


def test_a_waiting_edit_is_cancelled_at_once_and_others_move_up(core: Core) -> None:
    running, second, third = (core.submit(long_request(variations=2)) for _ in range(3))
    places: list[int] = []
    listening = threading.Thread(
        target=lambda: places.extend(e.position for e in third.events() if isinstance(e, Queued))
    )
    listening.start()
    until(running.events(), Stepped)
    second.cancel()
    assert isinstance(list(second.events())[-1], Cancelled)
    third.cancel()
    running.cancel()
    listening.join(10)
    assert places[-1] == 0
    assert sorted(places, reverse=True) == places


def test_clients_take_turns(core: Core) -> None:
    """One that asks for much does not keep another waiting."""
    busy = [core.submit(long_request(client="busy", variations=1)) for _ in range(4)]
    until(busy[0].events(), Stepped)
    modest = core.submit(edit_request(client="modest"))
    ended: list[str] = []

    def listen(name: str, edit: Edit) -> None:
        edit.wait()
        ended.append(name)

    threads = [threading.Thread(target=listen, args=("busy", edit)) for edit in busy]
    threads.append(threading.Thread(target=listen, args=("modest", modest)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert ended.index("modest") <= 2  # after the one that was running, and at most one more
    assert len(ended) == 5


def test_who_comes_back_misses_nothing(core: Core, process: CoreProcess) -> None:
    """But previews, of which an edit that has ended keeps none; a busy machine makes some."""
    edit = core.submit(edit_request(variations=3, steps=20))
    kept = [event for event in edit.events() if not isinstance(event, Previewed)]

    def numbers(after: int) -> list[int]:
        path, seen = f"/v1/edits/{edit.id}/events", {"Last-Event-ID": str(after)}
        with core._transport.open("GET", path, seen) as response:
            text = response.read().decode()
        return [int(line[4:]) for line in text.splitlines() if line.startswith("id: ")]

    everything = numbers(0)
    assert len(everything) == len(kept)
    for after in (1, 5, everything[-2], everything[-1]):
        assert numbers(after) == [number for number in everything if number > after]


def test_two_may_follow_one_edit(core: Core) -> None:
    edit = core.submit(long_request(variations=1))
    heard: list[list[Event]] = [[], []]
    threads = [
        threading.Thread(target=lambda h=h: h.extend(core.edit(edit.id).events()))  # type: ignore[misc]
        for h in heard
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert heard[0] == heard[1]
    assert isinstance(heard[0][-1], Done)


def test_finished_fills_are_in_the_history_until_they_are_deleted(core: Core) -> None:
    core.delete_history()
    edits = [core.submit(edit_request(prompt=f"cat {number}", variations=2)) for number in range(3)]
    pixels = [edit.wait()[1].rgba for edit in edits]

    entries = core.history()
    assert [entry.settings.prompt for entry in entries] == ["cat 2", "cat 1", "cat 0"]
    assert [entry.id for entry in entries] == [edit.id for edit in reversed(edits)]
    assert all(len(entry.fills) == 2 and entry.state == "done" for entry in entries)
    assert [entry.id for entry in core.history(limit=1)] == [edits[2].id]
    with Image.open(io.BytesIO(core.thumbnail(edits[0].id, 1))) as small:
        assert max(small.size) <= 256
    core.delete_history(edits[1].id)
    assert [entry.id for entry in core.history()] == [edits[2].id, edits[0].id]
    assert core.edit(edits[0].id).fill(1).rgba == pixels[0]
    core.delete_history()
    assert core.history() == []


def test_a_model_is_let_go_and_loaded_when_asked_and_when_needed(core: Core) -> None:
    def state() -> str:
        return next(str(m["state"]) for m in core.info()["models"] if m["name"] == MODEL)

    def becomes(wanted: str) -> bool:
        deadline = time.monotonic() + 30
        while (now := state()) != wanted and time.monotonic() < deadline:
            time.sleep(0.05)
        return now == wanted

    def loads() -> bool:
        return any(isinstance(event, events.Loading) for event in list(core.submit(edit_request()).events()))

    core.submit(edit_request()).wait()
    assert not loads()
    core.unload_model(MODEL)
    assert becomes("absent")
    assert loads()
    core.unload_model(MODEL)
    assert becomes("absent")
    core.load_model(MODEL)
    assert becomes("loaded")
    with pytest.raises(EditRejected, match="no model 'nothing'"):
        core.load_model("nothing")


def test_the_core_says_what_it_is(core: Core, process: CoreProcess) -> None:
    info = core.info()
    assert info["pid"] == process.pid
    assert info["protocol"] == 1
    assert info["versions"]["torch"].startswith("2.")
    assert info["device"]["type"] == "cpu"
    assert info["device"]["memory_total"] > info["device"]["memory_free"] > 0
    assert {model["name"] for model in info["models"]} >= {MODEL, "clipart"}
    assert info["default_model"] == MODEL
    assert info["history"]["folder"] == str(process.history)


def test_an_edit_that_is_wanted_while_it_is_watched_ends_with_its_watcher(core: Core) -> None:
    """As when an editor kills the plug-in that asked for it."""
    edit = core.submit(replace(long_request(), while_watched=True))
    watching = edit.events()
    until(watching, Stepped)
    watching.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 20
    while core.info()["state"] == "busy":
        assert time.monotonic() < deadline, "nobody watches it"
        time.sleep(0.1)
    assert isinstance(list(edit.events())[-1], Cancelled)


def test_an_edit_that_is_watched_goes_on_to_its_end(core: Core) -> None:
    edit = core.submit(replace(edit_request(variations=2), while_watched=True))
    assert isinstance(list(edit.events())[-1], Done)


def test_any_other_edit_goes_on_without_a_watcher(core: Core) -> None:
    edit = core.submit(long_request())
    time.sleep(intake.DESERTED_AFTER + 1)
    assert core.info()["state"] == "busy"
    edit.cancel()
    assert isinstance(list(edit.events())[-1], Cancelled)

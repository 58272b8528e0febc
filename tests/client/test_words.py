"""What editors say: the core's state, progress, names of layers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lazydiffusion.client import State, words
from lazydiffusion.client.modes import Mode
from lazydiffusion.events import Done, Event, Loading, Queued, Retrying, Started, Stepped

pytestmark = pytest.mark.unit

CPU = {"name": "some processor", "type": "cpu"}
CARD = {"name": "NVIDIA RTX 4070", "type": "cuda"}


@pytest.fixture
def marked() -> Iterator[None]:
    words.translate_with("«{}»".format)
    yield
    words.translate_with(lambda text: text)


@pytest.mark.parametrize(
    ("info", "said"),
    [
        (None, "Not running. It starts with the first edit."),
        ({"state": "loading", "device": None}, "Starting…"),
        ({"state": "ready", "device": CPU}, "Ready on the CPU"),
        ({"state": "ready", "device": CARD}, "Ready on NVIDIA RTX 4070"),
        ({"state": "ready", "device": None}, "Ready on an unknown device"),
        ({"state": "ready", "device": None, "problem": "PyTorch finds no GPU."}, "PyTorch finds no GPU."),
        ({"state": "busy", "queue": {"client": "krita-1"}}, "Busy"),
        ({"state": "busy", "queue": {"client": "gimp-7"}}, "Busy with GIMP"),
        ({"state": "busy", "queue": {"client": "krita-2"}}, "Busy with Krita"),
        ({"state": "busy", "queue": {"client": "command-line-9"}}, "Busy with the command line"),
        ({"state": "busy", "queue": {"client": "mine"}}, "Busy with mine"),
        ({"state": "busy", "queue": {"client": ""}}, "Busy"),
        ({"state": "busy"}, "Busy"),
    ],
    ids=str,
)
def test_the_cores_state(info: dict[str, object] | None, said: str) -> None:
    assert words.core_state(info, "krita-1") == said


@pytest.mark.parametrize(
    ("event", "variations", "said"),
    [
        (Queued(0), 1, "Waiting: next in line"),
        (Queued(2), 1, "Waiting: 2 edits before this one"),
        (Started(), 1, "Working…"),
        (Loading("clipart"), 1, "Loading clipart…"),
        (Retrying("Memory is short."), 1, "Memory is short."),
        (Stepped(0, 3, 20, 4.4), 1, "Step 3 of 20 · 4 s left"),
        (Stepped(1, 3, 20, 200), 4, "Fill 2 of 4, step 3 of 20 · 3 min left"),
        (Done(1), 1, ""),
    ],
    ids=str,
)
def test_progress(event: Event, variations: int, said: str) -> None:
    assert words.progress(event, variations) == said


def test_time_left() -> None:
    assert [words.time_left(seconds) for seconds in (0, 1.4, 2, 89, 91)] == [
        "1 s left", "1 s left", "2 s left", "89 s left", "2 min left"
    ]  # fmt: skip


def test_layers_are_named_after_prompt_and_seed() -> None:
    assert words.layer_name("a red apple", 7) == "a red apple (seed 7)"
    assert words.layer_name(" a\nred   apple ", 7) == "a red apple (seed 7)"
    assert words.layer_name("", 7) == "Fill (seed 7)"
    long = words.layer_name("word " * 100, 2**63 - 1)
    assert long == "word " * 9 + "wo… (seed 9223372036854775807)"


def test_what_an_edit_does_before_the_core_tells_more() -> None:
    assert words.edit_state(State.STARTING_CORE) == "Starting the core…"
    assert words.edit_state(State.QUEUED) == "Waiting…"
    assert words.edit_state(State.DONE) == ""


def test_every_mode_has_a_name() -> None:
    assert [words.mode_name(mode) for mode in Mode] == ["Fill", "Add object", "Remove"]


def test_all_goes_through_one_translation(marked: None) -> None:
    assert words.mode_name(Mode.FILL) == "«Fill»"
    assert words.core_state(None) == "«Not running. It starts with the first edit.»"
    assert words.layer_name("apple", 3) == "«apple (seed 3)»"
    assert words.progress(Stepped(0, 3, 20, 4.4), 1) == "«Step 3 of 20» · «4 s left»"


def test_how_much_is_done() -> None:
    assert words.share_done(Stepped(0, 4, 8, 1.0), 1) == 0.5
    assert words.share_done(Stepped(1, 4, 8, 1.0), 2) == 0.75
    assert words.share_done(Stepped(1, 8, 8, 0.0), 2) == 1

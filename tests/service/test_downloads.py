"""A real core that downloads a model when it is asked to, from a hub on loopback; it need not have loaded its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.loopback_hub import KLEIN, WEIGHTS, Hub
from tests.service.core_process import CoreProcess, edit_request

from lazydiffusion import checkpoints
from lazydiffusion.client.core import Core
from lazydiffusion.client.errors import CoreLost, EditRejected
from lazydiffusion.client.transport import Transport
from lazydiffusion.known_models import KNOWN

pytestmark = pytest.mark.integration


@pytest.fixture
def process(tmp_path: Path, tiny_model: Path, klein_hub: Hub) -> Iterator[CoreProcess]:
    made = CoreProcess(tmp_path / "core", tiny_model, environment=klein_hub.environment)
    yield made
    klein_hub.stall = False
    if made.running:
        made.kill()


def models_of(process: CoreProcess) -> Path:
    """The user's folder of models, for that core."""
    return process.folder / "data" / "lazydiffusion" / "models"


def told(core: Core) -> dict[str, Any] | None:
    """What the core says of the model as long as it is not here."""
    return next((it for it in core.info()["downloadable"] if it["name"] == KLEIN), None)


def wait_until(true: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def has_failed(core: Core) -> bool:
    known = told(core)
    return known is not None and known["state"] == "failed"


def test_a_model_is_downloaded_and_paints(process: CoreProcess, klein_files: dict[str, bytes]) -> None:
    core = process.start()
    known = told(core)
    assert known is not None
    assert (known["state"], known["bytes"], known["problem"]) == ("absent", KNOWN[KLEIN].bytes, "")
    assert known["needs"] == "an NVIDIA GPU with 8 GB or more"
    core.download_model(KLEIN)
    core.download_model(KLEIN)  # a second click changes nothing
    wait_until(lambda: told(core) is None)
    folder = models_of(process) / KLEIN
    checkpoints.verify(folder, required=True)
    assert {name: (folder / name).read_bytes() for name in klein_files} == klein_files
    assert [it["name"] for it in core.info()["models"]] == ["clipart", KLEIN, "tiny"]
    [fill] = core.submit(edit_request(model=KLEIN, steps=1)).wait()
    assert fill.box.w > 0
    assert {path.name for path in models_of(process).iterdir()} == {KLEIN}


def test_it_is_told_how_far_it_is_can_be_stopped_and_goes_on(
    process: CoreProcess, klein_hub: Hub, klein_files: dict[str, bytes]
) -> None:
    klein_hub.stall, klein_hub.cut = True, {WEIGHTS: [1000]}
    core = process.start(until="loading")
    core.download_model(KLEIN)
    wait_until(lambda: WEIGHTS in klein_hub.fetched())
    known = told(core)
    assert known is not None
    assert known["state"] == "downloading"
    assert known["bytes"] == sum(map(len, klein_files.values())), "as the hub says it"
    assert 0 < known["downloaded"] < known["bytes"]
    core.stop_download(KLEIN)
    known = told(core)
    assert known is not None
    assert known["state"] == "absent"
    assert known["downloaded"] > 0
    fetched = len(klein_hub.asked)
    # The connection is lost, and what was stopped notices with the first byte of the next.
    klein_hub.stall = False
    wait_until(lambda: len(klein_hub.ranges(WEIGHTS)) > 1)
    wait_until(lambda: "was stopped" in process.said())
    core.download_model(KLEIN)
    wait_until(lambda: told(core) is None)
    again = {name for name, _ in klein_hub.asked[fetched:]} - {"model_index.json", WEIGHTS}
    assert again
    assert not again & {name for name, _ in klein_hub.asked[:fetched]}, (
        "what was whole is not asked for again"
    )


def test_a_stopped_one_can_be_started_at_once(process: CoreProcess, klein_hub: Hub) -> None:
    """The thread of the first is still waiting for the hub; the second waits for it, not beside it."""
    klein_hub.stall, klein_hub.cut = True, {WEIGHTS: [1000]}
    core = process.start(until="loading")
    core.download_model(KLEIN)
    wait_until(lambda: WEIGHTS in klein_hub.fetched())
    core.stop_download(KLEIN)
    core.download_model(KLEIN)
    known = told(core)
    assert known is not None
    assert known["state"] == "downloading"
    klein_hub.stall = False
    wait_until(lambda: told(core) is None)


def test_it_goes_on_where_a_killed_core_left_it(process: CoreProcess, klein_hub: Hub) -> None:
    klein_hub.stall, klein_hub.cut = True, {WEIGHTS: [1000]}
    core = process.start(until="loading")
    core.download_model(KLEIN)
    wait_until(lambda: WEIGHTS in klein_hub.fetched())
    process.kill()
    klein_hub.stall = False
    core = process.start(until="loading")
    known = told(core)
    assert known is not None
    assert known["state"] == "absent", "it does not go on by itself"
    assert known["downloaded"] > 0
    core.download_model(KLEIN)
    wait_until(lambda: told(core) is None)


def test_why_it_failed_is_told_until_it_is_tried_again(process: CoreProcess, klein_hub: Hub) -> None:
    klein_hub.error = (503, "")
    core = process.start(until="loading")
    core.download_model(KLEIN)
    wait_until(lambda: has_failed(core))
    known = told(core)
    assert known is not None
    assert known["problem"] == (
        "The hub refused with HTTP status 503: try again later; what is downloaded is kept."
    )
    klein_hub.error = None
    klein_hub.wrong = {WEIGHTS: bytes(len(klein_hub.files[WEIGHTS]))}
    core.download_model(KLEIN)
    wait_until(lambda: has_failed(core) and "its hash differs" in str(told(core)))
    klein_hub.wrong = {}
    core.download_model(KLEIN)
    wait_until(lambda: told(core) is None)


def test_what_cannot_be_downloaded_by_its_name_is_refused(process: CoreProcess) -> None:
    core = process.start(until="loading")
    for name in ("clipart", "tiny", "owner/name", "../models"):
        with pytest.raises(EditRejected, match="can be downloaded by its name; known are flux2-klein"):
            core.download_model(name)
        with pytest.raises(EditRejected, match="can be downloaded by its name"):
            core.stop_download(name)
    core.stop_download(KLEIN)  # which is not running: nothing happens
    core.download_model(KLEIN)
    wait_until(lambda: told(core) is None)
    with pytest.raises(EditRejected, match="flux2-klein is here already"):
        core.download_model(KLEIN)


def test_a_core_that_downloads_is_not_idle(process: CoreProcess, klein_hub: Hub) -> None:
    klein_hub.stall, klein_hub.cut = True, {WEIGHTS: [1000]}
    core = process.start("--idle-timeout", "1")
    core.download_model(KLEIN)
    time.sleep(2.5)
    assert process.running
    klein_hub.stall = False
    assert process.wait(30) == 0, "but when that is over it ends"
    assert (models_of(process) / KLEIN / "model_index.json").is_file()


def test_a_core_that_is_stopped_does_not_wait_for_it(process: CoreProcess, klein_hub: Hub) -> None:
    klein_hub.stall, klein_hub.cut = True, {WEIGHTS: [1000]}
    core = process.start()
    core.download_model(KLEIN)
    wait_until(lambda: WEIGHTS in klein_hub.fetched())
    assert core.stop()
    assert process.wait(10) == 0
    with pytest.raises(CoreLost):
        Core(Transport(core.address, "a-token"), "test").info()

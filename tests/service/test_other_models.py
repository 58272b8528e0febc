"""A core with somebody else's inpainting pipeline, asked by a client as ever."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.service.core_process import CoreProcess, edit_request
from tests.tiny_sdxl import SIDE, tiny_sdxl

from lazydiffusion.client import Core
from lazydiffusion.events import Done, Filled, Previewed, Stepped
from lazydiffusion.window import PATCH, Box

pytestmark = pytest.mark.integration

NAME = "tiny-sdxl"


def test_it_is_named_with_its_window_and_makes_fills(tmp_path: Path) -> None:
    process = CoreProcess(tmp_path / "core", tiny_sdxl(tmp_path / NAME))
    try:
        core: Core = process.start()
        info = core.info()
        assert info["engines"] == ["lazy", "flux2-klein", "regenerate-image", "regenerate-crop", "diffusers"]
        [model] = [it for it in info["models"] if it["name"] == NAME]
        assert (model["state"], model["window_tokens"]) == ("loaded", SIDE // PATCH)
        assert (model["engine"], model["problem"]) == ("diffusers", "")

        edit = core.submit(edit_request(model=NAME, steps=4, variations=2))
        told = [event for event in edit.events() if not isinstance(event, Previewed)]
        assert [event.step for event in told if isinstance(event, Stepped)] == [1, 2, 3, 4] * 2
        assert [event.fill for event in told if isinstance(event, Filled)] == [0, 1]
        assert isinstance(told[-1], Done)
        made = edit.fill(1)
        assert made.box == Box(50, 30, 60, 50)
        assert set(made.rgba[3::4]) == {255}
    finally:
        process.kill()

"""What `fill --via-core` sends, to a stand-in that only keeps the request. test_serve.py has a real core."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lazydiffusion.commands import fill_via_core
from lazydiffusion.protocol import EditRequest, EditSettings
from lazydiffusion.window import Box, region_to_send

pytestmark = pytest.mark.unit

SIZE = 4000, 3000
HOLE = Box(1900, 1400, 200, 200)


class Kept:
    """A core that has these models, and keeps what it is sent."""

    def __init__(self, models: list[dict[str, Any]]) -> None:
        self.models = models
        self.sent: list[EditRequest] = []

    def info(self) -> dict[str, Any]:
        return {"models": self.models}

    def submit(self, request: EditRequest) -> None:
        self.sent.append(request)


@pytest.mark.parametrize(
    ("model", "side"), [("clipart", 16), ("flux2-klein", 64), ("small", 8), ("never-heard-of", 64)]
)
def test_the_region_is_as_large_as_the_models_window_needs(
    model: str, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = {"clipart": 16, "flux2-klein": 64, "small": 8}
    core = Kept([{"name": name, "window_tokens": tokens} for name, tokens in windows.items()])
    monkeypatch.setattr(fill_via_core, "connect", lambda **_: core)
    canvas, mask = np.zeros((SIZE[1], SIZE[0], 3), np.uint8), np.zeros((SIZE[1], SIZE[0]), np.float32)
    mask[HOLE.slices()] = 1
    fill_via_core.CoreEdit(canvas, mask, EditSettings(model=model), None)
    assert core.sent[0].region == region_to_send(SIZE, HOLE, side=side)

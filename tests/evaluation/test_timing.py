"""The timing report: its operations are exact, its times only have to be there."""

from __future__ import annotations

import pytest

from lazydiffusion.evaluation import timing
from lazydiffusion.models.presets import Preset

TINY = Preset(
    context_encoder={"channels": 32, "layers": 2, "heads": 2, "window_tokens": 16, "overview_tokens": 4},
    decoder={"channels": 64, "layers": 2, "heads": 2, "context_channels": 32},
    vae=None,
    patch=16,
)


def test_a_step_costs_in_proportion_to_the_masked_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(timing.PRESETS, "tiny", TINY)
    report = timing.measure("tiny", "cpu", repeats=2)
    rows = {row["share"]: row for row in report["guided_step"]}
    assert rows[1.0]["tokens"] == 256
    assert rows[1.0]["flop_ratio"] == 1
    assert 0.05 < rows[0.1]["flop_ratio"] <= 0.12
    assert [row["gflop"] for row in report["guided_step"]] == sorted(
        row["gflop"] for row in report["guided_step"]
    )
    assert all(row["ms"] > 0 for row in [*report["guided_step"], report["encoder"]])

"""The bench's arithmetic and instruments, one by one: fits, quartiles, cases, memory, counted operations, parts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from tests.checkpoint_files import tiny_pipeline
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lazydiffusion import compose
from lazydiffusion.devices import choose_device
from lazydiffusion.engines.base import Report
from lazydiffusion.engines.lazy import LazyEngine
from lazydiffusion.engines.names import LAZY, REGENERATE_CROP, REGENERATE_IMAGE
from lazydiffusion.errors import BadInput
from lazydiffusion.evaluation.bench import parts as bench_parts
from lazydiffusion.evaluation.bench.cases import COMPARED, REGION, WHOLE, Case, Edits, Sweeps
from lazydiffusion.evaluation.bench.counting import count_edit
from lazydiffusion.evaluation.bench.lineup import random_lineup
from lazydiffusion.evaluation.bench.parts import CODEC_DECODE, OTHER, PARTS, STEPS, TEXT, part_times, watched
from lazydiffusion.evaluation.bench.peaks import device_rates, peak_memory
from lazydiffusion.evaluation.bench.summary import (
    above_floor,
    canvas_growth,
    linear_fit,
    speed_ups,
    spread,
    targets,
    time_against_tokens,
)
from lazydiffusion.models.lazy_decoder import LazyDecoder
from lazydiffusion.models.presets import Preset

CPU = choose_device("cpu")
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a peak that can be reset")
TINY_LATENT = Preset(
    context_encoder={
        "channels": 32, "layers": 1, "heads": 2, "bottleneck": 16, "window_tokens": 8, "overview_tokens": 2,
    },
    decoder={
        "token_channels": 16, "channels": 32, "layers": 1, "heads": 2, "bottleneck": None, "context_channels": 32,
        "text_channels": 64, "family": "pixart", "prediction": "epsilon",
    },
    vae={
        "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (8, 8, 16, 16), "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 4,
    },
    patch=2,
)  # fmt: skip
"""The paper's kind of model: PixArt's blocks on the latents of a VAE, and words of a width that MiniLM has not."""


def row(engine: str, share: float, canvas: int, steps: int, ms: float, sent: str = WHOLE, **more: Any) -> Any:
    """A case of results.json, as far as the summary reads it."""
    return {
        "engine": engine, "share": share, "canvas": canvas, "steps": steps, "sent": sent,
        "ms": {"median": ms}, "total_flops": 10 * ms, "tokens": 0, **more,
    }  # fmt: skip


@pytest.mark.unit
def test_quartiles_and_median() -> None:
    found = spread([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (found.min, found.q1, found.median, found.q3) == (1, 2, 3, 4)
    assert (spread([7.0]).q1, spread([7.0]).q3) == (7, 7)


@pytest.mark.unit
def test_a_line_is_fitted_exactly_and_noise_lowers_its_r2() -> None:
    exact = linear_fit([(x, 3 + 0.5 * x) for x in (1, 4, 9, 20)])
    assert exact is not None
    assert (exact.slope, exact.intercept, exact.r2, exact.points) == pytest.approx((0.5, 3, 1, 4))
    points = [(1.0, 1.0), (2.0, 3.0), (3.0, 2.0), (4.0, 5.0)]
    noisy = linear_fit(points)
    assert noisy is not None
    correlation = np.corrcoef(np.array(points).T)[0, 1]
    assert noisy.r2 == pytest.approx(correlation**2)
    assert linear_fit(points[:2]) is None


@pytest.mark.unit
def test_points_at_the_launch_floor_are_left_out() -> None:
    points = [(16.0, 100.0), (8.0, 101.0), (40.0, 105.0), (80.0, 130.0), (160.0, 200.0)]
    assert above_floor(points) == [(80.0, 130.0), (160.0, 200.0)]
    rows = [
        row(LAZY, k / 256, 256, 20, ms, tokens=k) for k, ms in [(8, 9.0), (16, 10.0), (32, 20.0), (64, 40.0)]
    ]
    found = time_against_tokens([*rows, row(REGENERATE_IMAGE, 0.1, 256, 20, 99.0)], 256, 20)
    assert found["floor_ms"] == 9
    assert found["fit"]["points"] == 3
    assert found["fit"]["slope"] == pytest.approx(0.625)


@pytest.mark.unit
def test_speed_ups_pair_the_same_edit_and_growth_the_ends_of_the_canvas_sweep() -> None:
    rows = [
        row(LAZY, 0.1, 256, 20, 10),
        row(LAZY, 0.1, 1024, 20, 12),
        row(LAZY, 0.1, 1024, 20, 11, REGION),
        row(REGENERATE_IMAGE, 0.1, 256, 20, 50),
        row(REGENERATE_IMAGE, 0.1, 256, 4, 20),
    ]
    assert [(ratio["baseline"], ratio["steps"], ratio["speed_up"]) for ratio in speed_ups(rows)] == [
        (REGENERATE_IMAGE, 20, 5)
    ]
    assert canvas_growth(rows, 20) == [
        {"engine": LAZY, "sent": WHOLE, "from": 256, "to": 1024, "ratio": pytest.approx(1.2)}
    ]


@pytest.mark.unit
def test_targets_are_met_missed_or_not_measured() -> None:
    rows = [
        row(LAZY, 0.1, 1024, 20, 10),
        row(LAZY, 0.01, 1024, 20, 5),
        row(REGENERATE_IMAGE, 0.1, 1024, 20, 110),
        row(REGENERATE_IMAGE, 0.01, 1024, 20, 110),
        row(LAZY, 0.1, 8192, 20, 13),
    ]
    tenth, hundredth, linear, sent, whole = targets(rows, 1024, {"r2": 0.97})
    assert (tenth.measured, tenth.met) == (11, True)
    assert (hundredth.measured, hundredth.met) == (22, False)
    assert (linear.measured, linear.met) == (0.97, False)
    assert (sent.measured, sent.met) == (None, False)
    assert (whole.measured, whole.met) == (pytest.approx(1.3), False)


@pytest.mark.unit
def test_every_sweep_varies_one_thing() -> None:
    sweeps = Sweeps(256, (0.01, 0.1), (256, 1024), (4, 20))
    cases = sweeps.cases()
    assert len(set(cases)) == len(cases)
    lazy = [case for case in cases if case.engine == LAZY]
    assert {case.share for case in lazy if (case.canvas, case.steps) == (256, 20)} == {0.01, 0.1}
    assert {case.canvas for case in lazy if case.sent == REGION} == {256, 1024}
    assert {case.steps for case in lazy if (case.share, case.canvas) == (0.1, 256)} == {4, 20}
    for engine in (REGENERATE_IMAGE, REGENERATE_CROP):
        others = {(case.share, case.canvas, case.steps) for case in cases if case.engine == engine}
        assert others == {(case.share, case.canvas, case.steps) for case in lazy}
    assert Sweeps(256, (0.1,), (), (4, 8, 50)).usual_steps == 8


@pytest.mark.unit
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"canvases": (128,)}, "128 px cannot be timed"),
        ({"masks": (1.5,)}, "1.5 of the window"),
        ({"masks": ()}, "Nothing to time"),
        ({"steps": (0,)}, "0 steps"),
        ({"engines": ("flux2-klein",)}, "'flux2-klein' is not compared"),
    ],
    ids=["small canvas", "large mask", "no mask", "no step", "other engine"],
)
def test_what_cannot_be_run_is_refused(change: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"native": 256, "masks": (0.1,), "canvases": (1024,), "steps": (4,)}
    with pytest.raises(BadInput, match=words):
        Sweeps(**(given | change))


@pytest.mark.unit
def test_the_selection_keeps_its_px_on_every_canvas_and_a_prompt_is_never_repeated() -> None:
    edits = Edits(16, 8)
    made = [edits.make(Case(LAZY, 0.1, side, 4, sent)) for side in (256, 1024) for sent in (WHOLE, REGION)]
    assert [int(edit.mask.sum()) for edit in made] == [81 * 81] * 4
    assert made[2].canvas.whole
    assert made[3].canvas.size == (1024, 1024)
    assert max(made[3].canvas.pixels.shape) < 300
    assert len({edit.settings.prompt for edit in made}) == 4
    assert len({len(edit.settings.prompt) for edit in made}) == 1


@pytest.mark.unit
@ON_LINUX
def test_the_peak_is_that_of_the_block_alone() -> None:
    earlier = np.ones(300 * 10**6, np.uint8)
    del earlier
    with peak_memory(CPU.device) as peak:
        inside = np.ones(200 * 10**6, np.uint8)
        del inside
    assert peak.bytes is not None
    assert 190e6 < peak.bytes < 230e6
    with peak_memory(CPU.device) as small:
        pass
    assert small.bytes is not None
    assert small.bytes < 20e6


@pytest.mark.unit
def test_the_ceilings_are_measured() -> None:
    rates = device_rates(CPU.device, torch.float32, repeats=1)
    assert rates.flops > 0
    assert rates.bytes > 0


@pytest.mark.unit
def test_attention_is_counted_on_a_cpu_as_on_the_meta_device() -> None:
    """tests/pipelines/test_laziness.py checks the latter by hand."""
    counts = []
    for device in ("cpu", "meta"):
        with torch.device(device):
            decoder = LazyDecoder(channels=64, layers=2, heads=2, bottleneck=16)
            tokens, context, words = torch.ones(1, 40, 768), torch.ones(1, 40, 320), torch.ones(1, 32, 384)
            mask, places = torch.ones(1, 32, dtype=torch.bool), torch.ones(1, 40, 2)
            conditions = decoder.prepare(context, words, mask, places)
            with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
                decoder.step(tokens, torch.ones(1), conditions)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


@pytest.fixture(scope="module")
def tiny() -> LazyEngine:
    return LazyEngine(tiny_pipeline())


@pytest.mark.integration
def test_skipped_steps_are_counted_as_if_they_had_run(tiny: LazyEngine) -> None:
    edits, case = Edits(16, 8), Case(LAZY, 0.1, 256, 5)
    cost = count_edit(tiny, edits.make(case))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        bench_parts.run_edit(tiny, bench_parts.next_edit(tiny, edits, case))
    assert cost.total_flops == counter.get_total_flops()
    assert sum(cost.decoder_steps.values()) == cost.calls[STEPS] == 5
    assert (cost.hidden_tokens, cost.tokens) == (36, 40)
    assert cost.calls[TEXT] == cost.calls[CODEC_DECODE] == 1
    assert cost.flops.get(OTHER, 0) == 0  # every operation belongs to a part


@pytest.mark.integration
def test_parts_add_up_to_the_edit_and_none_is_counted_twice(tiny: LazyEngine) -> None:
    parts = part_times(tiny, Edits(16, 8).make(Case(LAZY, 0.1, 512, 3)))
    assert list(parts) == list(PARTS)
    # OTHER is the rest: parts within parts would make it negative.
    assert all(ms >= 0 for ms in parts.values())
    assert all(ms > 0 for part, ms in parts.items() if part != OTHER)


@pytest.mark.integration
def test_watching_leaves_nothing_behind(tiny: LazyEngine) -> None:
    before = dict(vars(tiny.pipeline)), dict(vars(tiny.pipeline.codec)), compose.view
    seen: list[str] = []

    @contextmanager
    def note(part: str, args: tuple[Any, ...]) -> Iterator[None]:
        seen.append(part)
        yield

    edit = Edits(16, 8).make(Case(LAZY, 0.1, 256, 2))
    with watched(tiny.pipeline, note):
        list(tiny.run(edit, Report()))
    assert seen.count(STEPS) == 2
    with pytest.raises(ZeroDivisionError), watched(tiny.pipeline, note):
        _ = 1 / 0
    assert (dict(vars(tiny.pipeline)), dict(vars(tiny.pipeline.codec)), compose.view) == before


@pytest.mark.integration
def test_engines_of_the_papers_kind_run_with_random_weights_and_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lineup = random_lineup(TINY_LATENT, COMPARED, CPU)
    assert lineup.native == 128
    assert lineup.random == list(COMPARED)
    assert lineup.note == "Random weights: timing only."
    assert "0 of its 24 layers" in lineup.stand_ins[0]
    first = lineup.engines[LAZY].pipeline
    for engine in lineup.engines.values():
        assert engine.pipeline.codec is first.codec
        assert engine.pipeline.prompt_encoder is first.prompt_encoder
        assert engine.pipeline.decoder.config.channels == first.decoder.config.channels
    costs = {
        name: count_edit(engine, Edits(8, 2).make(Case(name, 0.1, 128, 4)))
        for name, engine in lineup.engines.items()
    }
    assert costs[LAZY].tokens < costs[REGENERATE_IMAGE].tokens == costs[REGENERATE_CROP].tokens == 64
    for part in ("codec decode", STEPS):
        assert costs[LAZY].flops[part] < costs[REGENERATE_IMAGE].flops[part]

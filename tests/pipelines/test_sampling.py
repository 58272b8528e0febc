"""The denoising loop: from noise to tokens with diffusers' schedulers, guided, held to what is known, and stoppable."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from tests.tiny import TEXT, decoder
from torch import Tensor

from lazydiffusion.models.lazy_decoder import Conditions
from lazydiffusion.pipelines.sampling import Guidance, Known, denoise

pytestmark = pytest.mark.unit
UNGUIDED = Guidance(scale=1.0)


def random(seed: int) -> Tensor:
    """Two fills of three tokens, four values each."""
    return torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(seed))


CLEAN, OTHER, NOISE = random(0), random(1), random(2)


def told(clean: Tensor) -> Conditions:
    """Conditions that tell an oracle the answer."""
    return Conditions(channelwise=clean, rotary=None, text=[], text_mask=None)


class Oracle:
    """A decoder that is always right: it reads the clean tokens from the conditions, and keeps what it was asked."""

    dtype = torch.float32

    def __init__(self, prediction: Literal["sample", "velocity", "epsilon"] = "sample") -> None:
        self.config = SimpleNamespace(prediction=prediction)
        self.tokens: list[Tensor] = []
        self.levels: list[float] = []

    def step(self, tokens: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        self.tokens.append(tokens)
        self.levels.append(float(timestep[0]) / 1000)
        assert timestep.shape == (len(tokens),)
        sigma, clean = timestep[:, None, None] / 1000, conditions.channelwise
        noise = (tokens - (1 - sigma) * clean) / sigma
        return {"sample": clean, "velocity": noise - clean, "epsilon": noise}[self.config.prediction]


def euler(steps: int, **settings: Any) -> FlowMatchEulerDiscreteScheduler:
    scheduler = FlowMatchEulerDiscreteScheduler(**settings)
    scheduler.set_timesteps(steps)
    return scheduler


def heun(steps: int, **settings: Any) -> FlowMatchHeunDiscreteScheduler:
    scheduler = FlowMatchHeunDiscreteScheduler(**settings)
    scheduler.set_timesteps(steps)
    return scheduler


def run(oracle: Oracle, scheduler: Any, guidance: Guidance = UNGUIDED, **options: Any) -> Tensor:
    values: dict[str, Any] = {"tokens": NOISE, "conditional": told(CLEAN), "unconditional": None} | options
    return denoise(oracle, scheduler, guidance=guidance, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("prediction", ["sample", "velocity", "epsilon"])
@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [5, 20, 50])
@pytest.mark.parametrize("make", [euler, heun])
def test_right_answers_lead_to_the_clean_tokens(make: Any, steps: int, shift: float, prediction: Any) -> None:
    oracle = Oracle(prediction)
    out = run(oracle, make(steps, shift=shift))

    assert out.dtype == torch.float32
    assert torch.allclose(out, CLEAN, atol=1e-4)
    assert len(oracle.tokens) == (steps if make is euler else 2 * steps - 1)


def test_one_step_is_enough_for_one_who_knows() -> None:
    assert torch.allclose(run(Oracle(), euler(1)), CLEAN, atol=1e-6)


def test_a_start_in_the_middle_takes_the_steps_that_are_left() -> None:
    """As for a strength below 1: the tokens come with the noise of step number `first_step`."""
    scheduler, oracle = euler(10), Oracle("velocity")
    sigma = scheduler.sigmas[6]

    out = run(oracle, scheduler, tokens=(1 - sigma) * CLEAN + sigma * NOISE, first_step=6)

    assert oracle.levels == pytest.approx(scheduler.sigmas[6:10].tolist())
    assert torch.allclose(out, CLEAN, atol=1e-5)


def test_guidance_goes_from_the_unconditional_answer_past_the_conditional_one() -> None:
    everywhere = Guidance(scale=2.5, low=0, high=1)

    out = run(Oracle(), euler(1), everywhere, unconditional=told(OTHER))

    assert torch.allclose(out, OTHER + 2.5 * (CLEAN - OTHER), atol=1e-5)


def test_only_steps_inside_the_interval_are_guided() -> None:
    """A guided step asks for both answers, as one batch; one outside the interval costs half."""
    oracle = Oracle()
    run(oracle, euler(20), Guidance(scale=2.0, low=0.3, high=0.7), unconditional=told(OTHER))

    for level, tokens in zip(oracle.levels, oracle.tokens, strict=True):
        assert len(tokens) == (4 if 0.3 <= level <= 0.7 else 2)
        assert torch.equal(tokens[:2], tokens[-2:])
    assert sum(len(tokens) == 4 for tokens in oracle.tokens) == 8


@pytest.mark.parametrize(
    ("guidance", "unconditional"), [(UNGUIDED, told(OTHER)), (Guidance(scale=3.0), None)]
)
def test_no_guidance_costs_nothing(guidance: Guidance, unconditional: Conditions | None) -> None:
    oracle = Oracle()
    run(oracle, euler(6), guidance, unconditional=unconditional)

    assert {len(tokens) for tokens in oracle.tokens} == {2}


def test_known_values_are_on_their_true_path_at_every_step() -> None:
    """Told wrong answers, the decoder still sees known values as they are, at the noise level of the step."""
    keep = torch.zeros(2, 3, 4, dtype=torch.bool)
    keep[:, 1, :2] = True
    oracle = Oracle()

    out = run(oracle, euler(5), known=Known(CLEAN, NOISE, keep), conditional=told(OTHER))

    for level, tokens in zip(oracle.levels, oracle.tokens, strict=True):
        assert torch.allclose(tokens[keep], ((1 - level) * CLEAN + level * NOISE)[keep], atol=1e-6)
    assert torch.allclose(out[~keep], OTHER[~keep], atol=0.02)  # the rest is as told


def test_known_values_come_out_when_the_decoder_copies_them() -> None:
    keep = torch.zeros(2, 3, 4, dtype=torch.bool)
    keep[:, 1] = True
    answer = torch.where(keep, CLEAN, OTHER)

    out = run(Oracle("velocity"), euler(20), known=Known(CLEAN, NOISE, keep), conditional=told(answer))

    assert torch.allclose(out, answer, atol=1e-5)


def test_a_callback_follows_every_step() -> None:
    seen: list[tuple[int, float, Tensor]] = []
    predicted: list[Tensor] = []
    scheduler = euler(4)

    def follow(number: int, timestep: Tensor, tokens: Tensor, clean: Tensor) -> None:
        seen.append((number, float(timestep), tokens))
        predicted.append(clean)

    out = run(Oracle("velocity"), scheduler, callback=follow)

    assert [number for number, _, _ in seen] == [0, 1, 2, 3]
    assert [time for _, time, _ in seen] == scheduler.timesteps.tolist()
    assert torch.equal(seen[-1][2], out)
    assert len(predicted) == 4
    for clean in predicted:  # a perfect decoder knows the answer from the first step on
        assert torch.allclose(clean, out, atol=1e-5)


def test_a_frugal_run_guides_in_two_passes_and_comes_to_the_same() -> None:
    model = decoder()
    generator = torch.Generator().manual_seed(4)
    noise, context = torch.randn(1, 5, 768, generator=generator), torch.randn(1, 5, 32, generator=generator)
    text, positions = torch.randn(1, 4, TEXT, generator=generator), torch.randn(1, 5, 2, generator=generator)
    plain, mask = model.without_prompt(1, 4)
    prompted = model.prepare(context, text, torch.ones_like(mask), positions)
    unprompted = model.prepare(context, plain, mask, positions)
    batches: list[int] = []

    def counting(tokens: Tensor, time: Tensor, conditions: Conditions) -> Tensor:
        batches.append(len(tokens))
        return model.step(tokens, time, conditions)

    fills = [
        denoise(model, euler(4), noise, prompted, unprompted, Guidance(), step=counting, frugal=frugal)
        for frugal in (False, True)
    ]

    assert max(batches[:4]) == 2
    assert max(batches[4:]) == 1
    assert torch.allclose(*fills, atol=1e-4 * float(fills[0].abs().max()))


def test_a_callback_can_change_the_tokens() -> None:
    oracle = Oracle("velocity")
    out = run(oracle, euler(3), callback=lambda number, time, tokens, clean: OTHER if number == 1 else None)

    assert torch.equal(oracle.tokens[2], OTHER)
    assert not torch.equal(out, OTHER)
    assert torch.equal(run(Oracle(), euler(3), callback=lambda *_: OTHER), OTHER)


def test_a_callback_stops_the_loop_by_raising() -> None:
    class Cancelled(Exception):
        pass

    def cancel(number: int, timestep: Tensor, tokens: Tensor, clean: Tensor) -> None:
        if number == 1:
            raise Cancelled

    oracle = Oracle()
    with pytest.raises(Cancelled):
        run(oracle, euler(10), callback=cancel)
    assert len(oracle.tokens) == 2


def test_another_step_function_can_take_the_decoders_place() -> None:
    """Such as a CUDA graph of it."""
    oracle, graphed = Oracle(), Oracle()
    run(oracle, euler(3), step=graphed.step)

    assert (len(oracle.tokens), len(graphed.tokens)) == (0, 3)


def test_a_fill_does_not_depend_on_what_else_is_made_beside_it() -> None:
    model = decoder()
    generator = torch.Generator().manual_seed(4)
    noise, context = torch.randn(3, 5, 768, generator=generator), torch.randn(3, 5, 32, generator=generator)
    text, positions = torch.randn(3, 4, TEXT, generator=generator), torch.randn(3, 5, 2, generator=generator)

    def fill(item: slice) -> Tensor:
        count = len(noise[item])
        plain, mask = model.without_prompt(count, 4)
        prompted = model.prepare(context[item], text[item], torch.ones_like(mask), positions[item])
        unprompted = model.prepare(context[item], plain, mask, positions[item])
        return denoise(model, euler(4), noise[item], prompted, unprompted, Guidance())

    together = fill(slice(None))
    for item in range(3):
        alone = fill(slice(item, item + 1))
        assert torch.allclose(together[item : item + 1], alone, atol=1e-4 * float(alone.abs().max()))


def test_a_decoder_of_low_precision_gives_float32_tokens() -> None:
    model = decoder().to(torch.bfloat16)
    generator = torch.Generator().manual_seed(4)
    context = torch.randn(1, 5, 32, generator=generator).bfloat16()
    text = torch.randn(1, 4, TEXT, generator=generator).bfloat16()
    conditions = model.prepare(context, text, None, torch.randn(1, 5, 2, generator=generator))

    out = denoise(model, euler(3), torch.randn(1, 5, 768, generator=generator), conditions, None, UNGUIDED)

    assert out.dtype == torch.float32
    assert out.isfinite().all()

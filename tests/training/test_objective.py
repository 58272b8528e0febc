"""The training objective: zero for a perfect answer, a gradient for every weight, prompts dropped at a known rate."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Literal

import pytest
import torch
from tests import tiny
from torch import Tensor, nn

from lazydiffusion.models import flow
from lazydiffusion.models.lazy_decoder import Conditions
from lazydiffusion.models.patches import gather, patchify
from lazydiffusion.training.objective import LazyObjective, Objective, tokens_at, velocity_answer
from lazydiffusion.training.scenes import SceneMaker, Scenes, Shares, masked_view
from lazydiffusion.window import PATCH

pytestmark = pytest.mark.unit
BUCKET, L = 10, 5


@pytest.fixture
def made() -> Scenes:
    """Six scenes of 4 x 4 tokens, all of them with a sketch."""
    shares = Shares(sketched=1.0, removal=0.0)
    return SceneMaker(tiny.bank(), 4, 2, torch.Generator().manual_seed(0), shares).make(6, BUCKET)


def texts(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, L, tiny.TEXT, generator=generator), torch.ones(count, L, dtype=torch.bool)


class Oracle(nn.Module):
    """A decoder that knows the answer, and is off by `error`; keeps the texts that it was given."""

    def __init__(self, clean: Tensor, prediction: str = "sample", error: Tensor | float = 0.0) -> None:
        super().__init__()
        self.clean, self.error = clean, error
        self.config = SimpleNamespace(prediction=prediction)
        self.no_prompt = nn.Parameter(torch.full((tiny.TEXT,), 0.5))
        self.words, self.masks = torch.empty(0), torch.empty(0)

    def prepare(
        self, context: Tensor, words: Tensor, mask: Tensor, positions: Tensor, sketch: Tensor
    ) -> Conditions:
        self.words, self.masks = words, mask
        return Conditions(context, None, [], None)

    def step(self, tokens: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        assert len(conditions.channelwise) == len(tokens)
        sigma, clean = timestep[:, None, None] / 1000, self.clean.repeat(len(tokens) // len(self.clean), 1, 1)
        noise = (tokens - (1 - sigma) * clean) / sigma
        return {"sample": clean, "velocity": noise - clean, "epsilon": noise}[
            self.config.prediction
        ] + self.error


def at_tokens(made: Scenes, picture: Tensor) -> Tensor:
    return gather(patchify(picture.float(), PATCH), made.indices)


def differences(made: Scenes) -> Tensor:
    """What the decoder is to make: the picture less its smooth extension, at the decoder's tokens."""
    return at_tokens(made, made.window - masked_view(made.window, made.hole)[:, :3])


def loss(made: Scenes, decoder: nn.Module, **constants: float) -> Tensor:
    objective = LazyObjective(tiny.encoder(), decoder, Objective(**constants))  # type: ignore[arg-type]
    result: Tensor = objective(made, *texts(6), torch.Generator().manual_seed(2))
    return result


@pytest.mark.parametrize("prediction", ["sample", "velocity", "epsilon"])
def test_a_perfect_answer_has_no_loss(
    made: Scenes, prediction: Literal["sample", "velocity", "epsilon"]
) -> None:
    assert loss(made, Oracle(differences(made), prediction)) < 1e-6


def test_a_wrong_answer_has_some(made: Scenes) -> None:
    assert loss(made, Oracle(differences(made), error=0.1)) > 0.01


def test_hidden_pixels_count_twenty_times_as_much_as_visible_ones(made: Scenes) -> None:
    hidden = at_tokens(made, made.hole.expand(-1, 3, -1, -1)).repeat(4, 1, 1)
    on_hidden, on_visible = (
        loss(made, Oracle(differences(made), "velocity", error=where)) for where in (hidden, 1 - hidden)
    )

    # The same error of 1 in velocity, per pixel that has it.
    assert on_hidden / hidden.mean() / (on_visible / (1 - hidden).mean()) == pytest.approx(20, rel=0.01)
    everywhere = loss(made, Oracle(differences(made), "velocity", error=1.0))
    assert everywhere == pytest.approx(1, rel=0.01)


def test_all_draws_share_one_run_of_the_encoder(made: Scenes) -> None:
    encoder, runs = tiny.encoder(), []
    encoder.register_forward_hook(lambda module, inputs, output: runs.append(len(output)))
    decoder = Oracle(differences(made))

    LazyObjective(encoder, decoder, Objective(draws=8))(made, *texts(6))  # type: ignore[arg-type]

    assert runs == [6]
    assert len(decoder.words) == 48


@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
def test_prompts_are_dropped_at_the_stated_rate(made: Scenes, rate: float) -> None:
    decoder = Oracle(differences(made))
    loss(made, decoder, draws=150, no_prompt=rate)
    dropped = (decoder.words[:, 0] == decoder.no_prompt).all(-1)

    assert dropped.float().mean() == pytest.approx(rate, abs=0.03)
    assert (decoder.masks[dropped].sum(1) == 1).all()  # the one learned word alone
    assert (decoder.words[dropped][:, 1:] == 0).all()
    assert torch.equal(decoder.words[~dropped], texts(6)[0].repeat(150, 1, 1)[~dropped])
    assert decoder.masks[~dropped].all()


def test_a_gradient_reaches_every_weight(made: Scenes) -> None:
    objective = LazyObjective(tiny.encoder(), tiny.decoder(), Objective(no_prompt=0.5)).requires_grad_(True)

    objective(made, *texts(6), torch.Generator().manual_seed(2)).backward()

    without = [name for name, p in objective.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_the_same_generator_gives_the_same_loss(made: Scenes) -> None:
    objective = LazyObjective(tiny.encoder(), tiny.decoder(), Objective())
    first, again, other = (
        objective(made, *texts(6), torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)
    )

    assert first == again != other


def test_what_is_under_the_hole_reaches_the_loss_only_as_the_answer(made: Scenes) -> None:
    """The networks' inputs do not change with it; the noisy tokens do, as they must."""
    decoder = Oracle(differences(made))
    encoder, seen = tiny.encoder(), []
    encoder.register_forward_hook(lambda module, inputs, output: seen.append(output))
    objective = LazyObjective(encoder, decoder, Objective())  # type: ignore[arg-type]
    objective(made, *texts(6))
    made.window = torch.where(made.hole, 0.25, made.window)
    made.overview = torch.where(made.overview_hole, 0.25, made.overview)
    objective(made, *texts(6))

    assert torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("prediction", ["sample", "velocity", "epsilon"])
def test_the_loss_is_the_weighted_error_of_the_velocity(
    made: Scenes, prediction: Literal["sample", "velocity", "epsilon"]
) -> None:
    """As flow's formulas have it, one draw after the other; the objective itself takes fewer passes."""
    encoder, decoder = tiny.encoder(), tiny.decoder(prediction=prediction)
    objective = LazyObjective(encoder, decoder, Objective(draws=3, no_prompt=0.0))
    result = objective(made, *texts(6), torch.Generator().manual_seed(2))

    generator = torch.Generator().manual_seed(2)
    sigmas = flow.random_sigmas(18, -0.6, 0.9, torch.device("cpu"), generator)
    noises = torch.randn((18, BUCKET, 3 * PATCH**2), generator=generator)
    views = masked_view(made.window, made.hole), masked_view(made.overview, made.overview_hole)
    context = encoder(*views, made.window_positions, made.overview_positions, made.indices)
    given = (gather(made.window_positions, made.indices), at_tokens(made, made.sketch))
    clean = differences(made)
    weight = 0.05 + 0.95 * at_tokens(made, made.hole.expand(-1, 3, -1, -1))
    total = torch.zeros(())
    for sigma, noise in zip(sigmas.split(6), noises.split(6), strict=True):
        noisy = flow.add_noise(clean, noise, sigma)
        output = decoder(noisy, 1000 * sigma.flatten(), context, *texts(6), *given)
        target = noise - clean
        if prediction == "sample":  # the same clamp on both sides
            target = flow.to_velocity(clean, noisy, sigma, "sample")
        velocity = flow.to_velocity(output, noisy, sigma, prediction)
        total += ((velocity - target).square() * weight).mean() / weight.mean() / 3

    assert result.item() == pytest.approx(total.item(), rel=1e-6)


def test_an_answer_is_what_has_no_error_of_velocity() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 3, 4, 6, generator=generator)
    sigma = torch.tensor([0.01, 0.5, 0.99])[:, None, None]
    noisy = flow.add_noise(clean, noise, sigma)
    for prediction in ("velocity", "epsilon"):
        answer, scale = velocity_answer(clean, noise[None], noisy[None], sigma[None], prediction)
        assert torch.allclose(
            flow.to_velocity(answer[0], noisy, sigma, prediction), noise - clean, rtol=1e-4, atol=1e-5
        )
        assert (scale >= 1).all()
    answer, scale = velocity_answer(clean, noise[None], noisy[None], sigma[None], "sample")
    assert answer is clean
    assert scale.flatten().tolist() == pytest.approx([20, 2, 1 / 0.99])


def test_tokens_are_those_that_patchify_and_gather_give(made: Scenes) -> None:
    for view in (made.window, made.sketch, made.hole):
        assert torch.equal(
            tokens_at(view, made.indices).flatten(2), gather(patchify(view, PATCH), made.indices)
        )

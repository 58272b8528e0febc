"""The baselines: every token of their window is made, the crop sees no more than the crop, what is kept stays."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.checkpoint_files import tiny_pipeline
from tests.models.tiny_vae import tiny_vae
from torch import Tensor

from lazydiffusion.canvas import Canvas
from lazydiffusion.models.latent_codec import LatentCodec
from lazydiffusion.models.masked_patches import MaskedPatches
from lazydiffusion.models.patches import unpatchify
from lazydiffusion.pipelines.lazy import LazyDiffusionPipeline
from lazydiffusion.pipelines.regenerate import RegenerateCropPipeline, RegenerateImagePipeline
from lazydiffusion.window import Box

pytestmark = pytest.mark.integration
HOLE = Box(90, 60, 80, 70)
BOTH = [RegenerateImagePipeline, RegenerateCropPipeline]


def noise_canvas() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)


def hole(box: Box = HOLE) -> npt.NDArray[np.float32]:
    mask = np.zeros((256, 256), np.float32)
    mask[box.slices()] = 1
    return mask


def filled(
    pipeline: LazyDiffusionPipeline, canvas: npt.NDArray[np.uint8], mask: npt.NDArray[np.float32]
) -> npt.NDArray[np.uint8]:
    generator = torch.Generator().manual_seed(0)
    made = pipeline("a cat", image=canvas, mask_image=mask, generator=generator, output_type="np")
    return np.asarray(made.images[0])


@pytest.mark.parametrize("kind", BOTH)
def test_every_token_of_the_window_is_made_at_every_step(
    kind: type[RegenerateImagePipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = tiny_pipeline(kind=kind)
    counts: list[int] = []
    step = pipeline.decoder.step

    def counted(tokens: Tensor, *rest: object) -> Tensor:
        counts.append(tokens.shape[1])
        return step(tokens, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline.decoder, "step", counted)
    filled(pipeline, noise_canvas(), hole())
    assert counts == [256] * 3


@pytest.mark.parametrize("kind", BOTH)
def test_what_is_kept_stays_and_what_was_hidden_is_unknown(kind: type[RegenerateImagePipeline]) -> None:
    pipeline, canvas = tiny_pipeline(kind=kind), noise_canvas()
    other = canvas.copy()
    other[HOLE.slices()] = 200
    first, second = filled(pipeline, canvas, hole()), filled(pipeline, other, hole())
    kept = hole() == 0
    assert np.array_equal(first[kept], canvas[kept])
    assert (first[~kept] != canvas[~kept]).mean() > 0.9
    assert np.array_equal(first[~kept], second[~kept])


def test_nothing_of_the_window_is_given_to_the_sampling() -> None:
    """What the mask keeps is composited afterwards; while the tokens are made, none of them is held."""
    pipeline = tiny_pipeline(kind=RegenerateImagePipeline)
    edit = pipeline.prepare(Canvas.of(noise_canvas()), hole(), "a cat")
    assert not edit.reading.encoded.keep.any()
    assert edit.plan.indices.tolist() == list(range(256))


def test_the_crop_is_all_that_a_crop_sees_and_the_window_all_that_the_image_sees() -> None:
    canvas = noise_canvas()
    changed = canvas.copy()
    changed[:40, 200:] = 255 - changed[:40, 200:]  # far from the hole, in the window, outside the crop
    images, crops = (
        [filled(tiny_pipeline(kind=kind), picture, hole()) for picture in (canvas, changed)] for kind in BOTH
    )
    inside = hole() > 0
    assert np.array_equal(crops[0][inside], crops[1][inside])
    assert not np.array_equal(images[0][inside], images[1][inside])


def test_with_everything_masked_the_lazy_loop_does_the_same() -> None:
    """The baseline is the same sampler: where nothing is kept, nothing tells it from the lazy pipeline."""
    baseline = tiny_pipeline(kind=RegenerateImagePipeline)
    lazy = LazyDiffusionPipeline(**baseline.components, default_steps=3)
    lazy.set_progress_bar_config(disable=True)
    everything = hole(Box(0, 0, 256, 256))
    first, second = (filled(pipeline, noise_canvas(), everything) for pipeline in (baseline, lazy))
    assert np.array_equal(first, second)


def test_a_latent_codec_that_forgets_decodes_all_of_the_window() -> None:
    vae = tiny_vae(scaling_factor=0.5)
    codec = LatentCodec.from_vae(vae)
    window = torch.rand(1, 3, 64, 64, generator=torch.manual_seed(0)) * 2 - 1
    small = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    small[..., 20:30, 20:30] = True
    encoded = codec.forget(codec.encode(window, small, torch.arange(16)[None]))
    tokens = torch.randn(1, 16, codec.token_channels, generator=torch.manual_seed(1))
    with torch.no_grad():
        expected = vae.decode(unpatchify(tokens, (4, 4), codec.patch) / 0.5).sample.clamp(-1, 1)
    assert not encoded.keep.any()
    torch.testing.assert_close(codec.decode(tokens, encoded), expected, atol=1e-5, rtol=0)


def test_a_tokens_context_is_its_own_patch_of_the_masked_window() -> None:
    patches = MaskedPatches(patch=2)
    window = torch.arange(64.0).view(1, 4, 4, 4)
    nothing = SimpleNamespace()
    context = patches(window, nothing, nothing, nothing, torch.tensor([[3, 0]]))  # type: ignore[arg-type]
    assert context.shape == (1, 2, patches.channels)
    assert sorted(context[0, 0].tolist()) == sorted(window[0, :, 2:, 2:].flatten().tolist())
    assert sorted(context[0, 1].tolist()) == sorted(window[0, :, :2, :2].flatten().tolist())

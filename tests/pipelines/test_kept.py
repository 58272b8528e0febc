"""What was read of a canvas is kept for the next edit of it, and for no other."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from tests.checkpoint_files import tiny_pipeline
from tests.small_flux2_edits import COLS, SOME, WORDS, calls_of, mask_of, picture
from tests.tiny_flux2 import tiny_klein

from lazydiffusion.canvas import Canvas
from lazydiffusion.compose import View, view
from lazydiffusion.pipelines.flux2_denoising import PreparedKleinEdit
from lazydiffusion.pipelines.flux2_klein import LazyFlux2KleinPipeline
from lazydiffusion.pipelines.flux2_latents import WindowReading
from lazydiffusion.pipelines.flux2_reference import Laziness
from lazydiffusion.pipelines.kept import Kept
from lazydiffusion.pipelines.lazy import CanvasReading, LazyDiffusionPipeline, PreparedEdit
from lazydiffusion.pipelines.regenerate import RegenerateImagePipeline
from lazydiffusion.window import Box

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("one_thread")]

Pixels = np.ndarray
HOLE = Box(60, 40, 70, 50)


class Thing:
    """Something that can be waited for to be gone."""


def test_the_last_one_is_gone_before_the_next_is_made() -> None:
    kept = Kept[Thing]()
    first = weakref.ref(kept.get(lambda thing: False, Thing))
    assert kept.get(lambda thing: True, Thing) is first()

    def make() -> Thing:
        assert first() is None
        return Thing()

    second = weakref.ref(kept.get(lambda thing: False, make))
    assert second() is not None
    kept.forget()
    assert second() is None


def test_after_a_reading_that_failed_nothing_is_kept() -> None:
    kept = Kept[Thing]()
    kept.get(lambda thing: False, Thing)

    def fail() -> Thing:
        raise MemoryError

    with pytest.raises(MemoryError):
        kept.get(lambda thing: False, fail)
    made = Thing()
    assert kept.get(lambda thing: True, lambda: made) is made


def noise(seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (150, 220, 3), dtype=np.uint8)


def hole(box: Box = HOLE) -> np.ndarray:
    mask = np.zeros((150, 220), np.float32)
    mask[box.slices()] = 1
    return mask


@pytest.mark.parametrize("size", [(220, 150), (110, 75), (440, 300)], ids=["as it is", "smaller", "larger"])
def test_views_are_compared_where_something_is_seen(size: tuple[int, int]) -> None:
    def seen(pixels: Pixels, mask: np.ndarray) -> View:
        return view(Canvas.of(pixels), mask, Box(0, 0, 220, 150), size)

    first = seen(noise(), hole())
    assert first.shows_same(seen(noise(), hole()))
    inside, outside = noise(), noise()
    inside[60, 90] ^= 255
    outside[20, 30, 2] ^= 1
    assert first.shows_same(seen(inside, hole()))
    assert not first.shows_same(seen(outside, hole()))
    assert not first.shows_same(seen(noise(), hole(HOLE.enlarged(2))))


@pytest.fixture(scope="module", params=[LazyDiffusionPipeline, RegenerateImagePipeline])
def pipeline(request: pytest.FixtureRequest) -> LazyDiffusionPipeline:
    return tiny_pipeline(kind=request.param)


def prepared(
    pipeline: LazyDiffusionPipeline, kept: Kept[CanvasReading] | None, **changes: Any
) -> PreparedEdit:
    given: dict[str, Any] = {"canvas": noise(), "mask": hole(), "prompt": "a cat", **changes}
    canvas = given.pop("canvas")
    canvas = canvas if isinstance(canvas, Canvas) else Canvas.of(canvas)
    return pipeline.prepare(canvas, given.pop("mask"), given.pop("prompt"), kept=kept, **given)


def changed(y: int, x: int) -> Pixels:
    pixels = noise()
    pixels[y, x] ^= 255
    return pixels


def test_other_words_and_sketches_need_no_encoder_and_make_the_fill_that_they_make_without(
    pipeline: LazyDiffusionPipeline,
) -> None:
    sketch = np.zeros((150, 220, 4), np.uint8)
    sketch[50:80, 70:100] = (200, 30, 40, 255)
    kept = Kept[CanvasReading]()
    prepared(pipeline, kept)
    for change in (
        {"prompt": "a dog"},
        {"sketch": sketch},
        {"sketch": sketch, "strength": 0.5},
        {"steps": 2},
    ):
        with calls_of(pipeline.context_encoder) as calls:
            edit = prepared(pipeline, kept, **change)
        assert not calls
        fills = [pipeline.fill(it, torch.manual_seed(5)) for it in (edit, prepared(pipeline, None, **change))]
        assert np.array_equal(*fills)


@pytest.mark.parametrize(
    ("change", "reads"),
    [
        ({}, 0),
        ({"canvas": changed(60, 90)}, 0),  # under the mask, where nobody looks
        ({"canvas": changed(20, 30)}, 1),
        ({"mask": hole(HOLE.enlarged(3))}, 1),
        ({"canvas": np.ascontiguousarray(noise()[:, ::-1])}, 1),
    ],
    ids=["the same", "hidden pixels", "a visible pixel", "the mask", "all of it"],
)
def test_what_would_be_read_otherwise_is_read_again(
    pipeline: LazyDiffusionPipeline, change: dict[str, Any], reads: int
) -> None:
    kept = Kept[CanvasReading]()
    prepared(pipeline, kept)
    with calls_of(pipeline.context_encoder) as calls:
        prepared(pipeline, kept, **change)
    assert len(calls) == reads


def test_the_same_window_elsewhere_on_a_canvas_is_another(pipeline: LazyDiffusionPipeline) -> None:
    """Both windows show plain grey around the mask, and so do the overviews: only the places differ."""
    kept = Kept[CanvasReading]()
    grey = np.full((900, 900, 3), 128, np.uint8)
    with calls_of(pipeline.context_encoder) as calls:
        for corner in (300, 304):
            mask = np.zeros((900, 900), np.float32)
            mask[corner : corner + 60, corner : corner + 60] = 1
            prepared(pipeline, kept, canvas=grey, mask=mask)
    assert len(calls) == 2


def klein_edit(
    klein: LazyFlux2KleinPipeline,
    kept: Kept[WindowReading] | None,
    pixels: Pixels | None = None,
    box: Box = SOME,
    prompt: str = "a cat",
    **more: Any,
) -> PreparedKleinEdit:
    canvas = Canvas.of(np.asarray(picture()) if pixels is None else pixels)
    mask = mask_of(box)
    plan = klein.plan(canvas, mask, window_tokens=COLS)
    return klein.prepare(
        canvas, mask, prompt, plan=plan, kept=kept, steps=2, max_sequence_length=WORDS, **more
    )


@pytest.fixture(scope="module")
def klein() -> LazyFlux2KleinPipeline:
    return tiny_klein()


def with_a_pixel_changed(box: Box) -> Pixels:
    pixels = np.array(picture())
    pixels[16 * box.y + 3, 16 * box.x + 5] ^= 255
    return pixels


def test_klein_reads_a_window_once_for_all_words_and_masks(klein: LazyFlux2KleinPipeline) -> None:
    """It sees the window with all that is in it, so the mask makes no difference."""
    kept = Kept[WindowReading]()
    klein.fill(klein_edit(klein, kept), torch.manual_seed(1))
    for change in ({"prompt": "a dog"}, {"box": Box(3, 0, 2, 2)}, {"strength": 0.5}):
        with calls_of(klein.vae.encoder) as encodes, calls_of(klein.transformer) as passes:
            edit = klein_edit(klein, kept, **change)
            assert not encodes
            assert not passes
            found = klein.fill(edit, torch.manual_seed(1))
            assert not encodes  # nor the overview, for its statistics
        alone = klein.fill(klein_edit(klein, None, **change), torch.manual_seed(1))
        assert np.array_equal(found, alone)


@pytest.mark.parametrize("where", [SOME, Box(5, 3, 1, 1)], ids=["hidden", "visible"])
def test_klein_reads_a_window_again_that_shows_something_else(
    klein: LazyFlux2KleinPipeline, where: Box
) -> None:
    kept = Kept[WindowReading]()
    klein_edit(klein, kept)
    with calls_of(klein.vae.encoder) as encodes, calls_of(klein.transformer) as passes:
        klein_edit(klein, kept, with_a_pixel_changed(where))
    assert len(encodes) == len(passes) == 1


def test_klein_reads_its_reference_when_it_is_first_asked_for(klein: LazyFlux2KleinPipeline) -> None:
    kept = Kept[WindowReading]()
    full = klein_edit(klein, kept, laziness=Laziness("full"))
    assert full.window.cache is None
    with calls_of(klein.vae.encoder) as encodes, calls_of(klein.transformer) as passes:
        cached = klein_edit(klein, kept)
        klein_edit(klein, kept, laziness=Laziness("full"))
    assert cached.window is full.window
    assert not encodes
    assert len(passes) == 1

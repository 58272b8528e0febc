"""What the model is shown of a canvas, and how its pixels come back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lazydiffusion import compose
from lazydiffusion.canvas import Canvas
from lazydiffusion.errors import BadInput
from lazydiffusion.geometry import plan
from lazydiffusion.window import Box, overview_size, region_to_send

RED, BLUE = (255, 0, 0), (0, 0, 255)


def split_canvas(width: int = 64, height: int = 64) -> np.ndarray:
    """Red on the left, blue on the right."""
    canvas = np.empty((height, width, 3), dtype=np.uint8)
    canvas[:, : width // 2], canvas[:, width // 2 :] = RED, BLUE
    return canvas


def test_at_scale_1_a_view_is_the_canvas_itself() -> None:
    canvas = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    seen = compose.view(Canvas.of(canvas), np.zeros((64, 64), np.float32), Box(0, 0, 64, 64), (64, 64))
    assert np.array_equal(compose.to_bytes(seen.colour), canvas)
    assert not seen.hole.any()


@pytest.mark.parametrize("size", [(16, 16), (24, 24), (64, 64), (96, 80)])
def test_hidden_colours_never_reach_a_view(size: tuple[int, int]) -> None:
    canvas, mask = split_canvas(), np.zeros((64, 64), np.float32)
    mask[:, 32:] = 0.01  # a soft selection hides as much as a hard one
    seen = compose.view(Canvas.of(canvas), mask, Box(0, 0, 64, 64), size)
    shown = ~seen.hole
    assert shown.any()
    assert np.allclose(seen.colour[shown], [1, -1, -1], atol=0.01)
    red_or_nothing = np.isclose(seen.colour, [1, -1, -1], atol=0.01).all(-1) | (seen.colour == 0).all(-1)
    assert red_or_nothing.all()


def test_a_window_past_the_canvas_repeats_its_edge() -> None:
    canvas = split_canvas(40, 40)
    seen = compose.view(Canvas.of(canvas), np.zeros((40, 40), np.float32), Box(0, 0, 48, 48), (48, 48))
    assert np.array_equal(seen.colour[:40, 40:], np.repeat(seen.colour[:40, 39:40], 8, axis=1))
    assert np.array_equal(seen.colour[40:], np.repeat(seen.colour[39:40], 8, axis=0))


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1)
)
def test_touched_is_exact(height: int, width: int, rows: int, cols: int, seed: int) -> None:
    hidden = np.random.default_rng(seed).random((height, width)) < 0.1
    found = compose.touched(hidden, (cols, rows))
    for row in range(rows):
        for col in range(cols):
            top, bottom = row * height / rows, (row + 1) * height / rows
            left, right = col * width / cols, (col + 1) * width / cols
            inside = hidden[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))]
            assert found[row, col] == inside.any()


def test_a_huge_canvas_is_seen_by_its_samples() -> None:
    canvas = np.full((6000, 6000, 3), (10, 200, 30), dtype=np.uint8)
    mask = np.zeros((6000, 6000), np.float32)
    mask[2999, 2999] = 1  # one pixel must still be found
    seen = compose.view(Canvas.of(canvas), mask, Box(0, 0, 6000, 6000), (64, 64))
    assert seen.hole.sum() == 1
    assert np.allclose(compose.to_bytes(seen.colour)[~seen.hole], [10, 200, 30])


def photograph(width: int, height: int) -> np.ndarray:
    """Smooth enough that a coarse picture of it is a fair one."""
    x, y = np.meshgrid(np.linspace(0, 6, width), np.linspace(0, 4, height))
    return (127 + 100 * np.stack([np.sin(x), np.cos(y), np.sin(x + y)], axis=-1)).astype(np.uint8)


def partly(canvas: np.ndarray, region: Box, overview: tuple[int, int]) -> Canvas:
    """The canvas as an editor sends it: a region, and all of it small."""
    small = np.asarray(Image.fromarray(canvas).resize(overview, Image.Resampling.BOX))
    return Canvas((canvas.shape[1], canvas.shape[0]), region, canvas[region.slices()], small)


def test_inside_its_region_a_partly_known_canvas_is_seen_as_if_it_were_whole() -> None:
    canvas = np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    mask = np.zeros((700, 900), np.float32)
    mask[300:350, 400:460] = 1
    region = region_to_send((900, 700), Box(400, 300, 60, 50))
    known = partly(canvas, region, (256, 200))
    plans = [plan((900, 700), mask), plan((900, 700), mask[region.slices()], region=region)]
    assert np.array_equal(plans[0].hidden, plans[1].hidden)
    assert np.array_equal(plans[0].overview_positions, plans[1].overview_positions)
    assert (plans[0].window, plans[0].fill_box) == (plans[1].window, plans[1].fill_box)
    whole = compose.view(Canvas.of(canvas), mask, plans[0].window, plans[0].working_size)
    part = compose.view(known, mask[region.slices()], plans[0].window, plans[0].working_size)
    assert np.array_equal(whole.colour, part.colour)
    assert np.array_equal(whole.hole, part.hole)


@given(st.integers(64, 900), st.integers(64, 900), st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0.02, 0.6))
def test_outside_its_region_a_canvas_is_seen_by_its_overview(
    width: int, height: int, left: float, top: float, share: float
) -> None:
    canvas, mask = photograph(width, height), np.zeros((height, width), np.float32)
    x, y = int(left * width), int(top * height)
    box = Box(x, y, max(1, int(share * width)), max(1, int(share * height))).clip((width, height))
    mask[box.slices()] = 1
    region = region_to_send((width, height), box)
    known = partly(canvas, region, overview_size((width, height)))
    everything, size = Box(0, 0, width, height), plan((width, height), mask).overview_size
    whole = compose.view(Canvas.of(canvas), mask, everything, size)
    part = compose.view(known, mask[region.slices()], everything, size)
    assert np.array_equal(whole.hole, part.hole)
    shown = (whole.visible > 0.2) & (part.visible > 0.2)
    assert np.abs(whole.colour - part.colour)[shown].mean() < 0.03
    assert np.abs(whole.visible - part.visible).mean() < 0.05


@pytest.mark.parametrize("sent", [False, True], ids=["whole", "a region and an overview"])
def test_a_smaller_view_has_the_mean_of_what_is_visible_also_where_a_px_is_partly_hidden(sent: bool) -> None:
    rng = np.random.default_rng(0)
    canvas = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    region = Box(10, 6, 46, 30)
    shown = np.ones((40, 60), bool)
    shown[region.slices()] = rng.random((30, 46)) > 0.4
    mask = (~shown).astype(np.float32)
    known = partly(canvas, region, (30, 20)) if sent else Canvas.of(canvas)
    seen = compose.view(known, mask[region.slices()] if sent else mask, Box(0, 0, 60, 40), (15, 10))

    blocks, shown = canvas.reshape(10, 4, 15, 4, 3), shown.reshape(10, 4, 15, 4)
    count = shown.sum(axis=(1, 3))
    expected = (blocks * shown[..., None]).sum(axis=(1, 3)) / np.maximum(count, 1)[..., None]
    assert ((count > 0) & (count < 16)).sum() > 50
    assert np.array_equal(seen.hole, count < 16)
    assert np.allclose(seen.visible, count / 16)
    assert np.allclose(seen.colour[count > 0], expected[count > 0] / 127.5 - 1, atol=1e-5)


def test_past_the_canvas_a_hidden_edge_is_hidden_where_only_a_region_is_known() -> None:
    canvas, mask = split_canvas(40, 40), np.zeros((40, 40), np.float32)
    mask[10:20, 35:] = 1
    region = Box(20, 0, 20, 40)
    seen = compose.view(partly(canvas, region, (40, 40)), mask[region.slices()], Box(0, 0, 48, 48), (48, 48))
    assert np.array_equal(seen.hole[:, 40:], np.repeat(seen.hole[:, 39:40], 8, axis=1))
    assert np.array_equal(seen.hole, seen.visible == 0)


def test_what_is_hidden_stays_hidden_where_only_the_overview_is_known() -> None:
    """An overview holds what is under the mask, too: it must not shine through."""
    canvas, mask = split_canvas(800, 800), np.zeros((800, 800), np.float32)
    mask[:, 400:] = 1  # all that is blue
    region = Box(300, 0, 500, 800)
    seen = compose.view(
        partly(canvas, region, (256, 256)), mask[region.slices()], Box(0, 0, 800, 800), (128, 128)
    )
    assert np.allclose(seen.colour[:, :64], [1, -1, -1], atol=0.01)
    assert seen.hole[:, 64:].all()
    assert (seen.colour[:, 64:] == 0).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"region": Box(700, 0, 200, 100)}, "does not lie on the canvas of 800 x 600 px"),
        ({"region": Box(10, 0, 0, 100), "pixels": np.zeros((100, 0, 3), np.uint8)}, "does not lie on"),
        ({"region": Box(0, 0, 200, 50)}, "200 x 50"),
        ({"overview": None}, "give an overview"),
    ],
)
def test_a_canvas_that_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    given_ = {"size": (800, 600), "region": Box(0, 0, 200, 100), "pixels": np.zeros((100, 200, 3), np.uint8)}
    with pytest.raises(BadInput, match=words):
        Canvas(**{**given_, "overview": np.zeros((96, 128, 3), np.uint8), **changes})


@given(
    st.sampled_from([(64, 64), (300, 200), (1000, 700)]),
    st.floats(0, 0.8),
    st.floats(0, 0.8),
    st.floats(0.02, 0.5),
)
def test_a_window_that_shows_a_gradient_gives_it_back(
    size: tuple[int, int], left: float, top: float, share: float
) -> None:
    """Pixels keep their place on the way canvas -> window -> canvas, at any scale."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    canvas = (np.stack([x, y, 0 * x], axis=-1) * 255).astype(np.uint8)
    mask = np.zeros((height, width), np.float32)
    x0, y0 = int(left * width), int(top * height)
    mask[y0 : y0 + max(1, int(share * height)), x0 : x0 + max(1, int(share * width))] = 1
    plan_ = plan(size, mask)
    seen = compose.view(Canvas.of(canvas), np.zeros_like(mask), plan_.window, plan_.working_size)
    back = compose.from_window(seen.colour, plan_)
    expected = canvas[plan_.fill_box.slices()]
    assert back.shape == expected.shape
    assert np.abs(back.astype(int) - expected).max() <= 4 + 255 / min(plan_.working_size)


@pytest.mark.parametrize("size", [(320, 200), (700, 500), (2000, 1500)])
@pytest.mark.parametrize("sent", [False, True])
def test_where_the_masks_box_is_known_the_same_is_seen(size: tuple[int, int], sent: bool) -> None:
    canvas = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    mask = np.zeros((size[1], size[0]), np.float32)
    mask[90:150, 200:] = mask[30, 100] = 0.5
    plan_ = plan(size, mask)
    known = Canvas.of(canvas)
    if sent:
        region = region_to_send(size, plan_.fill_box)
        known, mask = partly(canvas, region, overview_size(size)), mask[region.slices()]
    for box, shape in ((plan_.window, plan_.working_size), (Box(0, 0, *size), plan_.overview_size)):
        searched = compose.view(known, mask, box, shape)
        told = compose.view(known, mask, box, shape, plan_.fill_box)
        for name in ("levels", "colour", "hole", "visible"):
            assert np.array_equal(getattr(searched, name), getattr(told, name))
        nothing = [compose.view(known, none, box, shape) for none in (None, np.zeros_like(mask))]
        assert np.array_equal(nothing[0].colour, nothing[1].colour)
        assert not nothing[0].hole.any()


@given(st.sampled_from([(64, 64), (300, 200), (1000, 700)]), st.floats(0, 0.8), st.floats(0.02, 0.5))
def test_a_fill_needs_no_more_of_the_window_than_is_told(
    size: tuple[int, int], start: float, share: float
) -> None:
    mask = np.zeros((size[1], size[0]), np.float32)
    x, y = int(start * size[0]), int(start * size[1])
    mask[y : y + max(1, int(share * size[1])), x : x + max(1, int(share * size[0]))] = 1
    plan_ = plan(size, mask)
    width, height = plan_.working_size
    window = np.random.default_rng(0).uniform(-1, 1, (height, width, 3)).astype(np.float32)
    part = compose.part_needed(plan_)
    bytes_ = compose.to_bytes(window[part.slices()])
    small = max(1, plan_.fill_box.w // 3), max(1, plan_.fill_box.h // 2)

    assert np.array_equal(compose.from_window(window, plan_), compose.from_window(bytes_, plan_, part))
    assert compose.from_window(bytes_, plan_, part, small).shape == (small[1], small[0], 3)


def test_pasting_keeps_every_pixel_outside_the_mask() -> None:
    rng = np.random.default_rng(1)
    canvas = rng.integers(0, 256, (50, 60, 3), dtype=np.uint8)
    alpha = np.where(rng.random((20, 30)) < 0.5, rng.random((20, 30)), 0)
    fill = compose.with_alpha(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8), alpha)
    box = Box(7, 9, 30, 20)
    out = compose.paste(canvas, fill, box)
    kept = np.ones((50, 60), dtype=bool)
    kept[box.slices()] = alpha == 0
    assert np.array_equal(out[kept], canvas[kept])
    assert not np.array_equal(out, canvas)
    solid = compose.paste(canvas, compose.with_alpha(fill[..., :3], np.ones((20, 30))), box)
    assert np.array_equal(solid[box.slices()], fill[..., :3])


def test_alpha_follows_the_mask_and_never_vanishes() -> None:
    alpha = np.array([[0.0, 1e-4, 0.5, 1.0]])
    fill = compose.with_alpha(np.full((1, 4, 3), 9, dtype=np.uint8), alpha)
    assert fill[0, :, 3].tolist() == [0, 1, 128, 255]
    assert fill[0, 0].tolist() == [0, 0, 0, 0]


def test_a_layer_is_transparent_but_for_its_fill() -> None:
    fill = compose.with_alpha(np.full((4, 5, 3), 77, dtype=np.uint8), np.ones((4, 5)))
    layer = compose.layer((30, 20), fill, Box(3, 2, 5, 4))
    assert layer.shape == (20, 30, 4)
    assert (layer[..., 3] > 0).sum() == 20
    assert layer[2, 3].tolist() == [77, 77, 77, 255]


@given(st.integers(0, 2**32 - 1))
def test_over_a_transparent_canvas_colours_count_by_how_much_is_seen_of_them(seed: int) -> None:
    """Straight alpha, source over: what lies hidden under alpha 0 makes no dark halo around a soft fill."""
    random = np.random.default_rng(seed)
    box = Box(3, 2, 9, 70)
    canvas = random.integers(0, 256, (80, 20, 3), dtype=np.uint8)
    alpha, opacity = (
        random.choice(np.array([0, 0, 1, 90, 254, 255, 255], np.uint8), shape)
        for shape in ((80, 20), (box.h, box.w))
    )
    fill = np.dstack([random.integers(0, 256, (box.h, box.w, 3), dtype=np.uint8), opacity])
    pasted, shown = compose.paste_over(canvas, alpha, fill, box)

    over, under = (
        opacity[..., None] / 255,
        alpha[box.slices()][..., None] / 255 * (1 - opacity[..., None] / 255),
    )
    expected = (fill[..., :3] * over + canvas[box.slices()] * under) / np.maximum(over + under, 1e-9)
    untouched = np.ones((80, 20), bool)
    untouched[box.slices()] = opacity == 0
    assert np.array_equal(pasted[untouched], canvas[untouched])
    assert np.array_equal(shown[untouched], alpha[untouched])
    laid = opacity > 0
    assert np.abs(pasted[box.slices()] - expected)[laid].max(initial=0) <= 0.501
    assert np.abs(shown[box.slices()] - 255 * (over + under)[..., 0]).max() <= 0.501
    opaque = alpha == 255
    assert np.array_equal(pasted[opaque], compose.paste(canvas, fill, box)[opaque])

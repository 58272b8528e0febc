"""Edits of a small window with a tiny FLUX.2-klein, and what its parts are called with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lazydiffusion.canvas import Canvas
from lazydiffusion.pipelines.flux2_denoising import PreparedKleinEdit
from lazydiffusion.pipelines.flux2_klein import LazyFlux2KleinPipeline
from lazydiffusion.window import PATCH, Box

ROWS, COLS = 4, 7
"""Tokens of a window that all fits."""
WORDS = 24
EVERYTHING = Box(0, 0, COLS, ROWS)
SOME = Box(1, 1, 2, 1)
ISLANDS = (Box(0, 0, 1, 1), Box(6, 2, 1, 2))


def picture() -> Image.Image:
    y, x = np.mgrid[: ROWS * PATCH, : COLS * PATCH]
    shapes = np.stack([x * 2, y * 2, (x // 10 + y // 10) % 2 * 200], -1).astype(np.uint8)
    return Image.fromarray(shapes)


def mask_of(*boxes: Box) -> np.ndarray:
    """A mask of whole tokens."""
    mask = np.zeros((ROWS * PATCH, COLS * PATCH), np.float32)
    for box in boxes:
        mask[Box(*(PATCH * side for side in box.as_list())).slices()] = 1
    return mask


def prepared(klein: LazyFlux2KleinPipeline, *boxes: Box, **arguments: Any) -> PreparedKleinEdit:
    canvas, mask = Canvas.of(np.asarray(picture())), mask_of(*boxes)
    plan = klein.plan(canvas, mask, window_tokens=COLS)
    assert plan.scale == 1
    settings = {"max_sequence_length": WORDS, "steps": 4, **arguments}
    return klein.prepare(canvas, mask, "a cat", plan=plan, **settings)


def steps_of(
    klein: LazyFlux2KleinPipeline, edit: PreparedKleinEdit, seed: int = 7
) -> tuple[list, np.ndarray]:
    """Tokens after each step, and the fill's colours."""
    steps: list[Tensor] = []
    colours = klein.fill(edit, torch.manual_seed(seed), lambda i, t, tokens, clean: steps.append(tokens))
    return steps, colours


@contextmanager
def calls_of(module: torch.nn.Module) -> Iterator[list[tuple[dict[str, Any], Any]]]:
    """(arguments, result) of every call of a module."""
    calls: list[tuple[dict[str, Any], Any]] = []
    hook = module.register_forward_hook(
        lambda _, args, kwargs, result: calls.append((kwargs, result)), with_kwargs=True
    )
    try:
        yield calls
    finally:
        hook.remove()


def assert_equal(found: Tensor, expected: Tensor, amplified: float = 1) -> None:
    """In float32. `amplified`: by how much the steps multiply what the model's own rounding differs."""
    torch.testing.assert_close(found, expected, atol=1e-5 * amplified, rtol=1e-5 * amplified)

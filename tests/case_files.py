"""Cases as an artist makes them by hand, for `lazydiffusion compare`: small pictures and text files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from lazydiffusion.window import Box

SIZE = (96, 64)
HOLE = Box(30, 20, 24, 16)


def write_case(folder: Path, prompt: str = "a cat", hole: Box = HOLE, sketched: bool = False) -> Path:
    """Save one: a smooth canvas of SIZE, a hole in it, a prompt, and a red sketch where it is asked for."""
    folder.mkdir(parents=True)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    pixels = np.stack([x * 255 // SIZE[0], y * 255 // SIZE[1], np.full_like(x, 90)], -1).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "canvas.png")
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[hole.slices()] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    (folder / "prompt.txt").write_text(f"{prompt}\n", encoding="utf8")
    if sketched:
        sketch = np.zeros((*mask.shape, 4), np.uint8)
        sketch[hole.slices()] = (255, 0, 0, 255)
        Image.fromarray(sketch).save(folder / "sketch.png")
    return folder

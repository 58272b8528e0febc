"""What an edit is given of a canvas: a region in full, and the whole of it at a coarse scale (numpy only)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lazydiffusion.errors import BadInput
from lazydiffusion.window import Box, Size


@dataclass(frozen=True, eq=False)
class Canvas:
    """The picture that is edited. Masks and sketches of an edit have the region's size, not the canvas's."""

    size: Size
    """(width, height) of the whole canvas, px."""
    region: Box
    """The part of it whose pixels are known."""
    pixels: npt.NDArray[np.uint8]
    """(h, w, 3), sRGB: the region."""
    overview: npt.NDArray[np.uint8] | None = None
    """(h, w, 3), sRGB: the whole canvas, smaller. None where the region is all of it."""

    def __post_init__(self) -> None:
        box = self.region
        if min(box.w, box.h) < 1 or not Box(0, 0, *self.size).contains(box):
            raise BadInput(
                f"The region {box.as_list()} does not lie on the canvas of {self.size[0]} x {self.size[1]} px."
            )
        if self.pixels.shape != (box.h, box.w, 3):
            raise BadInput(
                f"The region is {box.w} x {box.h} px, but its pixels are an array of {self.pixels.shape}."
            )
        if self.overview is None and not self.whole:
            raise BadInput(
                f"Only {box.w} x {box.h} px of a canvas of {self.size[0]} x {self.size[1]} px were given; "
                "give an overview of the whole canvas as well."
            )

    @classmethod
    def of(cls, pixels: npt.NDArray[np.uint8]) -> Canvas:
        """A canvas that is known as a whole: (H, W, 3), sRGB."""
        size = (pixels.shape[1], pixels.shape[0])
        return cls(size, Box(0, 0, *size), pixels)

    @property
    def whole(self) -> bool:
        """Whether the region is all of the canvas."""
        return self.region == Box(0, 0, *self.size)

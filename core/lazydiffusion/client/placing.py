"""Where a fill lies on a canvas that may have changed since (standard library only, valid Python 3.9)."""

from __future__ import annotations

from lazydiffusion.client.errors import CoreError
from lazydiffusion.client.words import tr
from lazydiffusion.window import Box, Size


class LiesOutside(CoreError):
    """Nothing of a fill would show on the canvas."""


def placement(box: Box, made_for: Size, size: Size) -> str:
    """What the artist should know about where a layer of `box` lies, or "".

    `made_for`: (width, height) of the canvas that the fill was made for; `size`: of the one that it is to go to. Raises
    LiesOutside.
    """
    shown = box.overlap(Box(0, 0, *size))
    if shown.w < 1 or shown.h < 1:
        raise LiesOutside(
            tr(
                "The fill was made for a canvas of %d x %d px and lies outside of this one of %d x %d px. Open a "
                "picture of that size."
            )
            % (*made_for, *size)
        )
    if size != made_for:
        return tr(
            "The canvas was %d x %d px when the fill was made and is %d x %d px now. The layer lies at its old place; "
            "move it if need be."
        ) % (*made_for, *size)
    return ""

"""What of an image an edit is shown: the region in full, the rest as an overview."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Optional

from lazydiffusion.client.words import nothing_selected, tr
from lazydiffusion.protocol import EditRequest, EditSettings, ImageData
from lazydiffusion.window import WINDOW_TOKENS, Box, Size, overview_size, region_to_send

from .image import ImageError, Picture

CLIENT = "gimp-%d" % os.getpid()
"""Who asks: each run of the plug-in is a process."""


@dataclass(frozen=True)
class Snapshot:
    """A request, and what is needed to show what comes of it."""

    picture: Picture
    request: EditRequest
    box: Box
    """Around the mask."""

    @property
    def region(self) -> Box:
        """What the request's canvas and mask show."""
        return self.request.part

    @property
    def size(self) -> Size:
        """The region's (width, height)."""
        return self.region.w, self.region.h

    @property
    def canvas(self) -> bytes:
        """The region's RGBA."""
        return bytes(self.request.canvas.data)

    @property
    def mask(self) -> bytes:
        """The region's mask, one byte a px."""
        return bytes(self.request.mask.data)


def snapshot(
    picture: Picture,
    settings: EditSettings,
    everything: bool = False,
    sketch: Optional[int] = None,
    window_tokens: int = WINDOW_TOKENS,
) -> Snapshot:
    """Read an image. Raises ImageError, BadInput.

    `everything`: where nothing is selected, fill the whole canvas. `sketch`: a drawable's id. `window_tokens`: side of
    the model's window.
    """
    picture.check_ready()
    size = picture.size
    selected = picture.selection_box()
    if selected is None and not everything:
        raise ImageError(nothing_selected())
    box = selected or picture.whole
    region = region_to_send(size, box, settings.grow, settings.feather, window_tokens)
    area = (region.w, region.h)
    mask = picture.selection(region) if selected else b"\xff" * (region.w * region.h)
    drawn = None
    if sketch is not None:
        pixels = picture.layer_pixels(sketch, region)
        if pixels is None:
            raise ImageError(
                tr("The sketch is not a layer of this image (any more). Choose another one, or none.")
            )
        drawn = ImageData("rgba8", area, pixels)
    overview = None
    if region != picture.whole:
        small = overview_size(size)
        overview = ImageData("rgba8", small, picture.overview(small))
    request = EditRequest(
        settings=settings,
        canvas_size=size,
        region=region,
        canvas=ImageData("rgba8", area, picture.pixels(region)),
        mask=ImageData("grey8", area, mask),
        sketch=drawn,
        overview=overview,
        while_watched=True,  # GIMP kills a plug-in whose progress bar is cancelled
    )
    return Snapshot(picture, request, box)

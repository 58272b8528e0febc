"""The two baselines of the paper: an ordinary inpainting transformer, on the whole window or on a tight crop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lazydiffusion.canvas import Canvas
from lazydiffusion.compose import View
from lazydiffusion.geometry import EditPlan, Framing
from lazydiffusion.models.codecs import Encoded
from lazydiffusion.pipelines.lazy import LazyDiffusionPipeline
from lazydiffusion.window import choose_crop


class RegenerateImagePipeline(LazyDiffusionPipeline):
    """RegenerateImage: the decoder makes every token of the window; what the mask keeps is composited afterwards.

    The same decoder, codec, text and sampling as LazyDiffusionPipeline, whose calls it takes. It sees the masked
    window patch by patch (MaskedPatches, in the context encoder's place) and nothing of the canvas beyond it.
    """

    def plan(self, canvas: Canvas, mask: npt.NDArray[np.floating]) -> EditPlan:
        """As the lazy pipeline's, with all of the window's tokens for the decoder, in their own order."""
        chosen = super().plan(canvas, mask)
        return replace(chosen, indices=np.arange(chosen.hidden.size, dtype=np.int64))

    def _encode(
        self, window: View, overview: View, plan: EditPlan, indices: Tensor
    ) -> tuple[Encoded, Tensor]:
        encoded, context = super()._encode(window, overview, plan, indices)
        forgotten: Any = self.codec.forget(encoded)
        return forgotten, context


class RegenerateCropPipeline(RegenerateImagePipeline):
    """RegenerateCrop: as RegenerateImage, on a square hardly larger than the mask, enlarged to the window's size.

    The selection gets all of the model's resolution; the rest of the picture, and so its style, remains unseen.
    """

    framing: Framing = staticmethod(choose_crop)

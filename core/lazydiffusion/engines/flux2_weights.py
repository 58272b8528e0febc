"""FLUX.2-klein's weights in fewer bits, by torchao: half of their memory, at some cost in time and likeness.

Only the weights of linear layers inside the blocks are rounded, row by row; all computes in the device's precision.
"""

from __future__ import annotations

from torch import nn

from lazydiffusion.devices import FP8, FULL, INT8
from lazydiffusion.errors import BadInput
from lazydiffusion.pipelines.flux2_klein import LazyFlux2KleinPipeline


def shrink(pipeline: LazyFlux2KleinPipeline, weights: str) -> None:
    """Round the weights of transformer and text encoder, where they lie now. Raises BadInput without torchao."""
    if weights == FULL:
        return
    try:
        from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise BadInput(
            f"--weights {weights} needs torchao, which is not installed: `pip install 'lazydiffusion[small]'`. Or "
            f"leave it at {FULL}."
        ) from error
    rounding = {INT8: Int8WeightOnlyConfig, FP8: Float8WeightOnlyConfig}[weights]()
    for model in (pipeline.transformer, pipeline.text_encoder.model):
        for part in model.children():
            if isinstance(part, nn.ModuleList):
                quantize_(part, rounding)

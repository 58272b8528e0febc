"""Part of an AutoencoderKL's work: only the region asked for, with the margin that makes it equal to the whole.

Three things in such a VAE are not local, and each has its answer here:

- Convolutions look a few px around. A `Layer` knows how far; `run_layers` goes backwards from the region asked for to
  the part of each layer's input that it depends on, and crops to that part on the way forward.
- Group normalisation takes mean and variance over the whole picture. Given those (`NormStatistics`), it is one factor
  and one offset per channel, and local. They are recorded from one pass over something that stands for the whole.
- The attention in the middle block looks everywhere. The decoder's runs on the whole latent grid, which is a twelfth of
  the decoder's work at 1024 x 1024 px; the encoder's sees the region and its margin only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from lazydiffusion.errors import BadModel
from lazydiffusion.window import Box

NormStatistics = list[tuple[Tensor, Tensor]]
"""Mean and variance, (B, groups) each, of every group normalisation in the order in which they run."""


@dataclass(frozen=True)
class Layer:
    """One step of a VAE, and how far it looks."""

    run: Callable[[Tensor], Tensor]
    before: int = 0
    """Input px left of and above its own that an output px depends on (output px, where `up` is 2)."""
    after: int = 0
    """The same to the right and below."""
    up: int = 1
    down: int = 1
    """The output is `up` / `down` times as wide as the input."""

    def source(self, box: Box, size: tuple[int, int]) -> Box:
        """The part of an input of `size` (width, height) that the output's `box` depends on."""
        left, top = ((edge * self.down - self.before) // self.up for edge in (box.x, box.y))
        right, bottom = (-(-(edge * self.down + self.after) // self.up) for edge in (box.right, box.bottom))
        return Box(left, top, right - left, bottom - top).clip(size)

    def scaled(self, length: int) -> int:
        """A length or an edge in the input, in px of the output."""
        return length * self.up // self.down


def run_layers(layers: list[Layer], x: Float[Tensor, "b c h w"], box: Box) -> Float[Tensor, "b d bh bw"]:
    """The `box` (in px of the output) of what the layers make of x, without computing the rest.

    Equal to the same part of the whole up to rounding, when every layer is as local as it says. Zeros are only ever
    padded where the whole is padded as well: at the picture's own border.
    """
    sizes = [(x.shape[-1], x.shape[-2])]
    for layer in layers:
        sizes.append((layer.scaled(sizes[-1][0]), layer.scaled(sizes[-1][1])))
    needed = [box]
    for layer, size in zip(reversed(layers), reversed(sizes[:-1]), strict=True):
        needed.insert(0, layer.source(needed[0], size))
    x = x[(..., *needed[0].slices())]
    for layer, source, target in zip(layers, needed[:-1], needed[1:], strict=True):
        left, top = layer.scaled(source.x), layer.scaled(source.y)
        inside = Box(target.x - left, target.y - top, target.w, target.h)
        x = layer.run(x)[(..., *inside.slices())]
    return x


def encoder_layers(vae: AutoencoderKL) -> list[Layer]:
    """From pixels to the latents' mean and log-variance. The middle attention counts as local: see above."""
    encoder = vae.encoder
    layers = [_convolution(encoder.conv_in)]
    for block in encoder.down_blocks:
        layers += [_residual(resnet) for resnet in block.resnets]
        layers += [Layer(down, after=1, down=2) for down in block.downsamplers or ()]
    layers.append(_residual(encoder.mid_block.resnets[0]))
    for attention, resnet in zip(encoder.mid_block.attentions, encoder.mid_block.resnets[1:], strict=True):
        layers += [_attention(attention)] if attention is not None else []
        layers.append(_residual(resnet))
    layers.append(_convolution(encoder.conv_out, encoder.conv_norm_out, encoder.conv_act))
    return [*layers, Layer(vae.quant_conv)] if vae.quant_conv is not None else layers


def decode_middle(vae: AutoencoderKL, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
    """The decoder's part that looks everywhere: features on the whole latent grid."""
    if vae.post_quant_conv is not None:
        latents = vae.post_quant_conv(latents)
    features: Tensor = vae.decoder.mid_block(vae.decoder.conv_in(latents))
    return features


def decoder_layers(vae: AutoencoderKL) -> list[Layer]:
    """The decoder's local part, nine tenths of its work: from decode_middle's features to pixels."""
    decoder = vae.decoder
    layers: list[Layer] = []
    for block in decoder.up_blocks:
        layers += [_residual(resnet) for resnet in block.resnets]
        layers += [Layer(up, before=1, after=1, up=2) for up in block.upsamplers or ()]
    return [*layers, _convolution(decoder.conv_out, decoder.conv_norm_out, decoder.conv_act)]


def check_local(vae: AutoencoderKL) -> None:
    """Raise BadModel for a VAE whose layers are not all known to be local."""
    blocks = {type(block).__name__ for block in (*vae.encoder.down_blocks, *vae.decoder.up_blocks)}
    unknown = blocks - {"DownEncoderBlock2D", "UpDecoderBlock2D"}
    if unknown:
        raise BadModel(
            f"This VAE has blocks of type {', '.join(sorted(unknown))}, which cannot be run on a part of a picture; "
            "use one that is made of DownEncoderBlock2D and UpDecoderBlock2D, as Stable Diffusion's is."
        )


@contextmanager
def recorded_norms() -> Iterator[NormStatistics]:
    """The statistics of every group normalisation that runs inside, in order.

    Touches no module: it listens to torch's own function, in this thread only, and may be nested.
    """
    statistics: NormStatistics = []
    with _Recorder(statistics):
        yield statistics


@contextmanager
def given_norms(statistics: NormStatistics) -> Iterator[None]:
    """Group normalisations inside use `statistics`, in order, instead of their input's own; touches no module.

    Raises ValueError when fewer or more of them run than there are statistics.
    """
    remaining = list(statistics)
    with _Replacer(remaining):
        yield
    if remaining:
        raise ValueError(
            f"{len(remaining)} of {len(statistics)} statistics were left over: they are of other layers."
        )


class _Recorder(TorchFunctionMode):
    def __init__(self, statistics: NormStatistics):
        super().__init__()
        self.statistics = statistics

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is functional.group_norm:
            grouped = args[0].float().unflatten(1, (args[1], -1)).flatten(2)  # (B, groups, values)
            variance, mean = torch.var_mean(grouped, dim=2, correction=0)
            self.statistics.append((mean, variance))
        return func(*args, **(kwargs or {}))


class _Replacer(TorchFunctionMode):
    def __init__(self, remaining: NormStatistics):
        super().__init__()
        self.remaining = remaining

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is not functional.group_norm:
            return func(*args, **(kwargs or {}))
        if not self.remaining:
            raise ValueError("More group normalisations ran than statistics were given for them.")
        return _normalise(self.remaining.pop(0), *args, **(kwargs or {}))


def _normalise(
    statistics: tuple[Tensor, Tensor],
    x: Float[Tensor, "b c *n"],
    groups: int,
    weight: Float[Tensor, " c"],
    bias: Float[Tensor, " c"],
    eps: float,
) -> Float[Tensor, "b c *n"]:
    """functional.group_norm with given mean and variance: a batch normalisation, for each channel of each picture.

    In one pass, computed in float32 whatever x is: factor and offset applied to x as float32 would take ten times x's
    memory traffic in bfloat16, and four times its memory.
    """
    batch, per_group = x.shape[0], x.shape[1] // groups
    mean, variance = (part.repeat_interleave(per_group, dim=1).flatten() for part in statistics)  # (B * C,)
    factor, offset = (part.float().repeat(batch) for part in (weight, bias))
    normed = functional.batch_norm(x.flatten(0, 1)[None], mean, variance, factor, offset, eps=eps)
    return normed.reshape(x.shape)


def _residual(block: nn.Module) -> Layer:
    """A residual block: its two convolutions are on the main path, the shortcut's looks at one px only."""
    reach = sum(max(part.kernel_size) // 2 for part in block.modules() if isinstance(part, nn.Conv2d))
    return Layer(partial(block, temb=None), before=reach, after=reach)


def _attention(attention: nn.Module) -> Layer:
    """Attention among the px that it is given; diffusers' wants them contiguous, which a crop is not."""
    return Layer(lambda x: attention(x.contiguous()))


def _convolution(convolution: nn.Conv2d, *first: nn.Module) -> Layer:
    """A convolution, after what `first` does to each px by itself."""
    reach = max(convolution.kernel_size) // 2
    return Layer(nn.Sequential(*first, convolution), before=reach, after=reach)

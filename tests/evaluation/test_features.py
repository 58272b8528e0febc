"""Crops around holes, and the networks that look at them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lazydiffusion.errors import BadInput, BadModel
from lazydiffusion.evaluation import features
from lazydiffusion.evaluation.features import EfficientNetLite0, Inception, hole_crops, load_features, resized

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def network() -> Iterator[EfficientNetLite0]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two that wait for each other on busy cores are slower than one
    yield EfficientNetLite0()
    torch.set_num_threads(threads)


def a_hole(top: int, left: int, height: int, width: int, side: tuple[int, int] = (100, 100)) -> Tensor:
    hole = torch.zeros(1, 1, *side, dtype=torch.bool)
    hole[..., top : top + height, left : left + width] = True
    return hole


def places(height: int = 100, width: int = 100) -> Tensor:
    """A picture whose first two channels tell each pixel's row and column."""
    y, x = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij"))
    return torch.cat([grid, torch.zeros(1, height, width)])[None]


def seen(crop: Tensor, height: int = 100, width: int = 100) -> tuple[int, int, int, int]:
    """First and last row, first and last column of the picture that a crop of its own size shows."""
    rows, columns = (crop[0, 0, :, 0] + 1) / 2 * (height - 1), (crop[0, 1, 0] + 1) / 2 * (width - 1)
    return round(rows[0].item()), round(rows[-1].item()), round(columns[0].item()), round(columns[-1].item())


def test_the_holes_longer_side_is_four_fifths_of_the_crop() -> None:
    crop = hole_crops(places(), a_hole(30, 40, 40, 10), side=50)
    assert crop.shape == (1, 3, 50, 50)
    assert seen(crop) == (25, 74, 20, 69)  # 50 px around the centre, which is at (50, 45)


def test_a_crop_that_would_stick_out_is_moved_inside() -> None:
    assert seen(hole_crops(places(), a_hole(0, 95, 40, 5), side=50)) == (0, 49, 50, 99)


def test_a_crop_larger_than_the_picture_is_the_picture() -> None:
    assert seen(hole_crops(places(), a_hole(5, 5, 90, 90), side=100)) == (0, 99, 0, 99)
    wide = places(60, 100)
    crop = hole_crops(wide, a_hole(10, 50, 30, 48, (60, 100)), side=60)
    assert seen(crop, 60, 100) == (0, 59, 40, 99)


def test_crops_are_resized_without_aliasing() -> None:
    stripes = torch.where(torch.arange(100) % 2 == 0, -1.0, 1.0).expand(1, 3, 100, 100)
    small = hole_crops(stripes, a_hole(10, 10, 64, 64), side=20)
    assert small.abs().max() < 0.2
    large = hole_crops(stripes, a_hole(48, 48, 4, 4), side=224)
    assert large.shape == (1, 3, 224, 224)
    assert large.abs().max() <= 1


def test_every_picture_has_its_own_crop() -> None:
    holes = torch.cat([a_hole(0, 0, 20, 20), a_hole(80, 80, 20, 20)])
    crops = hole_crops(places().expand(2, -1, -1, -1), holes, side=25)
    assert seen(crops[:1]) == (0, 24, 0, 24)
    assert seen(crops[1:]) == (75, 99, 75, 99)


def test_a_picture_without_a_hole_is_refused() -> None:
    holes = torch.cat([a_hole(0, 0, 20, 20), a_hole(0, 0, 0, 0)])
    with pytest.raises(BadInput, match="Picture 1 has no hole"):
        hole_crops(places().expand(2, -1, -1, -1), holes)


def test_features_do_not_depend_on_the_batch(
    network: EfficientNetLite0, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = network(pictures)
    assert whole.shape == (3, network.channels) == (3, 1280)
    assert whole.dtype == torch.float32
    assert min(torch.dist(whole[0], whole[1]), torch.dist(whole[0], whole[2])) > 1
    monkeypatch.setattr(features, "BATCH", 2)
    assert torch.allclose(network(pictures), whole, atol=1e-4)
    torch.nn.Linear(1280, 1)(whole).sum().backward()  # may be trained on


def test_the_network_knows_what_it_sees(network: EfficientNetLite0) -> None:
    """Its own classifier takes a shaded orange disc on green for a ball: weights and normalisation fit together."""
    line = torch.linspace(-1, 1, 224)
    distance = torch.hypot(line[:, None], line[None])
    shade = (1 - 0.5 * torch.hypot(line[:, None] + 0.3, line[None] + 0.3)).clamp(0, 1)
    orange = torch.tensor([1.0, 0.5, 0.05])[:, None, None] * shade
    picture = torch.where(distance < 0.6, orange, torch.tensor([0.15, 0.35, 0.1])[:, None, None]) * 2 - 1
    best = network.network._fc(network(picture[None])).topk(3).indices[0].tolist()
    assert 722 in best  # ImageNet's ping-pong ball


def test_large_pictures_are_reduced_first(network: EfficientNetLite0) -> None:
    picture = torch.rand(1, 3, 448, 448, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert torch.allclose(network(picture), network(resized(picture, 224)), atol=1e-5)


def test_weights_that_were_altered_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "EFFICIENTNET_SHA256", "0" * 64)
    with pytest.raises(BadModel, match="is not the file that was published"):
        EfficientNetLite0()


def test_a_missing_wheel_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(BadInput, match=r"efficientnet_lite_pytorch.*pip install lazydiffusion\[eval\]"):
        EfficientNetLite0()


def test_networks_are_loaded_by_name_or_by_path(tmp_path: Path) -> None:
    assert load_features().name == "efficientnet-lite0"
    with pytest.raises(BadInput, match="no features 'vgg': use efficientnet-lite0"):
        load_features("vgg")
    with pytest.raises(BadInput, match=r"torch-fidelity|are missing"):
        load_features(str(tmp_path / "weights.pth"))


def test_inception_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(BadInput, match="install it with `pip install torch-fidelity`"):
        Inception(tmp_path / "weights.pth")


def test_inception_runs_only_on_the_published_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where torch-fidelity is installed: the real network with random weights in the place of FID's."""
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    file = tmp_path / "weights.pth"
    with pytest.raises(BadInput, match="are missing: give the path"):
        Inception(file)
    with monkeypatch.context() as context:
        context.setattr(torch, "load", lambda *_, **__: None)
        context.setattr(torch.nn.Module, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        random = module.FeatureExtractorInceptionV3("random", ["2048"], feature_extractor_weights_path="none")
    torch.save(random.state_dict(), file)
    with pytest.raises(BadModel, match=r"is not the file that was published.*expected 6726825d"):
        Inception(file)
    monkeypatch.setattr(features, "INCEPTION_SHA256", "")
    pictures = torch.rand(2, 3, 64, 64) * 2 - 1
    made = Inception(file)(pictures)
    assert made.shape == (2, 2048)
    assert torch.equal(made, random(((pictures + 1) * 127.5).round().to(torch.uint8))[0])

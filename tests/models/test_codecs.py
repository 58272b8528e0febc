"""Pixels to tokens and back: known values are known, fills land in place, and a pipeline can save and load a codec."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from diffusers import DiffusionPipeline
from hypothesis import given
from torch import Tensor

from lazydiffusion.models.codecs import PixelCodec
from lazydiffusion.models.extension import extend
from lazydiffusion.models.patches import patchify

pytestmark = pytest.mark.unit


class OneCodec(DiffusionPipeline):
    """A pipeline of nothing but a codec."""

    def __init__(self, codec: PixelCodec) -> None:
        super().__init__()
        self.register_modules(codec=codec)


def a_window(rows: int, cols: int, token_px: int, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, rows * token_px, cols * token_px, generator=torch.manual_seed(seed)) * 2 - 1


@given(rows=st.integers(1, 5), cols=st.integers(1, 5), seed=st.integers(0, 99), data=st.data())
def test_only_the_given_tokens_pixels_change(rows: int, cols: int, seed: int, data: st.DataObject) -> None:
    codec = PixelCodec(patch=4)
    window = a_window(rows, cols, 4, seed)
    hole = torch.rand(1, 1, rows * 4, cols * 4) > 0.5
    chosen = data.draw(st.lists(st.integers(0, rows * cols - 1), min_size=1, unique=True))
    encoded = codec.encode(window, hole, torch.tensor([chosen]))

    assert encoded.tokens.shape == encoded.keep.shape == (1, len(chosen), codec.token_channels)
    assert torch.equal(encoded.window, extend(window, hole))
    assert not encoded.tokens[encoded.keep].any()  # what is visible differs from nothing
    torch.testing.assert_close(
        patchify(codec.decode(encoded.tokens, encoded), 4)[:, chosen], patchify(window, 4)[:, chosen]
    )

    variations = torch.rand(2, len(chosen), codec.token_channels) - 0.5
    decoded = patchify(codec.decode(variations, encoded), 4)
    base = patchify(encoded.window, 4).expand(2, -1, -1)
    others = sorted(set(range(rows * cols)) - set(chosen))
    torch.testing.assert_close(decoded[:, chosen], (base[:, chosen] + variations).clamp(-1, 1))
    assert torch.equal(decoded[:, others], base[:, others])


def test_visible_pixels_are_exact_where_nothing_is_added() -> None:
    codec = PixelCodec()
    window, hole = a_window(4, 4, 16), torch.rand(1, 1, 64, 64) > 0.7

    encoded = codec.encode(window, hole, torch.tensor([[3, 7, 8]]))

    visible = ~hole.expand_as(window)
    assert torch.equal(codec.decode(encoded.tokens, encoded)[visible], window[visible])


def test_another_picture_can_be_the_start() -> None:
    """Its tokens, decoded in place, are that picture: the hidden part too."""
    codec = PixelCodec(patch=8)
    window, picture = a_window(3, 3, 8), a_window(3, 3, 8, seed=1)
    everything = torch.arange(9)[None]
    encoded = codec.encode(window, torch.rand(1, 1, 24, 24) > 0.5, everything)

    start = codec.encode_picture(picture, encoded)

    torch.testing.assert_close(codec.decode(start, encoded), picture)


def test_a_value_is_known_where_its_pixel_is_visible() -> None:
    codec = PixelCodec(patch=2)
    hole = torch.zeros(1, 1, 2, 4, dtype=torch.bool)
    hole[..., 0, 3] = True  # the upper right pixel of the second token

    encoded = codec.encode(a_window(1, 2, 2), hole, torch.tensor([[1, 0]]))

    upper_right = [False] * 3 + [True] * 3 + [False] * 6  # values run over rows, columns, colours
    assert (~encoded.keep[0, 0]).tolist() == upper_right
    assert encoded.keep[0, 1].all()


def test_what_is_decoded_stays_in_range() -> None:
    codec = PixelCodec(patch=2)
    encoded = codec.encode(a_window(1, 1, 2), torch.ones(1, 1, 2, 2, dtype=torch.bool), torch.tensor([[0]]))

    assert codec.decode(torch.full((1, 1, 12), 3.0), encoded).unique().tolist() == [1.0]
    assert codec.token_px == 2


def test_a_window_that_is_no_whole_number_of_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="30 x 32 px"):
        PixelCodec().encode(
            torch.zeros(1, 3, 32, 30), torch.ones(1, 1, 32, 30, dtype=torch.bool), torch.tensor([[0]])
        )


def test_a_pipeline_saves_and_loads_a_codec_without_weights(tmp_path: Path) -> None:
    OneCodec(PixelCodec(patch=8)).save_pretrained(tmp_path)
    assert [path.name for path in (tmp_path / "codec").iterdir()] == ["config.json"]

    pipeline = OneCodec.from_pretrained(tmp_path, dtype=torch.bfloat16)

    assert isinstance(pipeline.codec, PixelCodec)
    assert pipeline.codec.token_px == 8
    assert (pipeline.codec.dtype, pipeline.codec.device) == (torch.bfloat16, torch.device("cpu"))

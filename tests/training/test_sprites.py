"""Sprite shards to a sprite bank: what is read, how it is scaled, and what a damaged copy says."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lazydiffusion.errors import BadInput, CannotWrite
from lazydiffusion.training.shards import decode_sprite, index_shard, write_shards
from lazydiffusion.training.sprites import SpriteBank, load_bank

pytestmark = pytest.mark.unit

Sprites = list[tuple[str, bytes, dict[str, object]]]


def encoded(pixels: npt.NDArray[np.uint8]) -> bytes:
    """An (H, W, 4) picture as a lossless WebP that keeps the colour of transparent pixels."""
    file = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(file, "WEBP", lossless=True, exact=True)
    return file.getvalue()


def disc(side: int, colour: tuple[int, int, int], hidden: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """An opaque disc; the transparent pixels around it hide another colour."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    pixels = np.empty((side, side, 4), np.uint8)
    pixels[..., :3], pixels[..., 3] = hidden, 0
    pixels[np.hypot(x, y) < side * 0.4] = (*colour, 255)
    return pixels


def some_sprites(count: int = 5, side: int = 32) -> Sprites:
    return [
        (
            f"{number:016x}",
            encoded(disc(side, (40 * number, 200, 30), (0, 0, 255))),
            {
                "set": "cd"[number % 2],
                "style": "flat",
                "name": f"n{number}",
                "captions": [f"n{number}", "n, tag"],
            },
        )
        for number in range(count)
    ]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    assert len(write_shards(folder, some_sprites(), shard_bytes=500)) > 1
    return folder


def test_a_bank_holds_every_sprite_with_its_labels_in_the_shards_order(shards: Path) -> None:
    bank = load_bank(shards, side=16, workers=1)

    assert bank.pixels.shape == (5, 4, 16, 16)
    assert bank.pixels.dtype == torch.uint8
    assert bank.side == 16
    assert bank.keys == [f"{number:016x}" for number in range(5)]
    assert bank.captions[3] == ["n3", "n, tag"]
    assert bank.styles == ["flat"] * 5
    assert [bank.set_names[number] for number in bank.sets] == ["c", "d", "c", "d", "c"]
    assert bank.pixels[:, 0, 8, 8].tolist() == [0, 40, 80, 120, 160]  # each disc's red


def test_processes_decode_the_same_pixels_as_one(shards: Path) -> None:
    seen: list[tuple[int, int]] = []
    many = load_bank(shards, side=16, workers=2, progress=lambda done, total: seen.append((done, total)))

    assert torch.equal(many.pixels, load_bank(shards, side=16, workers=1).pixels)
    assert seen == [(5, 5)]


@pytest.mark.parametrize("side", [32, 16, 12, 48])
def test_the_colour_of_transparent_pixels_never_shows(side: int) -> None:
    pixels = decode_sprite(encoded(disc(32, (255, 0, 0), hidden=(0, 0, 255))), side)

    assert pixels.shape == (4, side, side)
    assert pixels[0].max() >= 254  # the disc is there,
    assert pixels[2].max() == 0  # and not a trace of the blue around it, at the smoothed rim as little


@given(st.integers(0, 2**32 - 1), st.sampled_from([8, 7, 16, 24]))
def test_premultiplied_colour_never_exceeds_alpha(seed: int, side: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (16, 16, 4), dtype=np.uint8)

    pixels = decode_sprite(encoded(noise), side)

    assert (pixels[:3] <= pixels[3]).all()


def test_a_fraction_of_the_side_is_the_area_average() -> None:
    quarters = np.zeros((4, 4, 4), np.uint8)
    quarters[:2, :2] = (200, 100, 0, 255)

    assert decode_sprite(encoded(quarters), 1).ravel().tolist() == [50, 25, 0, 64]


def test_a_level_is_the_area_average_and_made_once(shards: Path) -> None:
    bank = load_bank(shards, side=16, workers=1)
    bank.pixels[:, :, :2, :2] = torch.tensor([[0, 1], [2, 4]], dtype=torch.uint8)

    level = bank.level(8)

    assert level.shape == (5, 4, 8, 8)
    assert level[0, 0, 0, 0] == 2  # 7 / 4
    assert bank.level(8) is level
    assert bank.level(16) is bank.pixels
    assert (level[:, :3] <= level[:, 3:]).all()


@pytest.mark.parametrize("side", [0, -4, 5, 32])
def test_a_level_that_does_not_divide_the_side_is_refused(shards: Path, side: int) -> None:
    with pytest.raises(BadInput, match=f"no level of {side} px: it must divide 16"):
        load_bank(shards, side=16, workers=1).level(side)


def test_a_subset_keeps_what_belongs_to_each_sprite(shards: Path) -> None:
    bank = load_bank(shards, side=16, workers=1)
    bank.level(8)

    part = bank.subset(torch.tensor([False, True, False, True, True]))

    assert len(part) == 3
    assert part.keys == [f"{number:016x}" for number in (1, 3, 4)]
    assert part.pixels[:, 0, 8, 8].tolist() == [40, 120, 160]
    assert part.captions[1][0] == "n3"
    assert [part.set_names[number] for number in part.sets] == ["d", "d", "c"]
    assert torch.equal(part.level(8), bank.level(8)[[1, 3, 4]])
    assert torch.equal(part.to("cpu").pixels, part.pixels)


def test_some_sets_are_all_of_their_sprites_and_no_others(shards: Path) -> None:
    bank = load_bank(shards, side=16, workers=1)
    part = bank.of_sets(["d"])
    assert part.keys == [
        key for key, number in zip(bank.keys, bank.sets, strict=True) if bank.set_names[number] == "d"
    ]
    assert 0 < len(part) < len(bank)
    assert bank.of_sets(bank.set_names).keys == bank.keys
    with pytest.raises(BadInput, match="There is no set 'x' among the sprites; there are c, d"):
        bank.of_sets(["d", "x"])


def test_what_is_held_out_depends_on_the_key_alone() -> None:
    def bank(keys: list[str]) -> SpriteBank:
        pixels = torch.zeros(len(keys), 4, 2, 2, dtype=torch.uint8)
        sets = torch.zeros(len(keys), dtype=torch.int64)
        return SpriteBank(pixels, [["a"]] * len(keys), sets, ["s"], ["flat"] * len(keys), keys)

    keys = [f"{(number * 2654435761) % 2**64:016x}" for number in range(4000)] + ["my-cat", "a dog"]
    held_out = bank(keys).held_out()

    assert held_out.dtype == torch.bool
    assert 30 < held_out.sum() < 100  # 62 expected
    assert torch.equal(bank(keys[::-1]).held_out(), held_out.flip(0))
    assert bank(["00000000000000c0", "00000000000000c1"]).held_out().tolist() == [True, False]


def test_the_cache_is_used_until_the_shards_change(shards: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    decoded: list[int] = []

    def load() -> SpriteBank:
        return load_bank(
            shards, 16, workers=1, cache=cache, progress=lambda done, total: decoded.append(done)
        )

    fresh = load()
    pixels = fresh.pixels.clone()
    assert decoded == [5]
    kept = load()
    assert decoded == [5]  # nothing was decoded again
    assert torch.equal(kept.pixels, pixels)
    assert (kept.captions, kept.keys, kept.set_names) == (fresh.captions, fresh.keys, fresh.set_names)

    kept.pixels.zero_()  # the bank is the caller's; the cache is not
    assert torch.equal(load().pixels, pixels)

    for shard in shards.iterdir():
        shard.unlink()
    write_shards(shards, some_sprites(4))
    assert len(load()) == 4
    assert decoded == [5, 4]
    assert len(list(cache.iterdir())) == 2  # pixels and labels; the old ones are gone


@pytest.mark.parametrize("content", [None, b"", b"half"])
@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_damaged_cache_is_built_again(
    shards: Path, tmp_path: Path, suffix: str, content: bytes | None
) -> None:
    pixels = load_bank(shards, 16, workers=1, cache=tmp_path).pixels.clone()
    damaged = next(tmp_path.glob("*" + suffix))
    damaged.unlink()
    if content is not None:
        damaged.write_bytes(content)

    assert torch.equal(load_bank(shards, 16, workers=1, cache=tmp_path).pixels, pixels)


def test_a_cache_that_cannot_be_written_says_so(shards: Path, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()

    with pytest.raises(CannotWrite, match="sprite cache"):
        load_bank(shards, 16, workers=1, cache=in_the_way / "cache")


def test_no_shards_says_how_to_build_them(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has no sprite shards.*lazydiffusion data clipart --out DIR"):
        load_bank(tmp_path)
    with pytest.raises(BadInput, match=r"is not a folder.*lazydiffusion data clipart --out DIR"):
        load_bank(tmp_path / "nowhere")
    write_shards(tmp_path, [])
    tarfile.open(tmp_path / "empty.tar", "w").close()
    with pytest.raises(BadInput, match="hold no sprites"):
        load_bank(tmp_path)
    with pytest.raises(BadInput, match="at least 1"):
        load_bank(tmp_path, side=0)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_broken_image_is_named(tmp_path: Path, workers: int) -> None:
    sprites = some_sprites(3)
    sprites[1] = ("badbadbadbadbad0", b"not a picture", sprites[1][2])
    write_shards(tmp_path, sprites)

    with pytest.raises(BadInput, match=r"badbadbadbadbad0 in .*clipart-000.tar cannot be decoded"):
        load_bank(tmp_path, 16, workers=workers)


def test_a_picture_that_is_not_square_is_named(tmp_path: Path) -> None:
    write_shards(tmp_path, [("00", encoded(disc(32, (9, 9, 9), (0, 0, 0))[:20]), {**some_sprites(1)[0][2]})])

    with pytest.raises(BadInput, match="32 x 20 px is not square"):
        load_bank(tmp_path, 16, workers=1)


@pytest.mark.parametrize("labels", [{}, {"set": "s", "style": "flat", "captions": []}, {"captions": "n"}])
def test_labels_without_captions_are_named(tmp_path: Path, labels: dict[str, object]) -> None:
    write_shards(tmp_path, [("00ff", some_sprites(1)[0][1], labels)])

    with pytest.raises(BadInput, match=r"sample 00ff in .* has unusable labels"):
        load_bank(tmp_path, 16, workers=1)


def test_a_cut_off_shard_is_told_from_a_whole_one(shards: Path) -> None:
    shard = shards / "clipart-000.tar"
    whole = shard.read_bytes()
    with tarfile.open(shard) as tar:
        image = tar.getmembers()[0]

    shard.write_bytes(whole[: image.offset_data + image.size // 2])
    with pytest.raises(BadInput, match=r"clipart-000.tar cannot be read"):
        index_shard(shard)
    shard.write_bytes(whole[: image.offset_data + 512])  # ends between the image and its JSON
    with pytest.raises(BadInput, match=r"clipart-000.tar (is incomplete|cannot be read)"):
        index_shard(shard)


def test_shards_are_webdataset_tars_that_repeat_byte_for_byte(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    written = write_shards(first, some_sprites())
    write_shards(second, iter(some_sprites()))

    assert [shard.name for shard in written] == ["clipart-000.tar"]
    with tarfile.open(written[0]) as tar:
        assert tar.getnames()[:3] == ["0" * 16 + ".webp", "0" * 16 + ".json", "0" * 15 + "1.webp"]
        labels = tar.extractfile("0" * 16 + ".json")
        assert labels is not None
        assert json.load(labels) == some_sprites()[0][2]
    assert written[0].read_bytes() == (second / "clipart-000.tar").read_bytes()

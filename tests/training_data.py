"""A training set so small that a whole run takes seconds."""

from __future__ import annotations

from pathlib import Path

from tests import tiny

from lazydiffusion.training.settings import Data, Optimiser, Output, Settings
from lazydiffusion.training.shards import write_shards
from lazydiffusion.training.sprites import load_bank


def disc_data(folder: Path, buckets: tuple[int, ...]) -> Data:
    """Twelve discs in shards, decoded already; three of them are held out. `buckets`: all as likely."""
    (folder / "shards").mkdir()
    write_shards(folder / "shards", tiny.shard_sprites())
    load_bank(folder / "shards", side=32, workers=1, cache=folder / "cache")
    return Data(
        shards=str(folder / "shards"), cache=str(folder / "cache"), sprite_side=32, captions=2,
        window_tokens=4, overview_tokens=2, buckets=buckets, bucket_weights=(1.0,) * len(buckets),
    )  # fmt: skip


def run_settings(data: Data, folder: Path, steps: int = 4) -> Settings:
    """A run of a few steps of tiny networks, with a report after each."""
    return Settings(
        encoder=tiny.ENCODER | {"window_tokens": 4, "overview_tokens": 2},
        decoder=tiny.DECODER,
        data=data,
        optimiser=Optimiser(batch=4, steps=steps, warm_up=1, ema=0.5),
        output=Output(folder=str(folder), log_every=1, samples=4, sample_steps=2),
        compile=False,
    )

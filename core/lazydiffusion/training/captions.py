"""Word states of every training caption, encoded once: a step then only looks them up."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lazydiffusion.models.prompt_encoder import PromptEncoder
from lazydiffusion.training.cached_tensors import cached
from lazydiffusion.training.sprites import SpriteBank

LENGTH = 16
"""Words (with the two special ones) kept of a caption; longer ones are cut."""


class CaptionBank:
    """All captions of a sprite bank as word states on one device, float16."""

    def __init__(self, states: Tensor, lengths: Tensor, rows: Tensor, first: Tensor, count: Tensor):
        self._states, self._lengths = states, lengths
        self._rows, self._first, self._count = (
            rows,
            first,
            count,
        )  # sprite -> its captions -> row of the states

    def __len__(self) -> int:
        return len(self._states)

    def draw(
        self, sprites: Int64[Tensor, " b"], generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "b l t"], Bool[Tensor, "b l"]]:
        """One random caption for each sprite; the empty prompt where it is -1. States and mask."""
        chance = torch.rand(len(sprites), device=sprites.device, generator=generator)
        known = sprites.clamp_min(0)
        pick = (chance * self._count[known]).long().clamp_max(self._count[known] - 1)
        row = torch.where(sprites < 0, 0, self._rows[self._first[known] + pick])  # row 0 is the empty prompt
        mask = torch.arange(LENGTH, device=row.device) < self._lengths[row][:, None]
        return self._states[row].float(), mask


def captions_of(bank: SpriteBank, each: int) -> list[list[str]]:
    """At most `each` captions a sprite: its name, its name with its style (where it is told), its names with tags."""
    listed = []
    for names, style in zip(bank.captions, bank.styles, strict=True):
        with_style = [f"{names[0]}, {style}"] if style else []
        listed.append(list(dict.fromkeys([names[0], *with_style, *names[1:]]))[:each])
    return listed


def encode_captions(
    bank: SpriteBank,
    encoder: PromptEncoder,
    each: int = 6,
    cache: Path | None = None,
    batch: int = 256,
) -> CaptionBank:
    """Encode `each` captions a sprite; `cache` is a folder where they are kept for the next run with the same ones.

    Raises CannotWrite (the cache).
    """
    listed = captions_of(bank, each)
    texts = list(dict.fromkeys(["", *[text for texts in listed for text in texts]]))
    row_of = {text: row for row, text in enumerate(texts)}
    fingerprint = hashlib.sha256(
        "\n".join([encoder.config.source, str(encoder.config.sha256), str(LENGTH), *texts]).encode()
    ).hexdigest()[:16]
    stored = cached(cache, f"captions-{fingerprint}", lambda: _encode(texts, encoder, batch))
    device = bank.sets.device
    rows = [row_of[text] for texts in listed for text in texts]
    count = torch.tensor([len(texts) for texts in listed])
    return CaptionBank(
        states=stored["states"].to(device),
        lengths=stored["lengths"].to(device),
        rows=torch.tensor(rows, device=device),
        first=(count.cumsum(0) - count).to(device),
        count=count.to(device),
    )


def _encode(texts: list[str], encoder: PromptEncoder, batch: int) -> dict[str, Tensor]:
    """By length, so that a batch has little padding."""
    states = torch.zeros(len(texts), LENGTH, encoder.channels, dtype=torch.float16)
    lengths = torch.zeros(len(texts), dtype=torch.long)
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    for start in range(0, len(order), batch):
        rows = torch.tensor(order[start : start + batch])
        words, mask = encoder([texts[row] for row in rows.tolist()])
        length = min(LENGTH, words.shape[1])
        states[rows, :length] = words[:, :length].half().cpu()
        lengths[rows] = mask.sum(1).clamp_max(LENGTH).cpu()
    return {"states": states, "lengths": lengths}

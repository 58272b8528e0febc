"""Features of the bank's sprites on plain backgrounds, computed once, and the training of small heads on them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor, nn

from lazydiffusion.errors import BadInput
from lazydiffusion.evaluation.features import BATCH, FeatureNetwork
from lazydiffusion.training.cached_tensors import cached
from lazydiffusion.training.sprites import Progress, SpriteBank

SIDE = 224
"""Side of a rendered sprite's picture, px: that of features.hole_crops."""
SMALLEST, LARGEST = 0.45, 0.85
"""A sprite's side in sides of its picture: in a crop around a hole, the object is a little smaller than the hole."""
FORMAT = 1  # raise when the pictures or features of the same bank would come out different


def render(
    sprites: UInt8[Tensor, "b 4 s s"], generator: torch.Generator, side: int = SIDE
) -> Float[Tensor, "b 3 side side"]:
    """Each sprite (premultiplied RGBA) at a random size and place, half of them mirrored, on a plain background."""
    batch, device = len(sprites), sprites.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, device=device, generator=generator)

    size = uniform(SMALLEST, LARGEST, batch)
    shift = uniform(-1, 1, batch, 2) * (1 - size)[:, None] / 2  # up to half of what is left beside the sprite
    mirrored = torch.where(uniform(0, 1, batch) < 0.5, -1.0, 1.0)
    zero = torch.zeros_like(size)
    theta = torch.stack(
        [
            torch.stack([mirrored / size, zero, shift[:, 0] / size], dim=1),
            torch.stack([zero, 1 / size, shift[:, 1] / size], dim=1),
        ],
        dim=1,
    )  # (B, 2, 3)
    grid = F.affine_grid(theta, [batch, 4, side, side], align_corners=False)
    painted = F.grid_sample(sprites.float() / 255, grid, align_corners=False)
    # As in the scenes: half of the backgrounds are pale, and many are white.
    colour = uniform(0, 1, batch, 3)
    colour = torch.where(uniform(0, 1, batch, 1) < 0.5, 0.6 + 0.4 * colour, colour)
    colour = torch.where(uniform(0, 1, batch, 1) < 0.3, 1.0, colour)
    picture = painted[:, :3] + (1 - painted[:, 3:]) * colour[:, :, None, None]
    return (2 * picture - 1).clamp(-1, 1)


def sprite_features(
    network: FeatureNetwork,
    bank: SpriteBank,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Float32[Tensor, "n c"]:
    """Features of every sprite of the bank, rendered once each; always the same for the same bank.

    `cache`: a folder where they are kept for the next call. Raises CannotWrite.
    """

    def compute() -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(0)
        parts, done = [], 0
        for pixels in bank.pixels.cpu().split(BATCH):
            parts.append(network(render(pixels, generator).to(bank.pixels.device)).half())
            done += len(pixels)
            if progress is not None:
                progress(done, len(bank))
        return {"features": torch.cat(parts)}

    name = f"sprite-features-{fingerprint(network, bank)}"
    return cached(cache, name, compute)["features"].float().to(bank.pixels.device)


def split(bank: SpriteBank) -> tuple[Int64[Tensor, " t"], Int64[Tensor, " h"]]:
    """Rows of the sprites to train on, and of those held out. Raises BadInput for a bank that lacks either."""
    held_out = bank.held_out()
    rows = (~held_out).nonzero().flatten(), held_out.nonzero().flatten()
    if not all(map(len, rows)):
        raise BadInput(
            f"{len(rows[1])} of {len(bank)} sprites are held out: a score needs some to be trained on and some to be "
            "measured on. Give it the whole bank."
        )
    return rows


def fit(
    head: nn.Module,
    loss: Callable[[Int64[Tensor, " b"]], Float[Tensor, ""]],
    rows: Int64[Tensor, " n"],
    *,
    epochs: int,
    batch: int = 512,
    rate: float = 1e-3,
) -> None:
    """Train the head in place: AdamW, its rate falling to 0, on the loss of random batches of the rows."""
    optimiser = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=0.05)
    steps = epochs * -(-len(rows) // batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    head.train()
    for _ in range(epochs):
        for part in rows[torch.randperm(len(rows)).to(rows.device)].split(batch):
            optimiser.zero_grad()
            loss(part).backward()
            optimiser.step()
            schedule.step()
    head.eval().requires_grad_(False)


def fingerprint(network: FeatureNetwork, bank: SpriteBank, *settings: object) -> str:
    """A digest of what features, and what is trained on them with these settings, depend on."""
    parts = [FORMAT, network.name, bank.side, SIDE, SMALLEST, LARGEST, *settings, *bank.keys]
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]

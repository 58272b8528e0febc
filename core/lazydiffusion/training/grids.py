"""Sample grids: held-out scenes with their hole, the fill, and the truth, to be looked at during a training."""

from __future__ import annotations

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from jaxtyping import Float
from torch import Tensor

from lazydiffusion.models.patches import gather, patchify, scatter, unpatchify
from lazydiffusion.pipelines.sampling import Guidance, Known, denoise
from lazydiffusion.training.objective import LazyObjective
from lazydiffusion.training.scenes import Scenes, masked_view
from lazydiffusion.window import PATCH

HOLE_COLOUR = (0.3, 0.3, 0.35)
ACROSS = 4


@torch.no_grad()
def fill_scenes(
    model: LazyObjective,
    scenes: Scenes,
    text: Tensor,
    text_mask: Tensor,
    *,
    steps: int,
    guidance: Guidance,
    scheduler: FlowMatchEulerDiscreteScheduler,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "b 3 s s"]:
    """The scenes' pictures with their holes filled by the model; kept pixels are the scenes' own.

    Hidden tokens beyond the scenes' bucket stay as the smooth extension: nothing of the truth is ever shown as a fill.
    """
    encoder, decoder, indices = model.encoder, model.decoder, scenes.indices
    seen = masked_view(scenes.window, scenes.hole)
    context = encoder(
        seen,
        masked_view(scenes.overview, scenes.overview_hole),
        scenes.window_positions,
        scenes.overview_positions,
        indices,
    )
    positions = gather(scenes.window_positions, indices)
    sketch = gather(patchify(scenes.sketch, PATCH), indices)
    conditional = decoder.prepare(context, text, text_mask, positions, sketch)
    nothing = decoder.without_prompt(len(text), text.shape[1])
    unconditional = decoder.prepare(context, *nothing, positions, sketch)
    rows = round(scenes.window_positions.shape[1] ** 0.5)
    hidden = gather(patchify(scenes.hole.expand(-1, 3, -1, -1).float(), PATCH), indices) > 0
    noise = torch.randn(hidden.shape, device=scenes.window.device, generator=generator)
    scheduler.set_timesteps(steps, device=noise.device)
    known = Known(torch.zeros_like(noise), noise, ~hidden)
    tokens = denoise(decoder, scheduler, noise, conditional, unconditional, guidance, known=known)
    differences = scatter(torch.zeros_like(patchify(scenes.window, PATCH)), indices, tokens)
    filled = seen[:, :3] + unpatchify(differences, (rows, rows), PATCH)
    return torch.where(scenes.hole, filled.clamp(-1, 1), scenes.window)


def contact_sheet(scenes: Scenes, filled: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "3 h w"]:
    """Rows of (hole, fill, truth), ACROSS scenes side by side; 0..1."""
    colour = torch.tensor(HOLE_COLOUR, device=filled.device)[None, :, None, None]
    holed = torch.where(scenes.hole, colour, scenes.window)
    cells = torch.cat([holed, filled, scenes.window], dim=3) / 2 + 0.5  # (B, 3, s, 3 s)
    cells = torch.nn.functional.pad(cells, (2, 6, 2, 6), value=1.0)
    across = min(ACROSS, len(cells))
    count = len(cells) // across * across
    rows = [torch.cat(list(cells[i : i + across]), dim=2) for i in range(0, count, across)]
    return torch.cat(rows, dim=1).clamp(0, 1).cpu()

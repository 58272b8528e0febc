"""`lazydiffusion sweep`: seams, steps and guidance of a model on held-out scenes, as figures and pictures.

Every number in the model card comes from this command's report.json.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from lazydiffusion import compose, output_folder
from lazydiffusion.errors import BadInput
from lazydiffusion.evaluation.cases import HOLES, held_out_sprites
from lazydiffusion.evaluation.seams import LEVELS, seam
from lazydiffusion.models.prompt_encoder import PromptEncoder
from lazydiffusion.pipelines.lazy import LazyDiffusionPipeline
from lazydiffusion.pipelines.sampling import Guidance
from lazydiffusion.training.captions import encode_captions
from lazydiffusion.training.grids import fill_scenes
from lazydiffusion.training.objective import LazyObjective, Objective
from lazydiffusion.training.scenes import SceneMaker, Scenes, Shares
from lazydiffusion.training.sprites import SpriteBank, load_bank
from lazydiffusion.training.vocabulary import Vocabulary

REFERENCE_STEPS = 100
STEPS = (4, 8, 12, 16, 20, 32, 50)
GUIDANCES = (1.0, 1.5, 2.0, 2.5, 3.5, 5.0)
SEED = 0
SHOWN = 6
"""Scenes in the pictures."""
FILES = REPORT, STEPS_SHEET, GUIDANCE_SHEET = "report.json", "steps.png", "guidance.png"
"""What is written."""


def sweep(
    pipeline: LazyDiffusionPipeline,
    shards: Path,
    out: Path,
    *,
    scenes: int = 64,
    vocabulary: Vocabulary | None = None,
) -> dict[str, object]:
    """Write OUT/report.json, steps.png and guidance.png; gives the report.

    `scenes`: how many, 2 or more; half of them with an object to paint, half with only background to continue.
    `vocabulary`: the only names of these objects. Raises BadInput, and CannotWrite before the work where OUT cannot be
    made.
    """
    check_scenes(scenes)
    output_folder.check(out, FILES)
    device = pipeline.device
    held_out = held_out_sprites(load_bank(shards, side=128), vocabulary).to(device)
    captions = encode_captions(held_out, PromptEncoder().to(device), each=1)
    generator = torch.Generator(device).manual_seed(SEED)
    batch = _scenes(pipeline, held_out, scenes, generator)
    text, mask = captions.draw(batch.sprites, generator)
    model = LazyObjective(pipeline.context_encoder, pipeline.decoder, Objective())
    default_steps, default_guidance = pipeline.config.default_steps, pipeline.config.default_guidance

    def fill(steps: int, guidance: float) -> Tensor:
        noise = torch.Generator(device).manual_seed(SEED + 1)
        guided = Guidance(guidance, pipeline.config.guidance_low, pipeline.config.guidance_high)
        return fill_scenes(
            model,
            batch,
            text,
            mask,
            steps=steps,
            guidance=guided,
            scheduler=pipeline.scheduler,
            generator=noise,
        )

    def judged(filled: Tensor) -> dict[str, object]:
        truth = _distance(filled, batch.window, batch)
        return {"distance_to_truth": truth, "seam": asdict(seam(filled, batch.hole))}

    reference = fill(REFERENCE_STEPS, default_guidance)
    by_steps, pictures = [], []
    for steps in STEPS:
        start = time.perf_counter()
        filled = fill(steps, default_guidance)
        seconds = time.perf_counter() - start
        row = {"steps": steps, "distance_to_100_steps": _distance(filled, reference, batch)}
        by_steps.append({**row, **judged(filled), "seconds_per_fill": seconds / scenes})
        pictures.append((f"{steps} steps", filled))
    steps_sheet = _sheet(batch, [*pictures, (f"{REFERENCE_STEPS} steps", reference)])
    by_guidance, pictures = [], []
    for guidance in GUIDANCES:
        filled = fill(default_steps, guidance)
        by_guidance.append({"guidance": guidance, **judged(filled)})
        pictures.append((f"guidance {guidance:g}", filled))

    defaults = fill(default_steps, default_guidance)
    background = batch.sprites < 0
    report: dict[str, object] = {
        "scenes": scenes,
        "held_out_sprites": len(held_out),
        "default_steps": default_steps,
        "default_guidance": default_guidance,
        "seam_real": asdict(seam(batch.window, batch.hole)),
        "seam_fill": asdict(seam(defaults, batch.hole)),
        "seam_background_real": asdict(seam(batch.window[background], batch.hole[background])),
        "seam_background_fill": asdict(seam(defaults[background], batch.hole[background])),
        "by_steps": by_steps,
        "by_guidance": by_guidance,
    }
    with output_folder.writing(out):
        steps_sheet.save(out / STEPS_SHEET)
        _sheet(batch, pictures).save(out / GUIDANCE_SHEET)
        (out / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf8")
    return report


def check_scenes(scenes: int) -> None:
    """Raise BadInput for too few scenes."""
    if scenes < 2:
        raise BadInput(f"A sweep takes 2 scenes or more, not {scenes}: half of them hide only background.")


def _scenes(
    pipeline: LazyDiffusionPipeline, bank: SpriteBank, count: int, generator: torch.Generator
) -> Scenes:
    """The first half with an object to paint, the second with only background to continue."""
    config = pipeline.context_encoder.config
    tokens = config.window_tokens, config.overview_tokens
    objects, background = (
        SceneMaker(bank, *tokens, generator, Shares(removal=share, sketched=0)).make(
            number, round(max(HOLES) * config.window_tokens**2)
        )
        for share, number in ((0.0, count - count // 2), (1.0, count // 2))
    )
    return objects.joined(background)


def _distance(first: Tensor, second: Tensor, scenes: Scenes) -> float:
    """Root mean square difference inside the holes, in 8-bit levels."""
    weight = scenes.hole.float()
    error = (first - second).square() * weight
    return float((error.sum() / (3 * weight.sum())).sqrt()) * LEVELS


def _sheet(scenes: Scenes, columns: list[tuple[str, Tensor]]) -> Image.Image:
    """One row per scene with something to paint: the hole, a column per setting, the truth; titles on top."""
    rows = (scenes.sprites >= 0).nonzero().flatten()[:SHOWN]
    holed = torch.where(scenes.hole, torch.full_like(scenes.window, -0.4), scenes.window)
    titled = [("canvas", holed), *columns, ("real", scenes.window)]
    side, gap, head = scenes.window.shape[-1], 6, 18
    sheet = Image.new("RGB", (len(titled) * (side + gap), head + len(rows) * (side + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (title, pictures) in enumerate(titled):
        draw.text((column * (side + gap) + 4, 3), title, fill="black")
        for line, row in enumerate(rows.tolist()):
            tile = compose.to_bytes(pictures[row].permute(1, 2, 0).cpu().numpy())
            sheet.paste(Image.fromarray(tile), (column * (side + gap), head + line * (side + gap)))
    return sheet

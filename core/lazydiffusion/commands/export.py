"""`lazydiffusion export`: from trained weights to a checkpoint that can be installed and verified."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from lazydiffusion import checkpoints, output_folder
from lazydiffusion.engines.names import LAZY, OF_PIPELINE, OWN
from lazydiffusion.errors import BadInput, BadModel, CannotWrite
from lazydiffusion.protocol import EditSettings


def run(weights: Path, out: Path, steps: int, guidance: float, engine: str = LAZY) -> None:
    """Write `out` with both networks in bf16, the codec, the text encoder's name and hash, a scheduler, and hashes.

    Raises BadInput (an engine, or defaults, that no edit could have), BadModel (the weights) and CannotWrite.
    """
    EditSettings(steps=steps, guidance=guidance)  # raises BadInput, as an edit with these would
    if engine not in OWN:
        raise BadInput(
            f"No checkpoint can be made for the engine {engine!r}; it must be one of {', '.join(OWN)}."
        )
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler
    from safetensors import SafetensorError

    from lazydiffusion.engines.lazy import PIPELINES
    from lazydiffusion.models.codecs import PixelCodec
    from lazydiffusion.models.context_encoder import ContextEncoder
    from lazydiffusion.models.lazy_decoder import LazyDecoder
    from lazydiffusion.models.masked_patches import MaskedPatches
    from lazydiffusion.models.prompt_encoder import PromptEncoder
    from lazydiffusion.pipelines.sampling import Guidance

    for part in ("context_encoder", "decoder"):
        if not (weights / part / "config.json").is_file():
            raise BadModel(
                f"{weights} holds no trained weights: {weights / part} is missing. Give a run's `ema` folder."
            )
    [kind] = [kind for name, kind in PIPELINES.items() if OF_PIPELINE[name] == engine]
    encoder = ContextEncoder if engine == LAZY else MaskedPatches
    trained = json.loads((weights / "context_encoder" / "config.json").read_text(encoding="utf8"))
    if trained.get("_class_name") != encoder.__name__:
        raise BadModel(
            f"{weights} was not trained for the engine {engine}: its context comes from a "
            f"{trained.get('_class_name')}, not from a {encoder.__name__}. Say for which: --engine."
        )
    output_folder.check(out, option="OUT", keep=True)
    sampled = weights / "scheduler"  # a run that says nothing of it, from before there were shifts, had none
    scheduler = FlowMatchEulerDiscreteScheduler()
    if sampled.is_dir():
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(sampled)
    guided = Guidance.between_shifted(guidance, scheduler.config.shift)
    pipeline = kind(
        prompt_encoder=PromptEncoder(),
        context_encoder=encoder.from_pretrained(weights / "context_encoder", dtype=torch.bfloat16),
        decoder=LazyDecoder.from_pretrained(weights / "decoder", dtype=torch.bfloat16),
        codec=PixelCodec(),
        scheduler=scheduler,
        default_steps=steps,
        default_guidance=guidance,
        guidance_low=guided.low,
        guidance_high=guided.high,
    )
    try:
        for part in (pipeline.context_encoder, pipeline.decoder):
            part.register_to_config(_name_or_path="")  # diffusers' note of where they were loaded from
        pipeline.save_pretrained(out, safe_serialization=True)
        if (weights / checkpoints.VOCABULARY).is_file():
            shutil.copyfile(weights / checkpoints.VOCABULARY, out / checkpoints.VOCABULARY)
        checkpoints.write_hashes(out)
    except (OSError, SafetensorError) as error:
        raise CannotWrite(f"The checkpoint cannot be written to {out}: {error}.") from error
    checkpoints.verify(out, required=True)
    weights_bytes = sum(path.stat().st_size for path in out.rglob("*.safetensors"))
    print(f"{out}: {weights_bytes / 1e6:.1f} MB of weights.")

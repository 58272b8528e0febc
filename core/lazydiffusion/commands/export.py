"""`lazydiffusion export`: from trained weights to a checkpoint that can be installed and verified."""

from __future__ import annotations

from pathlib import Path

from lazydiffusion import checkpoints
from lazydiffusion.errors import BadModel


def run(weights: Path, out: Path, steps: int, guidance: float) -> None:
    """Write `out` with both networks in bf16, the codec, the text encoder's name and hash, a scheduler, and hashes."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler

    from lazydiffusion.models.codecs import PixelCodec
    from lazydiffusion.models.context_encoder import ContextEncoder
    from lazydiffusion.models.lazy_decoder import LazyDecoder
    from lazydiffusion.models.prompt_encoder import PromptEncoder
    from lazydiffusion.pipelines.lazy import LazyDiffusionPipeline

    for part in ("context_encoder", "decoder"):
        if not (weights / part / "config.json").is_file():
            raise BadModel(
                f"{weights} holds no trained weights: {weights / part} is missing. Give a run's `ema` folder."
            )
    pipeline = LazyDiffusionPipeline(
        prompt_encoder=PromptEncoder(),
        context_encoder=ContextEncoder.from_pretrained(weights / "context_encoder", dtype=torch.bfloat16),
        decoder=LazyDecoder.from_pretrained(weights / "decoder", dtype=torch.bfloat16),
        codec=PixelCodec(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        default_steps=steps,
        default_guidance=guidance,
    )
    pipeline.save_pretrained(out, safe_serialization=True)
    checkpoints.write_hashes(out)
    checkpoints.verify(out, required=True)
    weights_bytes = sum(path.stat().st_size for path in out.rglob("*.safetensors"))
    print(f"{out}: {weights_bytes / 1e6:.1f} MB of weights.")

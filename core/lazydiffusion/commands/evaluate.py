"""`lazydiffusion evaluate`: what the model card reports, measured again."""

from __future__ import annotations

import json
from pathlib import Path

from lazydiffusion import checkpoints


def run(model: str, shards: Path, out: Path, device: str, scenes: int) -> None:
    """Write the report and its pictures to `out`, and print the report."""
    where = checkpoints.locate(model)

    from lazydiffusion.devices import Choice, choose_device
    from lazydiffusion.engines.lazy import load_pipeline
    from lazydiffusion.evaluation.held_out import evaluate

    choice = choose_device(device)
    full_precision = Choice(choice.device, choose_device("cpu").dtype, choice.reason)
    print(json.dumps(evaluate(load_pipeline(where, full_precision), shards, out, scenes=scenes), indent=2))

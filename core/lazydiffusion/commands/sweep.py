"""`lazydiffusion sweep`: what the model card reports, measured again."""

from __future__ import annotations

import json
from pathlib import Path

from lazydiffusion import checkpoints


def run(model: str, data: Path, out: Path, device: str, scenes: int, card: Path | None) -> None:
    """Write the report and its pictures to `out`, its figures into the card, and print the report."""
    where = checkpoints.locate(model)

    from lazydiffusion.devices import Choice, choose_device
    from lazydiffusion.engines.lazy import load_pipeline
    from lazydiffusion.evaluation.card import write_figures
    from lazydiffusion.evaluation.sweeps import sweep

    choice = choose_device(device)
    full_precision = Choice(choice.device, choose_device("cpu").dtype, choice.reason)
    report = sweep(load_pipeline(where, full_precision), data, out, scenes=scenes)
    if card is not None:
        write_figures(card, report)
    print(json.dumps(report, indent=2))

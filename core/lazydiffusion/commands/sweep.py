"""`lazydiffusion sweep`: what the model card reports, measured again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from lazydiffusion import checkpoints, output_folder
from lazydiffusion.evaluation.card import check_card, write_figures
from lazydiffusion.training.vocabulary import find_vocabulary, load_vocabulary


def run(
    model: str, data: Path, out: Path, device: str, scenes: int, card: Path | None, vocabulary: str = ""
) -> None:
    """Write the report and its pictures to `out`, its figures into the card, and print the report.

    What can be checked is checked first. Raises LazyDiffusionError.
    """
    where = checkpoints.locate(model)
    if card is not None:
        check_card(card)
    known = load_vocabulary(find_vocabulary(vocabulary)) if vocabulary else None

    import torch

    from lazydiffusion.devices import choose_device
    from lazydiffusion.engines.lazy import load_pipeline
    from lazydiffusion.evaluation.sweeps import FILES, check_scenes, sweep
    from lazydiffusion.training.shards import find_shards

    choice = choose_device(device)
    check_scenes(scenes)
    find_shards(data)
    output_folder.check(out, FILES)
    full_precision = replace(choice, dtype=torch.float32)
    report = sweep(load_pipeline(where, full_precision), data, out, scenes=scenes, vocabulary=known)
    if card is not None:
        write_figures(card, report)
    print(json.dumps(report, indent=2))

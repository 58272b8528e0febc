"""`lazydiffusion evaluate`: models side by side on scenes that none of them was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lazydiffusion import checkpoints, output_folder
from lazydiffusion.commands.terminal import counted, error_console, say
from lazydiffusion.errors import BadInput
from lazydiffusion.protocol import MAX_SEED, MAX_VARIATIONS


def run(
    models: Sequence[str], engine: str, data: Path, out: Path, count: int, *, seeds: int, sketched: int, device: str,
    features: str, clip: Path | None, cache: Path | None, seed: int,
) -> None:  # fmt: skip
    """Check everything that can be checked, then write the comparison to `out` and print its table.

    Raises LazyDiffusionError.
    """
    if not 1 <= seeds <= MAX_VARIATIONS:
        raise BadInput(f"{seeds} fills of each scene cannot be judged; give 1 to {MAX_VARIATIONS}.")
    if sketched < 0:
        raise BadInput(f"{sketched} scenes cannot be sketched; give 0 or more.")
    if not 0 <= seed <= MAX_SEED:
        raise BadInput(f"The seed is {seed}; it must be between 0 and {MAX_SEED}.")
    # Before the long imports: a wrong name is told at once.
    located = {model: checkpoints.locate(model) for model in models}

    import torch

    from lazydiffusion.devices import choose_device
    from lazydiffusion.engines.choose import fitting_engine, load_engine
    from lazydiffusion.evaluation import comparison_report
    from lazydiffusion.evaluation.cases import check_count, make_cases
    from lazydiffusion.evaluation.comparison import Judges, compare
    from lazydiffusion.evaluation.features import load_features
    from lazydiffusion.evaluation.style import StyleClassifier
    from lazydiffusion.evaluation.text_image import Clip, DualEncoder, TextImageScore
    from lazydiffusion.models.prompt_encoder import PromptEncoder
    from lazydiffusion.training.shards import find_shards
    from lazydiffusion.training.sprites import load_bank

    console = error_console()
    choice = choose_device(device)
    kinds = {model: fitting_engine(model, where, engine) for model, where in located.items()}
    named = {_name(model, kinds): model for model in models}
    check_count(count)
    find_shards(data)
    network = load_features(features, choice.device)
    read_clip = None if clip is None else Clip(clip, choice.device)
    output_folder.check(out, comparison_report.FILES)
    if cache is not None:
        output_folder.check(cache, option="--cache")
    with counted(console, "Reading the sprites") as tell:
        bank = load_bank(data, side=128, cache=cache)
        held_out = bank.subset(bank.held_out())
        side = min(checkpoints.window_tokens(where) for where in located.values())
        cases = make_cases(held_out, count, side, seed)
        looking = partial(tell, "The judges look at the sprites")
        style = StyleClassifier.trained(network, bank, cache, looking)
        judges = {
            "Features": network.name,
            "Style": f"a linear classifier of {len(bank.set_names)} sets of sprites on those features, right for "
            f"{100 * style.held_out_accuracy:.0f} % of the held-out sprites",
        }
        text: TextImageScore
        if read_clip is not None:
            text = read_clip
            judges["Text-image"] = f"cosine of {text.name}"
        else:
            text = encoder = DualEncoder.trained(network, PromptEncoder(), bank, cache, looking)
            judges["Text-image"] = (
                "cosine of a dual encoder trained on the training sprites; by their names it finds "
                f"{100 * encoder.held_out_recall:.0f} % of the held-out ones among 64"
            )
        result = compare(
            {name: partial(load_engine, model, choice) for name, model in named.items()},
            cases, Judges(network, text, style), seeds=seeds, sketched=min(sketched, count), tell=tell,
        )  # fmt: skip
    about = {
        "models": {name: {"model": model, "engine": kinds[model]} for name, model in named.items()},
        "judges": judges,
        "held_out_sprites": len(held_out),
        "canvas_px": side * 16,
        "seeds_per_scene": seeds,
        "device": str(choice.device),
        "torch": torch.__version__,
    }
    comparison_report.write(out, result, cases, about)
    print((out / "table.md").read_text(encoding="utf8"), end="")
    say(console, f"Wrote {out}: results.json, table.md, contact-sheet.png.")


def _name(model: str, kinds: dict[str, str]) -> str:
    """The engine's, or where two models are for the same engine, the model's beside it."""
    same = [other for other, kind in kinds.items() if kind == kinds[model]]
    return kinds[model] if len(same) == 1 else f"{kinds[model]} ({model})"

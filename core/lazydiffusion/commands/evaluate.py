"""`lazydiffusion evaluate`: models side by side on scenes that none of them was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lazydiffusion import checkpoints, output_folder
from lazydiffusion.commands.terminal import counted, error_console, say
from lazydiffusion.errors import BadInput
from lazydiffusion.protocol import MAX_SEED, MAX_VARIATIONS
from lazydiffusion.training.vocabulary import find_vocabulary, load_vocabulary
from lazydiffusion.window import PATCH


@dataclass(frozen=True)
class Options:
    """What the command was given."""

    models: Sequence[str]
    data: Path
    out: Path
    count: int
    """Of the scenes."""
    engine: str = "auto"
    seeds: int = 2
    sketched: int = 0
    features: str = "efficientnet-lite0"
    clip: Path | None = None
    cache: Path | None = None
    seed: int = 0
    vocabulary: str = ""
    """Only scenes with things of these names (training.vocabulary)."""
    device: str = "auto"

    def check(self) -> None:
        """Raise BadInput for numbers out of their ranges."""
        if not 1 <= self.seeds <= MAX_VARIATIONS:
            raise BadInput(f"{self.seeds} fills of each scene cannot be judged; give 1 to {MAX_VARIATIONS}.")
        if self.sketched < 0:
            raise BadInput(f"{self.sketched} scenes cannot be sketched; give 0 or more.")
        if not 0 <= self.seed <= MAX_SEED:
            raise BadInput(f"The seed is {self.seed}; it must be between 0 and {MAX_SEED}.")


def run(options: Options) -> None:
    """Check everything that can be checked, then write the comparison and print its table.

    Raises LazyDiffusionError.
    """
    options.check()
    # Before the long imports: a wrong name is told at once.
    known = load_vocabulary(find_vocabulary(options.vocabulary)) if options.vocabulary else None
    located = {model: checkpoints.locate(model) for model in options.models}

    import torch

    from lazydiffusion.devices import choose_device
    from lazydiffusion.engines.choose import fitting_engine, load_engine
    from lazydiffusion.evaluation import comparison_report
    from lazydiffusion.evaluation.cases import check_count, held_out_sprites, make_cases
    from lazydiffusion.evaluation.comparison import Judges, compare
    from lazydiffusion.evaluation.features import load_features
    from lazydiffusion.evaluation.style import StyleClassifier
    from lazydiffusion.evaluation.text_image import Clip, DualEncoder
    from lazydiffusion.models.prompt_encoder import PromptEncoder
    from lazydiffusion.training.shards import find_shards
    from lazydiffusion.training.sprites import load_bank

    console = error_console()
    choice = choose_device(options.device)
    kinds = {model: fitting_engine(model, where, options.engine) for model, where in located.items()}
    named = {_name(model, kinds): model for model in options.models}
    check_count(options.count)
    find_shards(options.data)
    network = load_features(options.features, choice.device)
    clip = None if options.clip is None else Clip(options.clip, choice.device)
    out, cache = options.out, options.cache
    output_folder.check(out, comparison_report.FILES)
    if cache is not None:
        output_folder.check(cache, option="--cache")
    with counted(console, "Reading the sprites") as tell:
        bank = load_bank(options.data, side=128, cache=cache, progress=partial(tell, "Reading the sprites"))
        held_out = held_out_sprites(bank, known)
        side = min(checkpoints.window_tokens(where) for where in located.values())
        cases = make_cases(held_out, options.count, side, options.seed)
        looking = partial(tell, "The judges look at the sprites")
        style = StyleClassifier.trained(network, bank, cache, looking)
        text = clip or DualEncoder.trained(network, PromptEncoder(), bank, cache, looking)
        result = compare(
            {name: partial(load_engine, model, choice) for name, model in named.items()},
            cases, Judges(network, text, style),
            seeds=options.seeds, sketched=min(options.sketched, options.count), tell=tell,
        )  # fmt: skip
    about = {
        "models": {name: {"model": model, "engine": kinds[model]} for name, model in named.items()},
        "judges": {"Features": network.name, "Style": style.worth, "Text-image": text.worth},
        "held_out_sprites": len(held_out),
        "vocabulary": options.vocabulary,
        "canvas_px": side * PATCH,
        "seeds_per_scene": options.seeds,
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

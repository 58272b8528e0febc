"""A training run's settings, as a TOML file gives them; every one is checked before anything heavy starts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lazydiffusion.engines.names import LAZY, OWN
from lazydiffusion.errors import BadInput
from lazydiffusion.toml_file import read_toml
from lazydiffusion.training.objective import Objective

ALL_SETS = "all"
"""In place of the sets' names."""


@dataclass(frozen=True)
class Data:
    """Where the sprites are and how scenes are made of them."""

    shards: str = "data/clipart"
    """Folder of WebDataset shards (`lazydiffusion data clipart --out data/clipart`)."""
    sets: tuple[str, ...] = (ALL_SETS,)
    """Names of the sprites' sets that are trained on: few of them teach a small model more of each shape."""
    sprite_side: int = 256
    """Side in px at which sprites are kept in memory."""
    captions: int = 6
    """Captions per sprite."""
    window_tokens: int = 16
    overview_tokens: int = 8
    buckets: tuple[int, ...] = (28, 48, 112)
    """Numbers of decoder tokens; each step takes one of them for all its scenes."""
    bucket_weights: tuple[float, ...] = (0.35, 0.45, 0.2)
    cache: str = ""
    """Folder for decoded sprites and encoded captions; empty keeps none."""


@dataclass(frozen=True)
class Optimiser:
    """Muon (or AdamW) on the blocks' matrices, AdamW on everything else; linear warm-up, linear decay to 0."""

    batch: int = 512
    """Scenes per step and process."""
    steps: int = 100_000
    minutes: float = 0.0
    """When above 0, the run also ends after this time, and the learning rate falls by whichever ends first.

    Time in the loop, compiling included, of a resumed run from its start on; not what comes before the first step.
    """
    warm_up: int = 300
    """Steps."""
    muon: bool = True
    """False gives the blocks' matrices to AdamW as well: on a CPU, Muon's own products cost as much as the model's."""
    muon_rate: float = 1e-3
    adamw_rate: float = 6e-4
    weight_decay: float = 0.01
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.9995
    """Decay per step of the averaged weights: these are what is sampled and published."""
    rate_at_start: float = 1.0
    """Share of the full learning rate to begin with after warm-up; below 1 for the last stretch of a long training."""


@dataclass(frozen=True)
class Output:
    """What a run leaves in its folder."""

    folder: str = "runs/clipart"
    samples_every: float = 5.0
    """Minutes between sample grids and checkpoints."""
    log_every: int = 20
    """Steps between points in TensorBoard."""
    samples: int = 16
    """Held-out scenes in a grid."""
    sample_steps: int = 20
    sample_guidance: float = 2.5


@dataclass(frozen=True)
class Settings:
    """One training run."""

    engine: str = LAZY
    """What the model is for. The baselines, regenerate-image and regenerate-crop, have the same decoder, no encoder."""

    encoder: dict[str, Any] = field(default_factory=dict)
    """Arguments of ContextEncoder that differ from its defaults."""
    decoder: dict[str, Any] = field(default_factory=dict)
    """Arguments of LazyDecoder that differ from its defaults."""
    data: Data = Data()
    objective: Objective = field(default=Objective())
    optimiser: Optimiser = Optimiser()
    output: Output = Output()
    compile: bool = True
    """Compile each block (not the whole graph): seconds once, then about three times as fast on a GPU.

    Once per number of tokens and kind of block: all blocks of a kind share it. Another batch compiles all of it anew.
    """
    seed: int = 0

    def for_engine(self, engine: str) -> Settings:
        """The same run, data and decoder and all, for another engine's model, in a folder beside this one's."""
        folder = f"{self.output.folder}-{engine}"
        return dataclasses.replace(
            self, engine=engine, output=dataclasses.replace(self.output, folder=folder)
        )

    def ending_after(self, steps: int) -> Settings:
        """The same run, ended by its steps alone: runs with the same number have seen the same scenes."""
        return dataclasses.replace(
            self, optimiser=dataclasses.replace(self.optimiser, steps=steps, minutes=0.0)
        )

    def lasting(self, minutes: float) -> Settings:
        """The same run, ended after this time (or its steps), with learning rates that fall by this clock."""
        return dataclasses.replace(self, optimiser=dataclasses.replace(self.optimiser, minutes=minutes))


def find_settings(name: str) -> Path:
    """The file of a configuration that comes with the package (`clipart`, `cpu-128`, ...), or `name` as a path."""
    packaged = Path(__file__).parent / "configs" / f"{name}.toml"
    return packaged if packaged.is_file() else Path(name)


def load_settings(path: Path) -> Settings:
    """Read a TOML file. Raises BadInput for a file that cannot be read, an unknown key, or a value of another type."""
    settings: Settings = _fill(Settings, read_toml(path, "training configuration"), str(path))
    check_engine(settings.engine)
    if len(settings.data.buckets) != len(settings.data.bucket_weights):
        raise BadInput(f"{path}: `buckets` and `bucket_weights` must have the same length.")
    given, expected = settings.decoder.get("context_channels", 320), settings.encoder.get("channels", 320)
    if given != expected:
        raise BadInput(
            f"{path}: the decoder's `context_channels` is {given}; it must be the encoder's `channels`, {expected}."
        )
    if max(settings.data.buckets) > settings.data.window_tokens**2:
        raise BadInput(
            f"{path}: a bucket of {max(settings.data.buckets)} tokens is larger than the window of "
            f"{settings.data.window_tokens} x {settings.data.window_tokens} tokens."
        )
    return settings


def check_engine(engine: str) -> None:
    """Raises BadInput for an engine that no model can be trained for."""
    if engine not in OWN:
        raise BadInput(
            f"No model can be trained for the engine {engine!r}; it must be one of {', '.join(OWN)}."
        )


def _fill(kind: Any, values: dict[str, Any], where: str) -> Any:
    """Make the dataclass `kind` from a TOML table."""
    fields = {f.name: f for f in dataclasses.fields(kind)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise BadInput(
            f"{where}: unknown setting `{unknown[0]}`; known here are {', '.join(sorted(fields))}."
        )
    filled: dict[str, Any] = {}
    for name, value in values.items():
        default, factory = fields[name].default, fields[name].default_factory
        if dataclasses.is_dataclass(default) or factory is dict:
            if not isinstance(value, dict):
                raise BadInput(f"{where}: `{name}` must be a table, written [{name}].")
            filled[name] = value if factory is dict else _fill(type(default), value, f"{where} [{name}]")
        elif isinstance(default, tuple):
            if not isinstance(value, list) or not value:
                raise BadInput(f"{where}: `{name}` must be a list with at least one entry.")
            filled[name] = tuple(
                _typed(entry, default[0], f"{where}: an entry of `{name}`") for entry in value
            )
        else:
            filled[name] = _typed(value, default, f"{where}: `{name}`")
    return kind(**filled)


def _typed(value: Any, default: Any, what: str) -> Any:
    """The value, if its type is the default's; a whole number will do where a fraction is expected."""
    if type(value) is type(default):
        return value
    if isinstance(default, float) and type(value) is int:
        return float(value)
    raise BadInput(f"{what} is {value!r}; it must be of type {type(default).__name__}.")

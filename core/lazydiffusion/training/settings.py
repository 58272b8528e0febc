"""A training run's settings, as a TOML file gives them; every one is checked before anything heavy starts."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lazydiffusion.engines.names import LAZY, OWN
from lazydiffusion.errors import BadInput
from lazydiffusion.models.context_encoder import ContextEncoder
from lazydiffusion.models.lazy_decoder import LazyDecoder
from lazydiffusion.toml_file import read_toml
from lazydiffusion.training.networks import try_networks
from lazydiffusion.training.objective import Objective
from lazydiffusion.training.ranges import check_ranges
from lazydiffusion.training.scenes import Shares
from lazydiffusion.training.vocabulary import find_vocabulary, load_vocabulary

ALL_SETS = "all"
"""In place of the sets' names."""


@dataclass(frozen=True)
class Data:
    """Where the sprites are and how scenes are made of them."""

    shards: str = "data/clipart"
    """Folder of WebDataset shards (`lazydiffusion data clipart --out data/clipart`)."""
    sets: tuple[str, ...] = (ALL_SETS,)
    """Names of the sprites' sets that are trained on: few of them teach a small model more of each shape."""
    vocabulary: str = ""
    """`objects`, or a file of yours (training.vocabulary): which names are taught, in which words. Empty: all."""
    sprite_side: int = 256
    """Side in px at which sprites are kept in memory."""
    captions: int = 6
    """Captions per sprite."""
    window_tokens: int = 16
    overview_tokens: int = 8
    buckets: tuple[int, ...] = (28, 48, 112)
    """Numbers of decoder tokens; each step takes one of them for all its scenes."""
    bucket_weights: tuple[float, ...] = (0.35, 0.45, 0.2)
    at_once: int = 1
    """Steps whose scenes, of one bucket, are made together: less for a GPU's host to launch, more memory."""
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
    """Decay per step of the averaged weights, which are what is sampled and published; less in the first steps
    (optimisers.averaging_decay)."""
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
    scenes: Shares = field(default=Shares())
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
        named = self.written_to(Path(f"{self.output.folder}-{engine}"))
        return dataclasses.replace(named, engine=engine)

    def ending_after(self, steps: int) -> Settings:
        """The same run, ended by its steps alone: runs with the same number have seen the same scenes."""
        return dataclasses.replace(
            self, optimiser=dataclasses.replace(self.optimiser, steps=steps, minutes=0.0)
        )

    def written_to(self, folder: Path) -> Settings:
        """The same run, in another folder."""
        return dataclasses.replace(self, output=dataclasses.replace(self.output, folder=str(folder)))

    def lasting(self, minutes: float) -> Settings:
        """The same run, ended after this time (or its steps), with learning rates that fall by this clock."""
        return dataclasses.replace(self, optimiser=dataclasses.replace(self.optimiser, minutes=minutes))


def find_settings(name: str) -> Path:
    """The file of a configuration that comes with the package (`clipart`, `cpu`, ...), or `name` as a path."""
    packaged = Path(__file__).parent / "configs" / f"{name}.toml"
    return packaged if packaged.is_file() else Path(name)


def load_settings(path: Path) -> Settings:
    """Read a TOML file and check all of it, down to a step of the networks' shapes.

    Raises BadInput for a file that cannot be read, an unknown key, a value of another type or out of its range
    (training.ranges), values that do not fit each other, and networks that cannot be made.
    """
    settings: Settings = _fill(Settings, read_toml(path, "training configuration"), str(path))
    settings = dataclasses.replace(
        settings,
        encoder=_arguments(ContextEncoder, settings.encoder, f"{path} [encoder]"),
        decoder=_arguments(LazyDecoder, settings.decoder, f"{path} [decoder]"),
    )
    check_engine(settings.engine)
    check_ranges(dataclasses.asdict(settings), str(path))
    _check_buckets(settings.data, path)
    if settings.data.vocabulary:
        load_vocabulary(find_vocabulary(settings.data.vocabulary))
    _check_networks(settings, path)
    return settings


def _check_buckets(data: Data, path: Path) -> None:
    if len(data.buckets) != len(data.bucket_weights):
        raise BadInput(f"{path}: `buckets` and `bucket_weights` must have the same length.")
    if not any(data.bucket_weights):
        raise BadInput(f"{path}: all of `bucket_weights` are 0; one at least must be above 0.")
    if max(data.buckets) > data.window_tokens**2:
        raise BadInput(
            f"{path}: a bucket of {max(data.buckets)} tokens is larger than the window of "
            f"{data.window_tokens} x {data.window_tokens} tokens."
        )


def _check_networks(settings: Settings, path: Path) -> None:
    """That they can be made and fit each other; the reasons that torch would give in its own words come first."""
    defaults = {"encoder": _defaults(ContextEncoder), "decoder": _defaults(LazyDecoder)}
    encoder, decoder = defaults["encoder"] | settings.encoder, defaults["decoder"] | settings.decoder
    for table, values in (("encoder", encoder), ("decoder", decoder)):
        channels, heads = values["channels"], values["heads"]
        if channels % heads or channels // heads % 4:
            raise BadInput(
                f"{path} [{table}]: `heads` is {heads} and `channels` {channels}; give each head a multiple of "
                "4 channels."
            )
    given, expected = decoder["context_channels"], encoder["channels"]
    if given != expected:
        raise BadInput(
            f"{path}: the decoder's `context_channels` is {given}; it must be the encoder's `channels`, {expected}."
        )
    data = settings.data
    try:
        try_networks(
            settings.encoder, settings.decoder, data.window_tokens, data.overview_tokens, settings.objective
        )
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def _arguments(network: type, values: dict[str, Any], where: str) -> dict[str, Any]:
    """A network's arguments, each of its default's type; None stands for a whole number that follows from others."""
    known = _defaults(network)
    _check_known(values, known, where)
    return {
        name: _typed(value, 0 if known[name] is None else known[name], f"{where}: `{name}`")
        for name, value in values.items()
    }


def _defaults(network: type) -> dict[str, Any]:
    """The arguments of a network that have a default, with it: all of them."""
    arguments = inspect.signature(network).parameters
    return {
        name: argument.default
        for name, argument in arguments.items()
        if argument.default is not inspect.Parameter.empty
    }


def check_engine(engine: str) -> None:
    """Raises BadInput for an engine that no model can be trained for."""
    if engine not in OWN:
        raise BadInput(
            f"No model can be trained for the engine {engine!r}; it must be one of {', '.join(OWN)}."
        )


def _fill(kind: Any, values: dict[str, Any], where: str) -> Any:
    """Make the dataclass `kind` from a TOML table."""
    fields = {f.name: f for f in dataclasses.fields(kind)}
    _check_known(values, fields, where)
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


def _check_known(values: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise BadInput(f"{where}: unknown setting `{unknown[0]}`; known here are {', '.join(sorted(known))}.")


def _typed(value: Any, default: Any, what: str) -> Any:
    """The value, if its type is the default's; a whole number will do where a fraction is expected."""
    if type(value) is type(default):
        return value
    if isinstance(default, float) and type(value) is int:
        return float(value)
    raise BadInput(f"{what} is {value!r}; it must be of type {type(default).__name__}.")

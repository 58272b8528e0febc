"""The models that the core holds: loaded when first needed, kept, and let go when idle or when memory is short."""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lazydiffusion import checkpoints
from lazydiffusion.engines.base import Engine
from lazydiffusion.engines.names import engine_of
from lazydiffusion.errors import BadModel, LazyDiffusionError, OutOfMemory
from lazydiffusion.known_models import KNOWN, KnownModel
from lazydiffusion.service import memory
from lazydiffusion.service.errors import sendable
from lazydiffusion.window import OVERVIEW_TOKENS, WINDOW_TOKENS

if TYPE_CHECKING:
    from lazydiffusion.devices import Choice

State = Literal["absent", "loading", "loaded"]

LOG = logging.getLogger(__name__)

NEEDED = 1.5
"""Free memory, in sizes of a model's files, that its loading should find; otherwise another model is let go first."""


@dataclass(frozen=True)
class Model:
    """A model that edits may name."""

    name: str
    where: str
    """What checkpoints.locate takes. Only the core's owner gives paths; clients give names."""
    bytes: int
    window_tokens: int
    overview_tokens: int
    engine: str = ""
    """The one that it is for; empty where that shows only when it is loaded."""
    problem: str = ""
    """Why it cannot be used, as a sentence; empty if nothing is known that speaks against it."""
    things: tuple[str, ...] = ()
    """Names of all that it was taught to draw; empty where it was not taught a vocabulary."""
    words: tuple[str, ...] = ()
    """What a prompt may call them (checkpoints.words)."""


@dataclass(frozen=True)
class Downloadable:
    """A model that has a name and is not here."""

    model: KnownModel
    downloaded: int
    """Bytes of it that are here so far."""


@dataclass
class _Loaded:
    engine: Engine
    used: float
    """time.monotonic() of its last use."""


class Shelf:
    """Engines by name. Loading, use and letting go happen on the worker's thread alone; anybody may ask for states."""

    def __init__(
        self,
        default: str,
        device: str,
        load: Callable[[str, Choice], Engine] | None = None,
        weights: str = "full",
    ):
        """`default`: a name, or a path whose folder's name becomes the model's. `load`: makes an engine, for tests.

        `weights`: of devices.WEIGHTS.
        """
        self.device_name, self.weights = device, weights
        self.choice: Choice | None = None
        """The device; None until `start`."""
        self.problem = ""
        """Why the device cannot be had, as a sentence; empty if nothing speaks against it."""
        self.ready = threading.Event()
        """Set by the worker when it has begun to take edits."""
        self._load = load or _load_engine
        # As checkpoints.locate: whatever the current folder holds, the embedded model goes by its name.
        is_path = default != checkpoints.EMBEDDED and Path(default).is_dir()
        self._own = Path(default).resolve() if is_path else None
        self.default = self._own.name if self._own is not None else default
        self._loaded: dict[str, _Loaded] = {}
        self._loading: str | None = None
        self._lock = threading.Lock()

    def models(self) -> list[Model]:
        """What can be named: the installed checkpoints and the one that the core was started with."""
        found = {c.name: _model(c.name, str(c.folder), c.folder) for c in checkpoints.available()}
        if self._own is not None:
            found[self.default] = _model(self.default, str(self._own), self._own)
        elif self.default not in found and self.default not in KNOWN:
            problem = (
                "" if checkpoints.HUB_ID.fullmatch(self.default) else f"There is no model {self.default!r}."
            )
            found[self.default] = Model(
                self.default, self.default, 0, WINDOW_TOKENS, OVERVIEW_TOKENS, problem=problem
            )
        return list(found.values())

    def downloadable(self) -> list[Downloadable]:
        """What could be named after it was downloaded."""
        here = {model.name for model in self.models()}
        return [
            Downloadable(model, checkpoints.downloaded_bytes(name))
            for name, model in KNOWN.items()
            if name not in here
        ]

    def find(self, name: str) -> Model:
        """The model of that name. Raises BadModel for anything else, a path above all."""
        models = self.models()
        for model in models:
            if model.name == name:
                return model
        known = ", ".join(model.name for model in models)
        if name in KNOWN:
            raise BadModel(KNOWN[name].missing(known))
        raise BadModel(f"The core has no model {name!r}; it has {known}.")

    def state(self, name: str) -> State:
        """Whether a model is in memory."""
        with self._lock:
            if name in self._loaded:
                return "loaded"
            return "loading" if name == self._loading else "absent"

    def start(self) -> None:
        """Choose the device: the first import of PyTorch, some seconds. Raises BadInput; `problem` tells of it too."""
        try:
            from lazydiffusion.devices import choose_device

            self.choice = choose_device(self.device_name, self.weights)
        except LazyDiffusionError as error:
            self.problem = sendable(str(error))
            raise
        except Exception as error:
            self.problem = sendable(
                f"PyTorch cannot be used ({type(error).__name__}: {error}). Run `lazydiffusion doctor` to see what is "
                "missing."
            )
            raise
        self.problem = ""

    def get(self, name: str, on_loading: Callable[[], None] = lambda: None) -> Engine:
        """The engine of a model, loaded if it is not. Raises BadModel, OutOfMemory."""
        if name not in self._loaded:
            on_loading()
            self._put(self.find(name))
        self.note_use(name)
        return self._loaded[name].engine

    def note_use(self, name: str) -> None:
        """Count this moment as a model's last use, if it is there."""
        if name in self._loaded:
            self._loaded[name].used = time.monotonic()

    def load(self, name: str) -> None:
        """Have a model in memory. Raises BadModel, OutOfMemory."""
        self.get(name)

    def unload(self, name: str) -> None:
        """Let a model go, if it is there."""
        with self._lock:
            gone = self._loaded.pop(name, None)
        if gone is not None:
            LOG.info("The model %s was let go.", name)
            del gone
            self.empty_cache()

    def unload_idle(self, seconds: float) -> None:
        """Let go of models that were not used for so long."""
        now = time.monotonic()
        # By name: a reference to the engine would keep its memory from being given back.
        for name in [name for name, held in self._loaded.items() if now - held.used >= seconds]:
            self.unload(name)

    def unload_others(self, name: str) -> None:
        """Let go of all models but one."""
        for other in list(self._loaded):
            if other != name:
                self.unload(other)

    def empty_cache(self) -> None:
        """Give back to the device what nothing uses any more."""
        gc.collect()
        memory.empty_cache(self.choice)

    def _put(self, model: Model) -> None:
        if self.choice is None:
            self.start()
        assert self.choice is not None
        self._make_room(model)
        with self._lock:
            self._loading = model.name
        try:
            engine = self._try(model, self.choice)
            with self._lock:
                self._loaded[model.name] = _Loaded(engine, time.monotonic())
        finally:
            with self._lock:
                self._loading = None

    def _try(self, model: Model, choice: Choice) -> Engine:
        started = time.monotonic()
        engine: Engine | None = None
        try:
            engine = self._load(model.where, choice)
        except OutOfMemory:
            if not self._loaded:
                raise
        if engine is None:  # outside of the handler, whose error holds on to the half-loaded model
            self.unload_others(model.name)
            engine = self._load(model.where, choice)
        LOG.info("The model %s was loaded in %.1f s.", model.name, time.monotonic() - started)
        return engine

    def _make_room(self, model: Model) -> None:
        """Let go of what was used longest ago while too little memory is free."""
        for name in sorted(self._loaded, key=lambda name: self._loaded[name].used):
            assert self.choice is not None
            if memory.free_and_total(self.choice)[0] >= NEEDED * model.bytes:
                return
            self.unload(name)


def _load_engine(where: str, choice: Choice) -> Engine:
    from lazydiffusion.engines.choose import load_engine

    return load_engine(where, choice)


def _model(name: str, where: str, folder: Path) -> Model:
    return _described(name, where, folder, checkpoints.files_of(folder))


@lru_cache(maxsize=64)
def _described(name: str, where: str, folder: Path, files: tuple[tuple[str, int, int], ...]) -> Model:
    """What is told of a model as long as its files stay as they are: an open editor asks every other second."""
    engine = problem = ""
    try:
        checkpoints.look_over(folder)
    except BadModel as error:
        problem = sendable(str(error))
    except Exception as error:  # whatever is odd about one model, it must not hide the others
        LOG.exception("The model in %s could not be looked over.", folder)
        problem = sendable(
            f"The model in {folder} cannot be used ({type(error).__name__}). Reinstall the model."
        )
    with contextlib.suppress(BadModel, RecursionError):
        engine = engine_of(folder)
    return Model(
        name, where, sum(size for _, size, _ in files),
        checkpoints.window_tokens(folder), checkpoints.overview_tokens(folder), engine, problem,
        tuple(map(sendable, checkpoints.things(folder))), tuple(map(sendable, checkpoints.words(folder))),
    )  # fmt: skip

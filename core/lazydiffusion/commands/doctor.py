"""`lazydiffusion doctor`: what is installed, what is used and why, and what to do about what is not right."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from rich.console import Console

from lazydiffusion import __version__, checkpoints
from lazydiffusion.client import CoreLost, CoreNotInstalled, connect
from lazydiffusion.client.start import find_command
from lazydiffusion.client.words import size
from lazydiffusion.errors import LazyDiffusionError

NEEDED_DISK = 500e6
"""Bytes that should be free where the user's models and results go."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    good: bool
    detail: str
    remedy: str = ""


def run(as_json: bool) -> bool:
    """Print the findings; True when all are good."""
    findings = [
        finding
        for check in (_versions, _packages, _device, _models, _text_encoder, _core, _editors, _disk)
        for finding in _try(check)
    ]
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        console = Console(soft_wrap=True, highlight=False)
        for finding in findings:
            mark = "[green]ok  [/]" if finding.good else "[red]bad [/]"
            console.print(mark, end="")
            console.print(f"{finding.name}: {finding.detail}", markup=False)
            if finding.remedy:
                console.print(f"    -> {finding.remedy}", markup=False)
    return all(finding.good for finding in findings)


def _try(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A check that breaks is a finding, not the end of the others."""
    try:
        yield from check()
    except LazyDiffusionError as error:
        yield Finding(check.__name__.strip("_"), False, str(error))
    except Exception as error:  # the doctor must answer on the sickest installation
        yield Finding(
            check.__name__.strip("_"),
            False,
            f"{type(error).__name__}: {error}",
            "Reinstall: `pip install --force-reinstall lazydiffusion`.",
        )


def _versions() -> Iterator[Finding]:
    yield Finding(
        "lazydiffusion", True, f"{__version__} on Python {platform.python_version()}, {platform.platform()}"
    )


def _packages() -> Iterator[Finding]:
    """Every requirement of the package itself, extras apart."""
    from packaging.requirements import Requirement

    for line in requires("lazydiffusion") or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield Finding(
                requirement.name, False, "not installed", f"Install it: `pip install '{requirement}'`."
            )
            continue
        good = requirement.specifier.contains(found, prereleases=True)
        remedy = "" if good else f"Install a version that fits: `pip install '{requirement}'`."
        yield Finding(requirement.name, good, f"{found} ({requirement.specifier or 'any version'})", remedy)


def _device() -> Iterator[Finding]:
    import torch

    from lazydiffusion.devices import choose_device

    choice = choose_device("auto")
    detail = f"{choice.device} in {str(choice.dtype).removeprefix('torch.')}, because {choice.reason}"
    if choice.device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        detail += f"; {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    else:
        detail += f"; {torch.get_num_threads()} threads"
    remedy = ""
    if choice.device.type == "cpu" and torch.version.cuda is None and shutil.which("nvidia-smi"):
        remedy = "There is an NVIDIA driver: install a CUDA build of PyTorch to use the GPU."
    yield Finding("device", not remedy, detail, remedy)


def _models() -> Iterator[Finding]:
    folders = {checkpoint.name: checkpoint for checkpoint in checkpoints.available()}
    if checkpoints.EMBEDDED not in folders:
        yield Finding(
            "model clipart", False, "the embedded checkpoint is missing", "Reinstall lazydiffusion."
        )
    for name, checkpoint in folders.items():
        try:
            checkpoints.verify(checkpoint.folder, required=checkpoint.embedded)
            checkpoints.look_over(checkpoint.folder)
        except LazyDiffusionError as error:
            yield Finding(f"model {name}", False, str(error))
        else:
            hashes = "hashes hold" if _lists_hashes(checkpoint.folder) else "no hashes listed"
            yield Finding(f"model {name}", True, f"{size(checkpoint.bytes)}, {hashes}")


def _lists_hashes(folder: Path) -> bool:
    """Whether there was anything for `verify`, which has passed the folder, to compare its files with."""
    file = folder / checkpoints.HASHES
    return file.is_file() and bool(json.loads(file.read_text(encoding="utf8")))


def _text_encoder() -> Iterator[Finding]:
    from lazydiffusion.models.prompt_encoder import MINILM_SHA256, minilm_folder, verify_sha256

    verify_sha256(minilm_folder() / "model.safetensors", MINILM_SHA256)
    yield Finding("text encoder", True, "MiniLM, its hash holds")


def _core() -> Iterator[Finding]:
    """The resident core, if it runs."""
    try:
        info = connect(start=False).info()
    except CoreLost:
        yield Finding("core", True, "not running; it starts with an editor's first edit")
        return
    other = info["version"] != __version__
    yield Finding(
        "core",
        not other,
        f"{info['version']}, {info['state']} (pid {info['pid']})",
        "It is another version than this: run `lazydiffusion stop`." if other else "",
    )


def _editors() -> Iterator[Finding]:
    """What the editors would start."""
    try:
        command = " ".join(find_command())
    except CoreNotInstalled:
        yield Finding("editors", True, "do not know of it yet", "For Krita or GIMP: `lazydiffusion connect`.")
        return
    yield Finding("editors", True, f"start {command}")


def _disk() -> Iterator[Finding]:
    folder = checkpoints.user_folder()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    good = free >= NEEDED_DISK
    yield Finding(
        "disk",
        good,
        f"{free / 1e9:.1f} GB free at {existing}",
        "" if good else "Free some space on this disk.",
    )

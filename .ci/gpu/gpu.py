"""The package's commands on a lent machine: see README.md beside this file's source.

By function, for the machine's typer may be another; MiniLM there is a rounded copy, whose hash is trusted here alone.
Everything lies beside this script, where setup.sh has put it: in /tmp.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

TMP = Path(__file__).resolve().parent
sys.path[:0] = [str(TMP / "core"), str(TMP / "site")]
BEGAN = time.monotonic()


def main() -> None:
    """The command that is named, with its arguments."""
    command, *rest = sys.argv[1:]
    if command in ("train", "contest"):
        (TMP / "running").mkdir(exist_ok=True)
        (TMP / "running" / str(os.getpid())).touch()  # for poll.sh
    trust_minilm()
    commands = {
        "train": train,
        "contest": contest,
        "export": export,
        "bench": bench,
        "pytest": tests,
    }
    commands[command](*rest)


def trust_minilm() -> None:
    """Take the rounded copy for what it stands for, in this process."""
    import lazydiffusion.models.prompt_encoder as prompt_encoder

    prompt_encoder.MINILM_SHA256 = (TMP / "site/minilm.sha256").read_text().strip()


def settings(folder: str, minutes: float, shards: str, config: str = "clipart") -> Any:
    """A configuration, by name or path, with places on this machine."""
    from lazydiffusion.training.settings import find_settings, load_settings

    found = load_settings(find_settings(config))
    return replace(
        found,
        data=replace(found.data, shards=str(TMP / shards), cache=str(TMP / f"{shards}-cache")),
        optimiser=replace(found.optimiser, minutes=minutes),
        output=replace(found.output, folder=str(TMP / folder), samples_every=2.5),
    )


def run(wanted: Any, init: Path | None, saved: Callable[[], None] = lambda: None) -> None:
    """Train; a line now and then. `saved` is called whenever the averaged weights have been written."""
    from lazydiffusion.training.trainer import Trainer

    def say(line: str) -> None:
        print(f"{time.monotonic() - BEGAN:.1f} s: {line}", flush=True)

    def report(at: Any) -> None:
        rate = at.scenes_per_second * wanted.objective.draws
        say(f"{at.share:.3f} step {at.step} loss {at.loss:.4f} {rate:.0f} samples/s {at.utilisation:.3f}")

    class Saving(Trainer):
        def save(self) -> None:
            super().save()
            saved()

    Saving(wanted, init_from=init, report=report, say=say).run()


def unpack() -> None:
    """The sprite shards of their parts, once: a training and a contest may want them at the same time."""
    if (TMP / "shards").is_dir():
        return
    parts = sorted((TMP / "parts").glob("shards.*"))
    packed = io.BytesIO(b"".join(part.read_bytes() for part in parts))
    unpacked = TMP / f"shards-{os.getpid()}"
    with tarfile.open(fileobj=packed, mode="r:gz") as tar:
        tar.extractall(unpacked, filter="data")
    try:
        unpacked.rename(TMP / "shards")
    except OSError:  # another process was first
        shutil.rmtree(unpacked)


def train(minutes: str, init: str = "", out: str = "", config: str = "clipart") -> None:
    """The run itself. In `out` lies its checkpoint after every save: what a call that is cut has there comes back."""
    unpack()
    saved = (lambda: export(out)) if out else (lambda: None)
    run(settings("run", float(minutes), "shards", config), Path(init) if init else None, saved)


def contest(minutes: str, init: str = "", config: str = "contest", warm: str = "40") -> None:
    """The three engines beside each other, each for the same number of steps, of which `warm` are not timed."""
    from contest import Plan
    from contest import contest as held

    unpack()
    held(
        settings("", 0.0, "shards", config),
        Plan(float(minutes), warm=int(warm)),
        TMP / "contest",
        Path(init) if init else None,
        prepare=trust_minilm,
    )


def export(out: str = "") -> None:
    """The averaged weights as a checkpoint in bf16, in parts that can be fetched, and the last samples."""
    from fetching import pack

    from lazydiffusion.commands.export import run as exported

    exported(TMP / "run/ema", TMP / "exported", 20, 2.5)
    place = Path(out) if out else TMP
    pack(TMP / "exported", place)
    shutil.copy(max((TMP / "run/samples").glob("*.png")), place / "samples.png")


def bench(config: str, repeats: str, out: str, *lists: str) -> None:
    """One run of each case taken apart: three would take too long. `--compile` may be the last word."""
    from lazydiffusion.commands.bench import Options
    from lazydiffusion.commands.bench import run as benched
    from lazydiffusion.evaluation.bench import measure

    measure.PART_RUNS = 1
    compiled = lists[-1:] == ("--compile",)
    given = dict(zip(("masks", "canvas", "steps", "engines"), lists[: len(lists) - compiled], strict=False))
    benched(Options.of(config, int(repeats), "cuda", compiled, **given), Path(out))


def tests(*arguments: str) -> None:
    """Such a machine's warnings are not ours."""
    import pytest

    sys.exit(pytest.main([*arguments, "-o", "filterwarnings=default", "-p", "no:cacheprovider"]))


if __name__ == "__main__":
    main()

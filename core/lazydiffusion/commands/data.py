"""`lazydiffusion data`: building training sets."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from lazydiffusion.errors import BadInput


def clipart(out: Path, work: Path | None, npm: Path | None = None, openclipart: Path | None = None) -> None:
    """Rebuild the clip-art shards in `out`; packages are unpacked in `work`, but those that are there already."""
    try:
        from lazydiffusion.training.clipart import build_clipart
    except ImportError as error:
        raise BadInput(
            f"Building the data needs {error.name}: install it with `pip install lazydiffusion[train]`."
        ) from error
    console = Console(stderr=True)
    with (
        tempfile.TemporaryDirectory() as temporary,
        Progress(console=console, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("", total=None)

        def progress(stage: str, done: int, total: int) -> None:
            bar.update(task, description=stage, completed=done, total=total)

        report = build_clipart(
            out, work or Path(temporary), npm=npm, openclipart=openclipart, progress=progress
        )
    print(json.dumps(report, indent=2, default=str))

"""`lazydiffusion data`: building training sets."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from lazydiffusion.commands.terminal import counted, error_console
from lazydiffusion.errors import BadInput


def clipart(out: Path, work: Path | None, npm: Path | None = None, openclipart: Path | None = None) -> None:
    """Rebuild the clip-art shards in `out`; packages are unpacked in `work`, but those that are there already."""
    try:
        from lazydiffusion.training.clipart import build_clipart
    except ImportError as error:
        raise BadInput(
            f"Building the data needs {error.name}: install it with `pip install lazydiffusion[train]`."
        ) from error
    with tempfile.TemporaryDirectory() as temporary, counted(error_console(), "") as tell:
        report = build_clipart(out, work or Path(temporary), npm=npm, openclipart=openclipart, progress=tell)
    print(json.dumps(report, indent=2, default=str))

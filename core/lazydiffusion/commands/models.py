"""`lazydiffusion models`: what --model can name."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from lazydiffusion import checkpoints
from lazydiffusion.client.words import size
from lazydiffusion.errors import BadModel
from lazydiffusion.known_models import KNOWN


def run(as_json: bool) -> None:
    """Print name, size, state and folder of each, and of the known ones that are not downloaded."""
    rows: list[dict[str, Any]] = []
    for checkpoint in checkpoints.available():
        try:
            checkpoints.verify(checkpoint.folder, required=checkpoint.embedded)
            checkpoints.look_over(checkpoint.folder)
            state = "ready"
        except BadModel as error:
            state = str(error)
        rows.append(
            {
                "name": checkpoint.name,
                "bytes": checkpoint.bytes,
                "embedded": checkpoint.embedded,
                "state": state,
                "folder": str(checkpoint.folder),
            }
        )
    here = {row["name"] for row in rows}
    rows += [
        {
            "name": model.name,
            "bytes": 0,
            "embedded": False,
            "state": f"not downloaded, {size(model.bytes)}, licence {model.licence}: {model.command}",
            "folder": str(checkpoints.user_folder() / model.name),
        }
        for model in KNOWN.values()
        if model.name not in here
    ]
    if as_json:
        print(json.dumps(rows))
        return
    table = Table(box=None, pad_edge=False)
    for title in ("name", "size", "state", "folder"):
        table.add_column(title, overflow="fold")  # a path that is cut is of no use
    for row in rows:
        known_size = size(row["bytes"]) if row["bytes"] else ""
        table.add_row(str(row["name"]), known_size, str(row["state"]), str(row["folder"]))
    console = Console(markup=False, highlight=False)
    console.print(table)
    console.print(f"Your own models are found by name in {checkpoints.user_folder()}.", soft_wrap=True)

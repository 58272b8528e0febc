"""`lazydiffusion models`: what --model can name."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from lazydiffusion import checkpoints
from lazydiffusion.errors import BadModel

KNOWN = {"flux2-klein": "black-forest-labs/FLUX.2-klein-4B"}
"""Names of models on the hub that `models pull` knows; each is kept in the user's folder under its name."""
PINS: dict[str, str] = {}
"""The commit of each known name that was looked at here. None was for flux2-klein: see models_pull.run."""


def run(as_json: bool) -> None:
    """Print name, size, state and folder of each, and of the known ones that are not downloaded."""
    rows: list[dict[str, Any]] = []
    for checkpoint in checkpoints.available():
        try:
            checkpoints.verify(checkpoint.folder, required=checkpoint.embedded)
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
            "name": name,
            "bytes": 0,
            "embedded": False,
            "state": f"not downloaded: lazydiffusion models pull {name}",
            "folder": str(checkpoints.user_folder() / name),
        }
        for name in KNOWN
        if name not in here
    ]
    if as_json:
        print(json.dumps(rows))
        return
    table = Table(box=None, pad_edge=False)
    for title in ("name", "size", "state", "folder"):
        table.add_column(title)
    for row in rows:
        size = f"{row['bytes'] / 1e6:.0f} MB" if row["bytes"] else ""
        table.add_row(str(row["name"]), size, str(row["state"]), str(row["folder"]))
    console = Console()
    console.print(table)
    console.print(
        f"Your own models are found by name in {checkpoints.user_folder()}.", highlight=False, soft_wrap=True
    )

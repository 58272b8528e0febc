"""What a home in a host has installed: an editor's plugin, as its user would do it, and a core with a tiny model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.hosts.chroots import REPOSITORY
from tests.service.installed import Installed

MODEL = "tiny"
"""What the tiny model is called."""


def install_plugin(editor: str, home: Path, **environment: str) -> None:
    """Build and install it for a user whose home that is: build_plugins.py --install."""
    command = [
        sys.executable,
        str(REPOSITORY / "build_plugins.py"),
        "--install",
        editor,
        "--out",
        str(home.parent),
    ]
    of_user = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **environment}
    subprocess.run(command, env=of_user, check=True, capture_output=True)


def install_tiny_core(model: Path, home: Path) -> None:
    """Point that user's editors to a core that has a tiny checkpoint instead of the embedded one."""
    shutil.copytree(model, home.parent / MODEL)  # a host sees this folder and not the tests' others
    core = Installed(home.parent / "core", home.parent / MODEL)
    settings = home / ".config/lazydiffusion"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "connect.json").write_text(json.dumps({"command": [str(core.program)]}))

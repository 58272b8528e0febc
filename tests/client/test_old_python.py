"""What the plugins carry, imported and used by the oldest Python that an editor brings, without any other package."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import build_plugins
import pytest

import lazydiffusion
from lazydiffusion.client import places

pytestmark = pytest.mark.integration

SCRIPT = """
import pkgutil, sys
import lazydiffusion.client, lazydiffusion.events
for module in pkgutil.iter_modules(lazydiffusion.client.__path__, "lazydiffusion.client."):
    __import__(module.name)
from lazydiffusion.client import CoreLost, EditController, State, connect
from lazydiffusion.client.multipart import MultipartBody
from lazydiffusion.protocol import EditRequest, EditSettings, ImageData
from lazydiffusion.window import Box, overview_size, region_to_send
region = region_to_send((8192, 8192), Box(4000, 4000, 300, 200), 4, 8)
small = overview_size((8192, 8192))
request = EditRequest(
    EditSettings(prompt="a cat"), (8192, 8192),
    ImageData("bgra8", (region.w, region.h), bytes(4 * region.w * region.h)),
    ImageData("grey8", (region.w, region.h), bytes(region.w * region.h)),
    region=region, overview=ImageData("rgb8", small, bytes(3 * small[0] * small[1])),
)
body = MultipartBody(request)
assert sum(len(bytes(piece)) for piece in body) == body.length
states = []
controller = EditController(on_state=states.append)
controller.start(request)  # nothing is installed: it fails with a sentence
assert controller.wait(20) and states[-1] is State.FAILED
try:
    connect(start=False)
except CoreLost as error:
    print(sys.version_info[:2], error)
"""


def test_python_3_9_needs_nothing_else(tmp_path: Path) -> None:
    python = build_plugins.old_python()
    if python is None:
        pytest.skip("there is no Python 3.9 here; its syntax is checked by tests/test_project.py")
    package = Path(lazydiffusion.__file__).parent
    for name in ("__init__.py", *build_plugins.CARRIED):
        source, target = package / name, tmp_path / "carried" / "lazydiffusion" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    environment = {
        "PYTHONPATH": str(tmp_path / "carried"),
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        places.RUNTIME_VARIABLE: str(tmp_path / "run"),
        **({"SYSTEMROOT": os.environ["SYSTEMROOT"]} if "SYSTEMROOT" in os.environ else {}),
    }
    ran = subprocess.run(
        [python, "-s", "-W", "error", "-c", SCRIPT],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("(3, 9) The LazyDiffusion core is not running.")

"""What is expected of a figure that was written."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from PIL import Image


def assert_figure(folder: Path, name: str, says: str) -> None:
    """A picture of some size in many colours, and the same as SVG, which says this."""
    with Image.open(folder / f"{name}.png") as picture:
        picture.load()
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(2**24) or []) > 20
    svg = (folder / f"{name}.svg").read_text(encoding="utf8")
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert says in svg

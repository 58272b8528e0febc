"""The clip-art training set: fetched from the package registries, rendered, sharded, with its attributions."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lazydiffusion.errors import BadInput, CannotWrite
from lazydiffusion.training.clipart_drawings import (
    OPENCLIPART_LICENSE,
    STYLES,
    Drawing,
    emoji_tags,
    iconify_drawings,
    iconify_license,
    openclipart_drawings,
    read_json,
)
from lazydiffusion.training.clipart_render import render_sprite
from lazydiffusion.training.processes import cores, process_pool
from lazydiffusion.training.shards import write_shards

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, in all); the stages are "fetch" (packages' sources) and "render" (drawings)."""

# Versions are pinned, so that a rebuild gives the same sprites.
ICON_PACKAGES = {
    "noto": "1.2.9",
    "noto-v1": "1.2.5",
    "twemoji": "1.2.5",
    "fluent-emoji": "1.2.7",
    "fluent-emoji-flat": "1.2.6",
    "emojione": "1.2.3",
    "fxemoji": "1.2.2",
    "streamline-emojis": "1.2.4",
    "flat-color-icons": "1.2.3",
    "meteocons": "1.2.4",
    "streamline-ultimate-color": "1.2.2",
    "streamline-freehand-color": "1.2.2",
    "streamline-kameleon-color": "1.2.2",
    "streamline-stickies-color": "1.2.2",
}
LABELS_PACKAGE, LABELS_VERSION = "emojibase-data", "17.0.0"
DEBIAN_PACKAGE = "openclipart-svg"
SVG_FOLDER = Path("usr/share/openclipart/svg")

REUSE_NPM = "or give a node_modules folder that holds the packages with --npm DIR"
REUSE_OPENCLIPART = (
    f"or unpack Debian's {DEBIAN_PACKAGE} elsewhere and give its folder with --openclipart DIR"
)


def build_clipart(
    out: Path,
    work: Path,
    *,
    npm: Path | None = None,
    openclipart: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Builds the whole set in `out`: shards, README.md, and attribution.json for the model card.

    Packages are fetched into `work`, except those given unpacked: `npm`, a node_modules folder, and `openclipart`,
    Debian's package as `dpkg -x` leaves it. `workers` processes render (all cores if None). `out` appears complete
    or not at all, in the place of an earlier build.

    Gives {"folder", "sprites", "sets": {set: sprites}, "shards", "drawings", "left_out"}; what is left out is
    broken, next to empty or a copy. Raises BadInput (a tool or a package is missing, `out` holds something else)
    and CannotWrite.
    """
    report = progress or (lambda stage, done, total: None)
    if importlib.util.find_spec("resvg_py") is None:
        raise BadInput('Rendering needs resvg-py: pip install "lazydiffusion[train]".')
    out = out.resolve()
    _check_target(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
            report("fetch", 0, 2)
            npm = npm or fetch_npm(work / "npm")
            report("fetch", 1, 2)
            openclipart = openclipart or fetch_openclipart(work / "openclipart")
            report("fetch", 2, 2)
            drawings = list(all_drawings(npm, openclipart))
            sprites = render_all(
                drawings, workers or cores(), lambda done: report("render", done, len(drawings))
            )
            counts = Counter(str(labels["set"]) for _, _, labels in sprites)
            credits = attribution(npm, openclipart, counts)
            new = Path(scratch) / "new"
            new.mkdir()
            shards = write_shards(new, sprites)
            (new / "attribution.json").write_text(json.dumps(credits, indent=1) + "\n", encoding="utf-8")
            (new / "README.md").write_text(readme(credits), encoding="utf-8")
            if out.exists():
                out.rename(Path(scratch) / "old")
            new.rename(out)
    except OSError as error:
        raise CannotWrite(f"The clip-art set cannot be written to {out}: {error}.") from error
    return {
        "folder": str(out),
        "sprites": len(sprites),
        "sets": {name: counts[name] for name in STYLES},
        "shards": [shard.name for shard in shards],
        "drawings": len(drawings),
        "left_out": len(drawings) - len(sprites),
    }


def _check_target(out: Path) -> None:
    """Before the work, not after: `out` must be free, empty, or an earlier build, which will be replaced."""
    if out.exists() and not (
        out.is_dir() and ((out / "attribution.json").exists() or not any(out.iterdir()))
    ):
        raise BadInput(f"{out} is in use and holds no earlier clip-art build: choose a new or empty folder.")


def fetch_npm(work: Path) -> Path:
    """Installs the icon sets and the emoji labels under `work` with npm, running no package's scripts.

    Gives the node_modules folder. Raises BadInput if npm is missing or fails.
    """
    npm = _tool("npm", f"install Node.js, {REUSE_NPM}")
    work.mkdir(parents=True, exist_ok=True)
    (work / "package.json").write_text('{"private": true}\n', encoding="utf-8")  # or npm looks in the parents
    wanted = [f"@iconify-json/{name}@{version}" for name, version in ICON_PACKAGES.items()]
    wanted.append(f"{LABELS_PACKAGE}@{LABELS_VERSION}")
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save"]
    _run([npm, "install", *options, *wanted], work, REUSE_NPM)
    return work / "node_modules"


def fetch_openclipart(work: Path) -> Path:
    """Downloads and unpacks Debian's clip art under `work`, without installing it; gives the unpacked folder.

    Raises BadInput if apt-get or dpkg is missing or fails.
    """
    apt_get = _tool("apt-get", f"use Debian or Ubuntu, {REUSE_OPENCLIPART}")
    dpkg = _tool("dpkg", f"use Debian or Ubuntu, {REUSE_OPENCLIPART}")
    unpacked = work / "unpacked"
    work.mkdir(parents=True, exist_ok=True)
    for earlier in work.glob("*.deb"):
        earlier.unlink()
    _run([apt_get, "download", DEBIAN_PACKAGE], work, f"run `apt-get update` first, {REUSE_OPENCLIPART}")
    for package in work.glob("*.deb"):
        _run([dpkg, "-x", package.name, unpacked.name], work, REUSE_OPENCLIPART)
    return unpacked


def _tool(name: str, remedy: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise BadInput(f"{name} is not on this machine, and the drawings come through it: {remedy}.")
    return path


def _run(command: Sequence[str], folder: Path, remedy: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        said = next((line for line in lines if re.match(r"E:|npm error (?!code)", line)), lines[-1])
        tool = Path(command[0]).name
        raise BadInput(f"`{tool} {command[1]}` failed ({said.strip()}): check the network, {remedy}.")


def all_drawings(npm: Path, openclipart: Path) -> Iterator[Drawing]:
    """The wanted drawings of all packages. Raises BadInput if one is missing or damaged."""
    if not (openclipart / SVG_FOLDER).is_dir():
        raise BadInput(f"{openclipart} holds no {SVG_FOLDER}: give the folder that `dpkg -x` made.")
    tags = emoji_tags(read_json(npm / LABELS_PACKAGE / "en" / "data.json"))
    for name in ICON_PACKAGES:
        yield from iconify_drawings(npm / "@iconify-json" / name, tags)
    yield from openclipart_drawings(openclipart / SVG_FOLDER)


def render_all(
    drawings: Sequence[Drawing], workers: int, progress: Callable[[int], None]
) -> list[tuple[str, bytes, dict[str, object]]]:
    """(key, WebP file, labels) of every drawing that gives a sprite, in the order of the keys.

    A key is the image's hash: of equal images the first drawing counts, and the order of the keys is a shuffle that
    every build repeats. `progress` is called with the number of drawings done.
    """
    sprites: dict[str, tuple[str, bytes, dict[str, object]]] = {}
    svgs = [drawing.svg for drawing in drawings]
    with process_pool(workers) as pool:
        images = pool.map(render_sprite, svgs, chunksize=16) if pool else map(render_sprite, svgs)
        for done, (drawing, image) in enumerate(zip(drawings, images, strict=True), start=1):
            if image is not None:
                key = hashlib.sha1(image, usedforsecurity=False).hexdigest()[:16]
                sprites.setdefault(key, (key, image, drawing.labels()))
            progress(done)
    return [sprites[key] for key in sorted(sprites)]


def attribution(npm: Path, openclipart: Path, counts: Mapping[str, int]) -> dict[str, Any]:
    """Whose work the sprites are: per set its title, authors, licence, sources, package, version and sprites.

    `counts` are the sprites per set. Licences are SPDX identifiers; an address that a package does not give is None.
    """
    sets = []
    for name in ICON_PACKAGES:
        package = npm / "@iconify-json" / name
        info = read_json(package / "info.json")
        sets.append(
            {
                "set": name,
                "title": info["name"],
                "authors": info["author"]["name"],
                "license": iconify_license(info),
                "license_url": info["license"].get("url"),
                "url": info["author"].get("url"),
                "package": f"@iconify-json/{name}",
                "version": read_json(package / "package.json")["version"],
                "sprites": counts.get(name, 0),
            }
        )
    sets.append(
        {
            "set": "openclipart",
            "title": "Open Clip Art Library",
            "authors": "the contributors to the Open Clip Art Library",
            "license": OPENCLIPART_LICENSE,
            "license_url": None,
            "url": None,
            "package": DEBIAN_PACKAGE,
            "version": _debian_version(openclipart),
            "sprites": counts.get("openclipart", 0),
        }
    )
    labels = read_json(npm / LABELS_PACKAGE / "package.json")
    captions = {
        "title": "English emoji labels and tags",
        "authors": labels["author"],
        "license": labels["license"],
        "package": LABELS_PACKAGE,
        "version": labels["version"],
    }
    return {"sprites": sum(counts.values()), "sets": sets, "captions": captions}


def _debian_version(openclipart: Path) -> str | None:
    """The version that the package's own changelog begins with, or None where it was left behind."""
    changelog = openclipart / "usr/share/doc" / DEBIAN_PACKAGE / "changelog.Debian.gz"
    if not changelog.exists():
        return None
    with gzip.open(changelog, "rt", encoding="utf-8", errors="replace") as file:
        found = re.search(r"\(([^)]+)\)", file.readline())
    return found.group(1) if found else None


def readme(credits: Mapping[str, Any]) -> str:
    """What the set is and whose work, as Markdown, from what `attribution` gives."""
    rows = "\n".join(
        f"| {row['set']} | {row['sprites']} | {row['title']}, by {row['authors']} | {row['license']} "
        f"| {row['package']} {row['version'] or ''} |"
        for row in credits["sets"]
    )
    captions = credits["captions"]
    return f"""# Clip-art training set

{credits["sprites"]} sprites in WebDataset shards. `KEY.webp`: RGBA, 256 x 256 px, straight alpha. `KEY.json`: `set`,
`license`, `style` (a short phrase for the set's look), `name`, `captions` (the name, then the name with a tag).
Keys are content hashes, so the order is already shuffled. Brand marks, flags, most skin-tone variants, copies and
near-empty images were left out. Built by `lazydiffusion data clipart`.

| set | sprites | work | licence | package |
|---|---|---|---|---|
{rows}

Captions use the {captions["title"]} of {captions["package"]} {captions["version"]} by {captions["authors"]}
({captions["license"]}).

A model trained on these must carry the attributions (attribution.json) in its model card. The drawings were changed:
cropped, scaled and rendered to pixels.
"""

"""Which drawings of the registries' packages become training sprites, and what they are called."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lazydiffusion.errors import BadInput

STYLES = {
    "noto": "glossy emoji",
    "noto-v1": "rounded emoji",
    "twemoji": "flat emoji",
    "fluent-emoji": "soft shaded emoji",
    "fluent-emoji-flat": "flat shapes emoji",
    "emojione": "cartoon emoji",
    "fxemoji": "simple emoji",
    "streamline-emojis": "outlined cartoon",
    "flat-color-icons": "flat color icon",
    "meteocons": "weather icon",
    "streamline-ultimate-color": "outlined color icon",
    "streamline-freehand-color": "hand-drawn ink",
    "streamline-kameleon-color": "round badge icon",
    "streamline-stickies-color": "sticker",
    "openclipart": "clip art",
}
"""The look of each set, in the words that a prompt would use."""

OPENCLIPART_LICENSE = "CC-PDDC"  # the package's own dedication, Creative Commons' of 2004; CC0 came later

# Marks of companies and projects: nothing that a model should learn to draw.
BRANDS = re.compile(
    r"logo|brand|reddit|dropbox|facebook|twitter|google|apple-|microsoft|windows|linux|ubuntu|debian|github|android"
    r"|firefox|chrome|safari|opera|instagram|youtube|whatsapp|telegram|skype|slack|amazon|paypal|visa|mastercard"
    r"|netflix|spotify|deviant|tumblr|pinterest|linkedin|vimeo|behance|dribbble|inkscape",
    re.IGNORECASE,
)
# Letters and signs on plain squares teach nothing about pictures; flags are too many and too alike.
UNWANTED_ICONS = re.compile(r"^flag-|keycap|^regional|duo$|squared|^[0-9a-z]$|input-|-letter|^tag-")
UNWANTED_FOLDERS = re.compile(
    r"shapes/stars|flags|cards|chess|computer/(icons|buttons|diagrams)|buttons|jigsaw|led/|special|logos"
    r"|unsorted/duplicates|flowchart|roadsigns|aiga|dice|arrows|geography/(?!astro)|weapons"
)
SKIN_TONE = re.compile(r"-(medium-light|medium-dark|light|medium|dark)(?:-skin-tone)?(?=-|$)")
KEPT_TONE = "medium-dark"  # one variant besides the yellow one: six of the same gesture would weigh six times
UNTELLING_KEYWORDS = {"unsorted", "clip_art", "clipart", "externalsource", "image", "media"}
LARGEST_SVG = 600_000  # bytes; larger ones are traced photographs that take minutes to render


@dataclass(frozen=True, slots=True)
class Drawing:
    """A vector drawing with its labels; `captions` are the name, then the name with one tag each."""

    set_name: str
    license: str
    style: str
    name: str
    captions: tuple[str, ...]
    svg: str

    def labels(self) -> dict[str, object]:
        """The content of the sprite's KEY.json."""
        return {
            "set": self.set_name,
            "license": self.license,
            "style": self.style,
            "name": self.name,
            "captions": list(self.captions),
        }


def dashed(label: str) -> str:
    """A label as the emoji sets write it in their names: "Ear with Hearing Aid" is "ear-with-hearing-aid"."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


def emoji_tags(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """From emojibase's rows: dashed label -> the label itself, then its tags."""
    return {dashed(row["label"]): [row["label"], *row.get("tags", [])] for row in rows}


def is_wanted_icon(key: str) -> bool:
    """Whether an icon becomes a sprite: no flag, letter or brand, and of the skin tones only one."""
    if UNWANTED_ICONS.search(key) or BRANDS.search(key):
        return False
    tones = SKIN_TONE.findall(key)
    return not tones or tones[0] == KEPT_TONE


def icon_subject(key: str, undashed: Mapping[str, str]) -> str:
    """What an icon shows, dashed: without skin tone and variant number.

    `undashed` maps emoji labels without dashes to those with them: some sets run the words together.
    """
    subject = re.sub(r"-(fill|\d+)$", "", SKIN_TONE.sub("", key))
    return undashed.get(subject.replace("-", ""), subject)


def icon_captions(key: str, subject: str, tags: Sequence[str]) -> tuple[str, ...]:
    """The name, the emoji's own label if it differs, and the name with each tag.

    `tags` are the label and then its tags, or empty; at most eight are used.
    """
    name = subject.replace("-", " ") + (" with brown skin" if SKIN_TONE.search(key) else "")
    captions = [name, *tags[:1], *(f"{name}, {tag}" for tag in tags[1:8] if tag != tags[0])]
    return tuple(dict.fromkeys(captions))


def icon_svg(icon: Mapping[str, Any], icon_set: Mapping[str, Any]) -> str:
    """An Iconify icon as an SVG document; a size that the icon lacks is its set's."""
    left, top, width, height = (
        icon.get(edge, icon_set.get(edge, default))
        for edge, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">{icon["body"]}</svg>'
    )


def iconify_drawings(package: Path, tags: Mapping[str, Sequence[str]]) -> Iterator[Drawing]:
    """The wanted drawings of an unpacked @iconify-json package, a folder named as its set.

    `tags` are those of `emoji_tags`. Raises BadInput if the package's files are missing or damaged.
    """
    icon_set = read_json(package / "icons.json")
    license_id = iconify_license(read_json(package / "info.json"))
    undashed = {subject.replace("-", ""): subject for subject in tags}
    for key, icon in icon_set["icons"].items():
        if icon.get("hidden") or not is_wanted_icon(key):
            continue
        subject = icon_subject(key, undashed)
        captions = icon_captions(key, subject, tags.get(subject, ()))
        style = STYLES[package.name]
        yield Drawing(package.name, license_id, style, captions[0], captions, icon_svg(icon, icon_set))


def iconify_license(info: Mapping[str, Any]) -> str:
    """The SPDX identifier of an @iconify-json package's drawings, or the licence's title where it has none."""
    return str(info["license"].get("spdx") or info["license"]["title"])


def clipart_name(path: str, svg: str) -> str | None:
    """The name of an Open Clip Art drawing: its title if that tells something, else its file's name.

    Files are named SUBJECT_AUTHOR_NUMBER.svg. None if nothing usable is left.
    """
    stem = re.sub(r"(_[a-z.\-]+_?)?_?\d*\.svg$", "", path.rsplit("/", 1)[-1]).removesuffix(".svg")
    found = re.search(r"<dc:title>([^<]{3,40})</dc:title>", svg)
    title = _spaced(_unescaped(found.group(1))) if found else ""
    name = title if title and not re.search(r"clipart|by |http|\d{3}", title) else _spaced(stem)
    return name if len(name) >= 3 and name.isascii() else None


def clipart_captions(name: str, path: str, svg: str) -> tuple[str, ...]:
    """The name, then the name with the kind (its innermost folder) and with up to four of its keywords."""
    kinds = [folder for folder in path.split("/")[:-1] if folder not in ("unsorted", "special")]
    found = (
        html.unescape(word).strip().lower() for word in re.findall(r"<rdf:li>([^<]{3,24})</rdf:li>", svg)
    )
    keywords = [word for word in found if word.isascii() and word not in UNTELLING_KEYWORDS]
    return tuple(dict.fromkeys([name, *(f"{name}, {word}" for word in [*kinds[-1:], *keywords[:4]])]))


def _unescaped(text: str) -> str:
    return html.unescape(html.unescape(text))  # some titles were escaped once too often


def _spaced(text: str) -> str:
    return re.sub(r"[_\-]+", " ", text).strip().lower()


def openclipart_drawings(folder: Path) -> Iterator[Drawing]:
    """The wanted drawings under `folder`, the package's svg folder, in the order of their paths."""
    for file in sorted(folder.rglob("*.svg")):
        path = file.relative_to(folder).as_posix()
        if UNWANTED_FOLDERS.search(path) or BRANDS.search(path) or file.stat().st_size > LARGEST_SVG:
            continue
        svg = file.read_text(encoding="utf-8", errors="replace")
        if name := clipart_name(path, svg):
            captions = clipart_captions(name, path, svg)
            yield Drawing("openclipart", OPENCLIPART_LICENSE, STYLES["openclipart"], name, captions, svg)


def read_json(path: Path) -> Any:
    """The content of a package's JSON file. Raises BadInput, naming it, if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({error}): install its package again.") from error

"""Sheets of a contest's fills, side by side: one for each case with all seeds, and one over all cases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lazydiffusion.engines.base import Pixels
from lazydiffusion.evaluation.own_cases.contest import Contest, Judged
from lazydiffusion.evaluation.own_cases.verdict import figures

PAGE = 40
"""Cases on one sheet over all: more would be longer than picture viewers and formats like."""
MARGIN, GAP, LINE = 24, 14, 18
LABEL = 210
"""Width of the column with the models' names, px."""
SMALL_TILE = 220
INK, GREY, RULE = "#1c1c1c", "#6a6a6a", "#dddddd"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def case_sheet(contest: Contest, number: int) -> Pixels:
    """One case: the canvas with its hole, then a line for each model with a fill for each seed."""
    given = contest.given[number]
    framed, settings = given.framed, given.case.settings
    first = [("canvas", framed.canvas)]
    first += [("the part below", framed.near)] if framed.near is not None else []
    first += [("sketch", framed.sketch)] if framed.sketch is not None else []
    canvas_step = "" if given.border_step is None else f"border step {given.border_step:.1f}"
    rows = [("canvas", [canvas_step], first)]
    for entry in contest.entries:
        fills = entry.played[number].fills
        told = [f"{name} {value}" for name, value in figures(entry, [number]).items()]
        rows.append((entry.contender.name, told, [(_under(fill), fill.tile) for fill in fills]))

    negative = f"   not: {settings.negative_prompt}" if settings.negative_prompt else ""
    cell_w, cell_h = _largest(tile for _, _, tiles in rows for _, tile in tiles)
    columns = max(len(tiles) for _, _, tiles in rows)
    width = 2 * MARGIN + LABEL + columns * (cell_w + GAP)
    prompt = _wrapped(f"{settings.prompt or '(no prompt)'}{negative}", _font(15), width - 2 * MARGIN)
    top = MARGIN + 32 + len(prompt) * 20 + GAP
    heights = [
        max(cell_h + LINE, 24 * len(_wrapped(name, _font(17), LABEL - GAP)) + LINE * len(told)) + 2 * GAP
        for name, told, _ in rows
    ]
    sheet = Image.new("RGB", (width, top + sum(heights) + MARGIN - GAP), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), given.case.name, INK, _font(24))
    for line, words in enumerate(prompt):
        draw.text((MARGIN, MARGIN + 34 + 20 * line), words, GREY, _font(15))
    y = top
    for (name, told, tiles), height in zip(rows, heights, strict=True):
        draw.line((MARGIN, y - GAP // 2, width - MARGIN, y - GAP // 2), RULE)
        below = _text(draw, name, (MARGIN, y + 4), _font(17), INK, LABEL - GAP)
        for line, words in enumerate(told):
            draw.text((MARGIN, below + 4 + LINE * line), words, GREY, _font(13))
        for column, (under, tile) in enumerate(tiles):
            x = MARGIN + LABEL + column * (cell_w + GAP)
            sheet.paste(Image.fromarray(tile), (x, y + 4))
            draw.text((x, y + 6 + tile.shape[0]), under, GREY, _font(13))
        y += height
    return np.asarray(sheet)


def overall_sheets(contest: Contest) -> list[Pixels]:
    """All cases, PAGE of them on each: a line for each with the canvas and every model's first fill."""
    numbers = range(len(contest.given))
    return [_page(contest, numbers[start : start + PAGE]) for start in range(0, len(numbers), PAGE)]


def _page(contest: Contest, numbers: Sequence[int]) -> Pixels:
    columns = ["canvas", *[entry.contender.name for entry in contest.entries]]
    heads = [_wrapped(name, _font(17), SMALL_TILE) for name in columns]
    top = MARGIN + 24 * max(map(len, heads)) + GAP
    rows = []
    for number in numbers:
        given = contest.given[number]
        fills = [entry.played[number].fills[0] for entry in contest.entries]
        tiles = [("", given.framed.canvas), *[(_under(fill), fill.tile) for fill in fills]]
        small = [(under, _smaller(tile)) for under, tile in tiles]
        rows.append((f"{given.case.name}:  {given.case.settings.prompt or '(no prompt)'}", small))
    width = 2 * MARGIN + len(columns) * (SMALL_TILE + GAP) - GAP
    captions = [_wrapped(caption, _font(15), width - 2 * MARGIN) for caption, _ in rows]
    heights = [
        20 * len(caption) + _largest(tile for _, tile in tiles)[1] + LINE + 2 * GAP
        for caption, (_, tiles) in zip(captions, rows, strict=True)
    ]
    sheet = Image.new("RGB", (width, top + sum(heights) + MARGIN - GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for column, lines in enumerate(heads):
        for line, words in enumerate(lines):
            draw.text((MARGIN + column * (SMALL_TILE + GAP), MARGIN + 24 * line), words, INK, _font(17))
    y = top
    for caption, (_, tiles), height in zip(captions, rows, heights, strict=True):
        draw.line((MARGIN, y - GAP // 2, width - MARGIN, y - GAP // 2), RULE)
        for line, words in enumerate(caption):
            draw.text((MARGIN, y + 20 * line), words, GREY, _font(15))
        below = y + 20 * len(caption) + 4
        for column, (under, tile) in enumerate(tiles):
            x = MARGIN + column * (SMALL_TILE + GAP)
            sheet.paste(Image.fromarray(tile), (x, below))
            draw.text((x, below + tile.shape[0] + 2), under, GREY, _font(13))
        y += height
    return np.asarray(sheet)


def _under(fill: Judged) -> str:
    return f"seed {fill.seed},  {fill.seconds:.2f} s"


def _smaller(tile: Pixels) -> Pixels:
    picture = Image.fromarray(tile)
    picture.thumbnail((SMALL_TILE, SMALL_TILE), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def _largest(tiles: Iterable[Pixels]) -> tuple[int, int]:
    """Width and height that hold each of the tiles."""
    heights, widths = zip(*(tile.shape[:2] for tile in tiles), strict=True)
    return max(widths), max(heights)


def _text(
    draw: ImageDraw.ImageDraw, text: str, place: tuple[int, int], font: Font, colour: str, width: int
) -> int:
    """Write a text in lines of at most `width` px; gives the y below them."""
    x, y = place
    for words in _wrapped(text, font, width):
        draw.text((x, y), words, colour, font)
        y += 24
    return y


def _wrapped(text: str, font: Font, width: int) -> list[str]:
    """A text in lines of at most `width` px, broken between words, and within those that are longer than a line."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines


@cache
def _font(size: int) -> Font:
    return ImageFont.load_default(size)

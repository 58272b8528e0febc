"""Cases that an artist made by hand: a folder for each, with a canvas, a mask and a prompt.

cases/boat/canvas.png     any picture that `lazydiffusion fill` reads; the name before the dot is what counts
cases/boat/mask.png       of the same size: generate where it is not black
cases/boat/prompt.txt     what to paint; an empty file continues what is around
cases/boat/negative.txt   may be there: what to keep away from
cases/boat/sketch.png     may be there: rough colours or lines of the same size, RGBA
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from lazydiffusion import images
from lazydiffusion.canvas import Canvas
from lazydiffusion.engines.base import Edit
from lazydiffusion.errors import BadInput, LazyDiffusionError
from lazydiffusion.protocol import EditSettings

CANVAS, MASK, SKETCH = "canvas", "mask", "sketch"
PROMPT, NEGATIVE = "prompt.txt", "negative.txt"


@dataclass(frozen=True)
class CaseFolder:
    """Where a case's files lie. Pictures are read when they are needed: many large ones would not fit in memory."""

    name: str
    canvas: Path
    mask: Path
    sketch: Path | None
    settings: EditSettings
    """With the case's prompts; the rest is the same for all cases."""

    def edit(self) -> Edit:
        """The case as an edit. Raises BadInput for pictures that cannot be used, and OutOfMemory."""
        canvas = images.read_canvas(self.canvas)
        mask = images.read_mask(self.mask, canvas.size)
        sketch = images.read_sketch(self.sketch, canvas.size) if self.sketch else None
        return Edit(Canvas.of(images.to_srgb(canvas)), mask, self.settings, sketch)


def find_cases(folder: Path, settings: EditSettings) -> list[CaseFolder]:
    """The cases in a folder, by name; or the one that the folder itself is, where it holds a canvas.

    `settings`: those of all edits. Every file is read once, so that nothing broken is left for later. Raises BadInput
    where there are no cases, and where one cannot be used.
    """
    try:
        if _pictures(folder, CANVAS):
            folders = [folder]
        else:
            folders = sorted(
                path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
            )
    except OSError as error:
        raise BadInput(f"The cases {folder} cannot be read ({error.strerror}): give a folder.") from error
    if not folders:
        raise BadInput(
            f"There are no cases in {folder}: make a folder for each, with canvas.png, mask.png and {PROMPT}."
        )
    cases = [_case(path, settings) for path in folders]
    for case in cases:
        try:
            case.edit()
        except LazyDiffusionError as error:
            raise type(error)(f"Case {case.name}: {error}") from error
    return cases


def _case(folder: Path, settings: EditSettings) -> CaseFolder:
    name = folder.resolve().name
    sketches = _pictures(folder, SKETCH)
    prompt, negative = _text(folder / PROMPT), _text(folder / NEGATIVE)
    if prompt is None:
        raise BadInput(
            f"Case {name}: {folder / PROMPT} is missing: write into it what to paint; it may be empty."
        )
    try:
        own = replace(settings, prompt=prompt, negative_prompt=negative or "")
    except BadInput as error:
        raise BadInput(f"Case {name}: {error}") from error
    return CaseFolder(
        name=name,
        canvas=_needed(folder, CANVAS),
        mask=_needed(folder, MASK),
        sketch=_single(sketches) if sketches else None,
        settings=own,
    )


def _pictures(folder: Path, stem: str) -> list[Path]:
    """The files of that name, with any ending."""
    return sorted(path for path in folder.iterdir() if path.stem == stem and path.is_file())


def _needed(folder: Path, stem: str) -> Path:
    found = _pictures(folder, stem)
    if not found:
        raise BadInput(f"Case {folder.resolve().name}: {folder} has no {stem}: save it there, as {stem}.png.")
    return _single(found)


def _single(found: list[Path]) -> Path:
    if len(found) > 1:
        raise BadInput(f"{found[0]} and {found[1]} are both there: keep the one that is meant.")
    return found[0]


def _text(path: Path) -> str | None:
    """A text file's words in one line; None where there is no such file."""
    try:
        return " ".join(path.read_text(encoding="utf-8-sig").split())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no text in UTF-8: save it again, as plain text.") from error

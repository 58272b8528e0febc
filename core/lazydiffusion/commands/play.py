"""`lazydiffusion play`: a picture made edit by edit, as a TOML script says.

canvas = "start.png"          # or: size = [512, 512] and background = "#ffffff"
seed = 7                      # of the first edit; the next ones count on

[[edit]]
prompt = "a red house"
box = [40, 60, 200, 200]      # or: ellipse = [x, y, w, h], or: mask = "house.png" (paths: from the script's folder)
# negative, seed, steps, guidance, feather, grow, blend, sketch, strength: as in `lazydiffusion fill`
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ImageColor

from lazydiffusion import checkpoints, compose, images, output_folder
from lazydiffusion.canvas import Canvas
from lazydiffusion.client.taught import untaught_note
from lazydiffusion.commands.terminal import error_console, say
from lazydiffusion.errors import BadInput
from lazydiffusion.image_output import write_canvas
from lazydiffusion.protocol import MAX_SIDE, MIN_SIDE, EditSettings, settings_of
from lazydiffusion.toml_file import read_toml

SCRIPT_KEYS = {"canvas", "size", "background", "seed", "edit"}
SHAPES = ("mask", "box", "ellipse")
SETTINGS = {"prompt", "negative", "seed", "steps", "guidance", "feather", "grow", "strength", "blend"}


def run(script: Path, out: Path, model: str, device: str) -> None:
    """Make OUT/01.png, OUT/02.png, ...: the canvas after each edit. Raises LazyDiffusionError."""
    plan = _read(script)
    canvas = _canvas(plan, script.parent)
    size = (canvas.shape[1], canvas.shape[0])
    edits = [
        _edit(values, number, size, script.parent, plan, model) for number, values in enumerate(plan["edit"])
    ]
    where = checkpoints.locate(model)  # a wrong name or hash is told before the long imports
    words = checkpoints.words(where) if isinstance(where, Path) else []
    names = [out / f"{number + 1:02d}.png" for number in range(len(edits))]
    output_folder.check(out, [name.name for name in names], keep=True)

    from lazydiffusion.devices import choose_device
    from lazydiffusion.engines.base import Edit, Report
    from lazydiffusion.engines.choose import load_engine

    console = error_console()
    for number, (settings, *_) in enumerate(edits):
        if note := untaught_note(settings.prompt, words):
            say(console, f"edit {number + 1}: {note}")
    engine = load_engine(model, choose_device(device))
    for name, (settings, mask, sketch) in zip(names, edits, strict=True):
        report = Report()
        for made in engine.run(Edit(Canvas.of(canvas), mask, settings, sketch), report):
            canvas = compose.paste(canvas, made.pixels, made.box)
        write_canvas(name, canvas)
        cost = f"{report.hidden_tokens} tokens, {sum(report.ms.values()) / 1000:.2f} s"
        say(console, f"{name}: {settings.prompt or 'nothing'}, seed {settings.seed}, {cost}")


def _read(script: Path) -> dict[str, Any]:
    values = read_toml(script, "script")
    unknown = sorted(set(values) - SCRIPT_KEYS)
    if unknown:
        raise BadInput(f"{script}: unknown key `{unknown[0]}`; known are {', '.join(sorted(SCRIPT_KEYS))}.")
    edits = values.get("edit")
    if not isinstance(edits, list) or not edits or not all(isinstance(edit, dict) for edit in edits):
        raise BadInput(f"{script} has no edits: add at least one [[edit]] with a prompt and a box.")
    if type(values.setdefault("seed", 0)) is not int:
        raise BadInput(f"{script}: `seed` is {values['seed']!r}; it must be a whole number.")
    return values


def _canvas(plan: dict[str, Any], folder: Path) -> npt.NDArray[np.uint8]:
    """The picture to begin with: a file, or a plain colour."""
    if "canvas" in plan:
        return images.to_srgb(images.read_canvas(folder / str(plan["canvas"])))
    size = plan.get("size", [512, 512])
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(s, int) for s in size)):
        raise BadInput(f"`size` is {size!r}; it must be [width, height] in px.")
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in size):
        raise BadInput(f"`size` is {size}; each side must be between {MIN_SIDE} and {MAX_SIDE} px.")
    background = str(plan.get("background", "#ffffff"))
    try:
        colour = ImageColor.getrgb(background)[:3]
    except ValueError as error:
        raise BadInput(f"`background` is {background!r}; give a colour such as #ffffff or white.") from error
    return np.full((size[1], size[0], 3), colour, dtype=np.uint8)


def _edit(
    values: dict[str, Any], number: int, size: tuple[int, int], folder: Path, plan: dict[str, Any], model: str
) -> tuple[EditSettings, npt.NDArray[np.float32], npt.NDArray[np.uint8] | None]:
    """Settings, mask and sketch of one [[edit]]; all are checked before the first edit is made."""
    where = f"edit {number + 1}"
    unknown = sorted(set(values) - SETTINGS - {*SHAPES, "sketch"})
    if unknown:
        raise BadInput(
            f"{where}: unknown key `{unknown[0]}`; known are {', '.join(sorted(SETTINGS | {*SHAPES, 'sketch'}))}."
        )
    shapes = [shape for shape in SHAPES if shape in values]
    if len(shapes) != 1:
        raise BadInput(f"{where} needs exactly one of mask, box and ellipse; it has {len(shapes)}.")
    own = {("negative_prompt" if k == "negative" else k): v for k, v in values.items() if k in SETTINGS}
    try:
        settings = settings_of({"seed": plan["seed"] + number, **own, "model": model})
    except BadInput as error:
        raise BadInput(f"{where}: {error}".replace('"negative_prompt"', '"negative"')) from error
    if shapes[0] == "mask":
        mask = images.read_mask(folder / str(values["mask"]), size)
    else:
        mask = _shape(shapes[0], values[shapes[0]], size, where)
    sketch = images.read_sketch(folder / str(values["sketch"]), size) if "sketch" in values else None
    return settings, mask, sketch


def _shape(kind: str, box: Any, size: tuple[int, int], where: str) -> npt.NDArray[np.float32]:
    """The mask of a box or an ellipse; what of it lies beside the canvas is left out."""
    if not (isinstance(box, list) and len(box) == 4 and all(type(v) is int for v in box)):
        raise BadInput(f"{where}: `{kind}` is {box!r}; it must be [x, y, width, height] in px.")
    x, y, w, h = box
    columns = range(max(x, 0), min(x + w, size[0]))
    rows = range(max(y, 0), min(y + h, size[1]))
    if not columns or not rows:
        raise BadInput(f"{where}: the {kind} {box} has no pixel on the canvas of {size[0]} x {size[1]} px.")
    inside = np.ones((len(rows), len(columns)), dtype=bool)
    if kind == "ellipse":  # pixels' centres from the ellipse's, in its half axes; whole numbers of any length
        across = np.array([(2 * (column - x) + 1 - w) / w for column in columns])
        down = np.array([(2 * (row - y) + 1 - h) / h for row in rows])
        inside = across**2 + down[:, None] ** 2 <= 1
    mask = np.zeros((size[1], size[0]), dtype=np.float32)
    mask[rows.start : rows.stop, columns.start : columns.stop] = inside
    if not mask.any():
        raise BadInput(f"{where}: the {kind} {box} has no pixel on the canvas of {size[0]} x {size[1]} px.")
    return mask

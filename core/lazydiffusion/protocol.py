"""What an edit is, in every process: settings, pictures, limits (standard library only, valid Python 3.9).

What happens to an edit is told in `events`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Optional, Union

from lazydiffusion.errors import BadInput
from lazydiffusion.window import Box, Size

PROTOCOL = 1
"""Version of the protocol between core and clients. Higher when an older client or core would misunderstand."""

MIN_SIDE = 16
"""Shortest side of a canvas, px."""
MAX_SIDE = 16384
"""Longest side of a canvas, px."""
MAX_PROMPT = 1000
"""Longest prompt, characters."""
MAX_STEPS = 200
MAX_VARIATIONS = 16
MAX_GUIDANCE = 20.0
MAX_SEED = 2**63 - 1
MAX_RADIUS = 1024
"""Largest feather and growth of a mask, px."""
MAX_CLIENT = 64
"""Longest name of a client, characters."""
MAX_REQUEST = 64 * 1024
"""Longest JSON part of a request, bytes."""

BYTES_PER_PIXEL = {"grey8": 1, "rgb8": 3, "rgba8": 4, "bgra8": 4}
"""Raw pixel formats: rows from the top without gaps, straight alpha, sRGB. PNG is sent under the name "png"."""
PNG = "png"
IMAGES = ("canvas", "mask", "sketch", "overview")
"""The pictures of a request; a mask is grey."""


@dataclass(frozen=True)
class EditSettings:
    """Everything an edit needs beside its pictures. Checked when made: a value out of range raises BadInput."""

    prompt: str = ""
    """What to paint. Empty: continue what is around the mask."""
    negative_prompt: str = ""
    """What to keep away from. Empty: guidance is measured against the model's learned 'no prompt'."""
    seed: int = 0
    """Fill k of an edit uses seed + k. 0 .. 2**63 - 1."""
    steps: Optional[int] = None
    """Denoising steps, 1 .. 200; None takes the model's own default."""
    guidance: Optional[float] = None
    """Classifier-free guidance scale, 0 .. 20 (1 is off); None takes the model's own default."""
    strength: float = 1.0
    """Above 0, to 1. Below 1 the fill starts from the sketch, or from what the canvas shows under the mask."""
    variations: int = 1
    """How many fills, 1 .. 16."""
    feather: int = 0
    """Width in px of the soft border, inside the mask."""
    grow: int = 0
    """By how many px the mask is grown first."""
    blend: bool = False
    """Shift the fill's colours so that they meet the canvas smoothly (Poisson blending; needs the extra `blend`)."""
    model: str = "clipart"
    """A model's name, a folder, or a hub id."""

    def __post_init__(self) -> None:
        for name, text in (("prompt", self.prompt), ("negative prompt", self.negative_prompt)):
            if len(text) > MAX_PROMPT:
                raise BadInput(
                    "The %s has %d characters; shorten it to %d at most." % (name, len(text), MAX_PROMPT)
                )
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise BadInput("The %s holds a broken character: type it again." % name)
        _within("The number of steps", self.steps, 1, MAX_STEPS)
        _within("The guidance", self.guidance, 0, MAX_GUIDANCE)
        _within("The seed", self.seed, 0, MAX_SEED)
        _within("The number of variations", self.variations, 1, MAX_VARIATIONS)
        _within("The feather", self.feather, 0, MAX_RADIUS, " px")
        _within("The growth of the mask", self.grow, 0, MAX_RADIUS, " px")
        if not 0 < self.strength <= 1:
            raise BadInput("The strength is %g; it must be above 0 and at most 1." % self.strength)


def _within(name: str, value: Optional[float], low: float, high: float, unit: str = "") -> None:
    if value is not None and not low <= value <= high:  # also refuses NaN
        shown = tuple("%d" % v if isinstance(v, int) else "%g" % v for v in (value, low, high))
        raise BadInput(
            "%s is %s%s; it must be between %s and %s." % (name, shown[0], unit, shown[1], shown[2])
        )


@dataclass(frozen=True)
class ImageData:
    """A picture as it is sent: raw pixels, or a PNG file."""

    format: str
    """One of BYTES_PER_PIXEL, or "png"."""
    size: Size
    """(width, height) in px."""
    data: Union[bytes, bytearray, memoryview]

    def __post_init__(self) -> None:
        width, height = self.size
        if self.format != PNG and self.format not in BYTES_PER_PIXEL:
            known = ", ".join([*BYTES_PER_PIXEL, PNG])
            raise BadInput('The pixel format "%s" is not known; use one of %s.' % (self.format, known))
        if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
            raise BadInput(
                "A picture is %d x %d px; each side must be between 1 and %d px." % (width, height, MAX_SIDE)
            )
        expected = raw_bytes(self.format, self.size)
        if expected is not None and memoryview(self.data).nbytes != expected:
            raise BadInput(
                "%d x %d px as %s are %d bytes, but %d were given."
                % (width, height, self.format, expected, memoryview(self.data).nbytes)
            )


def raw_bytes(format: str, size: Size) -> Optional[int]:
    """Bytes of a raw picture of `size` (width, height); None for a PNG, whose length does not follow from it."""
    per_pixel = BYTES_PER_PIXEL.get(format)
    return None if per_pixel is None else per_pixel * size[0] * size[1]


def check_canvas_size(size: Size) -> None:
    """Raises BadInput where a canvas of (width, height) px is too small or too large."""
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in size):
        raise BadInput(
            "The canvas is %d x %d px; each side must be between %d and %d px: %s it first."
            % (size[0], size[1], MIN_SIDE, MAX_SIDE, "enlarge" if min(size) < MIN_SIDE else "crop or shrink")
        )


@dataclass(frozen=True)
class EditRequest:
    """An edit as an editor asks for it. Of a huge canvas only a region and an overview need to be sent.

    Checked when made: raises BadInput for pictures whose sizes do not fit each other.
    """

    settings: EditSettings
    canvas_size: Size
    """(width, height) of the whole canvas, px."""
    canvas: ImageData
    """The region's pixels; where they are transparent, white shows through."""
    mask: ImageData
    """Of the region; above 0 = generate here. A picture with alpha counts as its luminance times its opacity."""
    region: Optional[Box] = None
    """The part of the canvas that is sent (window.region_to_send); None is all of it."""
    sketch: Optional[ImageData] = None
    """Of the region, with alpha: rough colours or lines."""
    overview: Optional[ImageData] = None
    """The whole canvas, small (window.overview_size). Needed when the region is not all of the canvas."""
    client: str = ""
    """Who asks, for instance "krita-4711": clients take turns."""
    while_watched: bool = False
    """End the edit when nobody follows its events any more: for a client that an editor may end at any moment."""
    draft: bool = False
    """Its fills stay out of the history until they are asked to be kept: for one of many that will not be wanted."""

    def __post_init__(self) -> None:
        width, height = self.canvas_size
        check_canvas_size(self.canvas_size)
        box = self.part
        if min(box.w, box.h) < 1 or not Box(0, 0, width, height).contains(box):
            raise BadInput(
                "The region %s does not lie on the canvas of %d x %d px." % (box.as_list(), width, height)
            )
        for name in ("canvas", "mask", "sketch"):
            image = getattr(self, name)
            if image is not None and image.size != (box.w, box.h):
                raise BadInput(
                    "The %s is %d x %d px, but the part of the canvas that is sent is %d x %d px."
                    % ((name, *image.size, box.w, box.h))
                )
        if self.overview is None and box != Box(0, 0, width, height):
            raise BadInput(
                "Only %d x %d px of a canvas of %d x %d px are sent; send an overview of it as well."
                % (box.w, box.h, width, height)
            )
        if len(self.client) > MAX_CLIENT:
            raise BadInput("The client's name has %d characters; 64 are allowed." % len(self.client))

    @property
    def part(self) -> Box:
        """The region, or the whole canvas where none is given."""
        return self.region or Box(0, 0, *self.canvas_size)

    def images(self) -> dict[str, ImageData]:
        """The pictures that are sent, by name."""
        given = ((name, getattr(self, name)) for name in IMAGES)
        return {name: image for name, image in given if image is not None}

    def header(self) -> dict[str, Any]:
        """The request's JSON part: all but the pictures' bytes."""
        return {
            "protocol": PROTOCOL,
            "client": self.client,
            "while_watched": self.while_watched,
            "draft": self.draft,
            "settings": asdict(self.settings),
            "canvas_size": list(self.canvas_size),
            "region": self.region.as_list() if self.region is not None else None,
            "images": {
                name: {"format": image.format, "size": list(image.size)}
                for name, image in self.images().items()
            },
        }


def settings_of(values: dict[str, Any]) -> EditSettings:
    """Settings of a JSON object; what a newer program has added to them is left out. Raises BadInput."""
    known = {f.name for f in fields(EditSettings)}
    given = {name: value for name, value in values.items() if name in known}
    for name, value in given.items():
        kind, words = _KINDS[name]
        if value is None and name in ("steps", "guidance"):
            continue
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise BadInput('The setting "%s" is %r; it must be %s.' % (name, value, words))
    return EditSettings(**given)


_TEXT, _WHOLE, _NUMBER = (str, "a text"), (int, "a whole number"), ((int, float), "a number")
_KINDS: dict[str, Any] = {
    "prompt": _TEXT,
    "negative_prompt": _TEXT,
    "seed": _WHOLE,
    "steps": _WHOLE,
    "guidance": _NUMBER,
    "strength": _NUMBER,
    "variations": _WHOLE,
    "feather": _WHOLE,
    "grow": _WHOLE,
    "blend": (bool, "true or false"),
    "model": _TEXT,
}

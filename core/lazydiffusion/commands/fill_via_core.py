"""`lazydiffusion fill --via-core`: the same edit, done by the resident core as it does an editor's."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from lazydiffusion import events
from lazydiffusion.client import connect
from lazydiffusion.client.edit import Edit
from lazydiffusion.client.errors import EditFailed
from lazydiffusion.client.model_choice import window_tokens, words_of
from lazydiffusion.client.start import COMMAND_VARIABLE
from lazydiffusion.commands.serve import own_command
from lazydiffusion.engines.base import Fill
from lazydiffusion.geometry import bounding_box
from lazydiffusion.protocol import EditRequest, EditSettings, ImageData
from lazydiffusion.window import Box, overview_size, region_to_send

Pixels = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]
"""(steps taken, steps in all)."""


class CoreEdit:
    """An edit at the core, which is started if it is not running."""

    def __init__(
        self, canvas: Pixels, mask: npt.NDArray[np.float32], settings: EditSettings, sketch: Pixels | None
    ):
        """Canvas (H, W, 3) sRGB, mask (H, W) 0..1, sketch (H, W, 4). Raises CoreError."""
        self.settings = settings
        self._report: dict[str, Any] = {}
        connecting = time.perf_counter()
        client = f"command-line-{os.getpid()}"
        # Who runs this has an installation: it does not depend on what editors were told.
        command = None if os.environ.get(COMMAND_VARIABLE) else own_command()
        core = connect(client=client, command=command)
        info = core.info()
        self.words = words_of(info, settings.model)
        """What a prompt may call what the model was taught; empty of a model for anything."""
        side = window_tokens(info, settings.model)
        self._edit: Edit = core.submit(_request(canvas, mask, settings, sketch, client, side))
        self._connected_ms = 1000 * (time.perf_counter() - connecting)

    def fills(self, progress: Progress) -> Iterator[Fill]:
        """The fills as they are finished. When the caller stops listening, the edit is cancelled. Raises CoreError."""
        ended = False
        try:
            for event in self._edit.events():
                ended = isinstance(event, events.LAST)
                if isinstance(event, events.Stepped):
                    progress(event.fill * event.steps + event.step, event.steps * self.settings.variations)
                elif isinstance(event, events.Filled):
                    yield self._fetch(event.fill)
                elif isinstance(event, events.Failed):
                    raise EditFailed(event.message, event.code)
                elif isinstance(event, events.Done):
                    self._report = event.report
        finally:
            if not ended:
                self._edit.cancel()

    def summary(self) -> dict[str, Any]:
        """What the core said of the edit's cost, after the last fill; starting and waiting for a turn count as load."""
        names = ("hidden_tokens", "window", "scale", "device", "steps")
        ms = dict(self._report["ms"])
        ms["load"] += self._connected_ms + ms.pop("waited")
        return {**{name: self._report[name] for name in names}, "ms": ms}

    def _fetch(self, number: int) -> Fill:
        made = self._edit.fill(number)
        pixels = np.frombuffer(made.rgba, np.uint8).reshape(made.box.h, made.box.w, 4)
        return Fill(pixels, made.box, made.seed)


def _request(
    canvas: Pixels,
    mask: npt.NDArray[np.float32],
    settings: EditSettings,
    sketch: Pixels | None,
    client: str,
    side: int,
) -> EditRequest:
    """What an editor would send: the region that the edit needs, and the whole canvas small.

    `side`: of the model's window, tokens.
    """
    size = (canvas.shape[1], canvas.shape[0])
    region = region_to_send(size, bounding_box(mask), settings.grow, settings.feather, side)
    here = region.slices()
    # A mask that is barely above 0 must not become 0.
    levels = np.ceil(mask[here] * 255).astype(np.uint8)
    overview = None
    if region != Box(0, 0, *size):
        small = Image.fromarray(canvas).resize(overview_size(size), Image.Resampling.BOX, reducing_gap=2.0)
        overview = _data(np.asarray(small), "rgb8")
    return EditRequest(
        settings=settings,
        canvas_size=size,
        region=region,
        canvas=_data(canvas[here], "rgb8"),
        mask=_data(levels, "grey8"),
        sketch=_data(sketch[here], "rgba8") if sketch is not None else None,
        overview=overview,
        client=client,
    )


def _data(pixels: Pixels, format: str) -> ImageData:
    return ImageData(format, (pixels.shape[1], pixels.shape[0]), np.ascontiguousarray(pixels).data)

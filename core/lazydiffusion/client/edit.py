"""An edit at the core: what happens to it, its fills, and its end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Optional
from urllib.parse import quote

from lazydiffusion.client.errors import CoreError, EditFailed
from lazydiffusion.client.event_stream import Message, follow
from lazydiffusion.client.transport import Transport
from lazydiffusion.events import KINDS, LAST, Event, Failed, Filled, from_json
from lazydiffusion.window import Box

CANCEL_TIMEOUT = 5.0
"""Seconds that the core may take to answer a cancellation."""
RAW, PNG = "application/octet-stream", "image/png"


@dataclass(frozen=True)
class FillPixels:
    """The pixels of one fill."""

    fill: int
    """Which variation, from 0."""
    box: Box
    """Where they belong on the canvas, px."""
    seed: int
    rgba: bytes = field(repr=False)
    """box.w * box.h * 4 bytes: rows from the top, straight alpha, sRGB, transparent outside the mask."""
    edit: str = ""
    """The id of the edit that it is of."""


class Edit:
    """One edit, by its id. Threads may share it; the edit goes on if nobody follows it."""

    def __init__(self, transport: Transport, id: str) -> None:
        self.id = id
        self._transport = transport
        self._path = "/v1/edits/" + quote(id, safe="")

    def events(self) -> Iterator[Event]:
        """What happens to the edit, from its beginning; ends after Done, Failed or Cancelled.

        Goes on over lost connections. Raises CoreLost when the core has ended.
        """
        for message in follow(self._transport, self._path + "/events", _is_last):
            event = _event(message)
            if event is not None:
                yield event

    def fill(self, fill: int) -> FillPixels:
        """The pixels of fill number `fill`, once it was announced. Raises EditRejected, CoreLost."""
        headers, rgba = self._transport.content("%s/fills/%d" % (self._path, fill), RAW)
        try:
            x, y, w, h = (int(number) for number in (headers["X-Box"] or "").split(","))
            seed = int(headers["X-Seed"] or "")
        except ValueError as error:
            raise misunderstood() from error
        if min(w, h) < 1 or len(rgba) != 4 * w * h:
            raise misunderstood()
        return FillPixels(fill, Box(x, y, w, h), seed, rgba, self.id)

    def fill_png(self, fill: int) -> bytes:
        """The same as a PNG file."""
        return self._transport.content("%s/fills/%d" % (self._path, fill), PNG)[1]

    def keep(self) -> None:
        """Have the fills of a draft that has ended put into the history; nothing happens to any other edit's.

        Raises EditRejected where the core has let go of them or cannot write them, CoreLost.
        """
        self._transport.json("POST", self._path + "/keep")

    def cancel(self) -> None:
        """End the edit soon; nothing happens if it has ended already. Raises CoreLost."""
        self._transport.json("DELETE", self._path, timeout=CANCEL_TIMEOUT)

    def wait(self) -> list[FillPixels]:
        """All fills, when the edit has ended; of a cancelled one those that were finished. Raises EditFailed."""
        fills = []
        for event in self.events():
            if isinstance(event, Filled):
                fills.append(self.fill(event.fill))
            elif isinstance(event, Failed):
                raise EditFailed(event.message, event.code)
        return fills


def _is_last(message: Message) -> bool:
    return KINDS.get(message.event) in LAST


def _event(message: Message) -> Optional[Event]:
    try:
        values = json.loads(message.data)
        return from_json(message.event, values)
    except (ValueError, TypeError, AttributeError) as error:
        raise misunderstood() from error


def misunderstood() -> CoreError:
    """The error for an answer that is not what docs/service.md says."""
    return CoreError(
        "The LazyDiffusion core said something that this plugin does not understand. Update both to the same version."
    )

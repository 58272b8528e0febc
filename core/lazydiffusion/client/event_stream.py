"""Server-sent events: reading them, and following a stream over lost connections."""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Callable, Optional

from lazydiffusion.client.errors import CoreLost
from lazydiffusion.client.transport import Transport

SILENCE = 10.0
"""Seconds without even a comment after which a connection counts as dropped; the core sends one every second."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds before a dropped connection is made anew."""


@dataclass(frozen=True)
class Message:
    """One event of a stream."""

    id: str
    """Empty if the event had none."""
    event: str
    data: str


def parse(lines: Iterable[bytes]) -> Iterator[Message]:
    """The events of a stream, each when its empty line has come; half an event at the end is none.

    `lines` with or without their line ends, LF or CRLF. Comments and unknown fields are left out.
    """
    id, event = "", ""
    data: list[str] = []
    for number, raw in enumerate(lines):
        line = raw.decode("utf8", errors="replace").rstrip("\r\n")
        if number == 0 and line.startswith("\ufeff"):
            line = line[1:]
        if not line:
            if data:
                yield Message(id, event or "message", "\n".join(data))
            id, event, data = "", "", []
            continue
        field, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if field == "id" and "\0" not in value:
            id = value
        elif field == "event":
            event = value
        elif field == "data":
            data.append(value)


def follow(
    transport: Transport, path: str, is_last: Callable[[Message], bool], silence: float = SILENCE
) -> Iterator[Message]:
    """Each event of the stream at `path` once, until the one that `is_last`, over as many connections as it takes.

    Raises CoreLost at once when nothing listens there any more, or when after a drop no connection brings a line for
    `silence` seconds; EditRejected when the core does not know the stream.
    """
    last_id = ""
    pause = FIRST_PAUSE
    dropped: Optional[float] = None

    def noted(lines: Iterable[bytes]) -> Iterator[bytes]:
        nonlocal dropped, pause
        for line in lines:
            dropped, pause = None, FIRST_PAUSE
            yield line

    while True:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        lost = CoreLost()
        try:
            with transport.open("GET", path, headers, timeout=silence) as response:
                for message in parse(noted(_lines(response))):
                    if message.id and _is_repeated(message.id, last_id):
                        continue
                    last_id = message.id or last_id
                    yield message
                    if is_last(message):
                        return
        except CoreLost as error:
            if error.untouched:
                raise
            lost = error
        if dropped is None:
            dropped = time.monotonic()
        elif time.monotonic() - dropped >= silence:
            raise lost
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The lines until the connection ends, in whatever way."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        while True:
            line = response.readline()
            if not line:
                return
            yield line


def _is_repeated(id: str, last_id: str) -> bool:
    """Whether the event came before: ids count upwards."""
    if not last_id:
        return False
    if id.isdigit() and last_id.isdigit():
        return int(id) <= int(last_id)
    return id == last_id

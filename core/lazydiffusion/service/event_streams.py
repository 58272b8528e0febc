"""An edit's events as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from lazydiffusion import events
from lazydiffusion.service.history import Entry
from lazydiffusion.service.jobs import Job

ALIVE_EVERY = 1.0
"""Seconds of silence after which a comment says that the core still lives."""


async def follow(job: Job, after: int) -> AsyncIterator[bytes]:
    """The events after number `after`, as they come; ends with the edit."""
    with job.followed() as news:
        while True:
            news.clear()
            for number, event in job.since(after):
                yield encode(number, event)
                after = number
                if isinstance(event, events.LAST):
                    return
            if job.ended:  # nothing is left for one who has heard everything
                return
            try:
                await asyncio.wait_for(news.wait(), ALIVE_EVERY)
            except TimeoutError:
                yield b": alive\n\n"


async def replay(entry: Entry, after: int) -> AsyncIterator[bytes]:
    """What the history knows of an edit that an earlier core made, or that this one has let go: its fills and its end.

    The numbers of then are gone. One who comes back is told all of it, under numbers that are new to it: better a fill
    twice than an end that is never heard.
    """
    told: list[events.Event] = [events.Filled(f.fill, f.seed, f.box, saved=True) for f in entry.fills]
    if entry.state == "done":
        told.append(events.Done(len(entry.fills)))
    elif entry.state == "cancelled":
        told.append(events.Cancelled())
    else:
        told.append(
            events.Failed("stopped", "The core ended before the edit did. The fills that are here are whole.")
        )
    for number, event in enumerate(told, start=after + 1):
        yield encode(number, event)


def encode(number: int, event: events.Event) -> bytes:
    """One event of the stream."""
    data = json.dumps(events.to_json(event))
    return f"id: {number}\nevent: {events.name_of(event)}\ndata: {data}\n\n".encode()

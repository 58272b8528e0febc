"""Memory for edits that come in is promised once: those being read and decoded count as those that wait do."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message
from tests.service import png_files
from tests.service.core_process import edit_request
from tests.service.raw_http import BOUNDARY, multipart, parts_of

from lazydiffusion.protocol import EditRequest, ImageData
from lazydiffusion.service import queue as queues
from lazydiffusion.service.errors import QueueFull
from lazydiffusion.service.history import History
from lazydiffusion.service.intake import Intake
from lazydiffusion.service.jobs import Job, Jobs
from lazydiffusion.service.queue import Queue
from lazydiffusion.service.shelf import Shelf
from lazydiffusion.service.worker import Worker

pytestmark = pytest.mark.unit

EMBEDDED = "clipart"


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def intake(queue: Queue, tmp_path: Path) -> Intake:
    """Its worker takes nothing out of the queue."""
    shelf = Shelf(EMBEDDED, "cpu")
    worker = Worker(queue, shelf, History(tmp_path), unload_after=0, give_up=lambda: None)
    return Intake(queue, Jobs(), shelf, worker)


def request_of(body: bytes, length: int | None = None, *, pause: float = 0.0) -> Request:
    """A request as the server hands it over; its body comes after a pause."""
    headers = [(b"content-type", f"multipart/form-data; boundary={BOUNDARY}".encode())]
    headers.append((b"content-length", str(len(body) if length is None else length).encode()))

    async def receive() -> Message:
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "method": "POST", "path": "/v1/edits", "headers": headers}, receive)


def small_edit() -> bytes:
    return multipart(parts_of(edit_request(64, 64, (20, 20, 20, 20), model=EMBEDDED)))


async def together(*takes: Coroutine[Any, Any, tuple[Job, int]]) -> list[tuple[Job, int] | BaseException]:
    return await asyncio.gather(*takes, return_exceptions=True)


def test_a_small_file_of_a_large_picture_counts_as_the_picture(
    intake: Intake, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PNG of one kilobyte that is a megapixel, and says so, needs seven bytes a pixel."""
    size = (1000, 1000)
    png = ImageData("png", size, png_files.grey(*size))
    body = multipart(parts_of(EditRequest(edit_request(model=EMBEDDED).settings, size, png, png)))
    assert len(body) < 10_000
    monkeypatch.setattr(queues, "MAX_WAITING_BYTES", 7_000_000 - 1)
    with pytest.raises(QueueFull, match="Too many edits are waiting"):
        asyncio.run(intake.take(request_of(body)))
    assert len(queue) == 0


def test_bodies_that_are_being_read_count(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    body = small_edit()
    monkeypatch.setattr(queues, "MAX_WAITING_BYTES", 64 * 64 * 7 + len(body))
    first, second = asyncio.run(
        together(
            intake.take(request_of(body, pause=0.1)),
            intake.take(request_of(body, length=64 * 64 * 7 + 1)),
        )
    )
    assert isinstance(second, QueueFull)
    assert isinstance(first, tuple)


def test_many_that_come_at_once_are_no_more_than_may_wait(
    intake: Intake, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "MAX_WAITING", 3)
    body = small_edit()
    ends = asyncio.run(together(*(intake.take(request_of(body, pause=0.05)) for _ in range(8))))
    assert sum(isinstance(end, tuple) for end in ends) == len(queue) == 3
    assert sum(isinstance(end, QueueFull) for end in ends) == 5


def test_what_was_promised_is_given_back(
    intake: Intake, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = small_edit()
    monkeypatch.setattr(queues, "MAX_WAITING_BYTES", 3 * len(body))
    for number in range(10):
        with pytest.raises(Exception, match=r"multipart|announced"):
            asyncio.run(intake.take(request_of(b"nothing", length=len(body))))
        if number == 9:
            asyncio.run(intake.take(request_of(body)))
    assert len(queue) == 1

"""A client's connection: what comes before a body may be neither endless nor endlessly slow."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 64 * 1024
"""Longest request line with its headers, bytes; what comes in one piece with the end of it is not counted."""
PATIENCE = 10.0
"""Seconds that they may take."""


class Connection(HttpToolsProtocol):
    """uvicorn's, which by itself keeps all headers that come, and waits for them for ever.

    Whoever can connect could fill the memory so, before being asked for a token.
    """

    def __init__(self, *args: Any, **named: Any):
        super().__init__(*args, **named)
        self._in_head = True
        self._head = 0
        """Bytes of it so far."""
        self._waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Await the first request."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Await nothing any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Await the rest of the headers."""
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        """What follows is a body, which is read piece by piece."""
        self._stop_waiting()
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Count what is no body."""
        super().data_received(data)
        self._head = self._head + len(data) if self._in_head else 0
        if self._head > MAX_HEAD:
            self._refuse("The headers are too long.")

    def _await_head(self) -> None:
        self._stop_waiting()
        self._in_head = True
        self._waiting = self.loop.call_later(PATIENCE, self._refuse, "The headers did not come in time.")

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _refuse(self, message: str) -> None:
        if not self.transport.is_closing():
            self.send_400_response(message)

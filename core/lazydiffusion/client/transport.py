"""HTTP to the core over a Unix socket or TCP, one connection per request, with errors that an artist can read."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Optional

from lazydiffusion.client.errors import CoreError, CoreLost, CoreTooOld, EditRejected
from lazydiffusion.client.multipart import Piece

TIMEOUT = 30.0
"""Seconds without a sign of life after which a request is given up."""
UNIX_HOST = "lazydiffusion"
"""Value of the Host header on a Unix socket."""
LONGEST_SOCKET_PATH = 103
"""Bytes that the address of a Unix socket can have on every system."""


class Transport:
    """Requests to the core at one address. Threads may share it."""

    def __init__(self, address: str, token: str) -> None:
        """`address`: unix:PATH or tcp:HOST:PORT. Raises CoreLost for any other."""
        kind, _, self._place = address.partition(":")
        if kind not in ("unix", "tcp") or not self._place or (kind == "tcp" and not _port(self._place)):
            raise CoreLost(
                'The LazyDiffusion core cannot be found at "%s". Run `lazydiffusion stop` and try again.'
                % address,
                untouched=True,
            )
        self.address = address
        self._is_unix = kind == "unix"
        self._token = token

    def json(
        self,
        method: str,
        path: str,
        headers: Optional[dict[str, str]] = None,
        body: Optional[Iterable[Piece]] = None,
        timeout: float = TIMEOUT,
    ) -> dict[str, Any]:
        """The JSON object that is the answer; {} where the answer has no body. Raises as `open` does."""
        with self.open(
            method, path, {"Accept": "application/json", **(headers or {})}, body, timeout
        ) as response:
            return _json_object(_read(response))

    def content(
        self, path: str, accept: str, timeout: float = TIMEOUT
    ) -> tuple[http.client.HTTPMessage, bytes]:
        """Headers and body of a GET. Raises as `open` does."""
        with self.open("GET", path, {"Accept": accept}, None, timeout) as response:
            return response.headers, _read(response)

    def listens(self) -> bool:
        """Whether somebody takes connections at the address."""
        connection = self._connection(TIMEOUT)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.connect()
            return True
        return False

    @contextlib.contextmanager
    def open(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: Optional[Iterable[Piece]] = None,
        timeout: float = TIMEOUT,
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to a request, still to be read, as long as the context lasts; its status is below 300.

        `headers` say a body's Content-Length. Raises CoreLost if the core does not answer, CoreTooOld, or EditRejected
        with the core's reason.
        """
        connection = self._connection(timeout)
        with contextlib.closing(connection):
            try:
                connection.connect()
            except OSError as error:
                raise CoreLost(untouched=True) from error
            response = _exchange(connection, method, path, self._headers(headers), body)
            with response:
                if response.status >= 300:
                    raise _refusal(response.status, _read(response))
                yield response

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        if self._is_unix:
            return _UnixConnection(self._place, timeout)
        host, _, port = self._place.rpartition(":")
        return http.client.HTTPConnection(host.strip("[]"), int(port), timeout=timeout)

    def _headers(self, headers: dict[str, str]) -> dict[str, str]:
        return {
            **headers,
            "Host": UNIX_HOST if self._is_unix else self._place,
            "Authorization": "Bearer " + self._token,
            "Connection": "close",
        }


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__(UNIX_HOST, timeout=timeout)
        self._path = path

    def connect(self) -> None:
        if not hasattr(socket, "AF_UNIX"):
            raise OSError("This Python has no Unix sockets.")
        connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connecting.settimeout(self.timeout)
            _connect_unix(connecting, self._path, self.timeout or TIMEOUT)
        except BaseException:
            connecting.close()
            raise
        self.sock = connecting


def _connect_unix(connecting: socket.socket, path: str, timeout: float) -> None:
    with _short_path(path) as short:
        deadline = time.monotonic() + timeout
        while True:
            try:
                return connecting.connect(short)
            except BlockingIOError:
                # Too many are waiting to be let in; unlike TCP, the system does not wait for us.
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.01)


@contextlib.contextmanager
def _short_path(path: str) -> Iterator[str]:
    """The path, or on Linux another that means the same where it is longer than a socket's address can be."""
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        yield path
        return
    if not sys.platform.startswith("linux"):
        raise CoreLost(
            'The path of the LazyDiffusion core\'s socket is too long: "%s". Set LAZYDIFFUSION_RUNTIME to a folder '
            "with a shorter path." % path,
            untouched=True,
        )
    folder = os.open(str(Path(path).parent), os.O_PATH | os.O_DIRECTORY)
    try:
        yield "/proc/self/fd/%d/%s" % (folder, Path(path).name)
    finally:
        os.close(folder)


def _exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    headers: dict[str, str],
    body: Optional[Iterable[Piece]],
) -> http.client.HTTPResponse:
    try:
        try:
            connection.request(method, path, body=body, headers=headers)
        except (BrokenPipeError, ConnectionResetError):
            # A core that refuses a request need not read it to its end: what it says comes first.
            return connection.getresponse()
        return connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise CoreLost() from error


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read()
    except (OSError, http.client.HTTPException) as error:
        raise CoreLost() from error


def _json_object(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        values = json.loads(body.decode("utf8"))
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise CoreLost("What answers at the LazyDiffusion core's address is not the core. Try again.")
    return values


def _refusal(status: int, body: bytes) -> CoreError:
    """The error for a status of 300 and above, from the core's `{"error": {"code", "message"}}`."""
    try:
        error = json.loads(body.decode("utf8"))["error"]
        code, message = str(error["code"]), str(error["message"])
    except (ValueError, TypeError, KeyError):
        code, message = "status-%d" % status, ""
    if status == 401:
        return CoreLost(
            "Another LazyDiffusion core has taken the place of this one. Try again.", untouched=True
        )
    if status == 409:
        return CoreTooOld(message or str(CoreTooOld.of_protocol("unknown")))
    if status == 503:
        return CoreLost(message or "The LazyDiffusion core is ending. Try again in a moment.", untouched=True)
    return EditRejected(
        message or "The LazyDiffusion core refused this (status %d). Its log says more." % status, code
    )


def _port(place: str) -> Optional[int]:
    host, _, port = place.rpartition(":")
    return int(port) if host and port.isdigit() and int(port) < 65536 else None

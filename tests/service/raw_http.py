"""HTTP as bytes on a socket, for what no proper client sends, and the parts that requests are made of."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lazydiffusion.client.multipart import MultipartBody
from lazydiffusion.client.transport import UNIX_HOST
from lazydiffusion.protocol import EditRequest

TIMEOUT = 10.0
"""Seconds: a core that takes longer to answer counts as one that hangs."""
BOUNDARY = "a-boundary"
Headers = Mapping[str, str] | Iterable[tuple[str, str]]
Parts = Iterable[tuple[str, bytes]]


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The error's code."""
        return str(json.loads(self.body)["error"]["code"])

    @property
    def message(self) -> str:
        """The error's sentence."""
        return str(json.loads(self.body)["error"]["message"])


def connect(address: str) -> socket.socket:
    """A socket to a core's address."""
    kind, _, place = address.partition(":")
    if kind == "unix":
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(TIMEOUT)
        made.connect(place)
        return made
    host, _, port = place.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=TIMEOUT)


def host_of(address: str) -> str:
    """The Host that belongs to an address."""
    kind, _, place = address.partition(":")
    return UNIX_HOST if kind == "unix" else place


def bearer(token: str) -> str:
    """The value of Authorization."""
    return f"Bearer {token}"


def head(method: str, path: str, headers: Headers) -> bytes:
    """A request up to its body. Headers may come twice."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in pairs)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def send(address: str, data: bytes | Iterable[bytes]) -> Answer:
    """Send bytes, all or until the core has heard enough, and read the answer. Raises TimeoutError, ConnectionError."""
    with connect(address) as sock:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in [data] if isinstance(data, bytes) else data:
                sock.sendall(piece)
        return read_answer(sock)


def read_answer(sock: socket.socket) -> Answer:
    """One answer. Raises ConnectionError when the connection ends without one."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += _more(sock)
    lines, _, body = got.partition(b"\r\n\r\n")
    status, *rest = lines.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    while len(body) < int(headers.get("content-length", 0)):
        body += _more(sock)
    return Answer(int(status.split()[1]), headers, body)


def _more(sock: socket.socket) -> bytes:
    got = sock.recv(65536)
    if not got:
        raise ConnectionError("The core closed the connection without a whole answer.")
    return got


def request(
    address: str, token: str | None, method: str, path: str, headers: Headers = (), body: bytes = b""
) -> Answer:
    """A request as a client makes it; `headers` come beside Host, Authorization and Content-Length."""
    own = [("Host", host_of(address)), ("Content-Length", str(len(body)))]
    if token is not None:
        own.append(("Authorization", bearer(token)))
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return send(address, head(method, path, [*own, *pairs]) + body)


def post_edit(
    address: str, token: str, body: bytes, content_type: str = f"multipart/form-data; boundary={BOUNDARY}"
) -> Answer:
    """`POST /v1/edits` with a body of any bytes."""
    return request(address, token, "POST", "/v1/edits", {"Content-Type": content_type}, body)


def parts_of(edit: EditRequest, **changes: Any) -> list[tuple[str, bytes]]:
    """The parts of a request, `changes` made to its JSON part."""
    header = json.dumps({**edit.header(), **changes}).encode("utf8")
    return [
        ("request", header),
        *((name, bytes(memoryview(image.data).cast("B"))) for name, image in edit.images().items()),
    ]


def multipart(parts: Parts, boundary: str = BOUNDARY) -> bytes:
    """A body of parts, however often and in whatever order they come."""
    pieces = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode("latin-1")
        + data
        + b"\r\n"
        for name, data in parts
    ]
    return b"".join(pieces) + f"--{boundary}--\r\n".encode("latin-1")


def as_the_client_sends(edit: EditRequest) -> tuple[str, bytes]:
    """Content-Type and body."""
    body = MultipartBody(edit)
    return body.content_type, b"".join(body)

"""An edit's request as multipart/form-data, streamed: the pictures' bytes are never copied."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Union

from lazydiffusion.protocol import EditRequest

SLICE = 1 << 20
"""Largest piece that is handed to the socket at once, bytes: between two pieces a sender can be stopped."""

Piece = Union[bytes, memoryview]


class MultipartBody:
    """The body of `POST /v1/edits`; can be gone through more than once.

    Only with its last piece is the body whole: a sender that stops before that has asked for nothing.
    """

    def __init__(self, request: EditRequest) -> None:
        boundary = "lazydiffusion-" + secrets.token_hex(16)
        header = json.dumps(request.header()).encode("utf8")
        self._parts: list[Piece] = [_part_head(boundary, "request", "application/json"), header]
        for name, image in request.images().items():
            self._parts.append(b"\r\n" + _part_head(boundary, name, "application/octet-stream"))
            view = memoryview(image.data)
            self._parts.append(view.cast("B") if view.c_contiguous else view.tobytes())
        self._parts.append(("\r\n--%s--\r\n" % boundary).encode("ascii"))
        self.content_type = "multipart/form-data; boundary=" + boundary
        """Value of the Content-Type header."""
        self.length = sum(len(part) for part in self._parts)
        """Bytes of the whole body."""

    def __iter__(self) -> Iterator[Piece]:
        for part in self._parts:
            if len(part) <= SLICE:
                yield part
            else:
                view = memoryview(part)
                for start in range(0, len(view), SLICE):
                    yield view[start : start + SLICE]


def _part_head(boundary: str, name: str, content_type: str) -> bytes:
    # With a file name, servers take the part as bytes and do not try to decode it.
    return (
        '--%s\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\nContent-Type: %s\r\n\r\n'
        % (boundary, name, name, content_type)
    ).encode("ascii")

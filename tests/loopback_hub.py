"""A hub of models on loopback, for tests of what is pulled from the real one."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lazydiffusion.known_models import KNOWN

KLEIN = "flux2-klein"
REPO = KNOWN[KLEIN].repo
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
"""The largest of its files."""


class Hub(ThreadingHTTPServer):
    """What huggingface_hub is told by the real one of models: a commit with its files, and these in ranges.

    `files`: of the only repository, by path; those of weights are in LFS, behind a redirect, as on the real hub.
    """

    def __init__(self, files: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files = files
        self.commit = "a" * 40
        self.asked: list[tuple[str, str | None]] = []  # path of a file, Range
        self.cut: dict[str, list[int]] = {}  # bytes after which the next answers with a file end
        self.ranged = True  # heeds Range
        self.stall = False  # instead of ending there
        self.wrong: dict[str, bytes] = {}  # what is sent of a file instead
        self.error: tuple[int, str] | None = None  # status and X-Error-Code of every answer

    @property
    def environment(self) -> dict[str, str]:
        """What has another process ask this hub, and not the real one."""
        return {"HF_ENDPOINT": self.url, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}

    def ranges(self, path: str) -> list[str | None]:
        """The Range of each request for a file, None for all of it."""
        return [asked for name, asked in self.asked if name == path]

    def fetched(self) -> set[str]:
        return {name for name, _ in self.asked}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is part of these tests."""


def files_of(folder: Path) -> dict[str, bytes]:
    """What is in a folder, as a hub would have it: by path."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Hub]:
    """A hub that answers in a thread."""
    with Hub(dict(files)) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.stall = False
        server.shutdown()


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if self.server.error:
            status, code = self.server.error
            self.send(b"", status, {"X-Error-Code": code})
        elif found := re.fullmatch(rf"/api/models/{REPO}(?:/revision/(.+))?", path):
            if found[1] in (None, "main", self.server.commit):
                self.send(json.dumps(self.info()).encode())
            else:
                self.send(b"", 404, {"X-Error-Code": "RevisionNotFound"})
        elif found := re.fullmatch(rf"/{REPO}/resolve/(?:{self.server.commit}|main)/(.+)", path):
            name = found[1]
            if name.endswith(".safetensors"):
                self.send(b"", 302, {"Location": f"/lfs/{name}"})
            else:
                self.send_file(name)
        elif path.startswith("/lfs/"):
            self.send_file(path.removeprefix("/lfs/"))
        else:
            self.send(b"", 404, {"X-Error-Code": "RepoNotFound"})

    def info(self) -> dict[str, Any]:
        siblings = []
        for name, content in self.server.files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            sibling: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
            if name.endswith(".safetensors"):
                sha256 = hashlib.sha256(content).hexdigest()
                sibling["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 130}
            siblings.append(sibling)
        sha = self.server.commit
        return {"id": REPO, "sha": sha, "cardData": {"license": "apache-2.0"}, "siblings": siblings}

    def send_file(self, name: str) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append((name, asked))
        content = self.server.wrong.get(name, self.server.files[name])
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranged else 0
        cuts = self.server.cut.get(name)
        self.send(content[start:], 206 if start else 200, {}, cuts.pop(0) if cuts else None)

    def send(
        self, body: bytes, status: int = 200, headers: dict[str, str] | None = None, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for title, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(title, value)
        self.end_headers()
        self.wfile.write(body[:cut])
        while cut is not None and self.server.stall:
            time.sleep(0.01)

    def log_message(self, *args: Any) -> None:
        """Nothing on stderr."""

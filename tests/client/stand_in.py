"""A small HTTP server that stands in for the core, at the socket, where the client is tested without the service.

Run as a program (`python stand_in.py serve`) it stands in for the core's process.
"""

from __future__ import annotations

import contextlib
import json
import os
import socketserver
import sys
import threading
import time
from collections.abc import Iterator
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from lazydiffusion.client import CoreLost, connect, places, start
from lazydiffusion.client.locks import FileLock
from lazydiffusion.protocol import PROTOCOL

TOKEN = "a token"
DONE: list[tuple[str, dict[str, Any]]] = [
    ("queued", {"position": 0}),
    ("started", {}),
    ("step", {"fill": 0, "step": 1, "steps": 2, "seconds_left": 0.5}),
    ("fill", {"fill": 0, "seed": 7, "box": [3, 4, 2, 1], "saved": True}),
    ("done", {"fills": 1}),
]
UNTIL_CANCELLED = ("until-cancelled", {})


class StandIn(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Answers as docs/service.md says; every edit goes as `script` says."""

    daemon_threads = True
    request_queue_size = 100
    allow_reuse_address = True

    def __init__(self, address: str, token: str = TOKEN) -> None:
        self.address, self.token = address, token
        self.protocol = PROTOCOL
        self.script: list[tuple[str, dict[str, Any]]] = list(DONE)
        self.drops: set[int] = set()
        """After these ids the connection breaks, each once, in the middle of the next event."""
        self.refusals: list[tuple[int, str, str]] = []
        """(status, code, message) of the next requests for edits."""
        self.parts: list[dict[str, bytes]] = []
        """Of each edit that was taken."""
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        """(method, path, headers)."""
        self.cancelled = threading.Event()
        self.silent = threading.Event()
        kind, _, place = address.partition(":")
        if kind == "unix":
            self.address_family = socketserver.socket.AF_UNIX  # type: ignore[attr-defined]
            super().__init__(place, Handler)  # type: ignore[arg-type]
        else:
            host, _, port = place.rpartition(":")
            super().__init__((host, int(port)), Handler)
            self.address = "tcp:%s:%d" % self.server_address

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is nothing to report."""


class Handler(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def address_string(self) -> str:
        return ""

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def say(self, status: int, **values: Any) -> None:
        self.answer(status, json.dumps(values).encode(), {"Content-Type": "application/json"})

    def handle_request(self) -> None:
        self.close_connection = True
        self.server.seen.append((self.command, self.path, dict(self.headers)))
        if self.headers["Authorization"] != "Bearer " + self.server.token:
            return self.say(401, error={"code": "token", "message": "Wrong token."})
        path = self.path.partition("?")[0]
        if path == "/v1/info":
            return self.say(200, protocol=self.server.protocol, pid=os.getpid())
        if (self.command, path) == ("POST", "/v1/edits"):
            return self.take_edit()
        if path == "/v1/edits/e1/events":
            return self.stream()
        if path == "/v1/edits/e1/fills/0":
            if self.headers["Accept"] == "image/png":
                return self.answer(200, b"a png")
            return self.answer(200, bytes(range(8)), {"X-Box": "3,4,2,1", "X-Seed": "7"})
        if (self.command, path) == ("DELETE", "/v1/edits/e1"):
            self.server.cancelled.set()
            return self.answer(204)
        if path == "/v1/stop":
            self.say(202)
            threading.Thread(target=self.server.shutdown).start()
            return None
        if path in getattr(self.server, "answers", {}):
            return self.say(200, **self.server.answers[path])  # type: ignore[attr-defined]
        return self.say(404, error={"code": "not-found", "message": "There is no %s." % path})

    do_GET = do_POST = do_DELETE = handle_request  # noqa: N815 - the names that BaseHTTPRequestHandler calls

    def take_edit(self) -> None:
        if self.server.refusals:
            status, code, message = self.server.refusals.pop(0)
            return self.say(status, error={"code": code, "message": message})
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if len(body) < int(self.headers["Content-Length"]):
            return None
        head = b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n"
        message = BytesParser().parsebytes(head + body)
        parts = {}
        for part in message.get_payload():
            name = part.get_param("name", header="content-disposition")
            parts[name] = part.get_payload(decode=True)
        self.server.parts.append(parts)
        return self.say(202, id="e1", position=0)

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        first = int(self.headers.get("Last-Event-ID", 0))
        for id, (name, values) in enumerate(self.server.script, start=1):
            if id <= first:
                continue
            if self.server.silent.is_set():
                time.sleep(1)
                return
            if (name, values) == UNTIL_CANCELLED:
                while not self.server.cancelled.wait(0.05):
                    self.wfile.write(b": alive\n\n")
                name, values = "cancelled", {}
            event = "id: %d\nevent: %s\ndata: %s\n\n" % (id, name, json.dumps(values))
            if id - 1 in self.server.drops:
                self.server.drops.discard(id - 1)
                self.wfile.write(event.encode()[:-1])  # all but the empty line
                return
            self.wfile.write(event.encode())


@contextlib.contextmanager
def stand_in(address: str) -> Iterator[StandIn]:
    """A stand-in for the core, serving in a thread."""
    with StandIn(address) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.cancelled.set()
            server.shutdown()
            thread.join()


def announce(server: StandIn, folder: Path) -> places.RuntimeFile:
    """Write the runtime file of a stand-in."""
    file = places.RuntimeFile(
        PROTOCOL, "0.1.0", os.getpid(), server.address, server.token, time.time(), str(folder / places.LOG)
    )
    file.write(folder / places.RUNTIME_FILE)
    return file


def stop_all(folder: Path) -> None:
    """Stop what runs for a runtime folder: one that was started too much takes over when another one ends."""
    deadline = time.monotonic() + 20
    lock = FileLock(folder / places.CORE_LOCK)
    while any(process.poll() is None for process in start._started) or not lock.acquire(timeout=0):
        try:
            connect(start=False).stop()
        except CoreLost:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    lock.release()
    start.reap()


def main() -> int:
    """`serve`: what a core does at its start, slowly; STAND_IN_FAILS makes it end with an error."""
    folder = places.runtime_folder()
    with (folder / "starts").open("a") as starts:
        starts.write("%d\n" % os.getpid())
    sys.stdout.write("starting %s %s %s\n" % (sys.argv[1:], Path.cwd(), "PYTHONPATH" in os.environ))
    sys.stdout.flush()
    if "STAND_IN_FAILS" in os.environ:
        sys.stderr.write("\n".join("line %d" % i for i in range(50)))
        return 1
    lock = FileLock(folder / places.CORE_LOCK)
    if not lock.acquire(timeout=0):
        return places.ALREADY_RUNNING
    time.sleep(float(os.environ.get("STAND_IN_TAKES", "0.2")))
    with StandIn("unix:%s" % (folder / places.SOCKET)) as server:
        announce(server, folder)
        watch = threading.Timer(60, server.shutdown)  # should a test not stop it
        watch.daemon = True
        watch.start()
        server.serve_forever(0.01)
    (folder / places.RUNTIME_FILE).unlink()
    (folder / places.SOCKET).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())

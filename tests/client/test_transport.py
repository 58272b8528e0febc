"""Requests over a Unix socket and TCP, and what is said when they fail."""

from __future__ import annotations

import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.client.stand_in import TOKEN, StandIn, stand_in

from lazydiffusion.client.errors import CoreLost, CoreTooOld, EditRejected
from lazydiffusion.client.transport import Transport

pytestmark = pytest.mark.unit


def test_a_unix_socket_is_asked_with_token_and_a_fixed_host(core: StandIn) -> None:
    assert Transport(core.address, TOKEN).json("GET", "/v1/info")["pid"] == os.getpid()
    _, path, headers = core.seen[-1]
    assert (path, headers["Host"], headers["Authorization"]) == (
        "/v1/info",
        "lazydiffusion",
        "Bearer a token",
    )


def test_tcp_is_asked_with_its_address_as_host() -> None:
    with stand_in("tcp:127.0.0.1:0") as server:
        transport = Transport(server.address, TOKEN)
        assert transport.json("GET", "/v1/info")
        assert transport.listens()
    assert "tcp:" + server.seen[-1][2]["Host"] == server.address
    assert not transport.listens()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux")
def test_a_path_longer_than_a_socket_address_is_reached(tmp_path: Path) -> None:
    folder = tmp_path / ("ünd so weiter " * 10)
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY)
    with stand_in("unix:/proc/self/fd/%d/core.sock" % descriptor):
        os.close(descriptor)
        assert Transport("unix:%s" % (folder / "core.sock"), TOKEN).json("GET", "/v1/info")


@pytest.mark.parametrize(
    "address", ["", "unix:", "tcp:", "tcp:localhost", "tcp::80", "tcp:a:99999", "http://a:1"]
)
def test_an_odd_address_is_refused(address: str) -> None:
    with pytest.raises(CoreLost, match="lazydiffusion stop"):
        Transport(address, TOKEN)


def test_many_threads_may_ask_at_once(core: StandIn) -> None:
    transport = Transport(core.address, TOKEN)
    with ThreadPoolExecutor(20) as pool:
        assert len(list(pool.map(lambda _: transport.json("GET", "/v1/info"), range(100)))) == 100


def test_a_core_that_is_not_there_has_done_nothing(tmp_path: Path) -> None:
    with stand_in("unix:%s" % (tmp_path / "s")):
        pass
    for place in ("s", "missing"):  # a stale socket, and none
        with pytest.raises(CoreLost) as loss:
            Transport("unix:%s" % (tmp_path / place), TOKEN).json("GET", "/v1/info")
        assert loss.value.untouched


def test_another_cores_token_is_a_core_lost(core: StandIn) -> None:
    with pytest.raises(CoreLost, match="taken the place"):
        Transport(core.address, "an old token").json("GET", "/v1/info")


@pytest.mark.parametrize(
    ("status", "error"), [(400, EditRejected), (422, EditRejected), (429, EditRejected), (500, EditRejected),
                          (409, CoreTooOld), (503, CoreLost)]
)  # fmt: skip
def test_what_the_core_says_is_told(core: StandIn, status: int, error: type[Exception]) -> None:
    core.refusals = [(status, "a-code", "A sentence.")]
    with pytest.raises(error, match=r"^A sentence\.$") as refusal:
        Transport(core.address, TOKEN).json("POST", "/v1/edits", {"Content-Length": "3"}, [b"abc"])
    if isinstance(refusal.value, EditRejected):
        assert refusal.value.code == "a-code"


def test_a_core_that_refuses_before_it_has_read_all_is_understood(core: StandIn) -> None:
    core.refusals = [(413, "too-large", "Too large.")]
    pieces = [bytes(1 << 20)] * 16
    with pytest.raises(EditRejected, match=r"Too large\."):
        Transport(core.address, TOKEN).json("POST", "/v1/edits", {"Content-Length": str(16 << 20)}, pieces)


@pytest.mark.parametrize(
    "answer",
    [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", b"HTTP/1.1 200 OK\r\n\r\n[]",
     b"HTTP/1.1 200 OK\r\n\r\n\xff"],
)  # fmt: skip
def test_what_is_no_answer_is_a_core_lost(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            taken, _ = server.accept()
            with taken:
                taken.recv(1000)
                taken.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(CoreLost) as loss:
            Transport("tcp:127.0.0.1:%d" % server.getsockname()[1], TOKEN).json("GET", "/v1/info")
        thread.join()
    assert not loss.value.untouched


@pytest.mark.parametrize("body", [b"no json", b"{}", b'{"error": 3}', b"null"])
def test_a_refusal_without_words_is_a_sentence_all_the_same(body: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            taken, _ = server.accept()
            with taken:
                taken.recv(1000)
                taken.sendall(b"HTTP/1.1 500 Oops\r\n\r\n" + body)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(EditRejected, match=r"refused this \(status 500\)"):
            Transport("tcp:127.0.0.1:%d" % server.getsockname()[1], TOKEN).json("GET", "/v1/info")
        thread.join()


def test_a_core_that_hangs_is_given_up_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        begin = time.monotonic()
        with pytest.raises(CoreLost):
            Transport("tcp:127.0.0.1:%d" % server.getsockname()[1], TOKEN).json(
                "GET", "/v1/info", timeout=0.2
            )
    assert time.monotonic() - begin < 2

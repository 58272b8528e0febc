"""What is too large, too much or too slow is refused before it costs memory, and keeps nobody else waiting."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator

import pytest
from tests.service import png_files
from tests.service.core_process import CoreProcess, edit_request, long_request
from tests.service.raw_http import (
    BOUNDARY,
    Answer,
    bearer,
    connect,
    head,
    host_of,
    multipart,
    parts_of,
    post_edit,
    read_answer,
    request,
    send,
)

from lazydiffusion.protocol import EditRequest, ImageData
from lazydiffusion.service.connection import MAX_HEAD, PATIENCE
from lazydiffusion.service.queue import MAX_WAITING
from lazydiffusion.service.uploads import MAX_BODY

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MEBIBYTE = 2**20
NOISE = 48 * MEBIBYTE
"""By how much a core's memory may grow for reasons of its own."""
SIZE = (200, 120)


@contextlib.contextmanager
def no_memory_taken(process: CoreProcess) -> Iterator[None]:
    before = process.memory
    yield
    assert process.memory - before < NOISE


def edit_head(process: CoreProcess, *more: tuple[str, str]) -> bytes:
    return head(
        "POST", "/v1/edits",
        [("Host", host_of(process.address())), ("Authorization", bearer(process.token())),
         ("Content-Type", f"multipart/form-data; boundary={BOUNDARY}"), *more],
    )  # fmt: skip


def endless(piece: bytes, count: int = 300) -> Iterator[bytes]:
    for _ in range(count):
        yield piece


def test_a_body_that_is_said_to_be_too_long_is_refused_before_it_is_read(process: CoreProcess) -> None:
    with no_memory_taken(process):
        length = ("Content-Length", str(MAX_BODY + 1))
        found = send(process.address(), edit_head(process, length))  # none of the body is sent
        assert (found.status, found.code) == (413, "too-large")
        assert str(MAX_BODY) in found.message
        found = send(process.address(), [edit_head(process, length), *endless(bytes(MEBIBYTE))])
        assert found.status == 413


@pytest.mark.parametrize("length", ["-1", "1e3", "99999999999999999999999", "0x10", "5, 6", ""])
def test_a_length_that_is_no_number_is_refused(process: CoreProcess, length: str) -> None:
    assert send(process.address(), edit_head(process, ("Content-Length", length))).status == 400


def test_two_lengths_are_refused(process: CoreProcess) -> None:
    both = [("Content-Length", "5"), ("Content-Length", "6")]
    assert send(process.address(), edit_head(process, *both)).status == 400
    smuggled = [("Content-Length", "5"), ("Transfer-Encoding", "chunked")]
    assert send(process.address(), edit_head(process, *smuggled) + b"0\r\n\r\n").status == 400


@pytest.mark.parametrize("part", ["request", "canvas", "mask"])
def test_a_part_that_goes_on_beyond_its_size_is_refused_at_once(process: CoreProcess, part: str) -> None:
    """Not even the length of the body is known here."""
    parts = parts_of(edit_request())
    names = [name for name, _ in parts]
    before = multipart(parts[: names.index(part)]).removesuffix(f"--{BOUNDARY}--\r\n".encode())
    start = before + f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{part}"\r\n\r\n'.encode()

    def chunked(data: bytes) -> bytes:
        return f"{len(data):x}\r\n".encode() + data + b"\r\n"

    with no_memory_taken(process):
        found = send(
            process.address(),
            [
                edit_head(process, ("Transfer-Encoding", "chunked")),
                chunked(start),
                *endless(chunked(b" " * MEBIBYTE)),
            ],
        )
        assert (found.status, found.code) == (413, "too-large")
        assert part in found.message


@pytest.mark.parametrize(
    "line", [b'Content-Disposition: form-data; name="' + b"a" * MEBIBYTE + b'"', b"X" * MEBIBYTE, b"X: y\r\n" * 100_000]
)  # fmt: skip
def test_a_part_with_endless_headers_is_refused(process: CoreProcess, line: bytes) -> None:
    body = f"--{BOUNDARY}\r\n".encode() + line + b"\r\n\r\n"
    found = post_edit(process.address(), process.token(), body)
    assert (found.status, found.code) == (400, "wrong-request")


@pytest.mark.parametrize(
    "start",
    [b"GET /", b"GET /v1/health HTTP/1.1\r\nX: ", b"GET /v1/health HTTP/1.1\r\n"],
    ids=["path", "one header", "many headers"],
)
def test_endless_headers_are_refused_before_a_token_is_asked_for(process: CoreProcess, start: bytes) -> None:
    piece = b"Name: value\r\n" * 80_000 if start.endswith(b"\n") else b"a" * MEBIBYTE
    with no_memory_taken(process):
        assert send(process.address(), [start, *endless(piece)]).status == 400


def test_headers_as_long_as_they_may_be_are_read(process: CoreProcess) -> None:
    found = request(process.address(), process.token(), "GET", "/v1/info", {"X": "y" * (MAX_HEAD - 2048)})
    assert found.status == 200


def test_a_side_that_is_too_long_is_refused_with_the_first_part(process: CoreProcess) -> None:
    """The other parts are never sent."""
    images = {name: {"format": "png", "size": [16385, 16]} for name in ("canvas", "mask")}
    (_, header), *_ = parts_of(edit_request(), images=images, canvas_size=[16385, 16])
    body = multipart([("request", header)]).removesuffix(b"--\r\n") + b"\r\n"
    found = send(process.address(), [edit_head(process, ("Content-Length", "100000")), body])
    assert (found.status, found.code) == (422, "bad-input")
    assert "16384" in found.message


def with_png(png: bytes, name: str = "canvas", size: tuple[int, int] = SIZE) -> EditRequest:
    plain = edit_request()
    given = {"canvas": plain.canvas, "mask": plain.mask, name: ImageData("png", size, png)}
    return EditRequest(plain.settings, SIZE, **given)


HUGE = (16384, 16384)
BOMBS = {
    "a header of another size": lambda: png_files.grey(*HUGE),
    "a second header of another size": lambda: png_files.grey(*SIZE, png_files.header(*HUGE)),
    "a text of 500 MB": lambda: png_files.grey(
        *SIZE, png_files.chunk(b"zTXt", b"Comment\0\0" + png_files.zeros(500 * MEBIBYTE))
    ),
    "an international text of 500 MB": lambda: png_files.grey(
        *SIZE, png_files.chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + png_files.zeros(500 * MEBIBYTE))
    ),
    "many texts": lambda: png_files.grey(
        *SIZE, *[png_files.chunk(b"zTXt", b"a\0\0" + png_files.zeros(MEBIBYTE - 1))] * 400
    ),
    "a colour profile of 500 MB": lambda: png_files.grey(
        *SIZE, png_files.chunk(b"iCCP", b"icc\0\0" + png_files.zeros(500 * MEBIBYTE))
    ),
}


@pytest.mark.parametrize("name", ["canvas", "mask", "sketch"])
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_png_that_would_be_huge_is_not_unpacked(process: CoreProcess, bomb: str, name: str) -> None:
    png = BOMBS[bomb]()
    assert len(png) < 2 * MEBIBYTE
    with no_memory_taken(process):
        started = time.monotonic()
        found = post_edit(process.address(), process.token(), multipart(parts_of(with_png(png, name))))
        took = time.monotonic() - started
    if found.status == 202:  # what Pillow leaves out of a picture does no harm
        process.client().edit(json.loads(found.body)["id"]).cancel()
        assert "header" not in bomb
    else:
        assert (found.status, found.code) == (422, "bad-input")
    assert took < 2


def test_of_a_huge_overview_only_the_header_is_read(process: CoreProcess) -> None:
    plain = edit_request()
    wrong = EditRequest(
        plain.settings, SIZE, plain.canvas, plain.mask,
        overview=ImageData("png", (100, 60), png_files.grey(*HUGE)),
    )  # fmt: skip
    with no_memory_taken(process):
        found = post_edit(process.address(), process.token(), multipart(parts_of(wrong)))
    assert (found.status, found.code) == (422, "bad-input")
    assert "overview" in found.message
    assert "16384 x 16384" in found.message


@pytest.mark.parametrize("format", ["grey8", "rgb8", "rgba8"])
def test_raw_pixels_that_do_not_fit_their_size_are_refused(process: CoreProcess, format: str) -> None:
    image = {"format": format, "size": list(SIZE)}
    parts = parts_of(edit_request(), images={"canvas": image, "mask": {**image, "format": "grey8"}})
    short = [(name, data[:-1] if name == "canvas" else data) for name, data in parts]
    assert post_edit(process.address(), process.token(), multipart(short)).status in (413, 422)


@pytest.fixture
def busy(process: CoreProcess) -> Iterator[Callable[[], Answer]]:
    """Asks the shared core, which is at work for a while, for one more edit; all of them are cancelled afterwards."""
    core = process.client()
    made = [core.submit(long_request())]
    deadline = time.monotonic() + 10
    while (
        core.info()["queue"] != {"running": True, "waiting": 0, "client": "test"}
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    body = multipart(parts_of(edit_request(64, 64, (20, 20, 20, 20))))

    def more() -> Answer:
        found = post_edit(process.address(), process.token(), body)
        if found.status == 202:
            made.append(core.edit(json.loads(found.body)["id"]))
        return found

    yield more
    for edit in reversed(made):
        edit.cancel()


def test_only_so_many_edits_may_wait(process: CoreProcess, busy: Callable[[], Answer]) -> None:
    places = [json.loads(busy().body)["position"] for _ in range(MAX_WAITING)]
    assert places == list(range(MAX_WAITING))
    for _ in range(3):
        found = busy()
        assert (found.status, found.code) == (429, "queue-full")
        assert "Wait for one to finish" in found.message
    # Refused by the length alone, before the body.
    early = send(process.address(), edit_head(process, ("Content-Length", "100000")))
    assert early.status == 429
    assert process.client().info()["queue"] == {"running": True, "waiting": MAX_WAITING, "client": "test"}


def test_an_edit_may_be_sent_again_when_another_was_cancelled(
    process: CoreProcess, busy: Callable[[], Answer]
) -> None:
    ids = [json.loads(busy().body)["id"] for _ in range(MAX_WAITING)]
    assert busy().status == 429
    process.client().edit(ids[7]).cancel()
    assert busy().status == 202


def test_who_sends_slowly_keeps_nobody_else_waiting(process: CoreProcess) -> None:
    body = multipart(parts_of(edit_request(prompt="slow")))
    start = edit_head(process, ("Content-Length", str(len(body))))
    core = process.client()
    with contextlib.ExitStack() as opened:
        slow = [opened.enter_context(connect(process.address())) for _ in range(30)]
        for number, sock in enumerate(slow):
            sock.sendall(start[: len(start) // 2] if number % 3 == 0 else start)
        for part in range(3):
            for number, sock in enumerate(slow):
                if number % 3:
                    sock.sendall(body[part : part + 1])
            started = time.monotonic()
            assert len(core.submit(edit_request()).wait()) == 1
            assert time.monotonic() - started < 5
        assert core.info()["queue"] == {"running": False, "waiting": 0, "client": ""}
        slow[1].sendall(body[3:])  # and who goes on is served
        found = read_answer(slow[1])
        assert found.status == 202
        assert len(core.edit(json.loads(found.body)["id"]).wait()) == 1


def test_headers_that_do_not_come_are_not_awaited_for_ever(process: CoreProcess) -> None:
    with connect(process.address()) as silent, connect(process.address()) as half:
        half.sendall(b"GET /v1/info HTTP/1.1\r\nHost")
        for sock in (silent, half):
            sock.settimeout(PATIENCE + 5)
            found = read_answer(sock)
            assert (found.status, found.body) == (400, b"The headers did not come in time.")
            assert sock.recv(1) == b""


def test_an_answer_may_take_longer_than_headers_may(process: CoreProcess) -> None:
    core = process.client()
    before = [core.submit(long_request()) for _ in range(8)]
    last = core.submit(long_request())
    started = time.monotonic()
    with connect(process.address()) as sock:
        own = {
            "Host": host_of(process.address()),
            "Authorization": bearer(process.token()),
            "Connection": "close",
        }
        sock.sendall(head("GET", f"/v1/edits/{last.id}/events", own))
        got = b""
        while time.monotonic() - started < PATIENCE + 1:
            got += sock.recv(65536)
        for edit in [last, *before]:
            edit.cancel()
        while more := sock.recv(65536):
            got += more
    assert got.startswith(b"HTTP/1.1 200")
    assert b"event: queued" in got
    assert b"event: cancelled" in got

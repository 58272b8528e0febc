"""Requests that were right and then damaged in every way: a real core refuses them or does them, and stays up."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.service import png_files
from tests.service.core_process import CoreProcess, edit_request
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
    send,
)

from lazydiffusion.protocol import EditRequest, ImageData

pytestmark = [pytest.mark.integration, pytest.mark.slow]

FUZZ = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
SIZE = (32, 24)
PLAIN = edit_request(*SIZE, (8, 6, 10, 10))
RIGHT = EditRequest(
    PLAIN.settings, SIZE, PLAIN.canvas, PLAIN.mask,
    sketch=ImageData("rgba8", SIZE, bytes(4 * SIZE[0] * SIZE[1])),
    overview=ImageData("rgb8", (16, 16), bytes(3 * 16 * 16)),
)  # fmt: skip
HEADER: dict[str, Any] = RIGHT.header()
PICTURES = parts_of(RIGHT)[1:]
NAMES = ["request", "canvas", "mask", "sketch", "overview"]


@pytest.fixture(autouse=True, scope="module")
def still_works(process: CoreProcess) -> Any:
    """After all of it the same process, not a new one, makes an edit, has nothing left to do and met no error."""
    pid = process.pid
    yield
    core = process.client()
    deadline = time.monotonic() + 20
    while core.info()["queue"] != {"running": False, "waiting": 0, "client": ""}:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(core.submit(edit_request()).wait()) == 1
    assert len(core.history()) > 0  # and what was accepted can be listed
    assert core.info()["pid"] == pid
    assert "Traceback" not in process.said()


def judge(process: CoreProcess, found: Answer) -> None:
    """Accepted, and then let go again, or refused with a reason."""
    if found.status == 202:
        process.client().edit(json.loads(found.body)["id"]).cancel()
        return
    assert 400 <= found.status < 500, found
    if found.headers["content-type"] == "application/json":
        assert found.code
        assert found.message
    else:
        assert found.status == 400  # what is no HTTP never reaches the application


WHOLE = st.one_of(
    st.integers(-3, 300), st.sampled_from([2**31, 2**63 - 1, 2**63, -(2**63), 10**19, 10**20, 10**300, 10**4000])
)  # fmt: skip
TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)  # with halves of characters
LEAF = st.one_of(
    st.none(), st.booleans(), WHOLE, st.floats(), TEXT, st.sampled_from(["a" * 1001, "clipart", "png", "grey8", "../x"])
)  # fmt: skip
VALUE = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)
PLACES: list[tuple[str, ...]] = [
    (),
    *((name,) for name in HEADER),
    *(("settings", name) for name in HEADER["settings"]),
    *(("images", name) for name in HEADER["images"]),
    *(("images", name, "format") for name in HEADER["images"]),
    *(("images", name, "size") for name in HEADER["images"]),
]
SIZES = st.lists(st.sampled_from([-1, 0, 1, 15, 16, 24, 32, 33, 16384, 16385, 2**40]), min_size=2, max_size=4)


def changed(header: Any, place: tuple[str, ...], change: Callable[[dict[str, Any]], None]) -> Any:
    """A copy of the JSON part with a change to the object that holds `place`."""
    copy = json.loads(json.dumps(header))
    holder = copy
    for key in place[:-1]:
        holder = holder[key]
    change(holder)
    return copy


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """The JSON part with some values replaced, removed or added."""
    header: Any = HEADER
    for place in draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=3)):
        value = draw(
            SIZES
            if place and place[-1] in ("size", "canvas_size", "region") and draw(st.booleans())
            else VALUE
        )
        how = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if not place:
            header = value
            break
        try:
            if how == "add":
                header = changed(header, (*place, ""), lambda holder, v=value: holder.update({draw(TEXT): v}))  # type: ignore[misc]
            elif how == "remove":
                header = changed(header, place, lambda holder, p=place: holder.pop(p[-1]))  # type: ignore[misc]
            else:
                header = changed(header, place, lambda holder, p=place, v=value: holder.update({p[-1]: v}))  # type: ignore[misc]
        except (AttributeError, KeyError, TypeError):
            pass  # an earlier change has taken the place away
    return json.dumps(header, ensure_ascii=draw(st.booleans())).encode("utf8", "surrogatepass")


NASTY: list[Any] = [
    None, True, [], {}, "", "a" * 1001, "\ud800", "\udc00\ud83d", "\0", "🐈", "../../x", "%s%n{0}",
    -1, 0, 1, 2**31, 2**63 - 1, 2**63, 10**19, 10**20, 10**300, 10**4000, -(10**300), 0.5, -0.0, 1e308,
    float("nan"), float("inf"),
    float("-inf"), [0, 0], [16, 16], [16384, 16384], [10**300, 16], [32, 24.0], [0, 0, 32, 24], [-1, 0, 32, 24],
    [0, 0, 10**19, 24],
    [[]], {"": {}}, [None] * 1000,
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(place) or "all")
def test_every_value_may_be_nasty(process: CoreProcess, place: tuple[str, ...]) -> None:
    """Each by itself: chance alone would seldom put the right wrong value in the right place."""
    core = process.client()
    for value in NASTY:
        header = (
            changed(HEADER, place, lambda holder, v=value: holder.update({place[-1]: v})) if place else value
        )  # type: ignore[misc]
        body = multipart([("request", json.dumps(header).encode()), *PICTURES])
        found = post_edit(process.address(), process.token(), body)
        # It is written into the history and listed from there.
        if found.status == 202 and place == ("client",):
            core.edit(json.loads(found.body)["id"]).wait()
        judge(process, found)
    assert len(core.history()) > 0 or place != ("client",)


@FUZZ
@given(header=headers())
def test_any_json_is_refused_or_done(process: CoreProcess, header: bytes) -> None:
    judge(process, post_edit(process.address(), process.token(), multipart([("request", header), *PICTURES])))


@st.composite
def shuffled_parts(draw: st.DrawFn) -> list[tuple[str, bytes]]:
    """The right parts repeated, left out, renamed, in another order, longer or shorter."""
    parts = parts_of(RIGHT)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(parts) - 1)))
        if not parts:
            break
        name, data = parts[at]
        match draw(st.sampled_from(["repeat", "leave out", "rename", "move", "resize", "noise"])):
            case "repeat":
                parts.insert(draw(st.integers(0, len(parts))), (name, data))
            case "leave out":
                del parts[at]
            case "rename":
                odd = st.text(st.characters(max_codepoint=255), max_size=30)
                parts[at] = (draw(st.sampled_from(NAMES) | odd), data)
            case "move":
                parts.insert(draw(st.integers(0, len(parts) - 1)), parts.pop(at))
            case "resize":
                length = draw(st.integers(0, 2 * len(data) + 10))
                parts[at] = (name, (data + bytes(len(data) + 10))[:length])
            case _:
                parts[at] = (name, draw(st.binary(max_size=2000)))
    return parts


@FUZZ
@given(parts=shuffled_parts())
def test_any_parts_are_refused_or_done(process: CoreProcess, parts: list[tuple[str, bytes]]) -> None:
    judge(process, post_edit(process.address(), process.token(), multipart(parts)))


BODY = multipart(parts_of(RIGHT))


@FUZZ
@given(
    cuts=st.lists(
        st.tuples(st.integers(0, len(BODY)), st.integers(0, 300), st.binary(max_size=60)),
        min_size=1,
        max_size=4,
    )
)
def test_any_bytes_are_refused_or_done(process: CoreProcess, cuts: list[tuple[int, int, bytes]]) -> None:
    """Bytes taken out of the body and others put in, anywhere."""
    body = BODY
    for where, gone, noise in cuts:
        body = body[:where] + noise + body[where + gone :]
    judge(process, post_edit(process.address(), process.token(), body))


@FUZZ
@given(body=st.binary(max_size=3000))
def test_noise_is_refused(process: CoreProcess, body: bytes) -> None:
    found = post_edit(process.address(), process.token(), body)
    assert (found.status, found.code) == (400, "wrong-request")


@FUZZ
@given(
    name=st.sampled_from(["canvas", "mask", "sketch", "overview"]),
    colour=st.sampled_from([0, 2, 3, 4, 6, 7]),
    bits=st.sampled_from([1, 8, 16, 3]),
    rest=st.binary(max_size=400),
)
def test_any_png_is_refused_or_done(
    process: CoreProcess, name: str, colour: int, bits: int, rest: bytes
) -> None:
    size = (16, 16) if name == "overview" else SIZE
    file = png_files.SIGNATURE + png_files.header(*size, bits, colour) + png_files.chunk(b"IDAT", rest) + rest
    pictures = [(n, file if n == name else data) for n, data in PICTURES]
    images = {**HEADER["images"], name: {"format": "png", "size": list(size)}}
    header = json.dumps({**HEADER, "images": images}).encode()
    judge(process, post_edit(process.address(), process.token(), multipart([("request", header), *pictures])))


TOKEN_CHARACTERS = "ABCXYZabcxyz0189-_!#$%&'*+.^`|~"
LINE = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=60)


@FUZZ
@given(
    kind=st.one_of(
        LINE,
        LINE.map(lambda boundary: f"multipart/form-data; boundary={boundary}"),
        st.integers(0, 600).map(lambda length: "multipart/form-data; boundary=" + "b" * length),
        st.just(f"Multipart/Form-Data;BOUNDARY={BOUNDARY}"),
    ),
    more=st.lists(
        st.tuples(
            st.sampled_from(["Content-Type", "Content-Encoding", "Connection", "Accept", "Cookie", "TE", "Upgrade"])
            | st.text(TOKEN_CHARACTERS, min_size=1, max_size=20).filter(lambda name: name.lower() != "expect"),
            LINE,
        ),
        max_size=4,
    ),
)  # fmt: skip
def test_any_headers_are_refused_or_done(
    process: CoreProcess, kind: str, more: list[tuple[str, str]]
) -> None:
    own = [("Host", host_of(process.address())), ("Authorization", bearer(process.token()))]
    own += [("Content-Type", kind), ("Content-Length", str(len(BODY)))]
    judge(process, send(process.address(), head("POST", "/v1/edits", [*own, *more]) + BODY))


@FUZZ
@given(missing=st.integers(1, len(BODY)), said=st.integers(0, len(BODY)))
def test_a_wrong_length_and_a_lost_connection_keep_nothing_busy(
    process: CoreProcess, missing: int, said: int
) -> None:
    own = {
        "Host": host_of(process.address()), "Authorization": bearer(process.token()),
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
    }  # fmt: skip
    with connect(process.address()) as lost:  # goes away in the middle of its body
        lost.sendall(head("POST", "/v1/edits", {**own, "Content-Length": str(len(BODY))}) + BODY[:-missing])
    with connect(process.address()) as short:  # goes on after what it called the end
        short.sendall(head("POST", "/v1/edits", {**own, "Content-Length": str(said)}) + BODY)
        found = read_answer(short)
    judge(process, found)
    assert found.status in (400, 413) or said == len(BODY) or said > BODY.rindex(b"--")

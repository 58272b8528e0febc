"""Who may ask the core: programs of its user that know the token, over its own name; no web page, nobody else."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.checkpoint_files import tiny_checkpoint
from tests.service.core_process import MODEL, CoreProcess, edit_request
from tests.service.raw_http import (
    Answer,
    as_the_client_sends,
    bearer,
    connect,
    head,
    host_of,
    post_edit,
    read_answer,
    request,
    send,
)

from lazydiffusion.client import EditRejected, places

pytestmark = pytest.mark.integration

STATE_CHANGES = [
    ("POST", "/v1/edits"),
    ("DELETE", "/v1/edits/0123456789abcdef"),
    ("DELETE", "/v1/history"),
    ("POST", f"/v1/models/{MODEL}/unload"),
    ("POST", "/v1/stop"),
]
READS = [
    ("GET", "/v1/info"),
    ("GET", "/v1/history"),
    ("GET", "/v1/openapi.json"),
    ("GET", "/v1/edits/0123456789abcdef/events"),
    ("GET", "/"),
    ("GET", "/v1/health/"),
    ("GET", "//v1/health"),
    ("OPTIONS", "/v1/edits"),
]


@pytest.fixture(params=["unix", "tcp"])
def any_process(request: pytest.FixtureRequest) -> CoreProcess:
    found: CoreProcess = request.getfixturevalue("process" if request.param == "unix" else "tcp_process")
    return found


def state(process: CoreProcess) -> tuple[object, ...]:
    """What a request could have changed."""
    core = process.client()
    info = core.info()
    return process.running, info["queue"], info["models"], core.history()


def asked(
    process: CoreProcess, headers: list[tuple[str, str]], method: str = "GET", path: str = "/v1/info"
) -> Answer:
    """The answer to exactly these headers."""
    return send(process.address(), head(method, path, headers))


def own(process: CoreProcess) -> list[tuple[str, str]]:
    return [("Host", host_of(process.address())), ("Authorization", bearer(process.token()))]


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost", "lazydiffusion.evil.example",
     "127.0.0.1:{port}.evil.example", "0.0.0.0:{port}", "[::]:{port}"],
)  # fmt: skip
def test_a_request_for_another_host_is_refused(any_process: CoreProcess, host: str) -> None:
    """A page whose server's name suddenly means this machine (DNS rebinding) sends its own name."""
    port = any_process.address().rpartition(":")[2]
    token = ("Authorization", bearer(any_process.token()))
    found = asked(any_process, [("Host", host.format(port=port)), token])
    assert (found.status, found.code) == (403, "from-a-browser")


def test_a_request_without_or_with_two_hosts_is_refused(any_process: CoreProcess) -> None:
    host, token = own(any_process)
    assert asked(any_process, [token]).status in (400, 403)
    assert asked(any_process, [host, ("Host", "evil.example"), token]).status in (400, 403)
    assert asked(any_process, [host, host, token]).status in (400, 403)


def test_on_tcp_its_own_names_are_accepted_and_on_the_socket_only_the_sockets(
    process: CoreProcess, tcp_process: CoreProcess
) -> None:
    port = tcp_process.address().rpartition(":")[2]
    for name in ("127.0.0.1", "localhost", "LOCALHOST", "[::1]"):
        assert asked(tcp_process, [("Host", f"{name}:{port}"), own(tcp_process)[1]]).status == 200
    assert asked(process, own(process)).status == 200
    for host in ("localhost", f"127.0.0.1:{port}"):
        assert asked(process, [("Host", host), own(process)[1]]).status == 403


@pytest.mark.parametrize(
    ("name", "value"),
    [("Origin", "http://evil.example"), ("Origin", "null"), ("Origin", ""), ("Origin", "http://{host}"),
     ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "none"),
     ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "image"), ("Sec-Fetch-User", "?1"),
     ("sec-ch-ua", "browser"), ("Sec-GPC", "1")],
)  # fmt: skip
def test_what_only_browsers_send_is_refused_whatever_it_says(
    any_process: CoreProcess, name: str, value: str
) -> None:
    header = (name, value.format(host=host_of(any_process.address())))
    for method, path in [
        ("GET", "/v1/info"),
        ("GET", "/v1/health"),
        ("POST", "/v1/stop"),
        ("OPTIONS", "/v1/edits"),
    ]:
        found = asked(any_process, [*own(any_process), header], method, path)
        assert (found.status, found.code) == (403, "from-a-browser")
        assert not [h for h in found.headers if h.startswith("access-control-")]


@pytest.mark.parametrize(("method", "path"), STATE_CHANGES + READS)
def test_without_the_token_nothing_is_told_and_nothing_changes(
    any_process: CoreProcess, method: str, path: str
) -> None:
    token = any_process.token()
    before = state(any_process)
    host = ("Host", host_of(any_process.address()))
    wrong: list[list[tuple[str, str]]] = [
        [],
        [("Authorization", "")],
        [("Authorization", "Bearer")],
        [("Authorization", bearer(token[:-1]))],
        [("Authorization", bearer(token + "x"))],
        [("Authorization", bearer(token.swapcase()))],
        [("Authorization", token)],
        [("Authorization", f"Basic {token}")],
        [("Authorization", bearer(token)), ("Authorization", bearer(token))],
        [("Authorization", bearer("wrong")), ("Authorization", bearer(token))],
        [("Authorization", "Bearer \xff\xfe")],
        [("Cookie", f"token={token}"), ("X-Token", token)],
    ]
    for headers in wrong:
        found = asked(any_process, [host, *headers], method, path)
        assert (found.status, found.code) == (401, "not-allowed")
        assert "token" in found.message
        assert token not in str(found)
        assert found.headers["www-authenticate"] == "Bearer"
    assert asked(any_process, [host], method, f"{path}?token={token}").status == 401
    assert state(any_process) == before


def test_an_edit_without_the_token_is_no_edit(any_process: CoreProcess) -> None:
    content_type, body = as_the_client_sends(edit_request(prompt="nobody asked for this"))
    before = state(any_process)
    assert post_edit(any_process.address(), "wrong", body, content_type).status == 401
    assert state(any_process) == before


def test_health_says_ok_and_nothing_else(any_process: CoreProcess) -> None:
    found = asked(any_process, own(any_process)[:1], path="/v1/health")
    assert (found.status, json.loads(found.body)) == (200, {"status": "ok"})
    assert set(found.headers) <= {"content-length", "content-type", "date", "connection"}
    assert asked(any_process, own(any_process)[:1], "POST", "/v1/health").status == 405


def test_there_are_no_websockets_and_no_other_protocols(any_process: CoreProcess) -> None:
    websocket = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    key = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
    for path in ("/", "/v1/info", "/v1/edits", "/v1/health"):
        assert asked(any_process, [*own(any_process), *websocket, key], path=path).status == 403
    plain = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("Content-Length", "5")]
    found = asked(any_process, [*own(any_process), *plain], "POST", "/v1/edits")
    assert (found.status, found.code) == (400, "wrong-request")


def test_a_model_is_a_name_and_no_path_of_a_client_is_opened(core: Any, tmp_path: Path) -> None:
    """A real checkpoint lies there and would load; the hash check would be what reads it first."""
    marker = tiny_checkpoint(tmp_path / "marker")
    first = marker / "hashes.json"
    os.utime(first, (1, first.stat().st_mtime))
    names = [
        str(marker),
        f"{marker}/",
        f"../{marker}",
        os.path.relpath(marker),
        marker.as_uri(),
        "marker",
        "./tiny",
    ]

    def held() -> list[str]:
        return [model["name"] for model in core.info()["models"] if model["state"] != "absent"]

    before = held()
    for name in names:
        with pytest.raises(EditRejected, match="no model") as edit:
            core.submit(edit_request(model=name))
        with pytest.raises(EditRejected, match="no model") as load:
            core.load_model(name)
        assert (edit.value.code, load.value.code) == ("bad-model", "not-there")
    assert first.stat().st_atime == 1
    assert held() == before  # other tests of this core may have had the embedded model loaded


def test_a_model_whose_name_has_a_slash_can_be_named(new_process: Callable[..., CoreProcess]) -> None:
    """Hub ids have one, sent percent-encoded. The hub itself is not asked here."""
    process = new_process(environment={"HF_HUB_OFFLINE": "1"})
    process.model = Path("owner/name")
    core = process.start()
    assert "owner/name" in [model["name"] for model in core.info()["models"]]
    for path in (f"/v1/models/{quote('owner/name', safe='')}/unload", "/v1/models/owner/name/unload"):
        found = request(process.address(), process.token(), "POST", path)
        assert (found.status, json.loads(found.body)) == (202, {"name": "owner/name", "state": "absent"})
    found = request(process.address(), process.token(), "POST", "/v1/models/owner%2Fother/load")
    assert (found.status, found.code) == (404, "not-there")
    assert "owner/other" in found.message


@pytest.mark.parametrize("path", ["/v1/edits/..%2F..%2Fetc/fills/0", "/v1/history/%2e%2e/fills/0/thumbnail",
                                  "/v1/edits/0123456789ABCDEF/events", "/v1/edits/%00/events"])  # fmt: skip
def test_an_id_that_is_a_path_is_refused(process: CoreProcess, path: str) -> None:
    assert request(process.address(), process.token(), "GET", path).status in (404, 422)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_what_the_core_leaves_on_the_disk_is_its_users_alone(process: CoreProcess) -> None:
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.lstat().st_mode)

    assert mode(process.runtime) == 0o700
    assert mode(process.runtime / places.RUNTIME_FILE) == 0o600
    assert process.address() == f"unix:{process.runtime / places.SOCKET}"
    assert mode(process.runtime / places.SOCKET) == 0o600
    assert stat.S_ISSOCK((process.runtime / places.SOCKET).lstat().st_mode)
    assert len(process.token()) >= 43  # 256 bits
    assert process.token() not in process.said()


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720])
def test_a_runtime_folder_in_which_others_could_write_is_refused(
    new_process: Callable[..., CoreProcess], mode: int
) -> None:
    process = new_process()
    process.runtime.mkdir(parents=True)
    process.runtime.chmod(mode)
    assert "is not yours alone" in refused(process)
    assert list(process.runtime.iterdir()) == []


@pytest.mark.parametrize("place", ["0.0.0.0:0", "[::]:0", "192.168.1.2:0", "example.org:80", ":0"])
def test_a_port_that_others_could_reach_is_refused_with_a_sentence(
    new_process: Callable[..., CoreProcess], place: str
) -> None:
    process = new_process()
    said = refused(process, "--tcp", place)
    assert "127.0.0.1" in said
    assert "Traceback" not in said
    assert not (process.runtime / places.RUNTIME_FILE).exists()


def refused(process: CoreProcess, *options: str) -> str:
    """What a core says that does not start."""
    process.folder.mkdir(parents=True, exist_ok=True)
    ran = subprocess.run(
        process.command(*options), env=process.environment, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode not in (0, places.ALREADY_RUNNING), ran
    return ran.stderr


def test_each_start_has_a_token_of_its_own(new_process: Callable[..., CoreProcess]) -> None:
    process = new_process()
    process.start(until="loading")
    first = process.token()
    process.end()
    process.start(until="loading")
    assert process.token() != first
    assert request(process.address(), first, "GET", "/v1/info").status == 401


def test_an_answer_without_a_token_ends_the_connection(tcp_process: CoreProcess) -> None:
    """So that nobody without one can go on with endless trailers or bodies."""
    for path in ("/v1/health", "/v1/info"):
        with connect(tcp_process.address()) as sock:
            sock.sendall(head("GET", path, own(tcp_process)[:1]))
            assert read_answer(sock).headers["connection"] == "close"
            assert sock.recv(1) == b""

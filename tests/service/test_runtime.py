"""The one core of a user: its lock, its sockets, and the file by which it is found."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import sys
import tempfile
from pathlib import Path

import pytest

from lazydiffusion import __version__
from lazydiffusion.client import places
from lazydiffusion.client.errors import CoreError
from lazydiffusion.client.locks import FileLock, holder
from lazydiffusion.errors import BadInput
from lazydiffusion.protocol import PROTOCOL
from lazydiffusion.service import runtime as runtime_module
from lazydiffusion.service.runtime import AlreadyRunning, Runtime, allowed_hosts, listen_tcp

pytestmark = pytest.mark.unit

posix = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no modes and no Unix sockets in Python"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runtime folder: the owner's alone, and not made yet."""
    monkeypatch.setenv(places.RUNTIME_VARIABLE, str(tmp_path / "run"))
    return tmp_path / "run"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def temporary_folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("lazydiffusion-*"))


@posix
def test_everything_is_for_this_user_alone_and_removed_at_the_end(folder: Path) -> None:
    before = os.umask(0)  # the loosest
    try:
        with Runtime() as runtime:
            listening, address = runtime.listen_unix()
            with listening:
                runtime.announce(address, "secret")
                assert mode(folder) == 0o700
                modes = {path.name: mode(path) for path in folder.iterdir()}
                assert modes == {places.CORE_LOCK: 0o600, places.SOCKET: 0o600, places.RUNTIME_FILE: 0o600}
                assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert [path.name for path in folder.iterdir()] == [places.CORE_LOCK]


@posix
def test_a_core_is_found_by_its_file_and_answers_at_its_address(folder: Path) -> None:
    with Runtime() as runtime:
        listening, address = runtime.listen_unix()
        with listening, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            assert places.RuntimeFile.read() is None  # not before it is announced
            runtime.announce(address, "secret")
            found = places.RuntimeFile.read()
            assert found is not None
            assert (found.protocol, found.version, found.pid) == (PROTOCOL, __version__, os.getpid())
            assert (found.address, found.token, found.log) == (f"unix:{folder / places.SOCKET}", "secret", "")
            client.connect(str(folder / places.SOCKET))
            listening.accept()[0].close()


def test_its_log_is_named_where_there_is_one(folder: Path) -> None:
    with Runtime() as runtime:
        (folder / places.LOG).write_text("")
        runtime.announce("tcp:127.0.0.1:1", "secret")
        found = places.RuntimeFile.read()
        assert found is not None
        assert found.log == str(folder / places.LOG)
    assert (folder / places.LOG).exists()  # for whoever wants to know how it ended


def test_there_is_one_core_at_a_time(folder: Path) -> None:
    with Runtime() as runtime:
        with pytest.raises(
            AlreadyRunning, match=rf"already \(pid {os.getpid()}\): `lazydiffusion stop` ends it"
        ):
            Runtime()
        runtime.announce("tcp:127.0.0.1:4711", "secret")
        with pytest.raises(AlreadyRunning, match=rf"\(pid {os.getpid()}, tcp:127.0.0.1:4711\)"):
            Runtime()
        assert places.RuntimeFile.read() is not None  # which the second one has left alone
    with Runtime():
        pass


@posix
def test_what_a_killed_core_left_is_replaced(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    stale = places.RuntimeFile(1, "0", 1, "unix:/nowhere", "old", 0.0, "")
    stale.write()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(folder / places.SOCKET))
    with Runtime() as runtime:
        assert places.RuntimeFile.read() is None
        listening, address = runtime.listen_unix()
        with listening:
            assert address == f"unix:{folder / places.SOCKET}"
            assert mode(folder / places.SOCKET) == 0o600


@posix
@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("open to others", "not yours alone"),
        ("a link", "not yours alone"),
        ("a file", "There is a file where"),
    ],
)
def test_a_folder_that_is_not_private_is_refused(folder: Path, tmp_path: Path, kind: str, told: str) -> None:
    if kind == "open to others":
        folder.mkdir()
        folder.chmod(0o777)
    elif kind == "a link":
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.write_text("")
    with pytest.raises(CoreError, match=told):
        Runtime()


@posix
def test_a_socket_with_too_long_a_path_lies_in_a_short_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(places.RUNTIME_VARIABLE, str(tmp_path / ("x" * 110)))
    before = temporary_folders()
    with Runtime() as runtime:
        listening, address = runtime.listen_unix()
        with listening:
            path = Path(address.removeprefix("unix:"))
            assert len(os.fsencode(path)) <= runtime_module.LONGEST_SOCKET_PATH
            assert {path.parent} == temporary_folders() - before
            assert (mode(path.parent), mode(path)) == (0o700, 0o600)
    assert temporary_folders() == before


@posix
def test_a_socket_may_be_somewhere_else(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.sock"
    with Runtime() as runtime:
        listening, address = runtime.listen_unix(own)
        with listening:
            assert address == f"unix:{own}"
            assert mode(own) == 0o600
    assert not own.exists()


@posix
def test_a_relative_path_is_told_so_that_it_is_found_from_everywhere(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Runtime() as runtime:
        listening, address = runtime.listen_unix(Path("core.sock"))
        with listening:
            assert address == f"unix:{tmp_path / 'core.sock'}"


def test_a_socket_is_not_taken_from_another_program(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.sock"
    with Runtime() as runtime, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(own))
        other.listen(1)
        with pytest.raises(BadInput, match=r"Another program listens on .*own\.sock: choose another path"):
            runtime.listen_unix(own)
    assert own.exists()


@posix
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("x" * 110, "is too long for a socket (100 bytes): choose a shorter one."),
        ("missing/own.sock", "cannot be made: No such file or directory."),
        ("file", "cannot be made: Address already in use."),
    ],
)
def test_a_path_that_cannot_be_a_socket_is_refused(
    folder: Path, tmp_path: Path, path: str, message: str
) -> None:
    (tmp_path / "file").write_text("mine")
    with Runtime() as runtime, pytest.raises(BadInput) as refused:
        runtime.listen_unix(tmp_path / path)
    assert str(refused.value).endswith(message)
    assert (tmp_path / "file").read_text() == "mine"


def test_after_an_error_the_next_core_can_start(folder: Path) -> None:
    with pytest.raises(ValueError, match="stop"), Runtime():
        raise ValueError("stop")
    with Runtime():
        lock = FileLock(folder / places.CORE_LOCK)
        assert not lock.acquire(timeout=0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "::1"])
def test_tcp_listens_on_this_computer_at_a_free_port(host: str) -> None:
    if ":" in host and not has_ipv6():
        pytest.skip("there is no IPv6 here")
    listening, address = listen_tcp(f"{host}:0")
    with listening:
        port = listening.getsockname()[1]
        assert port > 0
        assert address == f"tcp:{'[::1]' if ':' in host else '127.0.0.1'}:{port}"
        with socket.create_connection((host.strip("[]"), port), timeout=5):
            listening.accept()[0].close()
        with pytest.raises(BadInput, match=rf"{port} cannot be used: Address already in use"):
            listen_tcp(f"{host}:{port}")


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "::", "192.168.1.2", "example.org", "127.0.0.2", "*"])
def test_other_hosts_are_refused_with_a_way_out(host: str) -> None:
    with pytest.raises(BadInput) as refused:
        listen_tcp(f"{host}:0")
    assert f"{host!r} is not that: use 127.0.0.1" in str(refused.value)
    assert "forward the port through SSH" in str(refused.value)


@pytest.mark.parametrize(
    "place",
    ["", ":", "127.0.0.1", "127.0.0.1:", ":80", "80", "127.0.0.1:x", "127.0.0.1:-1", "127.0.0.1:65536"],
)
def test_what_is_no_address_is_refused(place: str) -> None:
    with pytest.raises(BadInput, match=r"is no address: write HOST:PORT, for instance 127\.0\.0\.1:0"):
        listen_tcp(place)


def test_requests_may_name_the_hosts_that_the_address_has() -> None:
    assert allowed_hosts("unix:/run/core.sock") == {"lazydiffusion"}
    assert allowed_hosts("tcp:127.0.0.1:80") == {"127.0.0.1:80", "localhost:80", "[::1]:80"}
    assert allowed_hosts("tcp:[::1]:80") == allowed_hosts("tcp:127.0.0.1:80")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as trying:
            trying.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_the_lock_tells_who_holds_it(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "core.lock")
    assert holder(lock.path) is None
    assert not lock.path.exists()
    with lock:
        assert holder(lock.path) == os.getpid()
        os.truncate(lock.path, 0)  # as by a program that does not tell
        assert holder(lock.path) == 0
    assert holder(lock.path) is None
    assert lock.path.read_bytes() == b""


def test_a_runtime_file_that_goes_is_written_again(folder: Path) -> None:
    with Runtime() as runtime:
        assert runtime.announce_anew()
        assert places.RuntimeFile.read() is None  # nothing was announced yet
        runtime.announce("tcp:127.0.0.1:4711", "secret")
        told = places.RuntimeFile.read()
        file = folder / places.RUNTIME_FILE
        for lose in (file.unlink, lambda: file.write_text("{"), lambda: file.chmod(0o644)):
            lose()
            assert places.RuntimeFile.read() is None
            assert runtime.announce_anew()
            assert places.RuntimeFile.read() == told
        written = file.stat().st_mtime_ns
        assert runtime.announce_anew()
        assert file.stat().st_mtime_ns == written  # not without need
    assert not file.exists()


def test_what_could_not_be_announced_is_announced_later(folder: Path) -> None:
    with Runtime() as runtime:
        (folder / places.RUNTIME_FILE).mkdir()
        for announce in (lambda: runtime.announce("tcp:127.0.0.1:4711", "secret"), runtime.announce_anew):
            with pytest.raises(OSError, match="directory"):
                announce()
        (folder / places.RUNTIME_FILE).rmdir()
        assert runtime.announce_anew()
        assert places.RuntimeFile.read() is not None


def test_in_a_folder_that_was_emptied_a_core_at_a_port_is_the_only_one_again(folder: Path) -> None:
    with Runtime() as runtime:
        runtime.announce("tcp:127.0.0.1:4711", "secret")
        shutil.rmtree(folder)
        assert runtime.announce_anew()
        assert mode(folder) == 0o700
        with pytest.raises(AlreadyRunning, match=rf"\(pid {os.getpid()}, tcp:127.0.0.1:4711\)"):
            Runtime()
    assert [path.name for path in folder.iterdir()] == [places.CORE_LOCK]


@posix
def test_a_core_whose_place_another_has_taken_leaves_it_alone(folder: Path) -> None:
    with Runtime() as old:
        listening, address = old.listen_unix()
        with listening:
            old.announce(address, "old")
            shutil.rmtree(folder)
            with Runtime() as new:
                assert not old.announce_anew()  # though nothing is announced at this moment
                assert places.RuntimeFile.read() is None
                replacement, address = new.listen_unix()
                with replacement, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                    new.announce(address, "new")
                    assert not old.announce_anew()
                    old.__exit__()
                    found = places.RuntimeFile.read()
                    assert found is not None
                    assert found.token == "new"
                    client.connect(str(folder / places.SOCKET))
                    with pytest.raises(AlreadyRunning):
                        Runtime()
    assert [path.name for path in folder.iterdir()] == [places.CORE_LOCK]


@posix
def test_a_core_without_its_socket_cannot_be_found(folder: Path) -> None:
    with Runtime() as runtime:
        listening, address = runtime.listen_unix()
        with listening:
            runtime.announce(address, "secret")
            (folder / places.SOCKET).unlink()
            assert not runtime.announce_anew()

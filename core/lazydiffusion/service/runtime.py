"""The one core of a user: its lock, its socket, and the file that tells clients where it is."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import time
from pathlib import Path

from lazydiffusion import __version__
from lazydiffusion.client import places
from lazydiffusion.client.locks import FileLock, holder
from lazydiffusion.client.transport import UNIX_HOST
from lazydiffusion.errors import BadInput, LazyDiffusionError
from lazydiffusion.protocol import PROTOCOL

LONGEST_SOCKET_PATH = 100
"""Bytes: systems allow 104 or 108."""
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")

_Identity = tuple[int, int, int]
"""Of a file: device, inode, time of its making (ns). An inode's number alone is soon used again."""


class AlreadyRunning(LazyDiffusionError):
    """Another core of this user holds the lock."""


class Runtime:
    """The runtime folder, owned. Use as a context: on leaving, what was made is removed and the lock given back.

    Somebody may empty the folder while the core runs, and another core may begin there: only what is still this
    one's is removed.
    """

    def __init__(self) -> None:
        """Raises AlreadyRunning when there is a core, CoreError when the folder is not private."""
        self.folder = places.make_private_folder(places.runtime_folder())
        self.file = self.folder / places.RUNTIME_FILE
        """What tells clients where the core is."""
        self._lock = FileLock(self.folder / places.CORE_LOCK)
        if not self._lock.acquire(timeout=0):
            known, pid = places.RuntimeFile.read(), holder(self._lock.path)
            where = f" (pid {known.pid}, {known.address})" if known else f" (pid {pid})" if pid else ""
            raise AlreadyRunning(f"A core is running already{where}: `lazydiffusion stop` ends it.")
        self._socket: tuple[Path, _Identity] | None = None
        self._socket_folder: Path | None = None
        """Made for a socket whose path would be too long else."""
        self._announced: places.RuntimeFile | None = None
        # Whoever wrote it is gone, or we had not got the lock.
        self.file.unlink(missing_ok=True)

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            if self._is_announced():
                self.file.unlink()
        with contextlib.suppress(OSError):
            if self._socket is not None and self._has_socket():
                self._socket[0].unlink()
        if self._socket_folder is not None:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
        self._lock.release()

    def listen_unix(self, path: Path | None = None) -> tuple[socket.socket, str]:
        """A socket that only this user can use, and its address. Raises BadInput for a path that cannot be taken."""
        if not hasattr(socket, "AF_UNIX"):
            raise BadInput("This system has no Unix sockets here: use --tcp 127.0.0.1:0.")
        # Clients work in other folders than this one.
        chosen = path.absolute() if path is not None else self.folder / places.SOCKET
        if len(os.fsencode(chosen)) > LONGEST_SOCKET_PATH:
            if path is not None:
                raise BadInput(
                    f"The path {path} is too long for a socket ({LONGEST_SOCKET_PATH} bytes): choose a shorter one."
                )
            short = Path(tempfile.mkdtemp(prefix="lazydiffusion-"))  # 0700
            self._socket_folder = short
            chosen = short / places.SOCKET
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if chosen.is_socket():
                if path is not None and _answers(chosen):
                    raise BadInput(f"Another program listens on {path}: choose another path.")
                chosen.unlink()  # left by a core that was killed
            before = os.umask(0o177)
            try:
                listening.bind(str(chosen))
            finally:
                os.umask(before)
            listening.listen(128)
        except OSError as error:
            listening.close()
            raise BadInput(f"The socket {chosen} cannot be made: {error.strerror}.") from error
        except BaseException:
            listening.close()
            raise
        self._socket = (chosen, _identity(chosen))
        return listening, f"unix:{chosen}"

    def announce(self, address: str, token: str) -> None:
        """Tell the clients where the core is, now that it answers. Raises OSError."""
        log = self.folder / places.LOG
        self._announced = places.RuntimeFile(
            protocol=PROTOCOL, version=__version__, pid=os.getpid(), address=address, token=token,
            started=time.time(), log=str(log) if log.exists() else "",
        )  # fmt: skip
        self._announced.write(self.file)

    def announce_anew(self) -> bool:
        """Tell it once more where that is gone; False when no client can find the core any more.

        Then another core has taken its place, or the socket was deleted, which nobody can reach now. Raises OSError and
        CoreError when it cannot be told.
        """
        if self._socket is not None and not self._has_socket():
            return False
        if not self._lock.in_place and not self._lock_anew():
            return False
        if self._announced is not None and not self._is_announced():
            self._announced.write(self.file)
        return True

    def _lock_anew(self) -> bool:
        """Take the lock on the file that is there now, or is made; False when another core has it."""
        places.make_private_folder(self.folder)
        lock = FileLock(self._lock.path)
        if not lock.acquire(timeout=0):
            return False
        self._lock.release()
        self._lock = lock
        return True

    def _is_announced(self) -> bool:
        """Whether the runtime file is this core's."""
        found, own = places.RuntimeFile.read(self.file), self._announced
        return found is not None and own is not None and (found.pid, found.token) == (own.pid, own.token)

    def _has_socket(self) -> bool:
        """Whether the socket's path still leads to it."""
        assert self._socket is not None
        path, identity = self._socket
        try:
            return _identity(path) == identity
        except OSError:
            return False


def listen_tcp(place: str) -> tuple[socket.socket, str]:
    """A socket on this machine's own loopback at HOST:PORT (port 0: a free one), and its address. Raises BadInput."""
    host, _, port = place.rpartition(":")
    if not port.isdecimal() or int(port) > 65535 or not host:
        raise BadInput(f"{place!r} is no address: write HOST:PORT, for instance 127.0.0.1:0 for a free port.")
    if host not in LOOPBACK:
        raise BadInput(
            f"The core listens on this computer only, and {host!r} is not that: use 127.0.0.1. "
            "To reach it from elsewhere, forward the port through SSH."
        )
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.bind((host, int(port)))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise BadInput(f"The address {place} cannot be used: {error.strerror}.") from error
    bound = listening.getsockname()
    return (
        listening,
        f"tcp:[{bound[0]}]:{bound[1]}" if family == socket.AF_INET6 else f"tcp:{bound[0]}:{bound[1]}",
    )


def allowed_hosts(address: str) -> set[str]:
    """Values of the Host header that requests to the address may have."""
    kind, _, place = address.partition(":")
    if kind == "unix":
        return {UNIX_HOST}
    port = place.rpartition(":")[2]
    return {f"{host}:{port}" for host in ("127.0.0.1", "localhost", "[::1]")}


def _identity(path: Path) -> _Identity:
    info = path.lstat()
    return info.st_dev, info.st_ino, info.st_mtime_ns


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trying:
        try:
            trying.connect(str(path))
        except OSError:
            return False
        return True

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
from lazydiffusion.client.locks import FileLock
from lazydiffusion.client.transport import UNIX_HOST
from lazydiffusion.errors import BadInput, LazyDiffusionError
from lazydiffusion.protocol import PROTOCOL

LONGEST_SOCKET_PATH = 100
"""Bytes: systems allow 104 or 108."""
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")


class AlreadyRunning(LazyDiffusionError):
    """Another core of this user holds the lock."""


class Runtime:
    """The runtime folder, owned. Use as a context: on leaving, what was made is removed and the lock given back."""

    def __init__(self) -> None:
        """Raises AlreadyRunning when there is a core, CoreError when the folder is not private."""
        self.folder = places.make_private_folder(places.runtime_folder())
        self._lock = FileLock(self.folder / places.CORE_LOCK)
        if not self._lock.acquire(timeout=0):
            known = places.RuntimeFile.read()
            where = f" (pid {known.pid}, {known.address})" if known else ""
            raise AlreadyRunning(f"A core is running already{where}: `lazydiffusion stop` ends it.")
        self._own: list[Path] = []
        # Whoever wrote it is gone, or we had not got the lock.
        (self.folder / places.RUNTIME_FILE).unlink(missing_ok=True)

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *_: object) -> None:
        for path in reversed(self._own):
            with contextlib.suppress(OSError):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        self._lock.release()

    def listen_unix(self, path: Path | None = None) -> tuple[socket.socket, str]:
        """A socket that only this user can use, and its address. Raises BadInput for a path that cannot be taken."""
        if not hasattr(socket, "AF_UNIX"):
            raise BadInput("This system has no Unix sockets here: use --tcp 127.0.0.1:0.")
        chosen = path or self.folder / places.SOCKET
        if len(os.fsencode(chosen)) > LONGEST_SOCKET_PATH:
            if path is not None:
                raise BadInput(
                    f"The path {path} is too long for a socket ({LONGEST_SOCKET_PATH} bytes): choose a shorter one."
                )
            short = Path(tempfile.mkdtemp(prefix="lazydiffusion-"))  # 0700
            self._own.append(short)
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
        self._own.append(chosen)
        return listening, f"unix:{chosen}"

    def announce(self, address: str, token: str) -> None:
        """Tell the clients where the core is, now that it answers."""
        log = self.folder / places.LOG
        places.RuntimeFile(
            protocol=PROTOCOL, version=__version__, pid=os.getpid(), address=address, token=token,
            started=time.time(), log=str(log) if log.exists() else "",
        ).write(self.folder / places.RUNTIME_FILE)  # fmt: skip
        self._own.append(self.folder / places.RUNTIME_FILE)


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


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trying:
        try:
            trying.connect(str(path))
        except OSError:
            return False
        return True

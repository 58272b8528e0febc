"""A lock between processes: whoever holds the file's lock is the only one."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Optional

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

PAUSE = 0.02
"""Seconds between two tries."""


class FileLock:
    """An exclusive lock on a file, which the system gives back when the process ends, however it ends.

    The file, 0600, is made where it is missing and never deleted: somebody could be waiting for it. It tells the
    pid of who holds the lock, for `holder`. Two locks on one
    file exclude each other within a process too. `with FileLock(path):` waits as long as it takes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Optional[int] = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._file is not None

    def acquire(self, timeout: Optional[float] = None) -> bool:
        """Whether the lock was got within `timeout` seconds; 0 tries once, None waits. Raises OSError."""
        if self._file is not None:
            raise RuntimeError("The lock is held already.")
        deadline = None if timeout is None else time.monotonic() + timeout
        file = os.open(str(self.path), os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            while not _try_lock(file):
                if deadline is not None and time.monotonic() >= deadline:
                    return False
                time.sleep(PAUSE)
            self._file, file = file, -1
            self._note(b" %d" % os.getpid())
            return True
        finally:
            if file != -1:
                os.close(file)

    @property
    def in_place(self) -> bool:
        """Whether what is held is the lock on the file at the path: that one may have been deleted, or made anew."""
        if self._file is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(str(self.path)))  # noqa: PTH116 - beside fstat
        except OSError:
            return False

    def release(self) -> None:
        """Give the lock back; nothing happens where it is not held."""
        if self._file is not None:
            self._note(b"")
            file, self._file = self._file, None
            _unlock(file)
            os.close(file)

    def _note(self, text: bytes) -> None:
        """Make this the file's content; a lock on a full disk holds without it."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, 0)
                os.lseek(self._file, 0, os.SEEK_SET)
                os.write(self._file, text)

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.release()


def holder(path: Path) -> Optional[int]:
    """The pid of the process that holds the lock on a file; 0 where it does not tell, None where nobody holds it."""
    lock = FileLock(path)
    try:
        if not path.exists():
            return None
        if lock.acquire(timeout=0):
            lock.release()
            return None
        with path.open("rb") as file:
            file.seek(1)  # on Windows the first byte, which is locked, cannot be read
            return int(file.read(20))
    except ValueError:
        return 0
    except OSError:
        return None


if sys.platform == "win32":

    def _try_lock(file: int) -> bool:
        try:
            os.lseek(file, 0, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(file: int) -> None:
        os.lseek(file, 0, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_UNLCK, 1)

else:

    def _try_lock(file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _unlock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)

"""A lock between processes: one holder at a time, and none is left by a process that was killed."""

from __future__ import annotations

import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lazydiffusion.client.locks import FileLock

pytestmark = pytest.mark.unit

HOLDER = """
import sys, time
from pathlib import Path
from lazydiffusion.client.locks import FileLock
FileLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_only_one_holds_it(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "it.lock"), FileLock(tmp_path / "it.lock")
    with first:
        assert first.held
        assert not second.acquire(timeout=0)
        assert not second.held
    assert second.acquire(timeout=0)
    second.release()
    second.release()  # once more is nothing


def test_the_file_is_private_and_stays(tmp_path: Path) -> None:
    with FileLock(tmp_path / "it.lock"):
        assert stat.S_IMODE((tmp_path / "it.lock").stat().st_mode) == 0o600
    assert (tmp_path / "it.lock").exists()


def test_waiting_ends_with_the_timeout_or_when_it_is_free(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "it.lock"), FileLock(tmp_path / "it.lock")
    first.acquire()
    begin = time.monotonic()
    assert not second.acquire(timeout=0.1)
    assert 0.1 <= time.monotonic() - begin < 2
    threading.Timer(0.1, first.release).start()
    with second:
        assert not first.held


def test_it_is_not_taken_twice_by_one_object(tmp_path: Path) -> None:
    with FileLock(tmp_path / "it.lock") as lock, pytest.raises(RuntimeError):
        lock.acquire()


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "it.lock")
    command = [sys.executable, "-c", HOLDER, str(lock.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert not lock.acquire(timeout=0)
        holder.kill()
    assert lock.acquire(timeout=1)
    lock.release()

"""Hosts are made once, made anew when their recipe changes, and leave nothing behind."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.hosts import chroots

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def test_the_core_runs_in_the_host_and_finds_nothing_wrong(any_host: chroots.Host, tmp_path: Path) -> None:
    """As the plugin will start it: this repository's Python, beside another Debian's libraries."""
    command = [sys.executable, "-m", "lazydiffusion", "doctor"]
    run = any_host.run(command, {**ENVIRONMENT, "HOME": str(tmp_path)}, [tmp_path])
    assert run.returncode == 0, run.stdout
    assert "text encoder: MiniLM, its hash holds" in run.stdout


def test_a_program_writes_where_it_may_and_nowhere_else(any_host: chroots.Host, tmp_path: Path) -> None:
    script = f"echo seen > {tmp_path}/file; touch {chroots.REPOSITORY}/forbidden"
    run = any_host.run(["sh", "-c", script], ENVIRONMENT, [tmp_path])
    assert run.returncode != 0
    assert "Read-only file system" in run.stdout
    assert (tmp_path / "file").read_text() == "seen\n"


def test_mounts_and_processes_end_with_the_program(any_host: chroots.Host) -> None:
    mark = f"{os.getpid()}5"  # seconds: a sleep that nobody else sleeps
    run = any_host.run(["sh", "-c", f"sleep {mark} & echo $FROM; exit 7"], {**ENVIRONMENT, "FROM": "given"})
    assert (run.returncode, run.stdout) == (7, "given\n")
    assert str(any_host.root) not in Path("/proc/self/mounts").read_text()
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert [line for line in running if mark.encode() in line.split(b"\0")] == []


def test_a_host_is_made_once_and_anew_for_another_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = chroots.Recipe("small", "none", "0", ("bookworm",), ("mawk",))
    monkeypatch.setenv("LAZYDIFFUSION_HOSTS", str(tmp_path))
    monkeypatch.setitem(chroots.RECIPES, "small", small)
    (tmp_path / "small.partial").mkdir()
    (tmp_path / "small.partial" / "left over").touch()
    root = chroots.ensure("small")
    made = root.stat().st_ino
    assert root == tmp_path / "small"
    assert not (root / "left over").exists()
    assert not (tmp_path / "small.partial").exists()
    assert chroots.ensure("small").stat().st_ino == made

    monkeypatch.setitem(chroots.RECIPES, "small", replace(small, packages=("no-such-package-here",)))
    with pytest.raises(chroots.HostUnavailable, match=r"(?s)small cannot be made.*no-such-package-here"):
        chroots.ensure("small")
    assert not root.exists(), "a host of another recipe is no host"
    assert not (tmp_path / "small.partial").exists()

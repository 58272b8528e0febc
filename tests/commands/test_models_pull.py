"""`lazydiffusion models pull` against a hub on loopback: what is fetched, resumed, refused, and put into place."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants
from tests.loopback_hub import REPO, WEIGHTS, Hub
from typer.testing import CliRunner, Result

from lazydiffusion import checkpoints, hub
from lazydiffusion.cli import app
from lazydiffusion.engines.names import FLUX2_KLEIN, engine_of
from lazydiffusion.known_models import KNOWN

pytestmark = pytest.mark.integration

CHUNK = hub.CHUNK  # of a process of its own; in this one it is smaller, as the files are


@pytest.fixture
def remote(klein_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub that this process asks."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", klein_hub.url)
    template = klein_hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "PAUSE", 0.0)
    monkeypatch.setattr(hub, "CHUNK", 1000)
    yield klein_hub
    huggingface_hub.close_session()


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of models, which is not there yet."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = tmp_path / "data" / "lazydiffusion" / "models"
    monkeypatch.setattr(checkpoints, "user_folder", lambda: folder)
    return folder


def pull(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", "pull", *(arguments or ("flux2-klein", "--yes"))])


def said(result: Result) -> str:
    """The one line on stderr of a pull that is refused."""
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    return result.stderr


def source(folder: Path) -> Any:
    return json.loads((folder / "source.json").read_text())


def listed() -> dict[str, dict[str, Any]]:
    rows = json.loads(CliRunner().invoke(app, ["models", "--json"]).stdout)
    return {row["name"]: row for row in rows}


def test_a_pulled_model_is_found_by_its_name_and_its_hashes_hold(
    remote: Hub, models: Path, klein_files: dict[str, bytes]
) -> None:
    result = pull()
    assert result.exit_code == 0
    size = f"{sum(map(len, klein_files.values())) / 1e6:.1f} MB"
    for fact in (
        "apache-2.0",
        remote.commit,
        f"files:   {len(klein_files)}",
        f"{size}, of which",
        str(models),
        REPO,
    ):
        assert fact in result.stdout
    folder = checkpoints.locate("flux2-klein")
    assert folder == models / "flux2-klein"
    assert engine_of(folder) == FLUX2_KLEIN
    checkpoints.verify(folder, required=True)
    assert {name: (folder / name).read_bytes() for name in klein_files} == klein_files
    assert source(folder) == {"repo": REPO, "revision": remote.commit, "licence": "apache-2.0"}
    assert list(models.iterdir()) == [folder]


def test_what_a_system_leaves_beside_the_files_is_in_nobodys_way(remote: Hub, models: Path) -> None:
    partial = checkpoints.partial_folder("flux2-klein")
    (partial / ("0" * 40)).mkdir(parents=True)  # of another commit
    (partial / ".DS_Store").write_bytes(b"of Finder")
    (partial / "link").symlink_to(models)
    result = pull()
    assert result.exit_code == 0, result.stderr
    assert list(models.iterdir()) == [models / "flux2-klein"]


def test_a_known_model_is_listed_before_and_after(remote: Hub, models: Path) -> None:
    assert listed()["flux2-klein"]["state"] == (
        "not downloaded, 16 GB, licence Apache-2.0: lazydiffusion models pull flux2-klein"
    )
    pull()
    assert listed()["flux2-klein"]["state"] == "ready"


def test_only_what_a_pipeline_needs_is_fetched(
    remote: Hub, models: Path, klein_files: dict[str, bytes]
) -> None:
    unneeded = [
        "flux-2-klein-4b.safetensors", "README.md", "picture.png", "other/model.safetensors", "vae/onnx/model.json",
        "transformer/diffusion_pytorch_model.bin", "vae/old.ckpt", "vae/old.pt", "text_encoder/model.msgpack",
        "transformer/diffusion_pytorch_model.fp16.safetensors", "vae/model.fp16-00001-of-00002.safetensors",
        "vae/diffusion_pytorch_model.safetensors.index.fp16.json",
    ]  # fmt: skip
    needed = [
        "tokenizer/spiece.model", "tokenizer/merges.txt", "tokenizer/chat_template.jinja",
        "text_encoder/model.safetensors.index.json",
    ]  # fmt: skip
    remote.files |= dict.fromkeys([*unneeded, *needed], b"{}")
    assert pull().exit_code == 0
    assert remote.fetched() == klein_files.keys() | set(needed)


def test_weights_that_are_published_as_fp16_only_are_fetched(remote: Hub, models: Path) -> None:
    for name in [name for name in remote.files if name.endswith(".safetensors")]:
        remote.files[name.replace(".safetensors", ".fp16.safetensors")] = remote.files.pop(name)
    assert pull().exit_code == 0
    assert (models / "flux2-klein" / WEIGHTS.replace(".safetensors", ".fp16.safetensors")).is_file()


@pytest.mark.parametrize(("ranged", "last"), [(True, 5000), (False, 2000)])
def test_a_cut_download_goes_on_where_it_broke(remote: Hub, models: Path, ranged: bool, last: int) -> None:
    remote.ranged = ranged
    remote.cut[WEIGHTS] = [3000, 2000]
    assert pull().exit_code == 0
    assert remote.ranges(WEIGHTS) == [None, "bytes=3000-", f"bytes={last}-"]


@pytest.mark.parametrize("ranged", [True, False])
def test_progress_comes_to_all_bytes_however_they_come(remote: Hub, tmp_path: Path, ranged: bool) -> None:
    remote.ranged = ranged
    remote.cut[WEIGHTS] = [3000, 2000]
    model = hub.describe(REPO)
    told: list[int] = []
    for _ in ("fetched", "there already"):
        told.clear()
        hub.download(model, tmp_path, told.append)
        assert sum(told) == model.bytes


def test_a_pull_that_ended_is_taken_up_by_the_next(remote: Hub, models: Path) -> None:
    remote.cut[WEIGHTS] = [3000] + [0] * hub.TRIES
    assert "cannot be reached" in said(pull())
    assert not (models / "flux2-klein").exists()
    assert "flux2-klein.partial" not in listed()
    before = remote.fetched() - {WEIGHTS, "model_index.json"}
    remote.asked.clear()
    assert pull().exit_code == 0
    assert remote.ranges(WEIGHTS) == ["bytes=3000-"]
    assert remote.fetched() & before == set()
    checkpoints.verify(models / "flux2-klein", required=True)


def test_ctrl_c_keeps_what_came_and_says_so(remote: Hub, models: Path) -> None:
    remote.files[WEIGHTS] = bytes(5 * CHUNK)
    remote.cut[WEIGHTS] = [3 * CHUNK]
    remote.stall = True
    process = started(remote, subprocess.DEVNULL, "--yes")
    unfinished = models / "flux2-klein.partial" / remote.commit / (WEIGHTS + hub.UNFINISHED)
    deadline = time.monotonic() + 60
    while not unfinished.is_file() or unfinished.stat().st_size < 2 * CHUNK:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.endswith("what is downloaded is kept. `lazydiffusion models pull flux2-klein` goes on.\n")
    kept = unfinished.stat().st_size
    remote.asked.clear()
    assert pull().exit_code == 0
    assert remote.ranges(WEIGHTS) == [f"bytes={kept}-"]


@pytest.mark.parametrize("typed", ["n", "y"])
def test_it_asks_before_it_fetches(remote: Hub, models: Path, typed: str) -> None:
    terminal, stdin = pty.openpty()
    os.write(terminal, f"{typed}\n".encode())
    process = started(remote, stdin)
    stdout, _ = process.communicate(timeout=60)
    os.close(terminal)
    os.close(stdin)
    assert "apache-2.0" in stdout
    if typed == "y":
        assert process.returncode == 0
        checkpoints.verify(models / "flux2-klein", required=True)
    else:
        assert process.returncode == 1
        assert stdout.endswith("Nothing was downloaded.\n")
        assert remote.fetched() == {"model_index.json"}  # it says what would be fetched
        assert not models.exists()


def test_without_a_terminal_it_wants_to_be_told_yes(remote: Hub, models: Path) -> None:
    assert "Say --yes" in said(pull("flux2-klein"))
    assert not models.exists()


@pytest.mark.parametrize("path", [WEIGHTS, "vae/config.json"])
@pytest.mark.parametrize("end", [b"?", b"?" + bytes(5000)], ids=["altered", "longer"])
def test_a_file_that_is_not_the_published_one_is_refused_and_deleted(
    remote: Hub, models: Path, path: str, end: bytes
) -> None:
    remote.wrong[path] = remote.files[path][:-1] + end
    assert f"What came as {path}" in said(pull())
    assert not (models / "flux2-klein").exists()
    partial = models / "flux2-klein.partial" / remote.commit
    assert list(partial.glob(f"{path}*")) == []
    remote.wrong.clear()
    assert pull().exit_code == 0


@pytest.mark.parametrize("name", ["flux2-klein", REPO])
def test_the_same_commit_is_not_fetched_twice(remote: Hub, models: Path, name: str) -> None:
    pull()
    remote.asked.clear()
    result = pull(name)
    assert result.exit_code == 0
    assert "is there already" in result.stdout
    assert remote.fetched() == {"model_index.json"}


def test_a_damaged_model_is_fetched_again(remote: Hub, models: Path) -> None:
    pull()
    (models / "flux2-klein" / WEIGHTS).write_bytes(b"damaged")
    assert "altered or damaged" in pull().stdout
    checkpoints.verify(models / "flux2-klein", required=True)


def test_another_commit_replaces_the_old_one_only_when_it_is_whole(remote: Hub, models: Path) -> None:
    pull()
    folder, old = models / "flux2-klein", remote.commit
    remote.commit = "b" * 40
    remote.files["scheduler/scheduler_config.json"] = b'{"shift": 1.0}'
    remote.wrong[WEIGHTS] = bytes(len(remote.files[WEIGHTS]))
    result = pull()
    assert old in result.stdout
    assert remote.commit in result.stdout
    assert result.exit_code == 2
    checkpoints.verify(folder, required=True)
    assert source(folder)["revision"] == old
    remote.wrong.clear()
    assert pull().exit_code == 0
    checkpoints.verify(folder, required=True)
    assert source(folder)["revision"] == remote.commit
    assert list(models.iterdir()) == [folder]


def test_a_pull_that_ended_while_it_replaced_gives_the_old_one_back(remote: Hub, models: Path) -> None:
    pull()
    replaced = models / "flux2-klein.partial" / "replaced"
    replaced.parent.mkdir()
    (models / "flux2-klein").rename(replaced)
    remote.wrong[WEIGHTS] = bytes(len(remote.files[WEIGHTS]))
    assert pull().exit_code == 2
    checkpoints.verify(models / "flux2-klein", required=True)


def test_a_folder_of_the_users_own_is_not_replaced(remote: Hub, models: Path) -> None:
    (models / "flux2-klein").mkdir(parents=True)
    (models / "flux2-klein" / "model_index.json").write_text("{}")
    assert "was not pulled from the hub" in said(pull())
    assert remote.asked == []


def test_a_full_disk_is_noticed_before_anything_is_fetched(
    remote: Hub, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(map(len, remote.files.values()))
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=size - 1))
    assert "Free some space" in said(pull())
    assert not models.exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=size))
    assert pull().exit_code == 0


def test_a_pin_is_what_is_asked_for(remote: Hub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KNOWN, "flux2-klein", replace(KNOWN["flux2-klein"], commit="c" * 40))
    assert f"no revision '{'c' * 40}'" in said(pull())
    assert pull("flux2-klein", "--yes", "--revision", "main").exit_code == 0


def renamed(end: str) -> Callable[[dict[str, bytes]], object]:
    """Publish the transformer's weights with another ending."""
    return lambda files: files.update({WEIGHTS.replace(".safetensors", end): files.pop(WEIGHTS)})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda files: files.pop("model_index.json"), "it has no model_index.json"),
        (lambda files: files.update({"model_index.json": b"["}), "cannot be read"),
        (renamed(".bin"), "transformer only as a pickle"),
        (renamed(".ema.safetensors"), "no weights that can be loaded"),
    ],
    ids=["no index", "bad index", "pickle", "unknown variant"],
)
def test_a_repository_that_no_engine_loads_is_refused(
    remote: Hub, models: Path, change: Callable[[dict[str, bytes]], object], sentence: str
) -> None:
    change(remote.files)
    assert sentence in said(pull())
    assert not models.exists()


@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        (401, "RepoNotFound", "There is no model black-forest-labs/FLUX.2-klein-4B"),
        (404, "RevisionNotFound", "has no revision"),
        (403, "GatedRepo", "accept its licence at"),
        (503, "", "HTTP status 503"),
    ],
)
def test_what_the_hub_refuses_is_said(
    remote: Hub, models: Path, status: int, code: str, sentence: str
) -> None:
    remote.error = (status, code)
    assert sentence in said(pull())


def test_without_a_network_it_says_so(remote: Hub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 cannot be reached" in said(pull())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids" in said(pull())


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("flux3", "cannot be pulled"),
        ("someone/clipart", "installed with the package"),
        ("a--b/c", "no hub id"),
    ],
)
def test_a_name_that_cannot_be_pulled_is_refused(remote: Hub, models: Path, name: str, sentence: str) -> None:
    assert sentence in said(pull(name, "--yes"))


def started(remote: Hub, stdin: int, *options: str) -> subprocess.Popen[str]:
    """The command in a process of its own, as a shell starts it: not deaf to Ctrl+C, even if these tests are."""
    return subprocess.Popen(
        [sys.executable, "-m", "lazydiffusion", "models", "pull", "flux2-klein", *options],
        env={**os.environ, **remote.environment},
        stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip

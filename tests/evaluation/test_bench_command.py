"""`lazydiffusion bench` from the command line to its files, on a tiny checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.figure_files import assert_figure
from typer.testing import CliRunner, Result

from lazydiffusion.cli import app
from lazydiffusion.evaluation.bench.cases import COMPARED, REGION, Sweeps
from lazydiffusion.evaluation.bench.parts import PARTS

pytestmark = pytest.mark.integration
FIGURES = ("time-against-mask", "time-against-canvas", "speed-up-against-steps", "parts")
RANDOM = "regenerate-image and regenerate-crop have random weights: timing only."


def bench(out: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["bench", "--device", "cpu", "--out", str(out), *options])


def case_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("engine", "share", "canvas", "steps", "sent"))


@pytest.fixture(scope="module")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the output of one run."""
    out = tmp_path_factory.mktemp("bench") / "new"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on busy cores threads wait for each other longer than they compute
    result = bench(
        out, "--config", str(tiny_model), "--masks", "0.1,1", "--canvas", "256,512", "--steps", "1,2",
        "--repeats", "2",
    )  # fmt: skip
    torch.set_num_threads(threads)
    assert result.exit_code == 0, result.output
    return out, result.stdout


@pytest.fixture(scope="module")
def found(run: tuple[Path, str]) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((run[0] / "results.json").read_text(encoding="utf8"))
    return results


def test_every_case_is_there_with_all_that_was_measured(found: dict[str, Any]) -> None:
    wanted = Sweeps(256, (0.1, 1), (256, 512), (1, 2)).cases()
    rows = found["cases"]
    assert [(r["engine"], r["share"], r["canvas"], r["steps"], r["sent"]) for r in rows] == [
        (case.engine, case.share, case.canvas, case.steps, case.sent) for case in wanted
    ]
    for r in rows:
        assert len(r["samples_ms"]) == 2
        assert 0 < r["ms"]["min"] <= r["ms"]["q1"] <= r["ms"]["median"] <= r["ms"]["q3"]
        assert list(r["parts_ms"]) == list(PARTS)
        assert r["total_flops"] == sum(r["flops"].values()) > 0
        assert r["calls"]["steps"] == sum(r["decoder_steps"].values()) == r["steps"]
        assert r["share_of_product_rate"] > 0
    lazy, *others = (
        [r["tokens"] for r in rows if r["engine"] == engine and r["share"] == 0.1] for engine in COMPARED
    )
    assert max(lazy) < 256
    assert {count for tokens in others for count in tokens} == {256}


def test_the_machine_and_what_is_random_are_told(found: dict[str, Any]) -> None:
    assert found["note"] == RANDOM
    assert {name: engine["random_weights"] for name, engine in found["engines"].items()} == dict(
        zip(COMPARED, (False, True, True), strict=True)
    )
    assert found["machine"]["dtype"] == "float32"
    assert found["machine"]["device"]
    assert "--masks 0.1,1 --canvas 256,512" in found["command"]
    assert min(found["rates"].values()) > 0
    assert found["targets"] == []  # they are the paper's, on a GPU
    assert {ratio["baseline"] for ratio in found["speed_ups"]} == set(COMPARED[1:])
    assert {growth["sent"] for growth in found["canvas_growth"]} == {"whole", REGION}


def test_the_table_has_every_engine_and_is_what_is_printed(run: tuple[Path, str]) -> None:
    out, printed = run
    table = (out / "table.md").read_text(encoding="utf8")
    assert RANDOM in table
    assert table.strip() == printed.strip()
    for engine in COMPARED:
        assert f"| {engine} | 100 % | 256 px | 2 |" in table
    assert "| lazy | 10 % | 512 px, as sent | 2 |" in table


@pytest.mark.parametrize("name", FIGURES)
def test_figures_open_and_say_what_is_random(run: tuple[Path, str], name: str) -> None:
    assert_figure(run[0], name, says="random weights: timing only")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--canvas", "128"), "128 px cannot be timed"),
        (("--masks", "a,b"), "--masks a,b is no list"),
        (("--engines", "diffusers"), "'diffusers' is not compared"),
        (("--repeats", "0"), "0 repeats"),
        (("--config", "nonsense"), "no model 'nonsense'"),
        (("--config", "flux2-klein-4b", "--compile"), "leave --compile out"),
    ],
    ids=["canvas", "list", "engine", "repeats", "config", "compile"],
)
def test_wrong_options_are_told_before_anything_is_written(
    tiny_model: Path, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    result = bench(tmp_path / "out", "--config", str(tiny_model), *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_measured(
    tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    options = ("--masks", "0.5", "--canvas", "", "--steps", "1", "--engines", "lazy", "--repeats", "1")
    result = bench(tmp_path / "file" / "out", "--config", str(tiny_model), *options)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f"lazydiffusion: The folder {tmp_path}/file/out cannot be made: Not a directory. Choose another --out."
    ]


def test_blocks_are_timed_compiled_and_counted_as_they_are(
    tiny_model: Path, found: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's compiler is faked: what stands in for it counts its calls, apart those when torch is told to leave it."""
    calls = {"default": 0, "force_eager": 0}

    def compiled(function: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            calls[stance[-1]] += 1
            return function(*arguments, **named)

        return run

    stance = ["default"]

    @contextmanager
    def set_stance(wanted: str) -> Iterator[None]:
        stance.append(wanted)
        yield
        stance.pop()

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(torch.compiler, "set_stance", set_stance)
    with torch._dynamo.config.patch(recompile_limit=8):
        result = bench(
            tmp_path / "out", "--config", str(tiny_model), "--masks", "0.1", "--canvas", "", "--steps", "1",
            "--engines", "lazy,regenerate-image", "--repeats", "1", "--compile",
        )  # fmt: skip
        limit = torch._dynamo.config.recompile_limit
    assert result.exit_code == 0, result.output
    assert calls["default"] > calls["force_eager"] > 0
    assert "**The transformers' blocks are compiled (torch.compile).**" in result.stdout
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf8"))
    assert results["compiled"] is True
    assert "--compile --out DIR" in results["command"]
    assert limit > len(results["cases"])
    plain, again = ({case_of(row): row["flops"] for row in rows["cases"]} for rows in (found, results))
    both = plain.keys() & again.keys()
    assert {engine for engine, *_ in both} == {"lazy", "regenerate-image"}
    assert {case: plain[case] for case in both} == {case: again[case] for case in both}
    assert found["compiled"] is False
    assert "--compile" not in found["command"]

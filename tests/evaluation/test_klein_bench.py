"""The bench of FLUX.2-klein on a model of its structure that is small: from its parts to the command's files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Flux2Transformer2DModel
from diffusers.models.transformers.transformer_flux2 import Flux2AttnProcessor, Flux2KVAttnProcessor
from tests.figure_files import assert_figure
from typer.testing import CliRunner, Result

from lazydiffusion import compose
from lazydiffusion.cli import app
from lazydiffusion.devices import choose_device
from lazydiffusion.engines.names import FLUX2_KLEIN
from lazydiffusion.engines.names import VIEWS as ENGINE_VIEWS
from lazydiffusion.errors import BadInput
from lazydiffusion.evaluation.bench.cases import WHOLE, Edits
from lazydiffusion.evaluation.bench.parts import STEPS, next_edit, part_times
from lazydiffusion.evaluation.klein_bench import sizes
from lazydiffusion.evaluation.klein_bench.lineup import NOTE, VIEWS, random_klein
from lazydiffusion.evaluation.klein_bench.measure import make_cases
from lazydiffusion.evaluation.klein_bench.parts import DECODE, ENCODE, PARTS, REFERENCE, TEXT, watched
from lazydiffusion.evaluation.klein_bench.report import targets
from lazydiffusion.evaluation.klein_bench.sizes import KLEIN_4B, Size
from lazydiffusion.pipelines import flux2_klein

TINY = Size(
    transformer={
        "in_channels": 16, "num_layers": 1, "num_single_layers": 1, "num_attention_heads": 2,
        "attention_head_dim": 16, "joint_attention_dim": 24, "axes_dims_rope": (4, 4, 4, 4),
        "timestep_guidance_channels": 32, "guidance_embeds": False,
    },
    vae={
        "block_out_channels": (4, 8, 8, 8), "layers_per_block": 1, "latent_channels": 4, "norm_num_groups": 2,
    },
    text_encoder={
        "vocab_size": 300, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 28,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "tie_word_embeddings": True,
    },
    window_tokens=16,
)  # fmt: skip
CONFIG = "flux2-klein-tiny"
MASKS = (0.02, 0.1, 0.5)
WORDS = 512

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("one_thread")]


def bench(out: Path, *options: str) -> Result:
    arguments = ["bench", "--config", CONFIG, "--device", "cpu", "--out", str(out), *options]
    return CliRunner().invoke(app, arguments)


@pytest.fixture(scope="module", autouse=True)
def tiny_config() -> Iterator[None]:
    """The small size has a name while these tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sizes.CONFIGS, CONFIG, TINY)
        yield


@pytest.fixture(scope="module")
def run(one_thread: None, tiny_config: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the output of one run."""
    out = tmp_path_factory.mktemp("bench") / "new"
    result = bench(out, "--masks", "0.02,0.1,0.5", "--steps", "3", "--repeats", "2")
    assert result.exit_code == 0, result.output
    return out, result.stdout


@pytest.fixture(scope="module")
def found(run: tuple[Path, str]) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((run[0] / "results.json").read_text(encoding="utf8"))
    return results


def test_the_named_size_is_that_of_the_published_model() -> None:
    with torch.device("meta"):
        transformer = Flux2Transformer2DModel(**KLEIN_4B.transformer)
    weights = sum(parameter.numel() for parameter in transformer.parameters())
    assert weights == pytest.approx(3.88e9, rel=0.005)
    assert sizes.CONFIGS["flux2-klein-4b"] is KLEIN_4B
    assert KLEIN_4B.native == 1024


def test_what_is_compared_are_views_of_the_engine() -> None:
    assert set(VIEWS) < set(ENGINE_VIEWS[FLUX2_KLEIN])


def test_the_first_view_is_timed_at_every_mask_and_the_others_at_one(found: dict[str, Any]) -> None:
    first, *others = VIEWS
    wanted = [(first, share) for share in MASKS] + [(f"{first}, again", 0.1)]
    wanted += [(view, 0.1) for view in others]
    assert [(row["view"], row["share"]) for row in found["cases"]] == wanted
    for row in found["cases"]:
        assert (row["canvas"], row["steps"], len(row["samples_ms"])) == (256, 3, 2)
        assert 0 < row["ms"]["min"] <= row["ms"]["median"] <= row["ms"]["q3"]
        assert row["total_flops"] == sum(row["flops"].values())
    without_the_usual = make_cases(("full", "cached"), (0.3, 0.01, 0.7), (256,), (4,), 256)
    assert [(case.engine, case.share) for case in without_the_usual] == [
        ("full", 0.3), ("full", 0.01), ("full", 0.7), ("full", 0.3), ("cached", 0.3),
    ]  # fmt: skip


def test_every_step_runs_the_tokens_that_its_view_says(found: dict[str, Any]) -> None:
    rows = {(row["view"], row["share"]): row for row in found["cases"]}
    noisy = rows["cached", 0.1]["step_tokens"][0] - WORDS
    assert rows["cached", 0.1]["hidden_tokens"] <= noisy < 256
    with_reference = WORDS + 256 + noisy
    assert rows["cached", 0.1]["step_tokens"] == [WORDS + noisy] * 3
    assert rows["refreshed", 0.1]["step_tokens"] == [with_reference, WORDS + noisy, with_reference]
    assert rows["full", 0.1]["step_tokens"] == [with_reference] * 3
    for view in ("diffusers", "diffusers-crop"):  # all of the window twice, and the crop enlarged to it
        assert rows[view, 0.1]["step_tokens"] == [WORDS + 2 * 256] * 3
    smallest, _, largest = (rows["cached", share]["step_tokens"][0] for share in MASKS)
    assert smallest < WORDS + noisy < largest


def test_the_less_takes_part_in_a_step_the_fewer_operations_it_has(found: dict[str, Any]) -> None:
    flops = {row["view"]: row["flops"] for row in found["cases"] if row["share"] == 0.1}
    steps = [flops[view][STEPS] for view in ("cached", "refreshed", "full", "diffusers")]
    assert steps == sorted(set(steps))
    assert flops["diffusers"][STEPS] == flops["diffusers-crop"][STEPS]
    assert REFERENCE in flops["cached"]
    assert flops["cached, again"] == {
        part: number for part, number in flops["cached"].items() if part not in (ENCODE, REFERENCE)
    } | {DECODE: flops["cached, again"][DECODE]}
    assert flops["cached, again"][DECODE] < flops["cached"][DECODE]  # the overview's statistics are kept too
    assert not any(REFERENCE in flops[view] for view in VIEWS if view != "cached")
    for view, parts in flops.items():
        assert {TEXT, DECODE} < parts.keys()
        assert (ENCODE in parts) == (view != "cached, again")
    # diffusers scores the words as well.
    assert flops["cached"][TEXT] == flops["full"][TEXT] < flops["diffusers"][TEXT]


def test_parts_add_up_to_the_instrumented_run_and_nothing_stays_watched() -> None:
    lineup = random_klein(TINY, VIEWS, choose_device("cpu"))
    edits = Edits(TINY.window_tokens, 8)
    before = compose.view, flux2_klein.denoise, flux2_klein.read_reference
    for case in make_cases(VIEWS, (0.1,), (256,), (2,), 256):
        engine = lineup.engines[case.engine]
        ms = part_times(engine, next_edit(engine, edits, case), PARTS, watched)
        assert list(ms) == list(PARTS)
        assert (ms[REFERENCE] > 0) == (case.engine == "cached" and case.sent == WHOLE)
        assert (ms[ENCODE] > 0) == (case.sent == WHOLE)
        assert min(ms[part] for part in (TEXT, STEPS, DECODE)) > 0
        assert min(ms.values()) >= 0  # the remainder as well: no part was counted twice
        assert not {"encode_prompt", "progress_bar", "_encode_vae_image"} & vars(engine.pipeline).keys()
        assert "forward" not in vars(engine.pipeline.transformer)
    assert (compose.view, flux2_klein.denoise, flux2_klein.read_reference) == before


def test_views_share_weights_and_diffusers_keeps_its_own_attention() -> None:
    lineup = random_klein(TINY, ("cached", "diffusers"), choose_device("cpu"))
    ours, theirs = (lineup.engines[view].pipeline for view in ("cached", "diffusers"))
    pairs = zip(ours.transformer.parameters(), theirs.transformer.parameters(), strict=True)
    assert all(mine.data_ptr() == other.data_ptr() for mine, other in pairs)
    assert not any(parameter.is_meta for parameter in theirs.transformer.parameters())
    assert ours.vae is theirs.vae
    assert isinstance(ours.transformer.transformer_blocks[0].attn.processor, Flux2KVAttnProcessor)
    assert isinstance(theirs.transformer.transformer_blocks[0].attn.processor, Flux2AttnProcessor)


@pytest.mark.parametrize(
    ("end_to_end", "loop", "met"),
    [(3.0, 6.0, (True, True)), (2.9, 7.0, (False, True)), (4.0, 5.9, (True, False))],
)
def test_targets_are_met_missed_or_not_measured(
    end_to_end: float, loop: float, met: tuple[bool, bool]
) -> None:
    ratio = {"view": "cached", "share": 0.1, "steps": 4, "baseline": "diffusers"}
    others = [ratio | {"share": 0.01}, ratio | {"view": "full"}, ratio | {"steps": 8}]
    ratios = [*(other | {"end_to_end": 99.0, "loop": 99.0} for other in others)]
    ratios.append(ratio | {"end_to_end": end_to_end, "loop": loop})
    whole, denoising, crop, crop_denoising = targets(ratios)
    assert (whole.measured, denoising.measured) == (end_to_end, loop)
    assert (whole.met, denoising.met) == met
    assert (crop.measured, crop_denoising.measured) == (None, None)
    assert not crop.met


def test_a_small_size_on_a_cpu_is_compared_but_not_judged(found: dict[str, Any]) -> None:
    assert found["targets"] == []
    rows = {(row["view"], row["share"]): row for row in found["cases"]}
    for ratio in found["speed_ups"]:
        row, baseline = rows[ratio["view"], ratio["share"]], rows[ratio["baseline"], 0.1]
        assert ratio["end_to_end"] == pytest.approx(baseline["ms"]["median"] / row["ms"]["median"])
        assert ratio["loop"] == pytest.approx(baseline["parts_ms"][STEPS] / row["parts_ms"][STEPS])
    assert len(found["speed_ups"]) == 2 * (len(found["cases"]) - 2)


def test_table_and_figure_say_that_the_weights_are_random(run: tuple[Path, str]) -> None:
    out, printed = run
    table = (out / "table.md").read_text(encoding="utf8")
    assert table.strip() == printed.strip()
    assert "random weights" in table.splitlines()[0]
    assert NOTE in table
    assert "tokenizer of single letters stands in for Qwen3's" in table
    for view in VIEWS:
        assert f"| {view} | 10 % | 3 |" in table
    assert_figure(out, "time-against-mask", says=NOTE)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--canvas", "2048"), "leave --canvas away, it is 256 px"),
        (("--masks", "2"), "A mask of 2 of the window"),
        (("--steps", "0"), "0 steps cannot be timed"),
        (("--engines", "cached,lazy"), "The view 'lazy' is not compared"),
        (("--engines", ","), "name at least one of cached"),
    ],
    ids=["canvas", "mask", "steps", "view", "none"],
)
def test_wrong_options_are_told_before_anything_is_made(
    tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    result = bench(tmp_path / "out", *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not (tmp_path / "out").exists()


def test_no_mask_is_nothing_to_time() -> None:
    with pytest.raises(BadInput, match="at least one mask"):
        make_cases(VIEWS, (), (256,), (4,), 256)

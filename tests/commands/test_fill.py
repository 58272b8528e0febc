"""`lazydiffusion fill` and `play`, as a user types them; the model is tiny, the way is the whole one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.checkpoint_files import tiny_checkpoint
from tests.tiny_sdxl import tiny_sdxl
from typer.testing import CliRunner, Result

from lazydiffusion.cli import app

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """canvas.png and mask.png, 200 x 120 px."""
    noise = np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "canvas.png")
    mask = Image.new("L", (200, 120))
    mask.paste(255, (50, 30, 110, 80))
    mask.save(tmp_path / "mask.png")
    return tmp_path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def fill(folder: Path, model: str, *options: object, canvas: str = "canvas.png") -> Result:
    return run(
        "fill", folder / canvas, "--mask", folder / "mask.png", "--prompt", "a cat", "--model", model,
        "--out", folder / "out.png", "--seed", 7, *options,
    )  # fmt: skip


def test_out_keeps_what_is_not_masked_and_the_layer_holds_the_rest(folder: Path, model: str) -> None:
    result = fill(folder, model, "--layer", folder / "layer.png")
    assert result.exit_code == 0, result.output
    canvas, out, layer = (pixels(folder / name) for name in ("canvas.png", "out.png", "layer.png"))
    mask = pixels(folder / "mask.png") > 0
    assert np.array_equal(out[~mask], canvas[~mask])
    assert layer.shape == (120, 200, 4)
    assert np.array_equal(layer[..., 3] > 0, mask)
    assert np.array_equal(out[mask], layer[mask][:, :3])
    assert result.stdout == ""
    assert "Time: load" in result.stderr


def test_json_says_what_was_done(folder: Path, model: str) -> None:
    result = fill(folder, model, "--json", "--variations", 2, "--steps", 2)
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["box"] == [50, 30, 60, 50]
    assert answer["seeds"] == [7, 8]
    assert answer["steps"] == 2
    assert answer["device"] in ("cpu", "cuda")
    assert answer["hidden_tokens"] > 0
    assert answer["scale"] == pytest.approx(16 / (answer["window"][2] / 16), rel=0.5)
    assert set(answer["ms"]) == {"load", "plan", "encode", "denoise", "compose", "total"}
    assert answer["ms"]["total"] >= answer["ms"]["load"] > 0
    first, second = (pixels(folder / f"out-{i}.png") for i in (1, 2))
    assert not np.array_equal(first, second)
    assert not (folder / "out.png").exists()
    again = fill(folder, model, "--json", "--steps", 2)
    assert again.exit_code == 0
    assert np.array_equal(pixels(folder / "out.png"), first)  # the same seed, alone


@pytest.mark.parametrize("kind", ["16-bit", "palette", "cmyk", "animated", "rotated", "alpha"])
def test_pictures_of_every_kind_are_filled(folder: Path, model: str, kind: str) -> None:
    picture = Image.fromarray(pixels(folder / "canvas.png"))
    name, options = "other.png", {}
    if kind == "16-bit":
        picture = Image.fromarray((np.asarray(picture.convert("L")).astype(np.uint16) << 8) | 7)
    elif kind == "palette":
        picture = picture.quantize(64)
    elif kind == "cmyk":
        picture, name = picture.convert("CMYK"), "other.tif"
    elif kind == "animated":
        name, options = "other.gif", {"save_all": True, "append_images": [picture.rotate(180)]}
    elif kind == "rotated":
        exif = Image.Exif()
        exif[0x0112] = 6  # shown turned by a quarter: 200 x 120 as seen
        picture, options = picture.transpose(Image.Transpose.ROTATE_90), {"exif": exif}
    else:
        picture = picture.convert("RGBA")
        picture.putalpha(128)
    picture.save(folder / name, **options)
    result = fill(folder, model, canvas=name)
    assert result.exit_code == 0, result.output
    out = pixels(folder / "out.png")
    assert out.shape[:2] == (120, 200)
    if kind == "alpha":
        alpha = out[..., 3]
        mask = pixels(folder / "mask.png") > 0
        assert (alpha[~mask] == 128).all()
        assert (alpha[mask] == 255).all()


def test_an_icc_profile_stays_with_the_picture(folder: Path, model: str) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(pixels(folder / "canvas.png")).save(folder / "profiled.png", icc_profile=profile)
    assert fill(folder, model, canvas="profiled.png").exit_code == 0
    with Image.open(folder / "out.png") as out:
        assert out.info.get("icc_profile") == profile


def test_a_mask_of_everything_fills_everything(folder: Path, model: str) -> None:
    Image.new("L", (200, 120), 255).save(folder / "mask.png")
    result = fill(folder, model, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["box"] == [0, 0, 200, 120]


REFUSED = {
    "missing canvas": (("--steps", 1), "does not exist"),
    "empty mask": ((), "is empty"),
    "mask of another size": ((), "100 x 100"),
    "no picture": ((), "canvas.png"),
    "steps": (("--steps", 0), "number of steps is 0"),
    "guidance": (("--guidance", "nan"), "guidance is nan"),
    "variations": (("--variations", 99), "number of variations is 99"),
    "strength": (("--strength", 2), "strength is 2"),
    "device": (("--device", "tpu"), "auto, cuda or cpu"),
    "model": (("--model", "nothing"), "no model 'nothing'"),
    "out folder": (("--out", "nowhere/out.png"), "nowhere"),
    "out format": (("--out", "out.docx"), "docx"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_gets_one_line_and_exit_code_2_and_writes_nothing(
    folder: Path, model: str, case: str
) -> None:
    options, words = REFUSED[case]
    if case == "missing canvas":
        (folder / "canvas.png").unlink()
    elif case == "empty mask":
        Image.new("L", (200, 120)).save(folder / "mask.png")
    elif case == "mask of another size":
        Image.new("L", (100, 100), 255).save(folder / "mask.png")
    elif case == "no picture":
        (folder / "canvas.png").write_text("not a picture")
    before = sorted(folder.iterdir())
    result = fill(folder, model, *(str(folder / o) if "out." in str(o) else o for o in options))
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""
    assert sorted(folder.iterdir()) == before


def test_a_checkpoint_with_a_pickle_or_a_wrong_hash_is_refused(folder: Path, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "tiny")
    weights = checkpoint / "decoder" / "diffusion_pytorch_model.safetensors"
    harmed = bytearray(weights.read_bytes())
    harmed[-1] ^= 1
    weights.write_bytes(harmed)
    result = fill(folder, str(checkpoint))
    assert (result.exit_code, "altered or damaged" in result.stderr) == (2, True)
    (checkpoint / "decoder" / "pytorch_model.bin").write_bytes(b"")
    result = fill(folder, str(checkpoint))
    assert (result.exit_code, "is a pickle" in result.stderr) == (2, True)


@pytest.mark.parametrize("option", ["--layer", "--out"])
@pytest.mark.parametrize("name", ["canvas.png", "mask.png"])
def test_an_input_is_never_written_over(folder: Path, model: str, option: str, name: str) -> None:
    before = (folder / name).read_bytes()
    result = fill(folder, model, option, folder / name)
    assert result.exit_code == 2
    assert "would be written over" in result.stderr
    assert (folder / name).read_bytes() == before


def test_the_installed_program_answers_without_a_traceback(folder: Path) -> None:
    """The real process, as a shell starts it."""
    command = [
        sys.executable,
        "-m",
        "lazydiffusion",
        "fill",
        "no.png",
        "--mask",
        "no.png",
        "--out",
        "out.png",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("lazydiffusion: ")
    assert "Traceback" not in done.stderr


def test_play_makes_one_picture_per_edit(tmp_path: Path, model: str) -> None:
    (tmp_path / "script.toml").write_text(
        """
        size = [160, 120]
        background = "#88ccff"
        seed = 3
        [[edit]]
        prompt = "a house"
        box = [20, 30, 60, 60]
        [[edit]]
        prompt = "a tree"
        ellipse = [90, 20, 50, 80]
        steps = 2
        """
    )
    result = run("play", tmp_path / "script.toml", "--out", tmp_path / "made", "--model", model)
    assert result.exit_code == 0, result.output
    first, second = (pixels(tmp_path / "made" / name) for name in ("01.png", "02.png"))
    outside = np.ones((120, 160), dtype=bool)
    outside[30:90, 20:80] = False
    assert (first[outside] == (0x88, 0xCC, 0xFF)).all()
    changed = (first != second).any(axis=2)
    assert changed[:, 90:140].any()
    assert not changed[:, :90].any()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("size = [160, 120]", "has no edits"),
        ("colour = 3", "unknown key `colour`"),
        ("[[edit]]\nprompt = 'x'", "exactly one of mask, box and ellipse"),
        ("[[edit]]\nprompt = 'x'\nbox = [0, 0, 10]", "[x, y, width, height]"),
        ("[[edit]]\nprompt = 'x'\nbox = [900, 900, 10, 10]", "no pixel on the canvas"),
        ("[[edit]]\nprompt = 'x'\nbox = [0, 0, 9, 9]\nsteps = 'many'", "wrong type"),
        ("[[edit]]\nprompt = 'x'\nbox = [0, 0, 9, 9]\nsteps = 0", "edit 1: The number of steps is 0"),
        ("size = [1, 1]\n[[edit]]\nbox = [0, 0, 9, 9]", "between 16 and 16384"),
        ("not toml", "not valid TOML"),
    ],
)
def test_a_script_is_checked_before_the_first_edit(tmp_path: Path, script: str, words: str) -> None:
    (tmp_path / "script.toml").write_text(script)
    result = run("play", tmp_path / "script.toml", "--out", tmp_path / "made", "--model", "clipart")
    assert result.exit_code == 2
    assert words in result.stderr
    assert not (tmp_path / "made").exists()


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_another_inpainting_pipeline_fills_too(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tiny_sdxl(tmp_path_factory.mktemp("models") / "tiny-sdxl")
    result = fill(folder, str(other), "--engine", "diffusers", "--steps", 2, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["box"], told["steps"]) == ([50, 30, 60, 50], 2)
    assert list(told["ms"]) == ["load", "plan", "denoise", "compose", "total"]  # it has no encoder of its own
    mask = pixels(folder / "mask.png") > 0
    canvas, out = pixels(folder / "canvas.png"), pixels(folder / "out.png")
    assert np.array_equal(out[~mask], canvas[~mask])
    assert not np.array_equal(out[mask], canvas[mask])


def test_an_engine_that_the_model_is_not_for_is_refused(folder: Path, model: str) -> None:
    result = fill(folder, model, "--engine", "diffusers")
    assert result.exit_code == 2
    assert "Use --engine lazy" in result.output
    result = fill(folder, model, "--engine", "lazy", "--via-core")
    assert result.exit_code == 2
    assert "leave --engine and --view away" in result.output
    result = fill(folder, model, "--weights", "int8", "--via-core")
    assert result.exit_code == 2
    assert "lazydiffusion serve --weights int8" in " ".join(result.output.split())
    result = fill(folder, model, "--weights", "int8", "--device", "cpu")
    assert result.exit_code == 2
    assert "--weights int8 is for flux2-klein" in result.output

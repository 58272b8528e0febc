"""`lazydiffusion fill` and `play`, as a user types them; the model is tiny, the way is the whole one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from tests.checkpoint_files import tiny_checkpoint
from tests.tiny_sdxl import tiny_sdxl
from typer.testing import CliRunner, Result

from lazydiffusion.cli import app
from lazydiffusion.commands import play

pytestmark = pytest.mark.integration


@pytest.fixture
def model(tiny_model: Path) -> str:
    return str(tiny_model)


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


def test_a_prompt_that_the_model_was_not_taught_is_told_beside_the_answer(folder: Path) -> None:
    result = fill(folder, "clipart", "--prompt", "dragonfly", "--steps", 1, "--json")
    assert result.exit_code == 0, result.stderr
    assert "not taught “dragonfly” and may paint no more than colours. It knows: dragon, fly" in result.stderr
    assert json.loads(result.stdout)["steps"] == 1
    result = fill(folder, "clipart", "--prompt", "a red apple", "--steps", 1)
    assert (result.exit_code, "not taught" in result.stderr) == (0, False)


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


def test_a_soft_fill_over_transparency_has_its_own_colours(folder: Path, model: str) -> None:
    """Editors save black under what is transparent: it is not mixed in."""
    canvas = np.zeros((120, 200, 4), np.uint8)
    canvas[:, :60] = (240, 240, 240, 255)
    Image.fromarray(canvas).save(folder / "clear.png")
    result = fill(folder, model, "--feather", 12, "--layer", folder / "layer.png", canvas="clear.png")
    assert result.exit_code == 0, result.output
    out, layer = pixels(folder / "out.png"), pixels(folder / "layer.png")
    clear = (canvas[..., 3] == 0) & (layer[..., 3] > 0)
    assert (layer[clear][:, 3] < 255).any()
    assert np.array_equal(out[clear], layer[clear])


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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full")
@pytest.mark.parametrize("command", ["fill", "models"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_answer_that_nothing_can_take_is_told_in_one_line(
    folder: Path, model: str, command: str, unbuffered: str
) -> None:
    given = ["canvas.png", "--mask", "mask.png", "--out", "out.png", "--model", model, "--device", "cpu"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lazydiffusion", command, *(given if command == "fill" else []), "--json"],
            cwd=folder, env={**os.environ, "PYTHONUNBUFFERED": unbuffered}, stdout=full, stderr=subprocess.PIPE,
            text=True, timeout=120,
        )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("lazydiffusion: The answer cannot be written to standard output: No space left")
    assert (folder / "out.png").exists() == (command == "fill")


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


def test_a_script_tells_of_prompts_that_the_model_was_not_taught_before_its_edits(tmp_path: Path) -> None:
    (tmp_path / "script.toml").write_text(
        """
        size = [64, 64]
        [[edit]]
        prompt = "a red apple"
        box = [8, 8, 32, 32]
        steps = 1
        [[edit]]
        prompt = "dragonfly"
        box = [8, 8, 32, 32]
        steps = 1
        """
    )
    result = run("play", tmp_path / "script.toml", "--out", tmp_path / "made", "--model", "clipart")
    assert result.exit_code == 0, result.output
    note, *made = result.stderr.splitlines()
    assert note.startswith("edit 2: This model was not taught “dragonfly”")
    assert [line.partition(":")[0] for line in made] == [f"{tmp_path}/made/0{n}.png" for n in (1, 2)]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("size = [160, 120]", "has no edits"),
        ("colour = 3", "unknown key `colour`"),
        ("[[edit]]\nprompt = 'x'", "exactly one of mask, box and ellipse"),
        ("[[edit]]\nprompt = 'x'\nbox = [0, 0, 10]", "[x, y, width, height]"),
        ("[[edit]]\nprompt = 'x'\nbox = [900, 900, 10, 10]", "no pixel on the canvas"),
        ("[[edit]]\nprompt = 'x'\nbox = [0, 0, 0, 10]", "no pixel on the canvas"),
        ("[[edit]]\nprompt = 'x'\nbox = [true, true, true, true]", "[x, y, width, height]"),
        (
            "[[edit]]\nbox = [0, 0, 9, 9]\nsteps = '4'",
            "edit 1: The setting \"steps\" is '4'; it must be a whole number.",
        ),
        ("[[edit]]\nbox = [0, 0, 9, 9]\nseed = 1.5", 'The setting "seed" is 1.5; it must be a whole number.'),
        ("[[edit]]\nbox = [0, 0, 9, 9]\nblend = 'yes'", "is 'yes'; it must be true or false."),
        ("[[edit]]\nbox = [0, 0, 9, 9]\nnegative = 3", 'The setting "negative" is 3; it must be a text.'),
        ("seed = 1.5\n[[edit]]\nbox = [0, 0, 9, 9]", "`seed` is 1.5; it must be a whole number."),
        ("seed = true\n[[edit]]\nbox = [0, 0, 9, 9]", "`seed` is True; it must be a whole number."),
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


def test_a_model_that_is_not_there_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "script.toml").write_text("[[edit]]\nbox = [0, 0, 9, 9]")
    result = run("play", tmp_path / "script.toml", "--out", tmp_path / "made", "--model", "nobody")
    assert result.exit_code == 2
    assert "There is no model 'nobody'" in result.stderr
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("kind", ["box", "ellipse"])
def test_what_lies_beside_the_canvas_is_left_out(kind: str) -> None:
    picture = Image.new("L", (160, 120))
    draw = ImageDraw.Draw(picture)
    {"box": draw.rectangle, "ellipse": draw.ellipse}[kind]((20, 30, 119, 89), fill=255)
    whole = np.asarray(picture) > 0
    mask = play._shape(kind, [20, 30, 100, 60], (160, 120), "edit 1")
    assert set(np.unique(mask)) == {0, 1}
    assert ((mask > 0) != whole).sum() <= (0 if kind == "box" else 60)  # Pillow's border is another by pixels
    cut = play._shape(kind, [20, 30, 100, 60], (70, 50), "edit 1")
    assert np.array_equal(cut, mask[:50, :70])
    huge = 10**14
    rows = play._shape(kind, [-huge, 10, 2 * huge, 20], (160, 120), "edit 1").any(axis=1)
    assert np.array_equal(rows.nonzero()[0], np.arange(10, 30))
    assert play._shape(kind, [5, 5, 1, 1], (16, 16), "edit 1").sum() == 1


def test_a_box_far_beyond_the_canvas_ends_at_its_border(tmp_path: Path, model: str) -> None:
    (tmp_path / "script.toml").write_text(
        "size = [64, 64]\n[[edit]]\nprompt = 'x'\nbox = [10, 10, 99999999999999, 20]"
    )
    result = run("play", tmp_path / "script.toml", "--out", tmp_path / "made", "--model", model)
    assert result.exit_code == 0, result.output
    changed = (pixels(tmp_path / "made" / "01.png") != 255).any(axis=2)
    assert changed[10:30, 10:].any(axis=0).all()
    assert not changed[:, :10].any()
    assert not changed[30:].any()


def test_the_readmes_script_can_be_played_also_as_windows_saves_it(tmp_path: Path, model: str) -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf8")
    (script,) = re.findall(r"```toml\n(.+?)```", readme, flags=re.DOTALL)
    (tmp_path / "script.toml").write_text(script, encoding="utf-8-sig")
    Image.new("RGB", (400, 300), "white").save(tmp_path / "start.png")
    result = run("play", tmp_path / "script.toml", "--out", tmp_path / "made", "--model", model)
    assert result.exit_code == 0, result.output
    assert [path.name for path in sorted((tmp_path / "made").iterdir())] == ["01.png", "02.png"]
    assert "a red house, seed 7" in result.stderr


@pytest.mark.parametrize("prompt", ["a [red] house", "a house [/]"])
def test_a_prompt_is_told_as_it_was_written(tmp_path: Path, model: str, prompt: str) -> None:
    (tmp_path / "script.toml").write_text(
        f"size = [64, 64]\n[[edit]]\nprompt = '{prompt}'\nbox = [9, 9, 20, 20]"
    )
    result = run("play", tmp_path / "script.toml", "--out", tmp_path / "[made]", "--model", model)
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith(f"{tmp_path / '[made]' / '01.png'}: {prompt}, seed 0, ")


def test_the_help_shows_a_script() -> None:
    lines = [line.strip() for line in run("play", "--help").stdout.splitlines()]
    first = next(number for number, line in enumerate(lines) if line.startswith("canvas ="))
    last = next(number for number, line in enumerate(lines) if line.startswith("box ="))
    script = tomllib.loads("\n".join(lines[first : last + 1]))
    assert script["edit"] == [{"prompt": "a red house", "box": [40, 60, 200, 200]}]


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

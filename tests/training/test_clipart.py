"""The clip-art set: names, filters, captions, rendering, and a whole build from two tiny unpacked packages."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from lazydiffusion.cli import app
from lazydiffusion.errors import BadInput, CannotWrite
from lazydiffusion.training import clipart
from lazydiffusion.training.clipart_drawings import (
    clipart_captions,
    clipart_name,
    emoji_tags,
    icon_captions,
    icon_subject,
    icon_svg,
    iconify_drawings,
    is_wanted_icon,
    openclipart_drawings,
)
from lazydiffusion.training.clipart_render import coverage, render_sprite
from lazydiffusion.training.sprites import load_bank

TAGS = emoji_tags([{"label": "Ear with Hearing Aid", "tags": ["aid", "hearing"]}, {"label": "waving hand"}])


pytestmark = pytest.mark.unit


def svg(body: str, width: int = 100, height: int = 100) -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">{body}</svg>'


def square(left: int, top: int, side: int, colour: str = "red") -> str:
    return f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="{colour}"/>'


def opened(sprite: bytes | None) -> Image.Image:
    assert sprite is not None
    return Image.open(io.BytesIO(sprite))


# Names, filters, captions


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("alien", True),
        ("flag-france", False),
        ("keycap-3", False),
        ("regional-indicator-a", False),
        ("a", False),
        ("japanese-letter", False),
        ("github-logo", False),
        ("waving-hand", True),
        ("waving-hand-medium-dark", True),
        ("waving-hand-medium-dark-skin-tone", True),
        ("waving-hand-dark-skin-tone", False),
        ("waving-hand-light", False),
        ("lightning", True),  # only a whole word is a tone
    ],
)
def test_which_icons_are_wanted(key: str, wanted: bool) -> None:
    assert is_wanted_icon(key) is wanted


def test_an_icon_is_named_after_what_it_shows() -> None:
    undashed = {"earwithhearingaid": "ear-with-hearing-aid"}

    assert icon_subject("cloud-1", undashed) == "cloud"
    assert icon_subject("star-fill", undashed) == "star"
    assert icon_subject("waving-hand-medium-dark-skin-tone", undashed) == "waving-hand"
    assert icon_subject("earwithhearingaid", undashed) == "ear-with-hearing-aid"


def test_an_icons_captions_are_its_name_its_label_and_its_tags() -> None:
    assert icon_captions("alien", "alien", ()) == ("alien",)
    assert icon_captions("train-2", "high-speed-train", ["high-speed train", "rail"]) == (
        "high speed train",
        "high-speed train",
        "high speed train, rail",
    )
    assert icon_captions("waving-hand-medium-dark", "waving-hand", ["waving hand", "hello"]) == (
        "waving hand with brown skin",
        "waving hand",
        "waving hand with brown skin, hello",
    )
    assert icon_captions("tent", "tent", ["tent", "tent", "camp"]) == ("tent", "tent, camp")
    assert len(icon_captions("a", "a", [f"t{n}" for n in range(20)])) == 9


WORDS = st.lists(st.sampled_from(["cat", "1", "fill", "dark", "medium-dark", "skin-tone"]), min_size=1)


@given(WORDS.map("-".join), st.lists(st.text(max_size=8)))
def test_captions_are_never_empty_and_never_repeat(key: str, tags: list[str]) -> None:
    captions = icon_captions(key, icon_subject(key, {}), tags)

    assert captions
    assert len(set(captions)) == len(captions)


def test_an_icons_size_falls_back_to_its_sets() -> None:
    assert 'viewBox="0 0 24 24" width="24" height="24"' in icon_svg({"body": ""}, {"width": 24, "height": 24})
    assert 'viewBox="1 0 30 16"' in icon_svg({"body": "", "left": 1, "width": 30}, {"width": 24})


@pytest.mark.parametrize(
    ("path", "title", "name"),
    [
        ("animals/cat_john_01.svg", None, "cat"),
        ("animals/big_dog.svg", None, "big"),  # a trailing word counts as the author
        ("animals/cat_john_01.svg", "Sleeping_Cat", "sleeping cat"),
        ("animals/cat_john_01.svg", "Salt &amp; Pepper", "salt & pepper"),
        ("animals/cat_john_01.svg", "Salt &amp;amp; Pepper", "salt & pepper"),  # escaped once too often
        ("animals/cat_john_01.svg", "clipart by John", "cat"),
        ("animals/cat_john_01.svg", "file 20041", "cat"),
        ("animals/чат_01.svg", None, None),
        ("a/x_01.svg", None, None),
    ],
)
def test_a_clipart_is_named_by_its_title_or_its_file(path: str, title: str | None, name: str | None) -> None:
    assert clipart_name(path, f"<dc:title>{title}</dc:title>" if title else "") == name


def test_a_cliparts_captions_are_its_name_kind_and_keywords() -> None:
    words = "".join(
        f"<rdf:li>{word}</rdf:li>" for word in ["clip_art", "Cat", "pet", "été", "a1b", "b2c", "c3d"]
    )

    captions = clipart_captions("tom", "animals/mammals/tom_x.svg", words)

    assert captions == ("tom", "tom, mammals", "tom, cat", "tom, pet", "tom, a1b", "tom, b2c")
    assert clipart_captions("tom", "unsorted/tom.svg", "") == ("tom",)


# Rendering


def test_a_sprite_is_cropped_centred_and_square() -> None:
    sprite = opened(render_sprite(svg(square(5, 60, 30))))

    assert (sprite.size, sprite.mode) == ((256, 256), "RGBA")
    assert sprite.getpixel((128, 128))[:3] == pytest.approx((255, 0, 0), abs=6)  # WebP is lossy
    assert sprite.getchannel("A").point(lambda alpha: 255 * (alpha > 127)).getbbox() == pytest.approx(
        (4, 4, 252, 252), abs=1
    )


def test_a_wide_drawing_keeps_its_shape() -> None:
    sprite = opened(render_sprite(svg(square(0, 0, 40) + square(40, 0, 40))))

    assert sprite.getchannel("A").point(lambda alpha: 255 * (alpha > 127)).getbbox() == pytest.approx(
        (4, 66, 252, 190), abs=1
    )


def test_a_small_drawing_on_a_large_page_is_sharp() -> None:
    diamond = '<path d="M500 450L550 500L500 550L450 500Z"/>'
    alpha = opened(render_sprite(svg(diamond, 1000, 1000))).getchannel("A")
    rim = [value for value in alpha.crop((0, 64, 128, 65)).tobytes() if 25 < value < 230]

    assert len(rim) <= 3  # blown up from a page of 320 px, the edge would be eight pixels wide


@pytest.mark.parametrize("unit", ["px", "pt", "mm", "in"])
def test_a_page_may_be_measured_in_any_unit(unit: str) -> None:
    page = svg(square(10, 10, 80)).replace(
        'width="100" height="100">', f'width="9{unit}" height="9{unit}">', 1
    )

    assert render_sprite(page.replace("<svg", '<svg viewBox="0 0 100 100"'))


@pytest.mark.parametrize(
    "drawing",
    [
        "this is no SVG",
        svg(""),
        svg(square(50, 50, 2)),  # a speck
        svg('<rect x="2" y="48" width="96" height="2"/>'),  # a line
        svg('<circle cx="50" cy="50" r="45" fill="none" stroke="red"/>'),  # a thin outline covers too little
        svg('<text x="0" y="80" font-size="80">Tm</text>'),  # text looks different on every machine
    ],
)
def test_what_is_broken_or_next_to_empty_gives_no_sprite(drawing: str) -> None:
    assert render_sprite(drawing) is None


def test_coverage_is_the_opaque_share() -> None:
    half = Image.new("RGBA", (256, 256))
    half.paste((0, 0, 0, 255), (0, 0, 128, 256))

    assert coverage(half) == pytest.approx(0.5, abs=0.02)


# The whole build, from unpacked packages


@pytest.fixture
def npm(tmp_path: Path) -> Path:
    """A node_modules folder with all icon sets, three icons in one of them and none in the rest."""
    modules = tmp_path / "node_modules"
    for name, version in clipart.ICON_PACKAGES.items():
        package = modules / "@iconify-json" / name
        package.mkdir(parents=True)
        icons = {
            "ear-with-hearing-aid": {"body": square(2, 2, 12, "blue")},
            "tree": {"body": square(0, 0, 16, "green")},
            "flag-france": {"body": square(0, 0, 16, "blue")},
            "old": {"body": square(0, 0, 16), "hidden": True},
        }
        (package / "icons.json").write_text(
            json.dumps({"icons": icons if name == "noto" else {}, "width": 16})
        )
        license_info = {"title": "Apache 2.0", "spdx": "Apache-2.0", "url": "terms"}
        author = {"name": "The Painters", "url": "home"}
        (package / "info.json").write_text(
            json.dumps({"name": f"{name} icons", "author": author, "license": license_info})
        )
        (package / "package.json").write_text(json.dumps({"version": version}))
    labels = modules / "emojibase-data"
    (labels / "en").mkdir(parents=True)
    (labels / "en" / "data.json").write_text(json.dumps([{"label": "ear with hearing aid", "tags": ["ear"]}]))
    (labels / "package.json").write_text(json.dumps({"version": "17.0.0", "author": "M", "license": "MIT"}))
    return modules


@pytest.fixture
def openclipart(tmp_path: Path) -> Path:
    """Debian's package as `dpkg -x` leaves it, with two drawings, one of them empty, and a flag."""
    root = tmp_path / "oc"
    drawings = root / clipart.SVG_FOLDER
    for path, body in {
        "animals/cat_ann_01.svg": square(10, 10, 80, "orange"),
        "animals/nothing_ann_01.svg": "",
        "animals/same-cat_ann_01.svg": square(10, 10, 80, "orange"),
        "signs/flags/france_ann_01.svg": square(0, 0, 99),
    }.items():
        (drawings / path).parent.mkdir(parents=True, exist_ok=True)
        (drawings / path).write_text(svg(body))
    doc = root / "usr/share/doc/openclipart-svg"
    doc.mkdir(parents=True)
    (doc / "changelog.Debian.gz").write_bytes(gzip.compress(b"openclipart (1:0.18-19) unstable\n"))
    return root


def test_the_drawings_of_a_package_carry_its_licence_and_look(npm: Path) -> None:
    ear, tree = iconify_drawings(npm / "@iconify-json" / "noto", TAGS)

    assert ear.captions == ("ear with hearing aid", "Ear with Hearing Aid", *ear.captions[2:])
    assert ear.captions[2:] == ("ear with hearing aid, aid", "ear with hearing aid, hearing")
    assert tree.labels() == {
        "set": "noto",
        "license": "Apache-2.0",
        "style": "glossy emoji",
        "name": "tree",
        "captions": ["tree"],
    }


def test_flags_and_huge_files_are_left_out(openclipart: Path) -> None:
    huge = openclipart / clipart.SVG_FOLDER / "animals" / "huge_ann_01.svg"
    huge.write_text(svg("<!--" + "x" * 600_000 + "-->" + square(0, 0, 99)))

    names = [drawing.name for drawing in openclipart_drawings(openclipart / clipart.SVG_FOLDER)]

    assert names == ["cat", "nothing", "same cat"]


def test_a_build_gives_shards_that_load_and_their_attributions(
    tmp_path: Path, npm: Path, openclipart: Path
) -> None:
    out, seen = tmp_path / "set", []

    summary = clipart.build_clipart(
        out,
        tmp_path / "work",
        npm=npm,
        openclipart=openclipart,
        workers=1,
        progress=lambda *step: seen.append(step),
    )

    assert sorted(file.name for file in out.iterdir()) == ["README.md", "attribution.json", "clipart-000.tar"]
    assert stat.S_IMODE(out.stat().st_mode) & 0o500 == 0o500
    assert summary["sprites"] == 3  # two icons and one cat: the empty one and the copy are left out
    assert (summary["drawings"], summary["left_out"]) == (5, 2)
    assert (summary["sets"]["noto"], summary["sets"]["openclipart"], summary["sets"]["twemoji"]) == (2, 1, 0)
    assert seen[0] == ("fetch", 0, 2)
    assert seen[-1] == ("render", 5, 5)

    bank = load_bank(out, side=64, workers=1)
    assert sorted(captions[0] for captions in bank.captions) == ["cat", "ear with hearing aid", "tree"]
    assert bank.keys == sorted(bank.keys)

    credits = json.loads((out / "attribution.json").read_text())
    by_set = {row["set"]: row for row in credits["sets"]}
    assert credits["sprites"] == 3
    assert by_set["noto"] == {
        "set": "noto",
        "title": "noto icons",
        "authors": "The Painters",
        "license": "Apache-2.0",
        "license_url": "terms",
        "url": "home",
        "package": "@iconify-json/noto",
        "version": clipart.ICON_PACKAGES["noto"],
        "sprites": 2,
    }
    assert by_set["openclipart"]["version"] == "1:0.18-19"
    assert credits["captions"]["package"] == "emojibase-data"
    assert "| noto | 2 | noto icons, by The Painters | Apache-2.0 |" in (out / "README.md").read_text()


def test_the_command_takes_packages_that_are_there_already(
    tmp_path: Path, npm: Path, openclipart: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the messages recommend where npm or apt-get is missing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(clipart, "cores", lambda: 1)
    arguments = ["data", "clipart", "--out", str(tmp_path / "set")]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 2
    assert "--npm DIR" in refused.stderr

    options = ["--npm", str(npm), "--openclipart", str(openclipart)]
    result = CliRunner().invoke(app, [*arguments, *options])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["sprites"] == 3
    assert (tmp_path / "set" / "clipart-000.tar").is_file()


def test_a_rebuild_gives_the_same_bytes_in_the_same_place(
    tmp_path: Path, npm: Path, openclipart: Path
) -> None:
    out = tmp_path / "set"

    def build(workers: int) -> bytes:
        clipart.build_clipart(out, tmp_path, npm=npm, openclipart=openclipart, workers=workers)
        return (out / "clipart-000.tar").read_bytes()

    assert build(1) == build(2)
    assert not list(tmp_path.glob(".set-*"))  # no scratch is left


def test_a_folder_with_something_else_in_it_is_not_touched(
    tmp_path: Path, npm: Path, openclipart: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()

    with pytest.raises(BadInput, match="photos is in use and holds no earlier clip-art build"):
        clipart.build_clipart(tmp_path / "photos", tmp_path, npm=npm, openclipart=openclipart, workers=1)
    assert [file.name for file in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


def test_a_place_that_cannot_be_written_is_found_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(CannotWrite, match="cannot be written to"):
        clipart.build_clipart(tmp_path / "file" / "set", tmp_path, npm=tmp_path, openclipart=tmp_path)


def test_a_missing_package_is_named_and_nothing_is_written(
    tmp_path: Path, npm: Path, openclipart: Path
) -> None:
    out = tmp_path / "set"
    with pytest.raises(BadInput, match=r"holds no usr/share/openclipart/svg: give the folder"):
        clipart.build_clipart(out, tmp_path, npm=npm, openclipart=tmp_path / "nowhere", workers=1)
    shutil.rmtree(npm / "@iconify-json" / "meteocons")
    with pytest.raises(BadInput, match=r"meteocons/icons.json cannot be read .*: install its package again"):
        clipart.build_clipart(out, tmp_path, npm=npm, openclipart=openclipart, workers=1)
    assert not out.exists()
    assert not list(tmp_path.glob(".set-*"))


# Fetching: everything but the network


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An otherwise empty PATH to put small programs on."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def put(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_a_missing_tool_is_named_with_the_way_around(tools: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"npm is not on this machine.*install Node.js, or .*--npm DIR"):
        clipart.fetch_npm(tmp_path / "work")
    with pytest.raises(BadInput, match=r"apt-get is not on this machine.*--openclipart DIR"):
        clipart.fetch_openclipart(tmp_path / "work")
    put(tools / "apt-get", "exit 0")
    with pytest.raises(BadInput, match=r"dpkg is not on this machine.*--openclipart DIR"):
        clipart.fetch_openclipart(tmp_path / "work")


def test_a_failing_tool_is_quoted(tools: Path, tmp_path: Path) -> None:
    put(
        tools / "npm",
        "echo 'npm warn old' >&2; echo 'npm error code E404' >&2; echo 'npm error 404 gone' >&2; exit 1",
    )
    put(tools / "apt-get", "echo 'E: Unable to locate package' >&2; exit 100")
    put(tools / "dpkg", "exit 0")

    with pytest.raises(BadInput, match=r"`npm install` failed \(npm error 404 gone\): check the network"):
        clipart.fetch_npm(tmp_path / "npm")
    with pytest.raises(BadInput, match=r"`apt-get download` failed \(E: Unable .*\).*`apt-get update` first"):
        clipart.fetch_openclipart(tmp_path / "oc")


def test_the_tools_are_asked_for_pinned_packages_without_scripts(tools: Path, tmp_path: Path) -> None:
    put(tools / "npm", 'echo "$@" > asked')
    put(tools / "apt-get", 'echo "$@" > asked; echo > openclipart-svg_1%3a2_all.deb')
    put(tools / "dpkg", 'echo "$@" >> asked')

    assert clipart.fetch_npm(tmp_path / "npm") == tmp_path / "npm" / "node_modules"
    asked = (tmp_path / "npm" / "asked").read_text().split()
    assert asked[0] == "install"
    assert "--ignore-scripts" in asked
    assert "@iconify-json/noto@1.2.9" in asked
    assert "emojibase-data@17.0.0" in asked
    assert len([word for word in asked if not word.startswith("--")]) == 1 + 15

    (tmp_path / "oc").mkdir()
    (tmp_path / "oc" / "openclipart-svg_0_all.deb").touch()  # from an earlier day
    assert clipart.fetch_openclipart(tmp_path / "oc") == tmp_path / "oc" / "unpacked"
    assert (tmp_path / "oc" / "asked").read_text().splitlines() == [
        "download openclipart-svg",
        "-x openclipart-svg_1%3a2_all.deb unpacked",
    ]

"""What a small model is taught: some of the sprites, in some words."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tests import tiny

from lazydiffusion.errors import BadInput
from lazydiffusion.training.captions import captions_of
from lazydiffusion.training.settings import load_settings
from lazydiffusion.training.vocabulary import find_vocabulary, load_vocabulary

pytestmark = pytest.mark.unit


def test_the_packaged_one_is_found_by_name_and_a_file_by_its_path(tmp_path: Path) -> None:
    objects = load_vocabulary(find_vocabulary("objects"))
    assert objects["palm tree"] == ["tree"]
    assert objects["cactus"] == []
    assert 600 < len(objects) < 700
    mine = tmp_path / "mine.toml"
    mine.write_text('"hat" = ["cap", "red hat"]\n', "utf8")
    assert load_vocabulary(find_vocabulary(str(mine))) == {"hat": ["cap", "red hat"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; write names and other words"),
        ('hat = "cap"', "'hat' is 'cap'; it must be a list of words"),
        ("hat = [3]", r"'hat' is \[3\]; it must be a list of words"),
        ('hat = [""]', r"'hat' is \[''\]; it must be a list of words"),
        ("hat", "is not valid TOML"),
    ],
)
def test_what_is_no_vocabulary_is_refused_before_anything_starts(
    tmp_path: Path, text: str, message: str
) -> None:
    words, run = tmp_path / "words.toml", tmp_path / "run.toml"
    words.write_text(text, "utf8")
    run.write_text(f'[data]\nvocabulary = "{words}"\n', "utf8")
    with pytest.raises(BadInput, match=message):
        load_settings(run)


def test_sprites_of_other_names_are_left_out_and_the_others_called_by_its_words() -> None:
    bank = tiny.bank(6)
    known = bank.of_vocabulary({"thing 4": ["ball", "green ball"], "thing 1": []})

    assert known.keys == [bank.keys[1], bank.keys[4]]
    assert captions_of(known, 9) == [
        ["thing 1", "a thing 1"], ["thing 4", "a thing 4", "ball", "green ball"]
    ]  # fmt: skip
    assert known.sets.tolist() == [1, 0]
    assert (known.pixels == bank.pixels[[1, 4]]).all()


def test_a_name_that_no_sprite_has_is_told() -> None:
    with pytest.raises(BadInput, match="No sprite is called 'things', which the vocabulary has"):
        tiny.bank(6).of_vocabulary({"thing 4": [], "things": []})


def test_two_of_one_name_are_both_kept() -> None:
    bank = dataclasses.replace(tiny.bank(4), captions=[["hat"], ["cap"], ["hat"], ["sun"]])
    assert bank.of_vocabulary({"hat": []}).captions == [["hat", "a hat"]] * 2

"""Whether a model was taught what a prompt asks for, and what it knows that is near."""

from __future__ import annotations

import pytest

from lazydiffusion.checkpoints import embedded_folder, words
from lazydiffusion.client.taught import near, untaught, untaught_note

pytestmark = pytest.mark.unit

KNOWN = (
    "automobile",
    "car",
    "red car",
    "cat",
    "cat face",
    "fly",
    "dragon",
    "hot dog",
    "glasses",
    "t rex",
    "sun",
)


@pytest.mark.parametrize(
    "prompt",
    [
        "cat", "A cat!", "two cats", "a small CAT on a chair", "Hot  dog", "hot-dog", "my red car", "glasses",
        "T-Rex", "", "   ", "…",
    ],
)  # fmt: skip
def test_a_prompt_in_which_a_taught_word_stands_is_known(prompt: str) -> None:
    assert not untaught(prompt, KNOWN)
    assert untaught_note(prompt, KNOWN) == ""


@pytest.mark.parametrize("prompt", ["dragonfly", "a caterpillar", "dog", "hot and dog", "sunny day", "猫"])
def test_another_one_is_not(prompt: str) -> None:
    assert untaught(prompt, KNOWN)
    assert untaught_note(prompt, KNOWN).startswith(
        f"This model was not taught “{prompt}” and may paint no more"
    )


def test_a_model_for_anything_knows_everything() -> None:
    assert not untaught("a dragonfly over a lake at dawn", ())


def test_what_is_near_comes_first_by_what_the_artist_has_begun_to_type() -> None:
    assert near("dragonfly", KNOWN) == ("dragon", "fly")
    assert near("auto", KNOWN) == ("automobile",)
    assert near("dragon", KNOWN) == ("dragon",)
    assert near("glas", KNOWN) == ("glasses",)
    assert near("xyz", KNOWN) == ()
    assert len(near("c ca cat", ["cat", "cats", "catfish", "catch"])) == 3


def test_the_note_offers_them_and_shortens_a_long_prompt() -> None:
    assert untaught_note("dragonfly", KNOWN).endswith("It knows: dragon, fly.")
    assert untaught_note("qqq", KNOWN).endswith("may paint no more than colours.")
    assert "“" + 47 * "x" + "…”" in untaught_note(99 * "x", KNOWN)


def test_the_packaged_model_is_asked_in_words_for_what_it_was_taught() -> None:
    taught = words(embedded_folder())
    for known in ("a red apple", "tree", "kitten", "yellow sun", "plane"):
        assert not untaught(known, taught)
    assert untaught("dragonfly", taught)
    assert "dragon" in near("dragonfly", taught)

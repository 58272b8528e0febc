"""The words that a small model is taught: which of the sprites' names, and what else each is called.

A model of a few million weights cannot learn to draw six thousand things in an hour; three hundred it can.
"""

from __future__ import annotations

from pathlib import Path

from lazydiffusion.errors import BadInput
from lazydiffusion.toml_file import read_toml

Vocabulary = dict[str, list[str]]
"""A sprite's name, and other words for the same thing."""


def find_vocabulary(name: str) -> Path:
    """The file of a vocabulary that comes with the package (`objects`), or `name` as a path."""
    packaged = Path(__file__).parent / "vocabularies" / f"{name}.toml"
    return packaged if packaged.is_file() else Path(name)


def load_vocabulary(path: Path) -> Vocabulary:
    """Read a TOML file of names and lists of words. Raises BadInput: unreadable, empty, or of another form."""
    found = read_toml(path, "vocabulary")
    if not found:
        raise BadInput(
            f'The vocabulary {path} is empty; write names and other words: "palm tree" = ["tree"].'
        )
    for name, words in found.items():
        if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
            raise BadInput(
                f'{path}: {name!r} is {words!r}; it must be a list of words, such as ["tree"], or empty: [].'
            )
    return found


def captions_for(name: str, vocabulary: Vocabulary) -> list[str]:
    """What a sprite of that name is called in a prompt: the name first."""
    return [name, f"a {name}", *vocabulary[name]]

"""Whether a prompt is among what a model was taught to draw, and what of it is near (standard library, Python 3.9)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

from lazydiffusion.client.words import NAME_LENGTH, tr

Words = tuple[str, ...]
SIMILAR = 0.7
"""How alike two words are, from 0 to 1, of which one may have been meant by the other (difflib's ratio)."""
NEAR = 3
"""So many words are offered at most."""


def untaught(prompt: str, known: Sequence[str]) -> bool:
    """Whether none of the words that a model was taught stands in the prompt. An empty list is of a model for anything.

    A word of several must stand there as it is; singular and plural are the same.
    """
    said = _words(prompt)
    if not said or not known:
        return False
    taught = {_words(word) for word in known}
    longest = max(map(len, taught))
    return not any(
        said[start:end] in taught
        for start in range(len(said))
        for end in range(start + 1, min(start + longest, len(said)) + 1)
    )


def near(prompt: str, known: Sequence[str], count: int = NEAR) -> Words:
    """Taught words that may have been meant: those that a word of the prompt begins or ends with, or is like."""
    said = [word for word in _words(prompt) if len(word) > 2]
    parts = [
        word
        for word in known
        if len(word) > 2 and any(one.startswith(word) or one.endswith(word) for one in said)
    ]
    begun = [word for word in known if any(word.startswith(one) for one in said)]
    alike = [word for one in said for word in get_close_matches(one, known, count, SIMILAR)]
    parts.sort(key=len, reverse=True)
    return tuple(dict.fromkeys([*begun, *parts, *alike]))[:count]


def untaught_note(prompt: str, known: Sequence[str]) -> str:
    """What an artist is told whose prompt the model does not know; empty where it does."""
    if not untaught(prompt, known):
        return ""
    words = " ".join(prompt.split())
    if len(words) > NAME_LENGTH:
        words = words[: NAME_LENGTH - 1].rstrip() + "…"
    found = near(prompt, known)
    if not found:
        return tr("This model was not taught “%s” and may paint no more than colours.") % words
    return tr("This model was not taught “%s” and may paint no more than colours. It knows: %s.") % (
        words,
        ", ".join(found),
    )


def _words(text: str) -> Words:
    """In small letters, each in its singular, as far as an s tells."""
    found = re.findall(r"[^\W_]+", text.lower())
    return tuple(word[:-1] if len(word) > 3 and word.endswith("s") else word for word in found)

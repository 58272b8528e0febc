"""What can go wrong, one class per thing a caller can act on; every message is a sentence for an artist."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """What another library's error says, to be the end of a sentence: its first line, or its class's name."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


class LazyDiffusionError(Exception):
    """Base of every error that this package raises on purpose: `str(error)` is fit to show to a user."""


class BadInput(LazyDiffusionError):
    """An image, a mask or a setting that cannot be used as it is: the message names it, its value and the remedy."""


class BadModel(LazyDiffusionError):
    """A checkpoint that is missing, altered (wrong hash), of an unsafe format, or made for something else."""


class OutOfMemory(LazyDiffusionError):
    """The device's memory did not suffice: the message says what to lower."""


class CannotWrite(LazyDiffusionError):
    """A result cannot be written where it was asked for."""

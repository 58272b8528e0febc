"""What an edit read of the canvas, kept for the next one, which is often of the same canvas with other words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Reading = TypeVar("Reading")


class Kept(Generic[Reading]):
    """The last reading. It is let go of before another one is made: two may be more than a device holds."""

    def __init__(self) -> None:
        self._reading: Reading | None = None

    def get(self, is_of_this: Callable[[Reading], bool], read: Callable[[], Reading]) -> Reading:
        """The kept reading where it is of this canvas, else a new one."""
        if self._reading is None or not is_of_this(self._reading):
            self._reading = None
            self._reading = read()
        return self._reading

    def forget(self) -> None:
        """Let go of it."""
        self._reading = None

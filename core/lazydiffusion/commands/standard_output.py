"""Standard output as a place that an answer may not fit: said in a sentence, as of every other file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from lazydiffusion.errors import CannotWrite


@contextmanager
def told_if_full() -> Iterator[None]:
    """Within, and when it ends, what standard output cannot take raises CannotWrite."""
    stream = sys.stdout
    if stream is None:  # it was closed: nobody wants an answer
        yield
        return
    sys.stdout = cast("TextIO", _Told(stream))
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
        finally:
            sys.stdout = stream


class _Told:
    """A stream whose errors of writing are CannotWrite."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with self._told():
            return self.stream.write(text)

    def flush(self) -> None:
        with self._told():
            self.stream.flush()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise  # who read it has read enough: typer ends in silence
        except OSError as error:
            # Python would try once more when it ends, and say so in its own words.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
            raise CannotWrite(
                f"The answer cannot be written to standard output: {error.strerror}. Send it elsewhere; files that the "
                "command wrote are there."
            ) from error

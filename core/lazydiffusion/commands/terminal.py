"""What a command says on standard error while it works: sentences, and a bar where that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

Tell = Callable[[str, int, int], None]
"""Called with (what is being done, done, in all)."""


def error_console() -> Console:
    """Standard error, on which words are as they were written: "[red]" in a prompt or a path is no markup."""
    return Console(stderr=True, markup=False, highlight=False)


def say(console: Console, *sentences: str) -> None:
    """Each on a line of its own, however long: what reads them breaks lines itself."""
    for sentence in sentences:
        console.print(sentence, soft_wrap=True)


def progress_bar(console: Console, *columns: ProgressColumn) -> Progress:
    """A bar behind what is being done, then the columns; gone when it ends, and only there on a terminal."""
    description = TextColumn("{task.description}", markup=False)
    shown = console.is_terminal
    return Progress(description, BarColumn(), *columns, console=console, disable=not shown, transient=True)


@contextmanager
def counted(console: Console, what: str) -> Iterator[Tell]:
    """A bar that tells how many are done of how many. It begins with `what`."""
    with progress_bar(console, MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(what, total=None)

        def tell(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield tell

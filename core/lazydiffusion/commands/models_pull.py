"""`lazydiffusion models pull`: a model from the hub into the user's folder, said before and shown while it comes."""

from __future__ import annotations

import sys

import typer
from rich.progress import DownloadColumn, TimeRemainingColumn

from lazydiffusion import pulling
from lazydiffusion.commands.terminal import error_console, progress_bar
from lazydiffusion.errors import BadInput
from lazydiffusion.pulling import Pull, size

INTERRUPTED = 130


def run(wanted: str, revision: str | None, yes: bool) -> None:
    """Download a known name or a hub id: the very commit that is announced, see pulling.prepare.

    Raises LazyDiffusionError.
    """
    pull = pulling.prepare(wanted, revision)
    if pull.is_done:
        typer.echo(
            f"{pull.name} is there already, at commit {pull.model.commit}, and its hashes hold: {pull.target}"
        )
        return
    if pull.problem:
        typer.echo(f"{pull.problem} It is downloaded again.")
    _announce(pull)
    if not yes:
        if not sys.stdin.isatty():
            raise BadInput(
                "Nothing was downloaded: there is no terminal to ask at. Say --yes to download it."
            )
        if not typer.confirm("Download it?"):
            typer.echo("Nothing was downloaded.")
            raise typer.Exit(1)
    try:
        _run(pull)
    except KeyboardInterrupt:
        again = f"lazydiffusion models pull {wanted}" + (f" --revision {revision}" if revision else "")
        typer.echo(
            f"lazydiffusion: interrupted; what is downloaded is kept. `{again}` goes on.",
            err=True,
        )
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(f"{pull.name} is ready: --model {pull.name}, and in Krita and GIMP.")


def _announce(pull: Pull) -> None:
    """Say what would be downloaded. Raises CannotWrite when the disk has no room for it."""
    model = pull.model
    rows = {
        "model": f"{pull.name} ({model.repo})",
        "licence": model.licence,
        "commit": model.commit,
        "files": str(len(model.files)),
        "size": f"{size(model.bytes)}, of which {size(pull.lacking)} are to be downloaded",
        "disk": f"{size(pull.free)} free",
        "folder": str(pull.target),
    }
    for title, value in rows.items():
        typer.echo(f"{title + ':':9}{value}")
    pull.check_room()
    if pull.here is not None:
        typer.echo(
            f"It replaces {pull.here.repo} at commit {pull.here.commit}, which stays until the new one is whole."
        )


def _run(pull: Pull) -> None:
    with progress_bar(error_console(), DownloadColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("Downloading", total=pull.model.bytes)
        pull.run(
            lambda taken: bar.advance(task, taken),
            checking=lambda: bar.update(task, description="Checking"),
        )

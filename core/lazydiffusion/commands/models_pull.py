"""`lazydiffusion models pull`: a model from the hub into the user's folder, whole or not at all."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from lazydiffusion import checkpoints, hub
from lazydiffusion.errors import BadInput, BadModel, CannotWrite
from lazydiffusion.known_models import KNOWN

SOURCE = "source.json"
"""In a pulled model's folder: its repo, revision (the commit) and licence."""
INTERRUPTED = 130


def run(wanted: str, revision: str | None, yes: bool) -> None:
    """Download a known name or a hub id. Raises LazyDiffusionError.

    What the hub has at `revision` (else the commit that KNOWN has for the name, else the main branch) is announced with
    its commit, and exactly that commit is downloaded. For a name without one, flux2-klein among them, nothing here
    vouches for the first commit but the hub itself; from then on source.json has it, and a later pull that meets
    another one says both and asks.
    """
    repo = KNOWN[wanted].repo if wanted in KNOWN else wanted
    if not checkpoints.HUB_ID.fullmatch(repo):
        raise BadInput(
            f"{wanted!r} cannot be pulled: give a hub id such as owner/name, or one of {', '.join(KNOWN)}."
        )
    known = next((model for model in KNOWN.values() if model.repo == repo), None)
    name = known.name if known is not None else repo.partition("/")[2]
    target = checkpoints.user_folder() / name
    here = _source(target, name)
    model = hub.describe(repo, revision or (known.commit if known is not None else None))
    if here == (model.repo, model.commit):
        try:
            checkpoints.verify(target, required=True)
        except BadModel as error:
            typer.echo(f"{error} It is downloaded again.")
        else:
            typer.echo(f"{name} is there already, at commit {model.commit}, and its hashes hold: {target}")
            return
    partial = checkpoints.partial_folder(name)
    _announce(name, model, target, partial / model.commit)
    if here is not None:
        typer.echo(f"It replaces {here[0]} at commit {here[1]}, which stays until the new one is whole.")
    if not yes:
        if not sys.stdin.isatty():
            raise BadInput(
                "Nothing was downloaded: there is no terminal to ask at. Say --yes to download it."
            )
        if not typer.confirm("Download it?"):
            typer.echo("Nothing was downloaded.")
            raise typer.Exit(1)
    try:
        _pull(model, target, partial)
    except KeyboardInterrupt:
        again = f"lazydiffusion models pull {wanted}" + (f" --revision {revision}" if revision else "")
        typer.echo(
            f"lazydiffusion: interrupted; what is downloaded is kept. `{again}` goes on.",
            err=True,
        )
        raise typer.Exit(INTERRUPTED) from None
    except OSError as error:
        raise CannotWrite(
            f"The model cannot be written to {target.parent}: {error.strerror or error}."
        ) from error
    typer.echo(f"{name} is ready: --model {name}, and in Krita and GIMP.")


def _source(target: Path, name: str) -> tuple[str, str] | None:
    """Repo and commit of what was pulled to a folder. Raises BadInput when something else is there."""
    if name == checkpoints.EMBEDDED:
        raise BadInput(
            f"{name} is the name of the model that is installed with the package; nothing replaces it."
        )
    if not target.exists():
        return None
    try:
        source = json.loads((target / SOURCE).read_text(encoding="utf8"))
        return str(source["repo"]), str(source["revision"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{target} was not pulled from the hub, so it is not replaced: give it another name, then pull again."
        ) from error


def _announce(name: str, model: hub.Published, target: Path, downloaded: Path) -> None:
    """Say what would be downloaded. Raises CannotWrite when the disk has no room for it."""
    existing = next(parent for parent in target.parents if parent.exists())
    free = shutil.disk_usage(existing).free
    lacking = model.bytes - hub.downloaded_bytes(model, downloaded)
    rows = {
        "model": f"{name} ({model.repo})",
        "licence": model.licence,
        "commit": model.commit,
        "files": str(len(model.files)),
        "size": f"{_size(model.bytes)}, of which {_size(lacking)} are to be downloaded",
        "disk": f"{_size(free)} free",
        "folder": str(target),
    }
    for title, value in rows.items():
        typer.echo(f"{title + ':':9}{value}")
    if free < lacking:
        raise CannotWrite(
            f"Nothing was downloaded: {_size(lacking)} are needed and {_size(free)} are free at {existing}. Free some "
            "space on this disk."
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _pull(model: hub.Published, target: Path, partial: Path) -> None:
    """Download a model beside its place, check it, and only then put it there. Raises OSError."""
    replaced, folder = partial / checkpoints.REPLACED, partial / model.commit
    if replaced.exists() and not target.exists():
        replaced.rename(target)  # another pull ended between the two renames below
    for other in partial.iterdir() if partial.is_dir() else ():
        if other != folder:
            shutil.rmtree(other)
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(),
        console=console, disable=not console.is_terminal, transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("Downloading", total=model.bytes)
        hub.download(model, folder, lambda taken: bar.advance(task, taken))
        bar.update(task, description="Checking")
        source = {"repo": model.repo, "revision": model.commit, "licence": model.licence}
        (folder / SOURCE).write_text(json.dumps(source, indent=2) + "\n", encoding="utf8")
        checkpoints.write_hashes(folder)
        checkpoints.verify(folder, required=True)
    if target.exists():
        target.rename(replaced)
    try:
        folder.rename(target)
    except OSError:
        if replaced.exists():
            replaced.rename(target)
        raise
    shutil.rmtree(partial)

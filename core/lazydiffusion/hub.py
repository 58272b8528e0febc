"""Models on the Hugging Face hub: which files of one a pipeline needs, and these, resumed and checked."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi, get_session, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, httpx

from lazydiffusion import checkpoints
from lazydiffusion.errors import BadModel, LazyDiffusionError

PART_FILES = {".safetensors", ".json", ".txt", ".model", ".jinja"}
"""What a pipeline reads of its parts; of other formats a repository may hold the same weights once more."""
VARIANTS = ("", "fp16")
"""Of the weights, the preferred one first: those that the engines load."""
COMMIT = re.compile(r"[0-9a-f]{40}")
UNFINISHED = ".unfinished"
CHUNK = 2**20
"""Bytes that are written at a time: what an interruption loses at most."""
TIMEOUT = 30.0
"""Seconds without an answer after which the connection counts as lost."""
TRIES, PAUSE = 5, 1.0
"""How often in a row a connection may be lost without one new byte, and the seconds before the next."""


class HubUnreachable(LazyDiffusionError):
    """The hub does not answer, or not as it should: to be tried again later."""


@dataclass(frozen=True)
class File:
    """A file of a commit, as the hub describes it."""

    path: str
    bytes: int
    hash: str
    is_lfs: bool
    """The hash is the SHA-256 of its content; else git's: the SHA-1 of a header and its content."""

    def is_whole(self, at: Path) -> bool:
        """Whether `at` holds it, by size and hash."""
        if not at.is_file() or at.stat().st_size != self.bytes:
            return False
        if self.is_lfs:
            return checkpoints.sha256_of(at) == self.hash
        header = f"blob {self.bytes}\0".encode()
        return hashlib.sha1(header + at.read_bytes(), usedforsecurity=False).hexdigest() == self.hash


@dataclass(frozen=True)
class Published:
    """A model at one commit, and those of its files that a pipeline needs."""

    repo: str
    commit: str
    licence: str
    files: tuple[File, ...]

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum(file.bytes for file in self.files)


def describe(repo: str, revision: str | None = None) -> Published:
    """Ask the hub for a model; `revision`: a branch, a tag or a commit, by default the main branch.

    Raises BadModel when there is none, when it is no pipeline or has no safe weights, and HubUnreachable.
    """
    with _sentences(repo, revision):
        info = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT)
        if info.sha is None or not COMMIT.fullmatch(info.sha):
            raise HubUnreachable(f"The hub does not say which commit of {repo} it has; try again later.")
        files = {sibling.rfilename: _file(sibling) for sibling in info.siblings or ()}
        if checkpoints.INDEX not in files:
            raise BadModel(_no_pipeline(repo))
        index = _index(repo, info.sha)
    names = needed(repo, index, list(files))
    return Published(repo, info.sha, _licence(info), tuple(files[name] for name in names))


def pipeline_index(repo: str) -> bytes:
    """The model_index.json of a model's main branch: from this computer's cache of the hub, or asked for, once.

    Raises BadModel when there is no such model, or it is no pipeline, and HubUnreachable.
    """
    with _sentences(repo, None):
        kept = try_to_load_from_cache(repo, checkpoints.INDEX)
        return Path(kept).read_bytes() if isinstance(kept, str) else _index(repo, None)


def _index(repo: str, revision: str | None) -> bytes:
    """Asked for without huggingface_hub's own download, which tries for half a minute, line by line."""
    url = hf_hub_url(repo, checkpoints.INDEX, revision=revision)
    answer = get_session().get(url, headers=_headers(), timeout=TIMEOUT)
    try:
        hf_raise_for_status(answer)
    except EntryNotFoundError as error:
        raise BadModel(_no_pipeline(repo)) from error
    return answer.content


def _no_pipeline(repo: str) -> str:
    return (
        f"{repo} is no pipeline of diffusers: it has no {checkpoints.INDEX}. Look for one of the same model that has, "
        "often with `diffusers` in its name."
    )


def needed(repo: str, index: bytes, names: list[str]) -> list[str]:
    """Those of a repository's files that a pipeline needs, by its model_index.json.

    That index and, of each part that it names, the settings and one variant of the weights as safetensors. Raises
    BadModel when a part has none of these.
    """
    try:
        parts = {
            part
            for part, kind in json.loads(index).items()
            if isinstance(kind, list) and any(kind) and not part.startswith("_")
        }
    except (ValueError, AttributeError) as error:
        raise BadModel(f"The {checkpoints.INDEX} of {repo} cannot be read.") from error
    of_part: dict[str, list[PurePosixPath]] = {part: [] for part in sorted(parts)}
    for path in map(PurePosixPath, sorted(names)):
        if len(path.parts) == 2 and path.parts[0] in parts and path.name != "..":
            of_part[path.parts[0]].append(path)
    variants = []
    for part, paths in of_part.items():
        weights = {_variant(path.name) for path in paths if path.suffix == ".safetensors"}
        if not weights and any(path.suffix in checkpoints.PICKLES for path in paths):
            raise BadModel(
                f"{repo} has its {part} only as a pickle, which could run any program when loaded. Only "
                "safetensors are accepted: look for another copy of the model."
            )
        if weights:
            variants.append(weights)
    variant = next((name for name in VARIANTS if all(name in found for found in variants)), None)
    if not variants or variant is None:
        raise BadModel(f"{repo} has no weights that can be loaded: not all of its parts have safetensors.")
    return [
        checkpoints.INDEX,
        *(
            path.as_posix()
            for paths in of_part.values()
            for path in paths
            if path.suffix in PART_FILES and (_variant(path.name) in (variant, None))
        ),
    ]


def download(model: Published, folder: Path, progress: Callable[[int], None]) -> None:
    """Put a model's files into a folder; what is there already, in whole or in part, is not asked for again.

    `progress` is told bytes. Raises BadModel for a file that is not the published one, which is deleted;
    HubUnreachable; OSError when it cannot be written.
    """
    for file in model.files:
        target = folder / file.path
        if file.is_whole(target):
            progress(file.bytes)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(target.name + UNFINISHED)
        with _sentences(model.repo, model.commit):
            _fetch(hf_hub_url(model.repo, file.path, revision=model.commit), file, unfinished, progress)
        if not file.is_whole(unfinished):
            unfinished.unlink()
            raise BadModel(
                f"What came as {file.path} of {model.repo} is not the published file: its size or its hash differs. "
                "It was deleted; pull again."
            )
        unfinished.replace(target)


def downloaded_bytes(model: Published, folder: Path) -> int:
    """How much of a model's files a folder holds, unchecked."""
    return sum(
        path.stat().st_size
        for file in model.files
        for path in (folder / file.path, folder / (file.path + UNFINISHED))
        if path.is_file()
    )


def _fetch(url: str, file: File, to: Path, progress: Callable[[int], None]) -> None:
    """Append to a file what it lacks.

    huggingface_hub's own download starts a file again in each process; these files are gigabytes.
    """
    failures = 0
    with to.open("ab") as out:
        if out.tell() > file.bytes:
            out.truncate(out.seek(0))
        progress(out.tell())
        while out.tell() < file.bytes:
            before = out.tell()
            try:
                headers = _headers() | ({"range": f"bytes={before}-"} if before else {})
                with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT) as answer:
                    hf_raise_for_status(answer)
                    if before and answer.status_code != httpx.codes.PARTIAL_CONTENT:
                        out.truncate(out.seek(0))  # it sends the file from its start
                        progress(-before)
                    for chunk in answer.iter_bytes(CHUNK):
                        out.write(chunk)
                        progress(len(chunk))
                        if out.tell() > file.bytes:
                            return  # not the file, however much is still to come
                if out.tell() < file.bytes:
                    raise httpx.RemoteProtocolError("the answer ended early")
            except httpx.TransportError:
                failures = 0 if out.tell() > before else failures + 1
                if failures == TRIES:
                    raise
                time.sleep(PAUSE)


def _headers() -> dict[str, str]:
    """With the user's token, if there is one; files come uncompressed, so that their bytes can be counted."""
    return build_hf_headers(library_name="lazydiffusion") | {"accept-encoding": "identity"}


def _file(sibling: Any) -> File:
    hashed = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
    if sibling.size is None or hashed is None:
        raise HubUnreachable(
            f"The hub does not say the size and hash of {sibling.rfilename}; try again later."
        )
    return File(sibling.rfilename, sibling.size, hashed, sibling.lfs is not None)


def _licence(info: Any) -> str:
    """As the model's card has it, on one line."""
    card = info.card_data
    stated = (getattr(card, "license_name", None) or getattr(card, "license", None)) if card else None
    return " ".join(str(stated or "not stated").split())


def _variant(name: str) -> str | None:
    """The variant of a file of weights or of their index, "" for the plain one; None for any other file.

    model.safetensors, model.fp16.safetensors, model.fp16-00001-of-00002.safetensors, and of their indices
    model.safetensors.index.json and model.safetensors.index.fp16.json.
    """
    if found := re.fullmatch(r".+\.safetensors\.index(?:\.(.+))?\.json", name):
        return found[1] or ""
    if not name.endswith(".safetensors"):
        return None
    stem = checkpoints.SHARD.sub("", name.removesuffix(".safetensors"))
    return stem.partition(".")[2]


@contextmanager
def _sentences(repo: str, revision: str | None) -> Iterator[None]:
    """Say what the hub's client raises as a user can act on it."""
    site = HfApi().endpoint
    token = f"make a token at {site}/settings/tokens and give it to `hf auth login`, or set HF_TOKEN to it"
    try:
        yield
    except RevisionNotFoundError as error:
        raise BadModel(f"{repo} has no revision {revision!r} on the hub.") from error
    except GatedRepoError as error:
        raise BadModel(
            f"{repo} is gated: accept its licence at {site}/{repo}, then {token}, and pull again."
        ) from error
    except RepositoryNotFoundError as error:
        raise BadModel(f"There is no model {repo} on the hub. If it is private, {token}.") from error
    except HFValidationError as error:
        raise BadModel(f"{repo!r} is no hub id: it must be owner/name.") from error
    except OfflineModeIsEnabled as error:
        raise HubUnreachable(
            "HF_HUB_OFFLINE forbids to ask the hub: unset it to download a model."
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise HubUnreachable(
            f"The hub refused with HTTP status {status}: try again later; what is downloaded is kept."
        ) from error
    except (httpx.HTTPError, ValueError) as error:
        raise HubUnreachable(
            f"{site} cannot be reached ({str(error) or type(error).__name__}): look at the network, and try again; "
            "what is downloaded is kept."
        ) from error

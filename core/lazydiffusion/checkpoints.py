"""Where checkpoints lie, what they are called, and whether a folder is safe to load."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import platformdirs
from safetensors import SafetensorError, safe_open

from lazydiffusion.errors import BadModel
from lazydiffusion.known_models import KNOWN
from lazydiffusion.window import OVERVIEW_TOKENS, PATCH, WINDOW_TOKENS

VOCABULARY = "vocabulary.json"
"""Names of what a small model was taught, and other words for each (training.vocabulary)."""
EMBEDDED = "clipart"
"""The checkpoint that is installed with the package."""
HASHES = "hashes.json"
"""In a checkpoint's folder: {"relative/file": SHA-256 as hexadecimal digits}."""
INDEX = "model_index.json"
PICKLES = {".bin", ".ckpt", ".pkl", ".pickle", ".pt", ".pth"}
PARTIAL = ".partial"
"""Ends the name of the folder beside a model's that holds, under a commit's name, what is downloaded of it."""
REPLACED = "replaced"
"""In there: the model that a new one takes the place of, until that is done."""
OWN_NETWORKS = ("ContextEncoder", "LazyDecoder")
"""Parts of our own pipelines that have weights; the others are told by their configurations."""
SHARD = re.compile(r"-\d{5}-of-\d{5}")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
LOST_AND_FOUND = "lost+found"
"""A folder of the system's own at the root of a disk."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that `--model` can name."""

    name: str
    folder: Path
    bytes: int
    embedded: bool


USUAL_SIDE = 1024
"""Side in px of the window of an inpainting pipeline that does not say what it was trained at; no window is larger."""


def native_window(sample_size: object, vae_scale: int) -> int:
    """Side in tokens of an inpainting pipeline's window: what its network was trained at.

    `sample_size`: of the latents, as its configuration has it; `vae_scale`: px of a latent.
    """
    px = sample_size * vae_scale if isinstance(sample_size, int) and sample_size > 0 else USUAL_SIDE
    return max(1, min(px, USUAL_SIDE) // PATCH)


def window_tokens(where: Path | str) -> int:
    """Side in tokens of the window that a model is shown; of a hub id, whose files are elsewhere, the usual one.

    For our own models their context encoder says it, for other inpainting pipelines `native_window`.
    """
    if isinstance(where, str):
        return WINDOW_TOKENS
    if own := _whole_numbers(where / "context_encoder" / "config.json").get("window_tokens"):
        return own
    vae = _json(where / "vae" / "config.json")
    blocks = vae.get("block_out_channels") if isinstance(vae, dict) else None
    if not isinstance(blocks, list) or not blocks:
        return WINDOW_TOKENS
    scale = 2 ** (len(blocks) - 1)
    sizes = [
        _whole_numbers(where / part / "config.json").get("sample_size") for part in ("unet", "transformer")
    ]
    return native_window(sizes[0] or sizes[1], scale)


def overview_tokens(where: Path) -> int:
    """Side in tokens of the overview that a model is shown."""
    return _whole_numbers(where / "context_encoder" / "config.json").get("overview_tokens", OVERVIEW_TOKENS)


def things(where: Path) -> list[str]:
    """Names of what a model was taught to draw, of one that was taught a vocabulary; empty of any other."""
    found = _json(where / VOCABULARY)
    return sorted(found) if isinstance(found, dict) else []


def words(where: Path) -> list[str]:
    """All that a prompt may call these things: their names, and other words for them."""
    found = _json(where / VOCABULARY)
    if not isinstance(found, dict):
        return []
    others = [word for listed in found.values() if isinstance(listed, list) for word in map(str, listed)]
    return sorted({*found, *others})


def embedded_folder() -> Path:
    """Folder of the checkpoint that is installed with the package."""
    return Path(str(files("lazydiffusion"))) / "assets" / EMBEDDED


def user_folder() -> Path:
    """Folder in which a user's own checkpoints are found by name, one folder each."""
    return platformdirs.user_data_path("lazydiffusion", appauthor=False) / "models"


def available() -> list[Checkpoint]:
    """The embedded checkpoint and those in the user's folder; what cannot be looked into counts as one.

    A name that is no valid UTF-8 could not be sent to anybody, so what is called so is left out.
    """
    folders = [embedded_folder()]
    with contextlib.suppress(OSError):  # it is not there yet, or is not this user's
        folders += sorted(folder for folder in user_folder().iterdir() if _has_plain_name(folder))
    return [
        Checkpoint(folder.name, folder, _size(folder), folder == embedded_folder())
        for folder in folders
        if _may_be_a_model(folder)
    ]


def partial_folder(name: str) -> Path:
    """Where `lazydiffusion models pull` puts what it downloads, until the model is whole."""
    return user_folder() / (name + PARTIAL)


def downloaded_bytes(name: str) -> int:
    """How much of a model lies in its partial folder, unchecked."""
    try:
        commits = [folder for folder in partial_folder(name).iterdir() if folder.name != REPLACED]
    except OSError:
        return 0
    return max(map(_size, commits), default=0)


def files_of(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Path, bytes and time of change (ns) of every file: as long as these stay, nothing in the folder has changed."""
    found = []
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            with contextlib.suppress(OSError):  # a link to nowhere, or it goes at this moment
                state = path.stat()
                # The second one tells of permissions that were changed.
                changed = max(state.st_mtime_ns, state.st_ctime_ns)
                found.append((path.relative_to(folder).as_posix(), state.st_size, changed))
    return tuple(sorted(found))


def locate(name: str) -> Path | str:
    """The folder of a checkpoint by name or path, verified; or `name` itself when it can only be a hub id.

    Raises BadModel when there is no such checkpoint, or when `verify` refuses it.
    """
    for folder in (embedded_folder() if name == EMBEDDED else None, Path(name), user_folder() / name):
        if folder is not None and _is_folder(folder):
            verify(folder, required=folder == embedded_folder())
            return folder
    if HUB_ID.fullmatch(name) and not Path(name).exists():
        return name
    known = ", ".join(checkpoint.name for checkpoint in available()) or "none installed"
    if name in KNOWN:
        raise BadModel(KNOWN[name].missing(known))
    raise BadModel(
        f"There is no model {name!r}. Known are: {known}. Give one of these, a folder that holds a {INDEX}, "
        "or a hub id such as owner/name."
    )


def verify(folder: Path, *, required: bool = False) -> None:
    """Refuse a folder that is no checkpoint, that holds a pickle, or whose files are not the published ones.

    Hashes are checked where the folder lists them; with `required` it must, and for every weight. Raises BadModel.
    """
    with _told_if_unreadable(folder):
        _verify(folder, required)


def _verify(folder: Path, required: bool) -> None:
    if not _has_index(folder):
        raise BadModel(f"{folder} is no checkpoint: it has no {INDEX}.")
    if not isinstance(_json(folder / INDEX), dict):
        raise BadModel(f"{folder / INDEX} cannot be read: it is damaged. Reinstall the model.")
    _refuse_pickles(folder)
    listed = _listed_hashes(folder, required)
    for name, expected in listed.items():
        found = sha256_of(folder / name)
        if found != expected:
            raise BadModel(
                f"{folder / name} was altered or damaged: its SHA-256 is {found}, expected {expected}. "
                "Reinstall the model."
            )
    unlisted = [p for p in folder.rglob("*.safetensors") if p.relative_to(folder).as_posix() not in listed]
    if unlisted and (required or listed):
        raise BadModel(f"{unlisted[0]} is not listed in {folder / HASHES}. Reinstall the model.")


def look_over(folder: Path) -> None:
    """Refuse a folder in which something is missing, cut short or a pickle, without reading its gigabytes.

    Names, sizes, indices and the headers of safetensors tell this much; `verify` alone tells altered bytes. Raises
    BadModel.
    """
    with _told_if_unreadable(folder):
        _look_over(folder)


def _look_over(folder: Path) -> None:
    if not _has_index(folder):
        raise BadModel(f"{folder} is no checkpoint: it has no {INDEX}.")
    index = _json(folder / INDEX)
    if not isinstance(index, dict) or not isinstance(index.get("_class_name"), str):
        raise BadModel(f"{folder / INDEX} does not say what pipeline this is. Reinstall the model.")
    _refuse_pickles(folder)
    for name in _listed_hashes(folder, required=False):
        if not (folder / name).is_file():
            raise BadModel(f"The model is not whole: {folder / name} is missing. Reinstall the model.")
    for part, kind in index.items():
        if part.startswith("_") or not isinstance(kind, list) or not any(kind):
            continue  # a setting, or a part that the pipeline does without
        if not _has_files(folder / part):
            raise BadModel(f"The model is not whole: {folder} has no {part}. Reinstall the model.")
        may_have_weights = kind[0] in ("diffusers", "transformers") or kind[-1] in OWN_NETWORKS
        is_network = may_have_weights and (folder / part / "config.json").is_file()
        if is_network and not _has_weights(folder / part):
            raise BadModel(
                f"The model is not whole: weights are missing in {folder / part}. Reinstall the model."
            )
    for path in sorted(folder.rglob("*.safetensors")):
        if not _has_its_length(path):
            raise BadModel(f"{path} is damaged or cut short. Reinstall the model.")


def write_hashes(folder: Path) -> None:
    """List the SHA-256 of every file of a checkpoint in its hashes.json."""
    hashes = {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".safetensors", ".json") and path.name != HASHES
    }
    (folder / HASHES).write_text(json.dumps(hashes, indent=2) + "\n", encoding="utf8")


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file. Raises BadModel when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadModel(f"{path} cannot be read ({error.strerror}). Reinstall the model.") from error


def _refuse_pickles(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICKLES:
            raise BadModel(
                f"{path} is a pickle, which could run any program when loaded. Only safetensors are accepted: "
                "convert the checkpoint, or remove the file."
            )


def _has_files(part: Path) -> bool:
    """Raises OSError where that cannot be seen."""
    try:
        return any(path.is_file() for path in part.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return False


def _has_weights(part: Path) -> bool:
    """Whether there is a file with all weights, or all those files that an index lists."""
    there = {path.name for path in part.glob("*.safetensors")}
    if any(not SHARD.search(name) for name in there):
        return True
    for path in part.glob("*.safetensors.index*.json"):
        index = _json(path)
        listed = index.get("weight_map") if isinstance(index, dict) else None
        if isinstance(listed, dict) and listed and {str(name) for name in listed.values()} <= there:
            return True
    return False


def _has_its_length(path: Path) -> bool:
    """Whether a file of safetensors is as long as its header says; nothing but the header is read."""
    if not path.is_file():  # a pipe would be waited for
        return False
    try:
        with safe_open(path, framework="np"):
            return True
    except (OSError, SafetensorError):
        return False


def _json(path: Path) -> object:
    """What a file of JSON holds; None for one that cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError, RecursionError):
        return None


def _listed_hashes(folder: Path, required: bool) -> dict[str, str]:
    file = folder / HASHES
    if not file.is_file():
        if required:
            raise BadModel(f"{file} is missing, so nothing vouches for the model. Reinstall it.")
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf8"))
        return {str(name): str(value) for name, value in values.items()}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise BadModel(f"{file} cannot be read as a list of hashes. Reinstall the model.") from error


def _whole_numbers(path: Path) -> dict[str, int]:
    """Those of a configuration: a damaged one must not hide the other models."""
    values = _json(path)
    return {key: v for key, v in values.items() if type(v) is int} if isinstance(values, dict) else {}


def _size(folder: Path) -> int:
    return sum(size for _, size, _ in files_of(folder))


@contextlib.contextmanager
def _told_if_unreadable(folder: Path) -> Iterator[None]:
    """Say so as a sentence, as of everything else that is wrong with a model."""
    try:
        yield
    except ValueError as error:
        raise BadModel(
            f"The model in {folder} names a file that there cannot be ({error}). Reinstall the model."
        ) from error
    except OSError as error:
        where = error.filename or folder
        raise BadModel(
            f"{where} cannot be read ({error.strerror}). Check its disk and its permissions."
        ) from error


def _has_index(folder: Path) -> bool:
    """Raises OSError where that cannot be seen."""
    try:
        return stat.S_ISREG((folder / INDEX).stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _may_be_a_model(folder: Path) -> bool:
    """Whether it has an index, or may have one that cannot be seen."""
    try:
        return _has_index(folder)
    except OSError:
        # Others than these were made by somebody who will look for them: told of, rather than not there.
        return folder.name != LOST_AND_FOUND and not folder.name.startswith(".")


def _has_plain_name(path: Path) -> bool:
    try:
        path.name.encode("utf8")
    except UnicodeEncodeError:
        return False
    return True


def _is_folder(path: Path) -> bool:
    """Whether it is a folder, as far as this user is allowed to know."""
    try:
        return path.is_dir()
    except OSError:
        return False

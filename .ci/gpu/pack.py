"""Makes .gpu/: what a lent machine without a network needs to train.

`python .ci/gpu/pack.py SHARDS [CONFIG]`, in the repository's root. Only the sprites that the configuration (`clipart`)
trains on, or holds out, travel.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from lazydiffusion.models.prompt_encoder import minilm_folder
from lazydiffusion.training.captions import captions_of
from lazydiffusion.training.settings import ALL_SETS, Data, find_settings, load_settings
from lazydiffusion.training.shards import find_shards, index_shard, write_shards
from lazydiffusion.training.sprites import load_bank
from lazydiffusion.training.vocabulary import find_vocabulary, load_vocabulary

OUT = Path(".gpu")
WHEELS = ("diffusers==0.42.1", "importlib_metadata", "lazy-importer", "platformdirs")
"""Pure Python, and not among what such a machine has."""
PYTHON = "3.12"
PART = 60_000_000
CAPTIONS = 6
LETTERS = "a b c d e f g h i j k l m n o p q r s t u v w x y z 0 1 2 3 4 5 6 7 8 9 red apple"


def main() -> None:
    """Everything anew."""
    shards = find_shards(Path(sys.argv[1]))
    data = load_settings(find_settings(sys.argv[2] if len(sys.argv) > 2 else "clipart")).data
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    wheels()
    with tempfile.TemporaryDirectory() as kept:
        write_shards(Path(kept), drawn(shards, data))
        text_encoder(Path(kept), data)
        sprites(find_shards(Path(kept)))
    for script in ("gpu.py", "contest.py", "fetching.py", "setup.sh", "poll.sh"):
        shutil.copy(Path(__file__).with_name(script), OUT)
    for file in sorted(OUT.rglob("*")):
        if file.is_file():
            print(f"{file.stat().st_size / 1e6:7.2f} MB  {file}")


def wheels() -> None:
    """Download them."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*command, "--python-version", PYTHON, "-d", str(OUT / "whl"), *WHEELS], check=True)


def drawn(shards: list[Path], data: Data) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """The sprites of the configuration's sets and vocabulary."""
    taught = load_vocabulary(find_vocabulary(data.vocabulary)) if data.vocabulary else None
    for shard in shards:
        with shard.open("rb") as file:
            for sample in index_shard(shard):
                of_set = ALL_SETS in data.sets or sample.set_name in data.sets
                if of_set and (taught is None or sample.captions[0] in taught):
                    file.seek(sample.offset)
                    labels = {
                        "set": sample.set_name,
                        "style": sample.style,
                        "captions": list(sample.captions),
                    }
                    yield sample.key, file.read(sample.size), labels


def text_encoder(folder: Path, data: Data) -> None:
    """MiniLM in 16 bits; the vectors of words that no caption has are 0, which compresses to nothing."""
    source, made = minilm_folder(), OUT / "minilm"
    made.mkdir()
    for file in source.iterdir():
        if file.suffix in (".json", ".txt"):
            shutil.copy(file, made)
    tokenizer = AutoTokenizer.from_pretrained(source)
    bank = load_bank(folder, side=1)
    if data.vocabulary:
        bank = bank.of_vocabulary(load_vocabulary(find_vocabulary(data.vocabulary)))
    texts = sorted({text for texts in captions_of(bank, CAPTIONS) for text in texts} | {"", LETTERS})
    used = {token for row in tokenizer(texts)["input_ids"] for token in row}
    used |= set(tokenizer.all_special_ids)
    weights = load_file(source / "model.safetensors")
    for name, weight in weights.items():
        if name.endswith("word_embeddings.weight"):
            kept = torch.zeros(len(weight), 1)
            kept[sorted(used)] = 1
            weights[name] = weight * kept
        if weight.is_floating_point():
            weights[name] = weights[name].half()
    save_file(weights, made / "model.safetensors", metadata={"format": "pt"})
    with tarfile.open(OUT / "minilm.tgz", "w:gz") as tar:
        tar.add(made, "model")
    shutil.rmtree(made)


def sprites(shards: list[Path]) -> None:
    """One tar of all shards, compressed (their padding is a seventh of them), in parts."""
    whole = OUT / "shards.gz"
    with gzip.open(whole, "wb", compresslevel=6) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
        for shard in shards:
            tar.add(shard, shard.name)
    content = whole.read_bytes()
    whole.unlink()
    for number, start in enumerate(range(0, len(content), PART)):
        (OUT / f"shards.{number:02d}").write_bytes(content[start : start + PART])


if __name__ == "__main__":
    main()

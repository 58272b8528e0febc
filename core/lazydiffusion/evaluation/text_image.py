"""Does a fill show what its caption says? The cosine of their embeddings, as CLIPScore (Hessel et al. 2021) has it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from lazydiffusion.errors import BadInput, BadModel
from lazydiffusion.evaluation.features import BATCH, FeatureNetwork, resized
from lazydiffusion.evaluation.sprite_features import fingerprint, fit, split, sprite_features
from lazydiffusion.models.prompt_encoder import PromptEncoder
from lazydiffusion.training.cached_tensors import cached
from lazydiffusion.training.sprites import Progress, SpriteBank

EMBEDDING = 128
HIDDEN = 512
EPOCHS = 30
AMONG = 64
"""Captions among which a held-out sprite's own has to be found."""
CLIP_FILES = {
    "configuration": ("config.json",),
    "tokenizer": ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model"),
    "settings for pictures": ("preprocessor_config.json",),
    "weights": ("model.safetensors", "model.safetensors.index.json"),
}
"""What a CLIP's folder must hold, and the files that it may be in."""
TEXTS = 256
"""Captions that the text encoder sees at once."""


class TextImageScore(Protocol):
    """Scores how well pictures show their captions."""

    name: str

    @property
    def worth(self) -> str:
        """What it is, and how far it can be trusted, in words."""
        ...

    def __call__(self, pictures: Float[Tensor, "b 3 h w"], captions: Sequence[str]) -> Float[Tensor, " b"]:
        """Cosine (-1..1) of each picture, -1..1 and square, with its own caption."""
        ...


class Clip:
    """Any CLIP or SigLIP of transformers, from a local folder with safetensors.

    Raises BadModel for a folder that holds no such model.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu"):
        if not folder.is_dir():
            raise BadModel(
                f"There is no CLIP in {folder}: give the folder of one that transformers can load."
            )
        for what, names in CLIP_FILES.items():
            if not any((folder / name).is_file() for name in names):
                raise BadModel(
                    f"The model in {folder} cannot be used as a CLIP: it has no {what} ({', '.join(names)}). Give the "
                    "folder of one that transformers can load."
                )
        self.name = f"clip-{folder.name}"
        self.device = torch.device(device)
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
            images = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
            self.side = int(model.config.vision_config.image_size)
            self.length = int(model.config.text_config.max_position_embeddings)
            self.mean, self.deviation = (
                torch.tensor(images[key], device=self.device)[:, None, None]
                for key in ("image_mean", "image_std")
            )
        except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise BadModel(f"The model in {folder} cannot be used as a CLIP: {reason}") from error
        self.model = model.to(self.device).eval().requires_grad_(False)

    @property
    def worth(self) -> str:
        """See TextImageScore."""
        return f"cosine of {self.name}"

    @torch.no_grad()
    def __call__(self, pictures: Float[Tensor, "b 3 h w"], captions: Sequence[str]) -> Float[Tensor, " b"]:
        """See TextImageScore. Captions are cut at the model's own length."""
        _check(pictures, captions)
        scores = []
        for start in range(0, len(captions), BATCH):
            part = resized(pictures[start : start + BATCH].to(self.device), self.side)
            # Padded to the full length, as SigLIP was trained; it changes nothing for CLIP.
            words = self.tokenizer(
                list(captions[start : start + BATCH]),
                padding="max_length", truncation=True, max_length=self.length, return_tensors="pt",
            ).to(self.device)  # fmt: skip
            made = self.model(pixel_values=((part + 1) / 2 - self.mean) / self.deviation, **words)
            scores.append(F.cosine_similarity(made.image_embeds, made.text_embeds))
        return torch.cat(scores).to(pictures.device)


class Heads(nn.Module):
    """Both sides' projections to unit vectors of one space, and the scale of their products in the loss."""

    def __init__(self, image_channels: int, text_channels: int):
        super().__init__()
        self.image = nn.Sequential(
            nn.LayerNorm(image_channels), nn.Dropout(0.3), nn.Linear(image_channels, HIDDEN), nn.GELU(),
            nn.Dropout(0.3), nn.Linear(HIDDEN, EMBEDDING),
        )  # fmt: skip
        self.text = nn.Linear(text_channels, EMBEDDING)
        self.log_scale = nn.Parameter(torch.tensor(2.7))

    def forward(
        self, image: Float[Tensor, "b c"], text: Float[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b e"], Float[Tensor, "b e"]]:
        """Unit vectors of pictures' features and of captions' word means."""
        return F.normalize(self.image(image), dim=1), F.normalize(self.text(text), dim=1)

    def loss(
        self, image: Float[Tensor, "b c"], text: Float[Tensor, "b t"], names: Int64[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        """Symmetric InfoNCE (Radford et al. 2021). Rows of one name, by its number, are not held against each other."""
        images, texts = self(image, text)
        own = torch.arange(len(names), device=names.device)
        same = (names[:, None] == names) & (own[:, None] != own)
        products = (images @ texts.T * self.log_scale.exp()).masked_fill(same, float("-inf"))
        return (F.cross_entropy(products, own) + F.cross_entropy(products.T, own)) / 2


class DualEncoder:
    """A small CLIP of the sprites: heads on a frozen network's features and on MiniLM's words, trained on their names.

    It knows drawings of things, one in a picture, and no more: `held_out_recall` says how well.
    """

    name = "sprite-dual-encoder"

    def __init__(self, network: FeatureNetwork, prompts: PromptEncoder, heads: Heads, held_out_recall: float):
        self.network, self.prompts, self.heads = network, prompts, heads
        self.held_out_recall = held_out_recall
        """Share of held-out sprites, on plain backgrounds, whose own name is the best of AMONG different ones."""

    @property
    def worth(self) -> str:
        """See TextImageScore."""
        return (
            "cosine of a dual encoder trained on the training sprites; by their names it finds "
            f"{100 * self.held_out_recall:.0f} % of the held-out ones among {AMONG}"
        )

    @classmethod
    def trained(
        cls,
        network: FeatureNetwork,
        prompts: PromptEncoder,
        bank: SpriteBank,
        cache: Path | None = None,
        progress: Progress | None = None,
    ) -> DualEncoder:
        """One trained on the sprites of the whole `bank` that are not held out; kept in the folder `cache`.

        Raises BadInput for a bank without both kinds of sprites, CannotWrite.
        """
        training, held_out = split(bank)
        names = [captions[0] for captions in bank.captions]

        def train() -> dict[str, Tensor]:
            features = sprite_features(network, bank, cache, progress)
            text = word_means(prompts, names).to(features.device)
            known = {name: number for number, name in enumerate(names)}
            numbers = torch.tensor([known[name] for name in names], device=features.device)
            with torch.random.fork_rng():
                torch.manual_seed(0)
                heads = Heads(network.channels, prompts.channels).to(features.device)
                fit(
                    heads,
                    lambda rows: heads.loss(features[rows], text[rows], numbers[rows]),
                    training,
                    epochs=EPOCHS,
                )
            images, texts = heads(features[held_out], text[held_out])
            recall = recall_among(images @ texts.T, [names[row] for row in held_out.tolist()])
            return heads.state_dict() | {"held_out_recall": torch.tensor(recall)}

        settings = (EMBEDDING, HIDDEN, EPOCHS, AMONG, prompts.config.source, prompts.config.sha256, *names)
        weights = cached(cache, f"dual-encoder-{fingerprint(network, bank, *settings)}", train)
        recall = float(weights.pop("held_out_recall"))
        with torch.device("meta"):  # no parameters to draw: they are there
            heads = Heads(network.channels, prompts.channels)
        heads.load_state_dict(weights, assign=True)
        return cls(network, prompts, heads.eval().requires_grad_(False).to(bank.pixels.device), recall)

    @torch.no_grad()
    def __call__(self, pictures: Float[Tensor, "b 3 h w"], captions: Sequence[str]) -> Float[Tensor, " b"]:
        """See TextImageScore."""
        _check(pictures, captions)
        features = self.network(pictures)
        images, texts = self.heads(features, word_means(self.prompts, captions).to(features.device))
        scores: Tensor = (images * texts).sum(dim=1)
        return scores


@torch.no_grad()
def word_means(prompts: PromptEncoder, captions: Sequence[str]) -> Float[Tensor, "b t"]:
    """The mean of each caption's word states."""
    different = sorted(set(captions), key=len)  # by length, so that a batch has little padding
    means: dict[str, Tensor] = {}
    for start in range(0, len(different), TEXTS):
        part = different[start : start + TEXTS]
        states, mask = prompts(part)
        means.update(zip(part, states.sum(dim=1) / mask.sum(dim=1, keepdim=True), strict=True))
    return torch.stack([means[caption] for caption in captions]).float()


def recall_among(scores: Float[Tensor, "n n"], names: Sequence[str], among: int = AMONG) -> float:
    """Share of the rows whose own name scores best among itself and among - 1 others, expected over their choice.

    `scores`: of row i's picture with column j's caption. The others are different names; where there are fewer, all.
    """
    column = {name: number for number, name in enumerate(names)}
    shares = []
    for row, name in enumerate(names):
        others = [number for other, number in column.items() if other != name]
        better = int((scores[row, others] >= scores[row, row]).sum())
        chosen = min(among - 1, len(others))
        # None of the better ones is among those chosen of all: (all - better over chosen) / (all over chosen).
        share = 1.0
        for taken in range(chosen):
            share *= max(0, len(others) - better - taken) / (len(others) - taken)
        shares.append(share)
    return sum(shares) / len(shares)


def _check(pictures: Tensor, captions: Sequence[str]) -> None:
    if len(pictures) != len(captions):
        raise BadInput(
            f"Each picture needs its caption: there are {len(pictures)} pictures, {len(captions)} captions."
        )

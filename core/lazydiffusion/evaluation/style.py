"""Does a fill keep the scene's style? A classifier of the sprite sets, of which most scenes show only one."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from lazydiffusion.evaluation.features import FeatureNetwork
from lazydiffusion.evaluation.sprite_features import fingerprint, fit, split, sprite_features
from lazydiffusion.training.cached_tensors import cached
from lazydiffusion.training.sprites import Progress, SpriteBank

EPOCHS = 30


class StyleClassifier:
    """Tells which of the bank's sets a picture's object is of, by a linear layer on a network's features."""

    def __init__(
        self, network: FeatureNetwork, head: nn.Module, set_names: list[str], held_out_accuracy: float
    ):
        self.network, self.head, self.set_names = network, head, set_names
        self.held_out_accuracy = held_out_accuracy
        """Share of held-out sprites, on plain backgrounds, whose set it tells: what the score is worth."""

    @property
    def worth(self) -> str:
        """What it is, and how far it can be trusted, in words."""
        return (
            f"a linear classifier of {len(self.set_names)} sets of sprites on those features, right for "
            f"{100 * self.held_out_accuracy:.0f} % of the held-out sprites"
        )

    @classmethod
    def trained(
        cls,
        network: FeatureNetwork,
        bank: SpriteBank,
        cache: Path | None = None,
        progress: Progress | None = None,
    ) -> StyleClassifier:
        """One trained on the sprites of the whole `bank` that are not held out; kept in the folder `cache`.

        Raises BadInput for a bank without both kinds of sprites, CannotWrite.
        """
        training, held_out = split(bank)

        def train() -> dict[str, Tensor]:
            features = sprite_features(network, bank, cache, progress)
            sets = bank.sets.to(features.device)
            with torch.random.fork_rng():
                torch.manual_seed(0)
                head = _head(network.channels, len(bank.set_names)).to(features.device)
                fit(
                    head,
                    lambda rows: F.cross_entropy(head(features[rows]), sets[rows]),
                    training,
                    epochs=EPOCHS,
                )
            right = head(features[held_out]).argmax(dim=1) == sets[held_out]
            return head.state_dict() | {"held_out_accuracy": right.double().mean()}

        name = f"style-{fingerprint(network, bank, EPOCHS, *bank.set_names, *bank.sets.tolist())}"
        weights = cached(cache, name, train)
        accuracy = float(weights.pop("held_out_accuracy"))
        with torch.device("meta"):  # no parameters to draw: they are there
            head = _head(network.channels, len(bank.set_names))
        head.load_state_dict(weights, assign=True)
        head = head.eval().requires_grad_(False).to(bank.pixels.device)
        return cls(network, head, list(bank.set_names), accuracy)

    def consistency(
        self, crops: Float[Tensor, "b 3 h w"], sets: Int64[Tensor, " b"]
    ) -> tuple[Bool[Tensor, " b"], Float[Tensor, " b"]]:
        """Whether each crop (-1..1) is taken for one of its scene's set, and that set's probability, 0..1."""
        probabilities = self.head(self.network(crops)).softmax(dim=1)
        of_set: Tensor = probabilities.gather(1, sets[:, None])[:, 0]
        top: Tensor = probabilities.argmax(dim=1) == sets
        return top, of_set


def _head(channels: int, sets: int) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(channels), nn.Dropout(0.3), nn.Linear(channels, sets))

"""How much the fills of one scene differ from seed to seed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lazydiffusion.errors import BadInput
from lazydiffusion.evaluation.features import FeatureNetwork


def diversity(network: FeatureNetwork, fills: Float[Tensor, "s b 3 h w"]) -> Float[Tensor, " b"]:
    """Mean over pairs of seeds of 1 - cosine of their features, per scene: 0 for equal fills.

    `fills`: of B scenes with S seeds each, -1..1; crops around the holes, for what is kept is equal. Raises BadInput
    for a single seed.
    """
    seeds = len(fills)
    if seeds < 2:
        raise BadInput(f"Diversity needs at least 2 seeds a scene: there is {seeds}.")
    features = F.normalize(network(fills.flatten(0, 1)).unflatten(0, fills.shape[:2]), dim=-1)  # (S, B, C)
    cosines = torch.einsum("sbc,tbc->bst", features, features)
    first, second = torch.triu_indices(seeds, seeds, offset=1)
    return 1 - cosines[:, first, second].mean(dim=1)

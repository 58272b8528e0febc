"""The range of every number that a training configuration can set, as one table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lazydiffusion.errors import BadInput
from lazydiffusion.protocol import MAX_GUIDANCE, MAX_STEPS


@dataclass(frozen=True)
class Range:
    """The finite numbers from `low` to `high`; without the first one, or the last, where `above` or `below` is set."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        inside = self.low <= value <= self.high and math.isfinite(value)
        return inside and not (self.above and value == self.low) and not (self.below and value == self.high)

    def __str__(self) -> str:
        low = f"above {self.low:.10g}" if self.above else f"at least {self.low:.10g}"
        high = f"below {self.high:.10g}" if self.below else f"at most {self.high:.10g}"
        ends = [text for text, end in ((low, self.low), (high, self.high)) if math.isfinite(end)]
        return " and ".join(["finite", *ends][len(ends) == 2 :])


POSITIVE, SHARE, COUNT = Range(0, above=True), Range(0, 1), Range(1)
RANGES: dict[str, dict[str, Range]] = {
    "": {"seed": Range(0, 2**31 - 1)},
    "encoder": {
        **dict.fromkeys(("patch", "channels", "layers", "heads", "window_tokens", "overview_tokens"), COUNT),
        "bottleneck": Range(1, 16 * 16 * 4),  # the values of a patch: more have no directions to begin with
        "rotary_base": POSITIVE,
    },
    "decoder": {
        **dict.fromkeys(("channels", "layers", "heads", "context_channels", "out_channels"), COUNT),
        **dict.fromkeys(("token_channels", "text_channels", "sketch_patch"), COUNT),
        "bottleneck": Range(1, 16 * 16 * 3),
        "rotary_base": POSITIVE,
        "position_scale": POSITIVE,
        "position_offset": Range(),
    },
    "data": {
        "sprite_side": Range(1, 1024),
        "captions": COUNT,
        "window_tokens": Range(1, 64),
        "overview_tokens": Range(1, 64),
        "buckets": COUNT,
        "bucket_weights": Range(0),
        "at_once": Range(1, 64),
    },
    "scenes": dict.fromkeys(("same_set", "removal", "sketched", "wide", "tilted", "mirrored"), SHARE),
    "objective": {
        "draws": COUNT,
        "mean": Range(),
        "deviation": Range(0),
        "shift": Range(0.01, 100),
        "visible_weight": SHARE,
        "no_prompt": SHARE,
    },
    "optimiser": {
        "batch": COUNT,
        "steps": COUNT,
        "minutes": Range(0),
        "warm_up": Range(0),
        "muon_rate": Range(0),
        "adamw_rate": Range(0),
        "weight_decay": Range(0),
        "clip": POSITIVE,
        "ema": Range(0, 1, below=True),
        "rate_at_start": Range(0, 1, above=True),
    },
    "output": {
        "samples_every": POSITIVE,
        "log_every": COUNT,
        "samples": COUNT,
        "sample_steps": Range(1, MAX_STEPS),
        "sample_guidance": Range(0, MAX_GUIDANCE),
    },
}
"""By the configuration's table ("" is its top), then by the setting; of a list, for each of its entries."""


def check_ranges(values: Mapping[str, Any], where: str) -> None:
    """Raises BadInput for the first number out of its range. `values`: a whole configuration; `where`: its file."""
    for table, ranges in RANGES.items():
        given = values[table] if table else values
        for name, wanted in ranges.items():
            entries = given.get(name)
            for value in entries if isinstance(entries, (list, tuple)) else [entries]:
                if value is not None and value not in wanted:
                    inside = f"{where} [{table}]" if table else where
                    what = f"`{name}`" if value is entries else f"an entry of `{name}`"
                    raise BadInput(f"{inside}: {what} is {value:.10g}; it must be {wanted}.")

"""Times the parts of an edit on this machine, as ratios within one run: `make bench`.

Random weights: time does not depend on them. `--preset embedded` is the shipped architecture at a window of 256 px,
`--preset paper` LazyDiffusion's own at 1024 px (latents; wants a GPU). Prints one JSON object.
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any

import torch
import typer
from torch.utils.flop_counter import FlopCounterMode

from lazydiffusion import tokens
from lazydiffusion.devices import choose_device
from lazydiffusion.models.context_encoder import VIEW_CHANNELS
from lazydiffusion.models.lazy_decoder import Conditions, LazyDecoder
from lazydiffusion.models.presets import EMBEDDED, PAPER, build
from lazydiffusion.pipelines.cuda_graphs import GraphedDecoder

SHARES = (0.05, 0.1, 0.2, 0.5, 1.0)
TEXT_TOKENS = 32
PRESETS = {"embedded": EMBEDDED, "paper": PAPER}


def milliseconds(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median wall time of `run` over `repeats` runs, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def flops(run: Callable[[], object]) -> int:
    """Floating-point operations of `run` (2 per multiply-add)."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def random_conditions(decoder: LazyDecoder, batch: int, count: int, side: int) -> Conditions:
    """Conditions of an edit with `count` tokens in a window of side x side tokens."""
    device, dtype, config = decoder.device, decoder.dtype, decoder.config
    positions = torch.from_numpy(tokens.window_positions(side, side)).to(device)
    picked = torch.randperm(side * side, device=device)[:count]
    return decoder.prepare(
        torch.randn(batch, count, config.context_channels, device=device, dtype=dtype),
        torch.randn(batch, TEXT_TOKENS, config.text_channels, device=device, dtype=dtype),
        torch.ones(batch, TEXT_TOKENS, dtype=torch.bool, device=device),
        positions[picked].expand(batch, -1, -1),
    )


@torch.inference_mode()
def measure(preset: str, device_name: str = "auto", repeats: int = 10) -> dict[str, Any]:
    """FLOPs and milliseconds of the encoder, and of a guided decoder step by share of the window that is masked."""
    choice = choose_device(device_name)
    device, dtype = choice.device, choice.dtype
    networks = build(PRESETS[preset], device, dtype)
    encoder, decoder = networks.context_encoder, networks.decoder
    side, small = encoder.config.window_tokens, encoder.config.overview_tokens
    total = side * side

    def view(count: int) -> torch.Tensor:
        px = count * encoder.patch
        return torch.randn(1, VIEW_CHANNELS, px, px, device=device, dtype=dtype)

    place = [torch.from_numpy(tokens.window_positions(n, n))[None].to(device) for n in (side, small)]
    kept = torch.arange(tokens.bucket(max(1, total // 10), total), device=device)[None]

    def encode() -> object:
        return encoder(view(side), view(small), *place, kept)

    report: dict[str, Any] = {
        "preset": preset,
        "device": str(device),
        "reason": choice.reason,
        "dtype": str(dtype).removeprefix("torch."),
        "window_tokens": total,
        "encoder": {"ms": milliseconds(encode, device, repeats), "gflop": flops(encode) / 1e9},
        "guided_step": [],
    }
    graphed = GraphedDecoder(decoder) if device.type == "cuda" else None
    for share in SHARES:
        count = tokens.bucket(max(1, round(share * total)), total)
        conditions = random_conditions(decoder, 2, count, side)
        noisy = torch.randn(2, count, decoder.config.token_channels, device=device, dtype=dtype)
        timestep = torch.full((2,), 500.0, device=device)

        def eager(noisy: Any = noisy, timestep: Any = timestep, conditions: Any = conditions) -> object:
            return decoder.step(noisy, timestep, conditions)

        row = {
            "share": share,
            "tokens": count,
            "ms": milliseconds(eager, device, repeats),
            "gflop": flops(eager) / 1e9,
        }
        if graphed is not None:

            def replay(noisy: Any = noisy, timestep: Any = timestep, conditions: Any = conditions) -> object:
                return graphed(noisy, timestep, conditions)

            row["ms_graph"] = milliseconds(replay, device, repeats)
        report["guided_step"].append(row)
    whole = report["guided_step"][-1]
    for row in report["guided_step"]:
        row["flop_ratio"] = row["gflop"] / whole["gflop"]
        row["time_ratio"] = row["ms"] / whole["ms"]
    return report


def main(
    preset: Annotated[str, typer.Option(help="embedded or paper.")] = "embedded",
    device: Annotated[str, typer.Option(help="auto, cuda or cpu.")] = "auto",
    repeats: Annotated[int, typer.Option(help="Timed runs of each part; the median counts.")] = 10,
) -> None:
    """Print the timing report as JSON."""
    typer.echo(json.dumps(measure(preset, device, repeats), indent=2))


if __name__ == "__main__":
    typer.run(main)

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
from lazydiffusion.models.context_encoder import VIEW_CHANNELS, ContextEncoder
from lazydiffusion.models.lazy_decoder import LazyDecoder
from lazydiffusion.models.presets import EMBEDDED, PAPER, build
from lazydiffusion.pipelines.cuda_graphs import GraphedDecoder
from lazydiffusion.pipelines.sampling import Step

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


def flops(run: Callable[[], object]) -> float:
    """GFLOP of `run` (2 per multiply-add), for the meta device: there the counter sees attention, on a CPU not."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops()) / 1e9


def encoding(encoder: ContextEncoder) -> Callable[[], object]:
    """One run of the encoder over its window and overview, keeping a tenth of the tokens."""
    side, small = encoder.config.window_tokens, encoder.config.overview_tokens
    device, dtype = encoder.device, encoder.dtype

    def view(count: int) -> torch.Tensor:
        px = count * encoder.patch
        return torch.randn(1, VIEW_CHANNELS, px, px, device=device, dtype=dtype)

    window, overview = view(side), view(small)
    place = [torch.from_numpy(tokens.window_positions(n, n))[None].to(device) for n in (side, small)]
    kept = torch.arange(tokens.bucket(max(1, side * side // 10), side * side), device=device)[None]
    return lambda: encoder(window, overview, *place, kept)


def guided_step(decoder: LazyDecoder, step: Step, count: int, side: int) -> Callable[[], object]:
    """One guided step (a batch of two) over `count` tokens of a window of side x side tokens."""
    device, dtype, config = decoder.device, decoder.dtype, decoder.config
    positions = torch.from_numpy(tokens.window_positions(side, side)).to(device)
    conditions = decoder.prepare(
        torch.randn(2, count, config.context_channels, device=device, dtype=dtype),
        torch.randn(2, TEXT_TOKENS, config.text_channels, device=device, dtype=dtype),
        torch.ones(2, TEXT_TOKENS, dtype=torch.bool, device=device),
        positions[:count].expand(2, -1, -1),
    )
    noisy = torch.randn(2, count, config.token_channels, device=device, dtype=dtype)
    timestep = torch.full((2,), 500.0, device=device)
    return lambda: step(noisy, timestep, conditions)


@torch.inference_mode()
def measure(preset: str, device_name: str = "auto", repeats: int = 10) -> dict[str, Any]:
    """FLOPs and milliseconds of the encoder, and of a guided decoder step by share of the window that is masked."""
    choice = choose_device(device_name)
    device = choice.device
    real, counted = build(PRESETS[preset], device, choice.dtype), build(PRESETS[preset], "meta")
    encoder, decoder = real.context_encoder, real.decoder
    side = encoder.config.window_tokens
    total = side * side
    report: dict[str, Any] = {
        "preset": preset,
        "device": str(device),
        "reason": choice.reason,
        "dtype": str(choice.dtype).removeprefix("torch."),
        "window_tokens": total,
        "encoder": {
            "ms": milliseconds(encoding(encoder), device, repeats),
            "gflop": flops(encoding(counted.context_encoder)),
        },
        "guided_step": [],
    }
    graphed = GraphedDecoder(decoder) if device.type == "cuda" else None
    for share in SHARES:
        count = tokens.bucket(max(1, round(share * total)), total)
        row = {
            "share": share,
            "tokens": count,
            "ms": milliseconds(guided_step(decoder, decoder.step, count, side), device, repeats),
            "gflop": flops(guided_step(counted.decoder, counted.decoder.step, count, side)),
        }
        if graphed is not None:
            row["ms_graph"] = milliseconds(guided_step(decoder, graphed, count, side), device, repeats)
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

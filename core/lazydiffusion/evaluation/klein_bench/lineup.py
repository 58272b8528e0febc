"""The views side by side: one set of random weights, seen by our pipeline and by diffusers' own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinInpaintPipeline,
    Flux2Transformer2DModel,
)
from transformers import Qwen2TokenizerFast, Qwen3Config, Qwen3ForCausalLM

from lazydiffusion.devices import Choice
from lazydiffusion.engines.flux2_klein import Flux2KleinEngine, Flux2KleinOptions
from lazydiffusion.engines.inpainting import InpaintEngine
from lazydiffusion.engines.names import DIFFUSERS
from lazydiffusion.engines.stages import quiet
from lazydiffusion.errors import BadInput
from lazydiffusion.evaluation.bench.lineup import weight_bytes
from lazydiffusion.evaluation.bench.parts import Timed
from lazydiffusion.evaluation.klein_bench.sizes import Size
from lazydiffusion.pipelines.flux2_klein import TEXT_LENGTH, LazyFlux2KleinPipeline
from lazydiffusion.pipelines.flux2_reference import REFERENCES, Laziness

DIFFUSERS_CROP = f"{DIFFUSERS}-crop"
SHOWN = {DIFFUSERS: "window", DIFFUSERS_CROP: "crop"}
"""What diffusers' own pipeline is shown in the views that it runs: an engine's view (engines.inpainting.VIEWS)."""
VIEWS = (*REFERENCES, *SHOWN)
"""What can be compared."""
NOTE = "Random weights: timing and memory only, the fills mean nothing."
STAND_INS = (
    f"A tokenizer of single letters stands in for Qwen3's; every text is {TEXT_LENGTH} words long with its padding, "
    "whatever it says, so that text costs what it would.",
)
NAMED_WORDS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)


@dataclass
class KleinLineup:
    """What is compared."""

    engines: dict[str, Timed]
    """By view. All share their weights."""
    size: Size
    weight_bytes: dict[str, int]
    """By network."""


def check_views(views: Sequence[str]) -> None:
    """Raise BadInput where there is none, or one that is not compared."""
    if not views:
        raise BadInput(f"Nothing to time: name at least one of {', '.join(VIEWS)}.")
    for name in views:
        if name not in VIEWS:
            raise BadInput(f"The view {name!r} is not compared; take some of {', '.join(VIEWS)}.")


def random_klein(size: Size, views: Sequence[str], choice: Choice) -> KleinLineup:
    """The views of one model of random weights, made on the device in its own precision. Raises BadInput."""
    check_views(views)
    quiet()
    parts = random_parts(size, choice)
    lazy = LazyFlux2KleinPipeline(**parts, is_distilled=True)
    plain = _by_diffusers(parts, size)
    engines: dict[str, Timed] = {}
    for view in views:
        if view in SHOWN:
            engines[view] = InpaintEngine(plain, SHOWN[view], {"guidance_scale": 1.0})
        else:
            options = Flux2KleinOptions(laziness=Laziness(reference=view), window_tokens=size.window_tokens)
            engines[view] = Flux2KleinEngine(lazy, options)
    networks = ("transformer", "vae", "text_encoder")
    return KleinLineup(engines, size, {name: weight_bytes(parts[name]) for name in networks})


def random_parts(size: Size, choice: Choice) -> dict[str, Any]:
    """What a pipeline of this size is made of."""
    with _made_on(choice):
        parts = {
            "transformer": Flux2Transformer2DModel(**size.transformer),
            "vae": AutoencoderKLFlux2(**size.vae),
            "text_encoder": Qwen3ForCausalLM._from_config(
                Qwen3Config(**size.text_encoder), dtype=choice.dtype
            ),
        }
    for network in parts.values():
        network.eval().requires_grad_(False)
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0)
    return parts | {"tokenizer": letter_tokenizer(), "scheduler": scheduler}


def letter_tokenizer() -> Qwen2TokenizerFast:
    """One word for each letter of ASCII; chats as Qwen3's are written."""
    words = [*NAMED_WORDS, *map(chr, range(33, 127)), "Ġ", "Ċ"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Qwen2TokenizerFast(vocab=vocabulary, merges=[], extra_special_tokens=list(NAMED_WORDS[1:]))
    tokenizer.chat_template = CHAT
    return tokenizer


def _by_diffusers(parts: dict[str, Any], size: Size) -> Any:
    """diffusers' own pipeline of the same weights: its transformer keeps the attention that diffusers gives it."""
    transformer = parts["transformer"]
    with torch.device("meta"):
        twin = Flux2Transformer2DModel.from_config(transformer.config)
    twin.load_state_dict(transformer.state_dict(), assign=True)
    twin.eval().requires_grad_(False)
    # In latents; its engine takes the window from it.
    twin.register_to_config(sample_size=2 * size.window_tokens)
    scheduler = type(parts["scheduler"]).from_config(parts["scheduler"].config)
    replaced = {"transformer": twin, "scheduler": scheduler}
    return Flux2KleinInpaintPipeline(**(parts | replaced), is_distilled=True)


@contextmanager
def _made_on(choice: Choice) -> Iterator[None]:
    """Networks made inside are on the device and in its precision from the start: billions of weights, in a second."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(choice.dtype)
    try:
        with torch.device(choice.device):
            yield
    finally:
        torch.set_default_dtype(before)

"""Models on the hub that have a name here: what they are, their licence and their size (standard library only)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownModel:
    """A model that `lazydiffusion models pull` knows by name; it is kept in the user's folder under that name."""

    name: str
    repo: str
    """Its hub id."""
    licence: str
    bytes: int
    """About how much there is to download; the hub says it exactly when the model is pulled."""
    needs: str
    """What it runs well on, for somebody who is about to download it."""
    commit: str | None = None
    """The one that was looked at here, which is pulled unless another is asked for. None: see models_pull.run."""

    @property
    def command(self) -> str:
        """What a user types to have it."""
        return f"lazydiffusion models pull {self.name}"

    def missing(self, others: str) -> str:
        """What a user is told who names it where it is not. `others`: the models that are there."""
        return (
            f"The model {self.name} is not downloaded. Get it in the settings of Krita's or GIMP's panel, or by "
            f"`{self.command}` in a terminal; or choose another: {others}."
        )


KNOWN = {
    model.name: model
    for model in (
        # In bfloat16: the transformer 7.75 GB, Qwen3-4B for the prompt 8.04 GB, the VAE 0.17 GB.
        KnownModel(
            "flux2-klein",
            "black-forest-labs/FLUX.2-klein-4B",
            "Apache-2.0",
            15_960_000_000,
            "an NVIDIA GPU with 8 GB or more",
        ),
    )
}

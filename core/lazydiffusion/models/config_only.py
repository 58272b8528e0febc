"""A pipeline component that is told by its configuration alone: nothing else is saved or loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from diffusers import ConfigMixin, ModelMixin
from torch import nn


class ConfigOnly(ModelMixin, ConfigMixin):
    """Base of components without weights of their own.

    A subclass names ModelMixin among its bases as well: diffusers finds a component's way of loading by the names in
    its module.
    """

    def save_pretrained(self, save_directory: str | Path, **_: Any) -> None:
        """Write config.json, which is all there is."""
        self.save_config(save_directory)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """Load from a folder (or a hub id's subfolder) that `save_pretrained` wrote."""
        known: dict[str, Any] = {
            k: kwargs[k] for k in ("subfolder", "revision", "cache_dir", "token") if k in kwargs
        }
        known["local_files_only"] = bool(kwargs.get("local_files_only", False))
        component: Self = cls.from_config(cls.load_config(pretrained_model_name_or_path, **known))
        dtype = kwargs.get("dtype") or kwargs.get("torch_dtype")
        if dtype is not None:
            nn.Module.to(component, dtype=dtype)  # ModelMixin's own `to` warns, whatever the model
        return component

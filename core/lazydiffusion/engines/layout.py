"""Where an edit's fills go and how they end: the same for every engine, whatever makes the pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lazydiffusion import blending, compose, geometry
from lazydiffusion.engines.base import Edit, Fill, Pixels, Report
from lazydiffusion.geometry import EditPlan
from lazydiffusion.window import Box

Masks = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Layout:
    """An edit's mask, its geometry, and the opacity that its fills get."""

    edit: Edit
    mask: Masks
    """(h, w) of the canvas's region, 0..1, grown as the settings say."""
    plan: EditPlan
    local_box: Box
    """The fill's box in the region."""
    alpha: Masks
    """(h, w) of the fill's box, 0..1, feathered as the settings say."""

    @classmethod
    def of(cls, edit: Edit, choose_plan: Callable[[Masks], EditPlan], report: Report) -> Layout:
        """Lay an edit out; `choose_plan` is given the grown mask. The report gets window, scale and hidden tokens."""
        mask = geometry.grow(edit.mask, edit.settings.grow)
        plan = choose_plan(mask)
        local_box = plan.fill_box.moved(-edit.canvas.region.x, -edit.canvas.region.y)
        alpha = geometry.feather(mask, edit.settings.feather, local_box)
        report.window, report.scale, report.hidden_tokens = plan.window, plan.scale, plan.hidden_count
        return cls(edit, mask, plan, local_box, alpha)

    def finished(self, colours: Pixels, seed: int) -> Fill:
        """The fill of generated colours (h, w, 3) in the plan's box, blended if the settings say so."""
        if self.edit.settings.blend:
            colours = blending.poisson(self.edit.canvas.pixels, colours, self.mask, self.local_box)
        return Fill(compose.with_alpha(colours, self.alpha), self.plan.fill_box, seed)

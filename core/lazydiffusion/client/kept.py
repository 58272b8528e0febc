"""The fills that the core keeps, as editors list them (standard library only, valid Python 3.9)."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from lazydiffusion.client.history import HistoryEntry, HistoryFill
from lazydiffusion.client.words import tr
from lazydiffusion.protocol import EditSettings


@dataclass(frozen=True)
class Kept:
    """One fill of an earlier edit, as editors list them."""

    entry: HistoryEntry
    fill: HistoryFill

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from all others."""
        return self.entry.id, self.fill.fill

    @property
    def caption(self) -> str:
        """Prompt, seed and time, on two lines."""
        prompt = " ".join(self.entry.settings.prompt.split()) or tr("(no prompt)")
        when = time.strftime("%d %b %H:%M", time.localtime(self.entry.created))
        return "%s\n%s" % (prompt, tr("seed %d · %s") % (self.fill.seed, when))

    def settings_again(self) -> EditSettings:
        """The settings that would make this fill again, alone.

        Raises BadInput for a later fill of an edit with the largest seed.
        """
        return replace(self.entry.settings, seed=self.fill.seed, variations=1)

"""Live's fills among the results: one draft at a time, which the next one replaces until the artist wants it."""

from __future__ import annotations

from typing import Optional

from .live import LiveEdit
from .qt import QtCore
from .results import Result, ResultList


class Drafts(QtCore.QObject):
    """Puts what Live finds into the list, and has the core keep what the artist wants of it."""

    def __init__(self, live: LiveEdit, results: ResultList, parent: Optional[QtCore.QObject] = None) -> None:
        super().__init__(parent)
        self._live, self._results = live, results
        self._draft: Optional[Result] = None
        self.hidden = False
        """Whether the artist has clicked the draft away from the canvas: the next one stays away too."""
        live.found.connect(self._found)
        live.kept.connect(results.mark_kept)

    @property
    def current(self) -> Optional[Result]:
        """The draft, if it is still in the list."""
        return self._draft if self._draft in self._results.results else None

    def keep(self) -> bool:
        """Keep the draft; the next one gets a place of its own. False where there is none."""
        draft, self._draft = self.current, None
        if draft is None:
            return False
        self._live.keep(draft)
        return True

    def _found(self, result: Result) -> None:
        if self.current is not None and self.current.document != result.document:
            self.keep()  # the artist shows another picture now; this one's fill stays with it
        old, self._draft = self.current, result
        if old is not None:
            self._results.replace(old, result)
        else:
            self._results.add(result, choose=not self.hidden)

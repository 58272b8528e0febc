"""What can go wrong between an editor and the core; every message is a sentence for an artist."""

from __future__ import annotations

from typing import Optional

from lazydiffusion.errors import LazyDiffusionError
from lazydiffusion.protocol import PROTOCOL


class CoreError(LazyDiffusionError):
    """Base of every error that `lazydiffusion.client` raises."""


class CoreNotInstalled(CoreError):
    """No command is known that would start the core."""


class CoreFailedToStart(CoreError):
    """The core was started but ended, or was not ready in time."""

    def __init__(self, message: str, log_tail: str = "") -> None:
        super().__init__(message + ("\nThe end of its log:\n" + log_tail if log_tail else ""))
        self.log_tail = log_tail
        """The last lines that the core printed; empty if there are none."""


class CoreTooOld(CoreError):
    """Client and core speak different versions of the protocol; the message says which side to update."""

    @classmethod
    def of_protocol(cls, core_protocol: object) -> CoreTooOld:
        """The error for a core that speaks another version than this client."""
        if isinstance(core_protocol, int) and core_protocol > PROTOCOL:
            return cls(
                "The LazyDiffusion core is newer (protocol %d) than this plugin (protocol %d). Update the plugin."
                % (core_protocol, PROTOCOL)
            )
        return cls(
            "The running LazyDiffusion core is older (protocol %s) than this plugin (protocol %d). "
            "Update LazyDiffusion, run `lazydiffusion stop`, and try again." % (core_protocol, PROTOCOL)
        )


class CoreLost(CoreError):
    """The core does not answer (any more)."""

    def __init__(self, message: str = "", untouched: bool = False) -> None:
        super().__init__(
            message
            or "The LazyDiffusion core no longer answers. Try again: it is started anew if it has ended."
        )
        self.untouched = untouched
        """Whether the core certainly did nothing of what it was asked: asking again does nothing twice."""


class GaveUp(CoreError):
    """Starting the core or sending an edit was broken off because the caller wanted so."""

    def __init__(self) -> None:
        super().__init__("The edit was cancelled before it was sent.")


class EditRejected(CoreError):
    """The core does not do what it was asked; the message says why."""

    def __init__(self, message: str, code: Optional[str] = None) -> None:
        super().__init__(message)
        self.code = code or "rejected"
        """The core's word for it, for instance "bad-input"."""


class EditFailed(CoreError):
    """The core began with an edit and could not finish it."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code
        """bad-input, bad-model, out-of-memory, stopped or internal."""

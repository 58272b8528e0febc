"""What the service answers instead of a result: one class for each status."""

from __future__ import annotations

from lazydiffusion.errors import BadModel, LazyDiffusionError, OutOfMemory


def code_of(error: LazyDiffusionError) -> str:
    """bad-model, out-of-memory or bad-input: what a program may act on."""
    if isinstance(error, BadModel):
        return "bad-model"
    return "out-of-memory" if isinstance(error, OutOfMemory) else "bad-input"


def sendable(text: str) -> str:
    """The text with "?" for what cannot be sent as UTF-8: file names may hold it, and JSON can spell it."""
    return text.encode("utf8", "replace").decode("utf8")


class Refusal(LazyDiffusionError):
    """Base: a request that is not carried out."""

    status = 400
    code = "wrong-request"


class WrongRequest(Refusal):
    """A malformed request: a fault of the program that sent it."""


class NotAllowed(Refusal):
    """The token is missing or wrong."""

    status = 401
    code = "not-allowed"


class FromABrowser(Refusal):
    """A request for another host, or one that a web page made."""

    status = 403
    code = "from-a-browser"


class NotThere(Refusal):
    """An edit, a fill, a model or a page that does not exist."""

    status = 404
    code = "not-there"


class OtherProtocol(Refusal):
    """Client and core are of versions that do not understand each other."""

    status = 409
    code = "other-protocol"


class TooLarge(Refusal):
    """More bytes or pixels than are allowed."""

    status = 413
    code = "too-large"


class CannotBeDone(Refusal):
    """A well-formed request for what cannot be: a setting out of range, an unknown model."""

    status = 422
    code = "bad-input"

    def __init__(self, message: str, code: str = code):
        super().__init__(message)
        self.code = code

    @classmethod
    def of(cls, error: LazyDiffusionError) -> CannotBeDone:
        """The same sentence, with the code of its class."""
        return cls(str(error), code_of(error))


class Unchangeable(Refusal):
    """The history cannot be changed."""

    status = 423
    code = "unchangeable"


class QueueFull(Refusal):
    """Too many edits are waiting."""

    status = 429
    code = "queue-full"


class Unexpected(Refusal):
    """A fault of the core."""

    status = 500
    code = "internal"


class Ending(Refusal):
    """The core is about to end."""

    status = 503
    code = "ending"

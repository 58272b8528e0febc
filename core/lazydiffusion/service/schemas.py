"""What the service answers, as the OpenAPI document describes it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from lazydiffusion import events, protocol
from lazydiffusion.service.downloads import DownloadState
from lazydiffusion.service.history import Entry
from lazydiffusion.service.shelf import State
from lazydiffusion.service.uploads import MAX_BODY


class ErrorBody(BaseModel):
    """What went wrong."""

    code: str = Field(description="For programs.")
    message: str = Field(description="A sentence for the user.")


class Error(BaseModel):
    """The body of every answer of status 400 and above."""

    error: ErrorBody


class Health(BaseModel):
    """The core answers."""

    status: Literal["ok"] = "ok"


class Device(BaseModel):
    """Where models run."""

    name: str
    type: str
    reason: str = Field(description="Why this device, in words.")
    memory_total: int = Field(description="Bytes.")
    memory_free: int = Field(description="Bytes.")


class Model(BaseModel):
    """A model that edits may name."""

    name: str
    state: State
    bytes: int = Field(description="Size of its files.")
    window_tokens: int = Field(description="Side of its window, tokens of 16 px.")
    overview_tokens: int
    engine: str = Field(description="Which of `engines` it is for; empty where only loading it will tell.")
    problem: str = Field(description="Why it cannot be used, a sentence for the user; empty if it can.")
    things: list[str] = Field(
        description="Names of all that it was taught to draw; empty where they are no list."
    )
    words: list[str] = Field(description="What a prompt may call them: the names, and other words.")


class Downloadable(BaseModel):
    """A model that is known by name and not here."""

    name: str
    bytes: int = Field(description="About how much there is to download.")
    downloaded: int = Field(description="Bytes of it that are here already.")
    licence: str
    needs: str = Field(description="What it runs well on, in words.")
    command: str = Field(description="What the user types to download it.")
    state: DownloadState = Field(description="What the core is doing about it.")
    problem: str = Field(description="Why its download failed, a sentence for the user; empty if it did not.")


class Queue(BaseModel):
    """What there is to do."""

    running: bool
    waiting: int
    client: str = Field(description="Whose edit is running, for instance krita-4711; empty where none is.")


class Limits(BaseModel):
    """What a request may be."""

    min_side: int = protocol.MIN_SIDE
    max_side: int = protocol.MAX_SIDE
    max_prompt: int = protocol.MAX_PROMPT
    max_steps: int = protocol.MAX_STEPS
    max_guidance: float = protocol.MAX_GUIDANCE
    max_variations: int = protocol.MAX_VARIATIONS
    max_radius: int = protocol.MAX_RADIUS
    max_body: int = MAX_BODY


class HistorySize(BaseModel):
    """Where the history is and what it takes."""

    folder: str
    bytes: int
    max_bytes: int


class Info(BaseModel):
    """What the core is and does."""

    protocol: int
    version: str
    versions: dict[str, str] = Field(description="Of what the core is built on.")
    pid: int
    state: Literal["loading", "ready", "busy"]
    device: Device | None
    problem: str = Field(
        description="Why no edit can be made, a sentence for the user; empty if nothing is known."
    )
    engines: list[str]
    models: list[Model]
    downloadable: list[Downloadable] = Field(description="Known models that edits may not name yet.")
    default_model: str
    queue: Queue
    limits: Limits
    history: HistorySize


class Accepted(BaseModel):
    """An edit was taken in."""

    id: str
    position: int = Field(description="How many edits come before it.")


class SavedFill(BaseModel):
    """A fill in the history."""

    fill: int
    seed: int
    box: list[int] = Field(description="[x, y, w, h] on the canvas, px.")


class HistoryEntry(BaseModel):
    """An edit in the history."""

    id: str
    created: float = Field(description="Seconds since 1970.")
    settings: dict[str, Any]
    canvas_size: list[int] = Field(description="[width, height], px.")
    client: str
    state: str
    fills: list[SavedFill]

    @classmethod
    def of(cls, entry: Entry) -> HistoryEntry:
        """As `entry` is now."""
        return cls(
            id=entry.id, created=entry.created, settings=entry.settings, canvas_size=entry.canvas_size,
            client=entry.client, state=entry.state,
            fills=[SavedFill(fill=f.fill, seed=f.seed, box=f.box) for f in entry.fills],
        )  # fmt: skip


class HistoryList(BaseModel):
    """The newest edits, newest first."""

    edits: list[HistoryEntry]


class ModelState(BaseModel):
    """What a model is about to be."""

    name: str
    state: State


class Stopping(BaseModel):
    """The core is about to end."""

    status: Literal["stopping"] = "stopping"


EDIT_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["request", "canvas", "mask"],
                "properties": {
                    "request": {
                        "type": "object",
                        "required": ["protocol", "settings", "canvas_size", "images"],
                        "description": "Comes first. Tells the format and size of the pictures that follow.",
                        "properties": {
                            "protocol": {"type": "integer", "const": protocol.PROTOCOL},
                            "client": {"type": "string", "maxLength": protocol.MAX_CLIENT},
                            "while_watched": {"type": "boolean"},
                            "draft": {"type": "boolean"},
                            "settings": {"type": "object"},
                            "canvas_size": {
                                "type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2,
                            },
                            "region": {
                                "type": ["array", "null"],
                                "items": {"type": "integer"}, "minItems": 4, "maxItems": 4,
                            },
                            "images": {"type": "object"},
                        },
                    },
                    **{name: {"type": "string", "format": "binary"} for name in protocol.IMAGES},
                },
            },
            "encoding": {"request": {"contentType": "application/json"}},
        }
    },
}  # fmt: skip
"""The body of POST /v1/edits, which is read as a stream and so not by FastAPI."""

EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string", "pattern": "^[1-9][0-9]*$", "description": "Counts from 1."},
        "event": {"type": "string", "enum": sorted(events.KINDS)},
        "data": {
            "type": "string", "contentMediaType": "application/json", "contentSchema": {"type": "object"},
        },
    },
}  # fmt: skip
"""Each event of GET /v1/edits/{id}/events."""

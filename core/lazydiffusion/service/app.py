"""The service's requests: each is checked, handed to the queue, the jobs, the shelf or the history, and answered."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, StreamingResponse

from lazydiffusion import __version__
from lazydiffusion.engines.names import ENGINES
from lazydiffusion.errors import BadModel, LazyDiffusionError
from lazydiffusion.known_models import KNOWN
from lazydiffusion.protocol import MAX_VARIATIONS, PROTOCOL
from lazydiffusion.service import drafts, event_streams, memory, pictures, schemas
from lazydiffusion.service.downloads import Downloads
from lazydiffusion.service.errors import (
    CannotBeDone,
    Ending,
    NotThere,
    Refusal,
    Unchangeable,
    Unexpected,
    sendable,
)
from lazydiffusion.service.history import History
from lazydiffusion.service.intake import Intake
from lazydiffusion.service.jobs import Jobs
from lazydiffusion.service.queue import Queue
from lazydiffusion.service.security import answer
from lazydiffusion.service.shelf import Downloadable, Shelf
from lazydiffusion.service.worker import Worker


@dataclass
class Core:
    """The parts that the requests work on."""

    queue: Queue
    jobs: Jobs
    shelf: Shelf
    history: History
    worker: Worker
    downloads: Downloads
    stop: Callable[[], None]
    """Makes the core end."""


Id = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="As `POST /v1/edits` gave it.")]
Number = Annotated[int, Path(ge=0, lt=MAX_VARIATIONS, description="Which fill, from 0.")]
Name = Annotated[str, Path(min_length=1, max_length=200, description="As `GET /v1/info` lists it.")]


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": schemas.Error} for status in (401, 403, *statuses)}


def _binary(*kinds: str) -> dict[int | str, dict[str, Any]]:
    schema = {"schema": {"type": "string", "format": "binary"}}
    return {200: {"description": "The picture.", "content": dict.fromkeys(kinds, schema)}}


def make_app(core: Core) -> FastAPI:
    """The application, without its guard (security.Guard)."""
    app = FastAPI(
        title="LazyDiffusion core", version=__version__, openapi_url="/v1/openapi.json", docs_url=None, redoc_url=None,
        redirect_slashes=False,
        responses=_errors(422),
    )  # fmt: skip
    _tell_errors(app)
    _add_edits(app, core)
    _add_history(app, core)
    _add_core(app, core)
    _describe_security(app)
    return app


def _add_core(app: FastAPI, core: Core) -> None:
    @app.get("/v1/health", responses={403: {"model": schemas.Error}})
    async def health(response: Response) -> schemas.Health:
        """Whether the core answers. Needs no token."""
        response.headers["Connection"] = "close"  # who has no token gets nothing more on this connection
        return schemas.Health()

    @app.get("/v1/info")
    def info() -> schemas.Info:
        """What the core is, where it runs, what it can and what it is doing."""
        shelf, waiting = core.shelf, len(core.queue)
        current = core.worker.current  # once: the worker changes it meanwhile
        busy = current is not None or waiting > 0
        loading = not shelf.ready.is_set()
        return schemas.Info(
            protocol=PROTOCOL,
            version=__version__,
            versions=_versions(),
            pid=os.getpid(),
            state="loading" if loading else "busy" if busy else "ready",
            device=_device(shelf),
            problem=shelf.problem,
            engines=list(ENGINES),
            models=[
                schemas.Model(
                    name=m.name, state=shelf.state(m.name), bytes=m.bytes,
                    window_tokens=m.window_tokens, overview_tokens=m.overview_tokens,
                    engine=m.engine, problem=m.problem, things=list(m.things), words=list(m.words),
                )
                for m in shelf.models()
            ],
            downloadable=[_downloadable(core, it) for it in shelf.downloadable()],
            default_model=shelf.default,
            queue=schemas.Queue(
                running=current is not None, waiting=waiting, client=current.client if current is not None else "",
            ),
            limits=schemas.Limits(),
            history=schemas.HistorySize(
                folder=sendable(str(core.history.folder)), bytes=core.history.size, max_bytes=core.history.max_bytes
            ),
        )  # fmt: skip

    @app.post("/v1/models/{name:path}/download", status_code=202, responses=_errors(404, 422, 503))
    def download(name: Name) -> schemas.Downloadable:
        """Begin to download a known model, or go on with it; `GET /v1/info` tells how far it is."""
        if core.queue.closed:
            raise Ending("The core is ending; try again in a moment.")
        wanted = _not_here(core, name)
        core.downloads.start(name)
        return _downloadable(core, wanted)

    @app.delete("/v1/models/{name:path}/download", status_code=204, responses=_errors(404, 422))
    def stop_download(name: Name) -> None:
        """End a model's download soon; what is downloaded is kept."""
        _not_here(core, name)
        core.downloads.stop(name)

    @app.post("/v1/models/{name:path}/{what}", status_code=202, responses=_errors(404, 503))
    def change_model(name: Name, what: Literal["load", "unload"]) -> schemas.ModelState:
        """Load a model, or let it go, as soon as the running edit has ended."""
        try:
            core.shelf.find(name)
        except BadModel as error:
            raise NotThere(str(error)) from error
        if core.queue.closed:
            raise Ending("The core is ending; try again in a moment.")
        if what == "load":
            core.queue.put_task(partial(core.shelf.load, name))
            return schemas.ModelState(
                name=name, state="loaded" if core.shelf.state(name) == "loaded" else "loading"
            )
        core.queue.put_task(partial(core.shelf.unload, name))
        return schemas.ModelState(name=name, state="absent")

    @app.post("/v1/stop", status_code=202)
    async def stop() -> schemas.Stopping:
        """End the core. A running edit is cut short; finished fills are in the history."""
        core.stop()
        return schemas.Stopping()


def _add_edits(app: FastAPI, core: Core) -> None:
    intake = Intake(core.queue, core.jobs, core.shelf, core.worker)

    @app.post(
        "/v1/edits", status_code=202, openapi_extra={"requestBody": schemas.EDIT_BODY},
        responses=_errors(400, 409, 413, 422, 429, 503),
    )  # fmt: skip
    async def submit(request: Request) -> schemas.Accepted:
        """Take in an edit."""
        job, position = await intake.take(request)
        return schemas.Accepted(id=job.id, position=position)

    @app.get(
        "/v1/edits/{id}/events",
        response_class=StreamingResponse,
        responses={
            **_errors(404),
            200: {
                "description": "Server-sent events, as lazydiffusion.events tells them.",
                "content": {"text/event-stream": {"itemSchema": schemas.EVENT}},
            },
        },
    )  # fmt: skip
    async def events(
        id: Id, last_event_id: Annotated[int, Header(ge=0, le=2**31, description="Go on after this one.")] = 0
    ) -> StreamingResponse:
        """What happens to an edit, until it ends."""
        stream = _events_of(core, id, last_event_id)
        return StreamingResponse(
            stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    @app.get(
        "/v1/edits/{id}/fills/{k}",
        response_class=Response,
        responses={**_errors(404), **_binary("application/octet-stream", "image/png")},
    )
    def fill(id: Id, k: Number, request: Request) -> Response:
        """A finished fill: raw RGBA rows, or a PNG file. X-Box tells where it lies on the canvas."""
        job = core.jobs.get(id)
        made = job.fills.get(k) if job is not None else None
        as_png = "image/png" in request.headers.get("accept", "")
        if made is not None:
            data = pictures.png(made.pixels) if as_png else made.pixels.tobytes()
            return _picture(data, as_png, made.box.as_list(), made.seed)
        saved = core.history.fill(id, k)
        if saved is None:
            raise NotThere(
                "There is no such fill: it is not finished yet, or it was removed from the history."
            )
        checked = pictures.whole if as_png else pictures.raw
        whole = checked(saved[1], saved[0].box[2:])
        if whole is None:
            raise NotThere("This fill is damaged on the disk. Delete its edit from the history.")
        return _picture(whole, as_png, saved[0].box, saved[0].seed)

    @app.post("/v1/edits/{id}/keep", status_code=204, responses=_errors(404, 422, 423))
    def keep(id: Id) -> None:
        """Put a draft's fills into the history. An edit that is there already stays as it is."""
        job = core.jobs.get(id)
        if job is not None:
            drafts.keep(job, core.history)
        elif core.history.get(id) is None:
            raise NotThere("There is no such edit: it was a draft, and the core has let go of it.")

    @app.delete("/v1/edits/{id}", status_code=204, responses=_errors(404))
    def cancel(id: Id) -> None:
        """Cancel an edit, and only that one. One that has ended stays as it is."""
        job = core.jobs.get(id)
        if job is not None:
            core.worker.cancel(job)
        elif core.history.get(id) is None:
            raise NotThere("There is no such edit.")


def _add_history(app: FastAPI, core: Core) -> None:
    @app.get("/v1/history")
    def history(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> schemas.HistoryList:
        """The newest edits that have fills, newest first."""
        return schemas.HistoryList(
            edits=[schemas.HistoryEntry.of(entry) for entry in core.history.entries(limit)]
        )

    @app.get(
        "/v1/history/{id}/fills/{k}/thumbnail",
        response_class=Response,
        responses={**_errors(404), **_binary("image/png")},
    )
    def thumbnail(id: Id, k: Number) -> Response:
        """A small picture of a fill with what is around it."""
        data = core.history.thumbnail(id, k)
        if data is None:
            raise NotThere("There is no such fill in the history.")
        return Response(data, media_type="image/png")

    @app.delete("/v1/history/{id}", status_code=204, responses=_errors(404, 423))
    def delete(id: Id) -> None:
        """Remove an edit from the history."""
        with _told_if_fixed(core.history):
            if not core.history.delete(id):
                raise NotThere("There is no such edit in the history.")

    @app.delete("/v1/history", status_code=204, responses=_errors(423))
    def clear() -> None:
        """Remove all edits from the history."""
        with _told_if_fixed(core.history):
            core.history.clear()


@contextmanager
def _told_if_fixed(history: History) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unchangeable(
            f"The history in {history.folder} cannot be changed: {error.strerror}. Check the folder's permissions."
        ) from error


def _events_of(core: Core, id: str, after: int) -> AsyncIterator[bytes]:
    job = core.jobs.get(id)
    if job is not None:
        return event_streams.follow(job, after)
    entry = core.history.get(id)
    if entry is None:
        raise NotThere("There is no such edit: it ended without a fill, or was removed from the history.")
    return event_streams.replay(entry, after)


@cache
def _versions() -> dict[str, str]:
    """Of the packages that a report of a fault should name; asked of their metadata, without importing them."""
    return {name: metadata.version(name) for name in ("torch", "diffusers", "transformers")}


def _not_here(core: Core, name: str) -> Downloadable:
    """The model of that name, which could be downloaded. Raises NotThere, CannotBeDone."""
    for it in core.shelf.downloadable():
        if it.model.name == name:
            return it
    if name in KNOWN:
        raise CannotBeDone(f"The model {name} is here already.", "already-here")
    raise NotThere(f"No model {name!r} can be downloaded by its name; known are {', '.join(KNOWN)}.")


def _downloadable(core: Core, it: Downloadable) -> schemas.Downloadable:
    model, running = it.model, core.downloads.get(it.model.name)
    return schemas.Downloadable(
        name=model.name, bytes=running.bytes if running is not None else model.bytes, downloaded=it.downloaded,
        licence=model.licence, needs=model.needs, command=model.command,
        state=running.state if running is not None else "absent",
        problem=running.problem if running is not None else "",
    )  # fmt: skip


def _device(shelf: Shelf) -> schemas.Device | None:
    choice = shelf.choice
    if choice is None:
        return None
    free, total = memory.free_and_total(choice)
    return schemas.Device(
        name=choice.name, type=choice.device.type, reason=choice.reason, memory_total=total, memory_free=free
    )


def _picture(data: bytes, as_png: bool, box: list[int], seed: int) -> Response:
    return Response(
        data,
        media_type="image/png" if as_png else "application/octet-stream",
        headers={"X-Box": ",".join(map(str, box)), "X-Seed": str(seed)},
    )


def _tell_errors(app: FastAPI) -> None:
    """Every error, also the framework's own, has the same body."""

    @app.exception_handler(LazyDiffusionError)
    async def expected(request: Request, error: LazyDiffusionError) -> Response:
        return answer(error if isinstance(error, Refusal) else CannotBeDone.of(error))

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        # The server puts the error itself into the log.
        return answer(Unexpected("The core met an error that it did not expect. Its log says more."))

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return answer(CannotBeDone(f"{where}: {first['msg']}.", "wrong-request"))

    @app.exception_handler(HTTPException)
    async def of_the_framework(request: Request, error: HTTPException) -> Response:
        body = {
            "error": {
                "code": "not-there" if error.status_code == 404 else "wrong-request",
                "message": error.detail,
            }
        }
        return JSONResponse(body, error.status_code, headers=error.headers)


def _describe_security(app: FastAPI) -> None:
    """The token is checked by the guard, before FastAPI sees a request; the document tells of it all the same."""
    document = app.openapi()
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}]
    document["paths"]["/v1/health"]["get"]["security"] = []

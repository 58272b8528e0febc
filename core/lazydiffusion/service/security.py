"""Who may ask the core for anything: programs of this user that know the token, and no web page."""

from __future__ import annotations

import hmac
from collections.abc import Collection

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from lazydiffusion.service.errors import FromABrowser, NotAllowed, Refusal, WrongRequest, sendable

OPEN = "/v1/health"
"""Answers without a token, and tells nothing."""
ONLY_BROWSERS_SEND = (b"origin", b"sec-")
"""How the headers begin that a page's scripts can neither leave out nor forge: Sec-Fetch-Site, Sec-WebSocket-Key."""


class Guard:
    """Lets a request through to the application, or refuses it before a byte of its body is read."""

    def __init__(self, app: ASGIApp, token: str, hosts: Collection[str]):
        """`hosts`: values that the Host header may have; a page that renames its server (DNS rebinding) has another."""
        self.app = app
        self._authorization = f"Bearer {token}".encode("ascii")
        self._hosts = {host.lower().encode("ascii") for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no WebSockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self.app(scope, receive, send)
        else:
            await answer(refusal)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        names = {name for name, _ in headers}
        hosts = [value for name, value in headers if name == b"host"]
        if any(name.startswith(ONLY_BROWSERS_SEND) for name in names):
            return FromABrowser("Web pages may not use the core.")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return FromABrowser("The request is for another host.")
        if b"upgrade" in names:  # what follows would be no HTTP, and the core would wait for the body
            return WrongRequest("The core speaks nothing but HTTP/1.1.")
        if scope["path"] == OPEN:
            return None
        given = [value for name, value in headers if name == b"authorization"]
        # compare_digest takes the same time wherever the first difference is, so it cannot be guessed bit by bit.
        if len(given) != 1 or not hmac.compare_digest(given[0], self._authorization):
            return NotAllowed("The token is missing or wrong: it is in the core's runtime file.")
        return None


def answer(refusal: Refusal) -> JSONResponse:
    """The response that tells of a refusal."""
    headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
    if refusal.status not in (404, 422, 423):
        headers["Connection"] = "close"  # the body may be there still, unread
    return JSONResponse(
        {"error": {"code": refusal.code, "message": sendable(str(refusal))}},
        status_code=refusal.status,
        headers=headers,
    )

"""Who may come in, and how much they may send; before anything is read or routed.

A connection over the Unix socket is let in by the socket's own permissions, and its actor is the peer as the
kernel knows it. Over TCP every route but the version needs the token. Where it is not certain that a connection
came over the Unix socket, it is taken for TCP.
"""

from __future__ import annotations

import hmac
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wye.api import faults
from wye.daemon.routes.serving import UNIX
from wye.errors import BadRequest, Denied, WyeError

BODY_LIMIT_BYTES = 8 << 20
_OPEN_TO_ALL = frozenset({"/v1/version"})


class NoToken(Denied):
    code = "no_token"
    http_status = 401


class TooLarge(BadRequest):
    code = "too_large"
    http_status = 413


class Guard:
    """ASGI middleware. Sets `scope["wye.actor"]`."""

    def __init__(self, app: ASGIApp, *, token: str | None, token_name: str) -> None:
        self.app = app
        self._token = token.encode() if token else None
        self._token_name = token_name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            scope["wye.actor"] = self._actor(scope, headers)
            _check_length(headers)
        except WyeError as error:
            await _refuse(scope, send, error)
            return
        await self.app(scope, _limited(receive), send)

    def _actor(self, scope: Scope, headers: Headers) -> str:
        client = scope.get("client")
        if client and str(client[0]).startswith(UNIX):
            return str(client[0])
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if self._token and scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token):
            return f"token:{self._token_name}"
        if scope["path"] in _OPEN_TO_ALL:
            return "anybody"
        if given:
            raise Denied("the token is not valid", hint="set WYE_TOKEN to the daemon's token")
        raise NoToken("a token is needed here", hint="set WYE_TOKEN to the daemon's token")


def _check_length(headers: Headers) -> None:
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit():
        raise BadRequest("the content-length is not a number")
    if int(length) > BODY_LIMIT_BYTES:
        raise TooLarge(f"a body of {length} bytes is more than the {BODY_LIMIT_BYTES} that are taken")


def _limited(receive: Receive) -> Receive:
    """For bodies that do not tell their length."""
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > BODY_LIMIT_BYTES:
                raise TooLarge(f"the body is larger than {BODY_LIMIT_BYTES} bytes")
        return message

    return limited


async def _refuse(scope: Scope, send: Send, error: WyeError) -> None:
    start: dict[str, Any] = {"status": error.http_status, "headers": [(b"content-type", b"application/json")]}
    if error.http_status == 401:
        start["headers"].append((b"www-authenticate", b"Bearer"))
    body = faults.encode(error).model_dump_json().encode()
    kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    await send({"type": f"{kind}.start", **start})
    await send({"type": f"{kind}.body", "body": body})

"""The FastAPI application for an engine.

Errors leave in one shape, `{"error": {...}}` with the status of the WyeError, whatever raised them: a verb, a
body that is not what it must be, a path that nobody serves. docs/openapi.json is what `schema` says.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from wye import __version__
from wye.api import faults, wire
from wye.api.values import complaint
from wye.daemon.routes import environments, execute, history, machine, merging, streams
from wye.daemon.routes.calls import Calls, Mishap
from wye.daemon.routes.guard import Guard
from wye.engine.context import Engine
from wye.errors import BadRequest, NotFound, WyeError

_DESCRIPTION = """\
Forks of a running production. Every error is `{"error": {code, message, hint, retryable, exit_code}}`.

A verb that may take long answers with `application/x-ndjson`: lines `{"progress": {...}}`, then one line
`{"result": {...}}` of the type given here, or `{"error": {...}}`. It goes on if the client goes away.

`exec` is a WebSocket, `/v1/environments/{name}/exec`. The client's first message is text, `{"argv": [...], "service",
"env", "working_dir", "user", "tty", "rows", "columns", "stdin"}`. Binary messages follow, whose first byte is the
channel: 0 stdin (empty: end of file), 1 stdout, 2 stderr. Text from the client: `{"resize": [rows, columns]}` or
`{"signal": number}`. The last message is text, `{"exit": code}` or `{"error": {...}}`. The process is killed if the
client goes away.
"""


def application(engine: Engine, *, token: str | None = None, token_name: str = "default") -> FastAPI:
    """`token`: what clients over TCP must show; None: nobody comes in that way."""
    app = _routes()
    app.state.calls = Calls(engine)
    app.add_middleware(Guard, token=token, token_name=token_name)
    return app


def schema() -> dict[str, Any]:
    """The OpenAPI document."""
    return _routes().openapi()


def _routes() -> FastAPI:
    app = FastAPI(
        title="wye",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
        generate_unique_id_function=lambda route: route.name.rstrip("_"),
        responses={"default": {"model": wire.ErrorBody, "description": "Nothing was changed, or what failed"}},
    )
    for module in (environments, history, merging, machine, streams, execute):
        app.include_router(module.router)
    app.add_exception_handler(WyeError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_bad_body)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_mishap)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    app.state.calls.close()


def _respond(error: WyeError) -> Response:
    body = faults.encode(error).model_dump_json()
    return Response(body, status_code=error.http_status, media_type="application/json")


async def _on_error(_: Request, error: Exception) -> Response:
    return _respond(error if isinstance(error, WyeError) else Mishap(str(error)))


async def _on_bad_body(_: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    text = complaint(found[0]) if found else str(error)
    return _respond(BadRequest(text, hint="see /v1/openapi.json for what is taken"))


async def _on_http_error(request: Request, error: Exception) -> Response:
    if isinstance(error.__cause__, WyeError):
        return _respond(error.__cause__)
    status = error.status_code if isinstance(error, HTTPException) else 500
    asked = f"{request.method} {request.url.path}"
    if status in (404, 405):
        return _respond(NotFound(f"there is no {asked}", hint="see /v1/openapi.json for what there is"))
    return _respond(BadRequest(f"{asked}: {error}"))


async def _on_mishap(_: Request, error: Exception) -> Response:
    """For a bug outside the verbs. The traceback is logged by the server."""
    return _respond(Mishap(f"wye made a mistake ({type(error).__name__}); please report it with the daemon's log"))

"""Routes that tell what goes on: logs and events, as NDJSON; with `follow` for as long as the client listens."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request, Response

from wye.api import wire
from wye.daemon.routes.calls import Lines, here
from wye.engine import logs
from wye.engine.context import Engine
from wye.interfaces import LogLine
from wye.model import Event

router = APIRouter(prefix="/v1", tags=["streams"])

_POLL_S = 0.25


@router.get("/environments/{name}/logs", response_model=wire.LogLine, response_class=Lines)
async def logs_(
    request: Request,
    name: str,
    service: Annotated[tuple[str, ...], Query()] = (),
    since: float | None = None,
    tail: Annotated[int | None, Query(ge=0)] = None,
    follow: bool = False,
) -> Response:
    calls, engine, _ = here(request)

    def lines(wanted: Callable[[], bool]) -> Iterator[bytes]:
        found = logs.logs(engine, name, service, since_at=since, tail=tail, follow=wanted if follow else None)
        return (_log_line(replica, each) for replica, each in found)

    return await calls.follow(lines)


@router.get("/events", response_model=wire.Event, response_class=Lines)
async def events(request: Request, since: float | None = None, follow: bool = False) -> Response:
    calls, engine, _ = here(request)
    return await calls.follow(lambda wanted: _events(engine, since, wanted if follow else None))


def _events(engine: Engine, since_at: float | None, follow: Callable[[], bool] | None) -> Iterator[bytes]:
    """Listens before it looks back, so that nothing is missed in between; what is in both is told once."""
    with engine.events.listen() as news:
        past = engine.events.recent(since_at or 0.0)
        told = {id(event) for event in past}
        yield from map(_event_line, past)
        while follow is not None and follow():
            try:
                event = news.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if id(event) not in told:
                yield _event_line(event)


def _log_line(replica: str, each: LogLine) -> bytes:
    fields = {"replica": replica, "at": each.at, "stream": each.stream, "text": each.text}
    return msgspec.json.encode(fields) + b"\n"


def _event_line(event: Event) -> bytes:
    return msgspec.json.encode(event) + b"\n"

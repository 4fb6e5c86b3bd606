"""Routes of history: snapshot, restore, the ledger, and what differs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from wye.api import wire
from wye.daemon.routes.calls import Lines, answer, here
from wye.engine import diff, history, restore, snapshot

router = APIRouter(prefix="/v1", tags=["history"])

_ENTRIES_LIMIT = 10_000
_FILES_LIMIT = 10_000


@router.post("/environments/{name}/snapshot", response_model=wire.SnapshotResult)
async def snapshot_(request: Request, name: str, body: wire.SnapshotRequest) -> Response:
    calls, engine, actor = here(request)
    return answer(
        wire.SnapshotResult,
        await calls.change(lambda: snapshot.snapshot(engine, name, message=body.message, actor=actor)),
    )


@router.post("/environments/{name}/restore", response_model=wire.EnvironmentView, response_class=Lines)
async def restore_(request: Request, name: str, body: wire.RestoreRequest) -> Response:
    calls, engine, actor = here(request)
    return await calls.stream(
        lambda report: restore.restore(engine, name, body.revision, actor=actor, report=report), wire.EnvironmentView
    )


@router.get("/environments/{name}/log", response_model=wire.LogResult)
async def log(
    request: Request, name: str, limit: Annotated[int, Query(ge=1, le=_ENTRIES_LIMIT)] = 50, verify: bool = False
) -> Response:
    calls, engine, _ = here(request)
    return answer(wire.LogResult, await calls.read(lambda: history.log(engine, name, limit=limit, verify=verify)))


@router.get("/entries/{entry}", response_model=wire.EntryView)
async def show(request: Request, entry: str) -> Response:
    calls, engine, _ = here(request)
    return answer(wire.EntryView, await calls.read(lambda: history.show(engine, entry)))


@router.get("/environments/{name}/diff", response_model=wire.DiffResult)
async def diff_(
    request: Request,
    name: str,
    against: str | None = None,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=0, le=_FILES_LIMIT)] = 1000,
) -> Response:
    calls, engine, _ = here(request)
    found = await calls.change(lambda: diff.diff(engine, name, against=against, offset=offset, limit=limit))
    return answer(wire.DiffResult, found)

"""Routes of history: snapshot, restore, and the ledger."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from wye.api import wire
from wye.daemon.routes.calls import Lines, answer, here
from wye.engine import history, restore, snapshot

router = APIRouter(prefix="/v1", tags=["history"])

_ENTRIES_LIMIT = 10_000


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

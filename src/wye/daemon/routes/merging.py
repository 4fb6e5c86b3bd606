"""Routes of what differs, and of merging it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from wye.api import wire
from wye.daemon.routes.calls import Lines, answer, here
from wye.engine import diff, merge, revert, update

router = APIRouter(prefix="/v1", tags=["merging"])

_ITEMS_LIMIT = 10_000


@router.get("/environments/{name}/diff", response_model=wire.DiffResult)
async def diff_(
    request: Request,
    name: str,
    against: str | None = None,
    service: str | None = None,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=0, le=_ITEMS_LIMIT)] = 1000,
    rows: bool = True,
    text: bool = False,
) -> Response:
    calls, engine, _ = here(request)
    found = await calls.change(
        lambda: diff.diff(
            engine, name, against=against, service=service, offset=offset, limit=limit, rows=rows, text=text
        )
    )
    return answer(wire.DiffResult, found)


@router.get(
    "/environments/{name}/patch",
    response_class=Response,
    responses={200: {"content": {"text/x-patch": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def patch(request: Request, name: str, against: str | None = None) -> Response:
    calls, engine, _ = here(request)
    found = await calls.change(lambda: diff.patch(engine, name, against=against))
    return Response(found, headers={"content-type": "text/x-patch"})


@router.post("/environments/{name}/merge", response_model=wire.MergeResult, response_class=Lines)
async def merge_(request: Request, name: str, body: wire.MergeRequest) -> Response:
    calls, engine, actor = here(request)
    return await calls.stream(
        lambda report: merge.merge(
            engine,
            name,
            into=body.into,
            resolutions=body.resolutions,
            rehearse_only=body.rehearse_only,
            checks=body.checks,
            message=body.message,
            actor=actor,
            report=report,
        ),
        wire.MergeResult,
    )


@router.post("/environments/{name}/conflicts", response_model=wire.MergeResult, response_class=Lines)
async def conflicts(request: Request, name: str, body: wire.ConflictsRequest) -> Response:
    calls, engine, actor = here(request)
    return await calls.stream(
        lambda report: merge.conflicts(
            engine, name, into=body.into, resolutions=body.resolutions, actor=actor, report=report
        ),
        wire.MergeResult,
    )


@router.post("/environments/{name}/update", response_model=wire.MergeResult, response_class=Lines)
async def update_(request: Request, name: str, body: wire.ResolutionsRequest) -> Response:
    calls, engine, actor = here(request)
    return await calls.stream(
        lambda report: update.update(engine, name, resolutions=body.resolutions, actor=actor, report=report),
        wire.MergeResult,
    )


@router.post("/entries/{entry}/revert", response_model=wire.MergeResult, response_class=Lines)
async def revert_(request: Request, entry: str, body: wire.ResolutionsRequest) -> Response:
    calls, engine, actor = here(request)
    return await calls.stream(
        lambda report: revert.revert(engine, entry, resolutions=body.resolutions, actor=actor, report=report),
        wire.MergeResult,
    )

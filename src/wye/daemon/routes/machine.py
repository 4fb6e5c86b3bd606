"""Routes of the machine and the daemon: version, compose files, doctor, collect."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter

from wye import __version__
from wye.api import wire
from wye.daemon.routes.calls import Lines, answer, answers, calls_of, here
from wye.daemon.routes.environments import up_request
from wye.engine import collect, doctor, up
from wye.model import PRODUCTION

router = APIRouter(prefix="/v1", tags=["machine"])

_FINDINGS = TypeAdapter(tuple[wire.Finding, ...])


@router.get("/version", response_model=wire.Version)
async def version() -> Response:
    return answer(wire.Version, wire.Version(version=__version__, api=wire.API))


@router.post("/config", response_model=wire.ConfigResult)
async def config(request: Request, body: wire.UpRequest) -> Response:
    def read() -> dict[str, Any]:
        loaded = up.config(up_request(PRODUCTION, body))
        notices = tuple(str(notice) for notice in loaded.notices)
        return {"spec": msgspec.to_builtins(loaded.spec), "notices": notices}

    return answer(wire.ConfigResult, await calls_of(request).read(read))


@router.get("/doctor", response_model=tuple[wire.Finding, ...])
async def doctor_(request: Request) -> Response:
    calls, engine, _ = here(request)
    return answers(_FINDINGS, await calls.change(lambda: doctor.doctor(engine)))


@router.post("/collect", response_model=wire.CollectResult, response_class=Lines)
async def collect_(request: Request, body: wire.CollectRequest) -> Response:
    calls, engine, _ = here(request)
    return await calls.stream(
        lambda report: collect.collect(engine, images=body.images, report=report), wire.CollectResult
    )

"""Routes of environments: what is there, up and down, start and stop, fork and discard."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter

from wye.api import wire
from wye.daemon.routes.calls import Lines, answer, answers, here
from wye.engine import discard, fork, inspect, rename, sleep, start, up
from wye.interfaces import silent

router = APIRouter(prefix="/v1/environments", tags=["environments"])

_ENVIRONMENTS = TypeAdapter(tuple[wire.EnvironmentView, ...])
_PORTS = TypeAdapter(tuple[wire.PortView, ...])


@router.get("", response_model=tuple[wire.EnvironmentView, ...])
async def listing(request: Request, project: str | None = None) -> Response:
    calls, engine, _ = here(request)
    return answers(_ENVIRONMENTS, await calls.read(lambda: inspect.listing(engine, project)))


@router.get("/{name}", response_model=wire.EnvironmentView)
async def describe(request: Request, name: str) -> Response:
    calls, engine, _ = here(request)
    return answer(wire.EnvironmentView, await calls.read(lambda: inspect.describe(engine, name)))


@router.get("/{name}/ports", response_model=tuple[wire.PortView, ...])
async def ports(request: Request, name: str, service: str | None = None, port: int | None = None) -> Response:
    calls, engine, _ = here(request)
    return answers(_PORTS, await calls.read(lambda: inspect.ports(engine, name, service, port)))


def up_request(name: str, body: wire.UpRequest) -> up.Request:
    return up.Request(name=name, **{field: getattr(body, field) for field in wire.UpRequest.model_fields})


@router.post("/{name}/up", response_model=wire.UpResult, response_class=Lines)
async def up_(request: Request, name: str, body: wire.UpRequest) -> Response:
    calls, engine, actor = here(request)
    wanted = up_request(name, body)
    return await calls.stream(lambda report: up.up(engine, wanted, actor=actor, report=report), wire.UpResult)


@router.post("/{name}/down", response_model=wire.EnvironmentView, response_class=Lines)
async def down(request: Request, name: str) -> Response:
    calls, engine, actor = here(request)
    return await calls.stream(lambda report: sleep.down(engine, name, actor=actor, report=report), wire.EnvironmentView)


@router.post("/{name}/fork", response_model=wire.ForkResult)
async def fork_(request: Request, name: str, body: wire.ForkRequest) -> Response:
    calls, engine, actor = here(request)
    made = await calls.change(
        lambda: fork.fork(
            engine,
            name,
            body.name,
            count=body.count,
            revision=body.revision,
            asleep=body.asleep,
            disk_bytes=body.disk_bytes,
            actor=actor,
            report=silent,
        )
    )
    return answer(wire.ForkResult, made)


@router.delete("/{name}", response_model=wire.EntryView, response_class=Lines)
async def discard_(request: Request, name: str, confirm_production: bool = False) -> Response:
    calls, engine, actor = here(request)
    return await calls.stream(
        lambda report: discard.discard(engine, name, confirm_production=confirm_production, actor=actor, report=report),
        wire.EntryView,
    )


@router.post("/{name}/rename", response_model=wire.EnvironmentView)
async def rename_(request: Request, name: str, body: wire.RenameRequest) -> Response:
    calls, engine, actor = here(request)
    return answer(wire.EnvironmentView, await calls.change(lambda: rename.rename(engine, name, body.name, actor=actor)))


@router.post("/{name}/start", response_model=wire.EnvironmentView, response_class=Lines)
async def start_(request: Request, name: str, body: wire.ServicesRequest) -> Response:
    calls, engine, actor = here(request)
    return await calls.stream(
        lambda report: start.start(engine, name, body.services, actor=actor, report=report), wire.EnvironmentView
    )


@router.post("/{name}/stop", response_model=wire.EnvironmentView, response_class=Lines)
async def stop(request: Request, name: str, body: wire.ServicesRequest) -> Response:
    calls, engine, actor = here(request)
    return await calls.stream(
        lambda report: start.stop(engine, name, body.services, actor=actor, report=report), wire.EnvironmentView
    )


@router.post("/{name}/restart", response_model=wire.EnvironmentView, response_class=Lines)
async def restart(request: Request, name: str, body: wire.ServicesRequest) -> Response:
    calls, engine, actor = here(request)
    return await calls.stream(
        lambda report: start.restart(engine, name, body.services, actor=actor, report=report), wire.EnvironmentView
    )


@router.post("/{name}/sleep", response_model=wire.EnvironmentView, response_class=Lines)
async def sleep_(request: Request, name: str) -> Response:
    calls, engine, actor = here(request)
    return await calls.stream(
        lambda report: sleep.sleep(engine, name, actor=actor, report=report), wire.EnvironmentView
    )


@router.post("/{name}/wake", response_model=wire.EnvironmentView, response_class=Lines)
async def wake(request: Request, name: str) -> Response:
    calls, engine, actor = here(request)
    return await calls.stream(lambda report: sleep.wake(engine, name, actor=actor, report=report), wire.EnvironmentView)

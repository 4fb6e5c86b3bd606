"""Published ports while the service behind them is exchanged: who connects waits for it, and is not refused.

A port whose service is about to stop leads to the daemon's own door for the time, as that of an environment that
sleeps does. The door accepts, and carries the connection on as soon as the new service listens. Connections that are
there already are not cut: short ones get a moment to end, and the service ends the rest as it stops. Afterwards the
kernel leads connections straight into the environment again. TCP alone; UDP has nobody who could wait.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from wye.engine import apply, plan
from wye.engine.context import Engine
from wye.model import Environment, Port, Spec, published

_DRAIN_S = 0.1
_LISTENS_S = 10.0
_LOOK_EVERY_S = 0.005


@dataclass(frozen=True, slots=True)
class Awaited:
    """A published port that somebody listened at before its service was stopped."""

    service: str
    port: int


def without(environment: Environment, spec: Spec, services: Collection[str]) -> Environment:
    """The environment as if `services` published no TCP ports."""
    closed = {key for _, key, _ in _ports(environment, spec, services)}
    return replace(environment, ports={key: port for key, port in environment.ports.items() if key not in closed})


@contextmanager
def holding_back(
    engine: Engine, environment: Environment, spec: Spec, services: Collection[str], *, verb: str
) -> Iterator[list[Awaited]]:
    """Around the stopping of `services`: nobody new arrives at them, and those who are there have a moment to end.
    Afterwards the door waits for their successors. Gives what `let_in` must wait for."""
    with engine.turns.shut(environment.name):
        yield _hold_back(engine, environment, spec, services, verb)


def _hold_back(
    engine: Engine, environment: Environment, spec: Spec, services: Collection[str], verb: str
) -> list[Awaited]:
    found = [Awaited(name, port.container) for name, _, port in _ports(environment, spec, services)]
    awaited = [each for each in dict.fromkeys(found) if _use(engine, environment, each)[0]]
    if not awaited:
        return []
    engine.host.at(f"{verb}:hold-back")
    closed = without(environment, spec, services)
    engine.network.publish(environment.id, plan.publications(spec, closed.ports), cut=False)
    deadline = engine.host.monotonic() + _DRAIN_S
    while True:
        engine.host.sleep(_LOOK_EVERY_S)  # first of all: somebody may be on the way
        if engine.host.monotonic() > deadline or not any(_use(engine, environment, each)[1] for each in awaited):
            return awaited


def let_in(engine: Engine, environment: Environment, spec: Spec, awaited: Collection[Awaited], *, verb: str) -> None:
    """Publishes every port, those of `awaited` when they are listened at again; after a while also if they are not."""
    wanted = {Awaited(name, port.container) for name, _, port in _ports(environment, spec, spec.services)}
    due = [each for each in awaited if each in wanted and apply.runs(engine, environment, each.service)]
    deadline = engine.host.monotonic() + _LISTENS_S
    while not all(_use(engine, environment, each)[0] for each in due) and engine.host.monotonic() < deadline:
        engine.host.sleep(_LOOK_EVERY_S)
    engine.host.at(f"{verb}:let-in")
    engine.network.publish(environment.id, plan.publications(spec, environment.ports))


def _ports(environment: Environment, spec: Spec, services: Collection[str]) -> Iterator[tuple[str, str, Port]]:
    """Service, publication key and port of all that is published over TCP."""
    for name in services:
        for key, port in published(spec.services[name]) if name in spec.services else ():
            if port.protocol == "tcp" and key in environment.ports:
                yield name, key, port


def _use(engine: Engine, environment: Environment, awaited: Awaited) -> tuple[bool, int]:
    return engine.runtime.port_use(apply.container_id(environment, awaited.service), awaited.port)

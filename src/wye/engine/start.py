"""start, stop, restart: single services of an environment, or all of them.

A service that was stopped stays stopped, through sleep and through a restart of the machine, until it is started.
"""

from __future__ import annotations

from dataclasses import replace

from wye.engine import apply, inspect, plan, records
from wye.engine.context import Engine, environment_name
from wye.engine.sleep import ensure_awake
from wye.engine.views import EnvironmentView
from wye.errors import NotFound
from wye.interfaces import Report, silent
from wye.model import EnvironmentName, Spec, Verb


def start(
    engine: Engine, name: str, services: tuple[str, ...], *, actor: str, report: Report = silent
) -> EnvironmentView:
    """Starts services (none named: all), and what they depend on. Wakes the environment if it sleeps."""
    named = environment_name(name)
    with engine.changing(named):
        found = records.require(engine, named).environment
        if found.is_fork and not found.awake:
            ensure_awake(engine, named, actor=actor, report=report)
        head = records.require(engine, named)
        environment, spec = head.environment, records.spec_of(engine, head.environment)
        wanted = _with_dependencies(spec, _chosen(spec, named, services))
        fresh = not environment.awake
        stopped = tuple(service for service in environment.stopped if service not in wanted)
        with records.change(
            engine, Verb.START, named, actor=actor, previous=head.id, services=",".join(services)
        ) as doing:
            environment = replace(environment, awake=True, down=False, stopped=stopped)
            doors = plan.wanted_doors(spec, held=environment.ports, fork=environment.is_fork)
            environment = replace(environment, ports=engine.doors.hold(named, doors))
            environment = doing.commit(environment).environment
            apply.bring_up(engine, environment, spec, verb="start", fresh=fresh, report=report)
        return inspect.view(engine, environment)


def stop(
    engine: Engine, name: str, services: tuple[str, ...], *, actor: str, report: Report = silent
) -> EnvironmentView:
    """Stops services (none named: all) with their stop signals and grace periods."""
    named = environment_name(name)
    with engine.changing(named):
        head = records.require(engine, named)
        environment, spec = head.environment, records.spec_of(engine, head.environment)
        chosen = _chosen(spec, named, services)
        with records.change(
            engine, Verb.STOP, named, actor=actor, previous=head.id, services=",".join(services)
        ) as doing:
            stopped = tuple(sorted({*environment.stopped, *chosen}))
            environment = doing.commit(replace(environment, stopped=stopped)).environment
            apply.bring_down(engine, environment, spec, verb="stop", services=chosen, report=report)
        return inspect.view(engine, environment)


def restart(
    engine: Engine, name: str, services: tuple[str, ...], *, actor: str, report: Report = silent
) -> EnvironmentView:
    """Stops and starts services (none named: all)."""
    named = environment_name(name)
    with engine.changing(named):
        stop(engine, name, services, actor=actor, report=report)
        return start(engine, name, services, actor=actor, report=report)


def _chosen(spec: Spec, name: EnvironmentName, services: tuple[str, ...]) -> set[str]:
    for service in services:
        if service not in spec.services:
            raise NotFound(
                f"environment {name!r} has no service {service!r}",
                hint=f"there are: {', '.join(sorted(spec.services))}",
            )
    return set(services or spec.services)


def _with_dependencies(spec: Spec, chosen: set[str]) -> set[str]:
    result, todo = set(chosen), list(chosen)
    while todo:
        for dependency in spec.services[todo.pop()].depends_on:
            if dependency in spec.services and dependency not in result:
                result.add(dependency)
                todo.append(dependency)
    return result

"""sleep and wake: an environment gives back memory, processes and namespaces, and keeps its bytes, name and ports.

A sleeping environment wakes on `exec` and on the first connection to one of its published ports.
"""

from __future__ import annotations

from dataclasses import replace

from wye.engine import apply, inspect, preparing, records
from wye.engine.context import Engine, environment_name
from wye.engine.owning import own
from wye.engine.views import EnvironmentView
from wye.interfaces import Report, silent
from wye.model import Environment, EnvironmentName, Verb


def sleep(engine: Engine, name: str, *, actor: str, report: Report = silent) -> EnvironmentView:
    """Stops the services in order, with their grace periods. Harmless if it sleeps already."""
    environment = _put_to_sleep(engine, environment_name(name), Verb.SLEEP, actor=actor, report=report)
    return inspect.view(engine, environment)


def down(engine: Engine, name: str, *, actor: str, report: Report = silent) -> EnvironmentView:
    """Like sleep, and gives its ports back too: nothing but `up` or `start` wakes it."""
    environment = _put_to_sleep(engine, environment_name(name), Verb.DOWN, actor=actor, report=report)
    engine.doors.release(environment.name)
    return inspect.view(engine, environment)


def _put_to_sleep(engine: Engine, name: EnvironmentName, verb: Verb, *, actor: str, report: Report) -> Environment:
    with engine.changing(name):
        head = records.require(engine, name)
        environment, spec = head.environment, records.spec_of(engine, head.environment)
        going_down = verb is Verb.DOWN
        if not environment.awake and environment.down >= going_down:
            return environment
        with records.change(engine, verb, name, actor=actor, previous=head.id) as doing:
            completed = apply.completed_replicas(engine, environment, spec)
            slept = replace(environment, awake=False, down=environment.down or going_down, completed=completed)
            # Recorded first: after a crash in the middle, reconcile stops what still runs.
            environment = doing.commit(slept).environment
            apply.bring_down(engine, environment, spec, verb=verb, report=report)
            engine.host.at(f"{verb}:network")
            engine.network.detach(environment.id)
        return environment


def wake(engine: Engine, name: str, *, actor: str, report: Report = silent) -> EnvironmentView:
    """Starts the services that were running. Harmless if it is awake."""
    return inspect.view(engine, ensure_awake(engine, environment_name(name), actor=actor, report=report))


def ensure_awake(engine: Engine, name: EnvironmentName, *, actor: str, report: Report = silent) -> Environment:
    """The environment, awake. Of several callers at once the first wakes it, the others wait for that."""
    environment = records.require(engine, name).environment
    if environment.awake:
        return environment
    with engine.changing(name):
        head = records.require(engine, name)
        environment, spec = head.environment, records.spec_of(engine, head.environment)
        if environment.awake:
            return environment
        with records.change(engine, Verb.WAKE, name, actor=actor, previous=head.id) as doing:
            own(engine, environment)
            if preparing.needs_preparing(engine, environment, spec):
                # Recorded last: until its databases are ready for others it counts as asleep.
                prepared = preparing.wake_unprepared(engine, environment, spec, verb="wake", report=report)
                awake = doing.commit(replace(prepared, awake=True, down=False)).environment
                if awake.id != environment.id:
                    preparing.forget(engine, environment)
                return awake
            environment = doing.commit(replace(environment, awake=True, down=False)).environment
            apply.bring_up(engine, environment, spec, verb="wake", fresh=True, report=report)
            preparing.await_databases(engine, environment, spec)
        return environment

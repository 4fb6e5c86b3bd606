"""What the supervisor does when a service is due again: starts its successor, if that is still wanted."""

from __future__ import annotations

from wye.engine import apply, plan, records
from wye.engine.context import Engine
from wye.interfaces import Container
from wye.model import EnvironmentName


def restart(engine: Engine, name: EnvironmentName, container: Container) -> None:
    """Raises WyeError if it cannot be started; it is then tried again later."""
    with engine.changing(name):
        head = records.find(engine, name)
        if head is None or head.environment.id != container.environment or not head.environment.awake:
            engine.supervisor.forget(container.id)
            return
        environment = head.environment
        spec = records.spec_of(engine, environment)
        if container.name not in plan.replicas(spec) or plan.service_of(spec, container.name) in environment.stopped:
            engine.supervisor.forget(container.id)
            return
        found = engine.runtime.container(container.id)
        if found is not None and found.pid is not None:
            return
        attachment = apply.attach(engine, environment, spec, verb="restart")
        apply.start_replica(engine, environment, spec, container.name, attachment=attachment, verb="restart")

"""Looking: which environments there are, and how each of them is."""

from __future__ import annotations

from dataclasses import replace

from wye.engine import apply, plan, records
from wye.engine.context import Engine, environment_name
from wye.engine.views import EnvironmentView, PortView, ServiceView
from wye.errors import NotFound
from wye.interfaces import Container
from wye.model import SHELL, Environment, Health, Service, ServiceStatus, Spec, State, Usage, published, replica_names


def listing(engine: Engine, project: str | None = None) -> list[EnvironmentView]:
    """All environments: those that `up` made first, then forks, each by name."""
    found = [entry.environment for entry in engine.ledger.environments().values()]
    chosen = [environment for environment in found if project is None or environment.project == project]
    return [view(engine, environment) for environment in sorted(chosen, key=lambda each: (each.is_fork, each.name))]


def describe(engine: Engine, name: str) -> EnvironmentView:
    """One environment with its disk usage. Raises NotFound."""
    environment = records.require(engine, environment_name(name)).environment
    return view(engine, environment, with_usage=True)


def view(engine: Engine, environment: Environment, *, with_usage: bool = False) -> EnvironmentView:
    spec = records.spec_of(engine, environment)
    services = [
        _service(engine, environment, service, replica)
        for key in plan.start_order(spec)
        for service in (spec.services[key],)
        for replica in replica_names(service)
    ]
    shell = _shell(engine, environment) if environment.awake else None
    return EnvironmentView(
        name=environment.name,
        id=environment.id,
        project=environment.project,
        awake=environment.awake,
        source=environment.source,
        origin=environment.origin,
        revision=environment.revision,
        created_at=environment.created_at,
        services=tuple(services if shell is None else [*services, shell]),
        ports=_ports(environment, spec),
        usage=_usage(engine, environment) if with_usage else None,
    )


def _usage(engine: Engine, environment: Environment) -> Usage:
    """A fork that shares its source's bytes will have its limit when it gets its own."""
    usage = engine.volumes.usage(environment.id)
    return usage if usage.limit_bytes is not None else replace(usage, limit_bytes=environment.disk_bytes)


def ports(engine: Engine, name: str, service: str | None = None, port: int | None = None) -> list[PortView]:
    """Published ports, of one service, or one port. Raises NotFound if what was asked for is not published."""
    environment = records.require(engine, environment_name(name)).environment
    spec = records.spec_of(engine, environment)
    if service is not None and service not in spec.services:
        raise NotFound(
            f"environment {name!r} has no service {service!r}", hint=f"there are: {', '.join(sorted(spec.services))}"
        )
    found = [
        each
        for each in _ports(environment, spec)
        if (service is None or each.service == service) and (port is None or each.container == port)
    ]
    if not found and (service is not None or port is not None):
        what = "publishes no port" if port is None else f"does not publish port {port}"
        down = "it is down: 'wye up' or 'wye start' publishes its ports again"
        raise NotFound(
            f"{name!r} {what}{f' of service {service!r}' if service else ''}",
            hint=down if environment.down else "'ports:' in the compose file says what is published",
        )
    return found


def _ports(environment: Environment, spec: Spec) -> tuple[PortView, ...]:
    return tuple(
        PortView(
            key=key,
            service=str(service.name),
            container=port.container,
            protocol=port.protocol,
            host_ip=port.host_ip,
            host_port=environment.ports[key],
        )
        for service in spec.services.values()
        for key, port in published(service)
        if key in environment.ports
    )


def _service(engine: Engine, environment: Environment, service: Service, replica: str) -> ServiceView:
    status = status_of(engine, environment, service, replica)
    image = environment.images[str(service.name)]
    return ServiceView(
        replica=replica,
        service=str(service.name),
        state=str(status.state),
        health=str(status.health),
        image=image.reference,
        address=environment.addresses.get(replica, ""),
        pid=status.pid,
        exit_code=status.exit_code,
        started_at=status.started_at,
        restarts=status.restarts,
        reason=status.reason,
    )


def status_of(engine: Engine, environment: Environment, service: Service, replica: str) -> ServiceStatus:
    """Of one replica, from what is watched, or from the record where nothing runs."""
    if not environment.awake:
        return ServiceStatus(service=replica, state=State.ASLEEP)
    if replica in environment.completed:
        return ServiceStatus(service=replica, state=State.EXITED, exit_code=0, reason="completed earlier")
    if service.name in environment.stopped:
        return ServiceStatus(service=replica, state=State.STOPPED)
    watched = engine.supervisor.status(apply.container_id(environment, replica))
    return watched or ServiceStatus(service=replica, state=State.STOPPED, reason="not started")


def _shell(engine: Engine, environment: Environment) -> ServiceView | None:
    found: Container | None = engine.runtime.container(apply.container_id(environment, SHELL))
    if found is None:
        return None
    running = found.pid is not None
    return ServiceView(
        replica=SHELL,
        service=SHELL,
        state=str(State.RUNNING if running else State.EXITED),
        health=str(Health.NONE),
        image=engine.settings.shell_image,
        address=environment.addresses.get(SHELL, ""),
        pid=found.pid,
        exit_code=found.exit_code,
        started_at=found.started_at,
        restarts=0,
        reason="",
    )

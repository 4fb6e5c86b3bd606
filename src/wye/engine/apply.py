"""The one place where containers and networks are started and stopped: thin acts on what `plan` decided.

All of it can be repeated: what runs already is left alone, what is gone is no error. That makes starting and
recovering from a crash the same code.
"""

from __future__ import annotations

import signal
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from wye.engine import plan
from wye.engine.context import Engine
from wye.engine.records import emit
from wye.errors import CheckFailed, Unavailable, WyeError
from wye.interfaces import Attachment, Container, Progress, Report, silent
from wye.model import (
    SHELL,
    Condition,
    Environment,
    Health,
    Limits,
    Service,
    ServiceStatus,
    Spec,
    State,
    replica_names,
)

_STARTERS = 8
_LOG_TAIL = 8
_SETTLE_S = 0.5
START_TIMEOUT_S = 120.0


class ServiceFailed(CheckFailed):
    """A service ended at once, did not become healthy, or waits for one that did."""

    code = "service_failed"


def container_id(environment: Environment, replica: str) -> str:
    return f"{environment.id}-{replica}"


def attach(engine: Engine, environment: Environment, spec: Spec, *, verb: str) -> Attachment:
    """The environment's network, up, with its ports published."""
    shape = plan.network_shape(spec, environment.addresses, engine.settings.subnet)
    engine.host.at(f"{verb}:network")
    attachment = engine.network.attach(environment.id, shape, egress=plan.egress(spec, environment))
    engine.network.publish(environment.id, plan.publications(spec, environment.ports))
    return attachment


def keep_warm(engine: Engine, environment: Environment, spec: Spec) -> None:
    """Has networks ready for the forks of an environment that people fork from."""
    if not environment.is_fork:
        shape = plan.network_shape(spec, environment.addresses, engine.settings.subnet)
        engine.network.warm(shape, engine.settings.warm_networks)


def prepare_volumes(engine: Engine, environment: Environment, spec: Spec) -> None:
    """Removes from volumes what ties them to processes that are not there, before any service starts."""
    root = engine.volumes.environment_path(environment.id)
    for name in spec.volumes:
        volume = root / "volumes" / name
        for kind in engine.kinds:
            if kind.claims(volume):
                engine.host.at(f"prepare:{kind.name}")
                kind.prepare(volume)


def bring_up(
    engine: Engine,
    environment: Environment,
    spec: Spec,
    *,
    verb: str,
    services: Collection[str] | None = None,
    fresh: bool,
    report: Report = silent,
    timeout_s: float = START_TIMEOUT_S,
) -> None:
    """Starts what should run and does not, each service after those it depends on.

    `fresh`: nothing of this environment runs, so its volumes are prepared first. Raises ServiceFailed.
    """
    attachment = attach(engine, environment, spec, verb=verb)
    if fresh:
        prepare_volumes(engine, environment, spec)
    wanted = [
        name
        for name in plan.start_order(spec)
        if name not in environment.stopped and (services is None or name in services)
    ]
    if len(wanted) == 1:
        _start_service(engine, environment, spec, attachment, spec.services[wanted[0]], verb, report)
        return
    futures: dict[str, Future[None]] = {}

    def start(name: str) -> None:
        service = spec.services[name]
        _await_dependencies(engine, environment, spec, service, futures, timeout_s)
        _start_service(engine, environment, spec, attachment, service, verb, report)

    with ThreadPoolExecutor(_STARTERS, thread_name_prefix="start") as pool:
        for name in wanted:
            # In the order of dependencies: one that waits always waits for one that was submitted before it.
            futures[name] = pool.submit(start, name)
    for name in wanted:
        futures[name].result()


def _await_dependencies(
    engine: Engine,
    environment: Environment,
    spec: Spec,
    service: Service,
    futures: dict[str, Future[None]],
    timeout_s: float,
) -> None:
    for name, dependency in service.depends_on.items():
        if name not in spec.services or (name in environment.stopped and not dependency.required):
            continue
        try:
            if name in futures:
                futures[name].result()
            for replica in replica_names(spec.services[name]):
                if replica in environment.completed:
                    continue
                status = engine.supervisor.wait(container_id(environment, replica), dependency.condition, timeout_s)
                if not _holds(status, dependency.condition):
                    raise ServiceFailed(
                        f"service {service.name!r} needs {name!r} ({dependency.condition}), which is {_told(status)}"
                        f"{_last_lines(engine, environment, replica)}",
                        hint=f"wye logs {environment.name} {name}",
                    )
        except WyeError:
            if dependency.required:
                raise


def _holds(status: ServiceStatus | None, condition: Condition) -> bool:
    if status is None:
        return False
    if condition is Condition.COMPLETED:
        return status.state is State.EXITED and status.exit_code == 0
    if condition is Condition.HEALTHY:
        return status.state is State.RUNNING and status.health is Health.HEALTHY
    return status.state.is_alive or (status.state is State.EXITED and status.exit_code == 0)


def _told(status: ServiceStatus | None) -> str:
    if status is None:
        return "not running"
    code = f" with status {status.exit_code}" if status.exit_code is not None and not status.state.is_alive else ""
    health = f", {status.health}" if status.health is not Health.NONE else ""
    return f"{status.state}{code}{health}"


def _last_lines(engine: Engine, environment: Environment, replica: str) -> str:
    lines = [line.text for line in engine.runtime.logs(environment.id, replica, tail=_LOG_TAIL)]
    return "".join(f"\n  {replica} | {line}" for line in lines)


def _start_service(
    engine: Engine,
    environment: Environment,
    spec: Spec,
    attachment: Attachment,
    service: Service,
    verb: str,
    report: Report,
) -> None:
    for replica in replica_names(service):
        if replica in environment.completed and plan.is_one_shot(service):
            continue
        found = engine.runtime.container(container_id(environment, replica))
        if found is not None and found.pid is not None:
            if engine.supervisor.status(found.id) is None:
                _watch(engine, environment, service, found)
            continue
        report(Progress(step="start", subject=replica))
        start_replica(engine, environment, spec, replica, attachment=attachment, verb=verb)


def start_replica(
    engine: Engine, environment: Environment, spec: Spec, replica: str, *, attachment: Attachment, verb: str
) -> Container:
    """Starts one container of a service, whose predecessor has ended."""
    service = spec.services[plan.service_of(spec, replica)]
    resolver = _resolver(engine, spec, environment, replica)
    limits: Limits | None = spec.fork.limits if environment.is_fork else None
    wanted = plan.container_plan(environment, spec, replica, resolver=resolver, fork_limits=limits)
    if wanted.namespace is not None:
        wanted = replace(wanted, namespace=attachment.namespaces[wanted.namespace])
    engine.host.at(f"{verb}:start-service")
    container = engine.runtime.start(
        wanted, engine.volumes.environment_path(environment.id), engine.images.rootfs(wanted.image)
    )
    _watch(engine, environment, service, container)
    emit(engine, "service-started", environment.name, replica)
    return container


def runs(engine: Engine, environment: Environment, replica: str) -> bool:
    found = engine.runtime.container(container_id(environment, replica))
    return found is not None and found.pid is not None


def start_shell(engine: Engine, environment: Environment, spec: Spec) -> Container:
    """The shell's container, started if it does not run."""
    found = engine.runtime.container(container_id(environment, SHELL))
    if found is not None and found.pid is not None:
        return found
    image = engine.images.resolve(engine.settings.shell_image, pull=False, report=silent)
    attachment = attach(engine, environment, spec, verb="exec")
    wanted = plan.shell_plan(environment, spec, image, resolver=_resolver(engine, spec, environment, SHELL))
    wanted = replace(wanted, namespace=attachment.namespaces[SHELL])
    return engine.runtime.start(wanted, engine.volumes.environment_path(environment.id), engine.images.rootfs(image))


def _resolver(engine: Engine, spec: Spec, environment: Environment, replica: str) -> str:
    """Without egress no nameserver is named: names outside fail at once instead of after a time-out."""
    allowed = plan.egress(spec, environment).get(replica, False)
    return engine.settings.resolver if allowed else "# no egress\n"


def _watch(engine: Engine, environment: Environment, service: Service, container: Container) -> None:
    healthcheck = service.healthcheck or environment.images[str(service.name)].config.healthcheck
    engine.supervisor.watch(environment.name, container, service, healthcheck)


def adopt(engine: Engine, environment: Environment, spec: Spec, replicas: Collection[str]) -> None:
    """Watches again what an earlier daemon started."""
    for service in spec.services.values():
        for replica in replica_names(service):
            found = engine.runtime.container(container_id(environment, replica)) if replica in replicas else None
            if found is not None:
                _watch(engine, environment, service, found)


def stop_replica(engine: Engine, environment: Environment, service: Service | None, replica: str, *, verb: str) -> None:
    """Stops one container, with its stop signal and grace period (None: at once), and removes it."""
    identity = container_id(environment, replica)
    engine.supervisor.forget(identity)
    found = engine.runtime.container(identity)
    if found is None:
        return
    engine.host.at(f"{verb}:stop-service")
    if found.pid is not None and service is not None:
        image = environment.images.get(str(service.name))
        name = service.stop_signal or (image.config.stop_signal if image else "") or "SIGTERM"
        engine.runtime.signal(identity, signal_number(name))
        if engine.runtime.wait(identity, service.stop_grace_s) is None:
            emit(engine, "service-killed", environment.name, replica, reason=f"alive after {service.stop_grace_s:g} s")
    engine.runtime.delete(identity)
    emit(engine, "service-stopped", environment.name, replica)


def signal_number(name: str) -> int:
    """ "SIGINT", "INT" or "2"."""
    if name.isdigit():
        return int(name)
    full = name if name.startswith("SIG") else f"SIG{name}"
    return int(getattr(signal, full, signal.SIGTERM))


def bring_down(
    engine: Engine,
    environment: Environment,
    spec: Spec,
    *,
    verb: str,
    services: Collection[str] | None = None,
    kill: bool = False,
    report: Report = silent,
) -> None:
    """Stops services, each before those it depends on; of independent ones several at a time.

    With `services` None all of them, the shell included. `kill`: without grace.
    """
    names = [name for name in reversed(plan.start_order(spec)) if services is None or name in services]
    if services is None:
        stop_replica(engine, environment, None, SHELL, verb=verb)
    futures: dict[str, Future[None]] = {}

    def stop(name: str) -> None:
        service = spec.services[name]
        for other in names:
            if name in spec.services[other].depends_on and other in futures:
                futures[other].result()
        report(Progress(step="stop", subject=name if kill else f"{name} (up to {service.stop_grace_s:g} s)"))
        for replica in replica_names(service):
            stop_replica(engine, environment, None if kill else service, replica, verb=verb)

    with ThreadPoolExecutor(_STARTERS, thread_name_prefix="stop") as pool:
        for name in names:
            futures[name] = pool.submit(stop, name)
    for name in names:
        futures[name].result()


def completed_replicas(engine: Engine, environment: Environment, spec: Spec) -> tuple[str, ...]:
    """One-shot replicas that have ended well, now or at an earlier time."""
    done = set(environment.completed)
    for service in spec.services.values():
        if not plan.is_one_shot(service):
            continue
        for replica in replica_names(service):
            status = engine.supervisor.status(container_id(environment, replica))
            if status is not None and status.state is State.EXITED and status.exit_code == 0:
                done.add(replica)
    return tuple(sorted(done))


def await_ready(
    engine: Engine, environment: Environment, spec: Spec, services: Collection[str], timeout_s: float
) -> None:
    """Until each of `services` runs and is healthy (if it has a healthcheck) or has ended well.

    Raises ServiceFailed with the service's last lines, Unavailable when the time is out.
    """
    settled_at = engine.host.monotonic() + _SETTLE_S
    for name in services:
        service = spec.services[name]
        checked = service.healthcheck or environment.images[name].config.healthcheck
        condition = Condition.HEALTHY if checked is not None and checked.test else Condition.STARTED
        for replica in replica_names(service):
            if replica in environment.completed:
                continue
            identity = container_id(environment, replica)
            if condition is Condition.STARTED:  # no healthcheck: see whether it ends at once
                status = engine.supervisor.wait(
                    identity, Condition.COMPLETED, max(0.0, settled_at - engine.host.monotonic())
                )
            else:
                status = engine.supervisor.wait(identity, condition, timeout_s)
            if (
                status is not None
                and status.state is State.EXITED
                and status.exit_code == 0
                and plan.is_one_shot(service)
            ):
                continue
            if _holds(status, condition):
                continue
            if status is not None and status.state is State.RUNNING and status.health is Health.STARTING:
                raise Unavailable(
                    f"service {name!r} is not healthy after {timeout_s:g} s", hint=f"wye logs {environment.name} {name}"
                )
            raise ServiceFailed(
                f"service {name!r} is {_told(status)}{_last_lines(engine, environment, replica)}",
                hint=f"wye logs {environment.name} {name}",
            )

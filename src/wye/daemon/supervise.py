"""Watches containers: notes their ends, restarts them by policy, runs their healthchecks.

One thread waits on a descriptor per container and on a heap of moments; what takes time (a check, a start) goes to
a pool, few at a time, and few of one environment: a check that hangs keeps nobody else's service from being started
again. Nothing here outlives the daemon: the containers do, and are watched again by `watch` at the next start.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import selectors
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from wye.daemon import restarts
from wye.daemon.load import Load
from wye.errors import WyeError
from wye.host import Host
from wye.interfaces import Container, Runtime
from wye.model import (
    Condition,
    EnvironmentName,
    Event,
    Health,
    Healthcheck,
    Service,
    ServiceStatus,
    State,
)

logger = logging.getLogger(__name__)

_WORKERS = 512
_ASK_AGAIN_S = 0.02

Restarter = Callable[[EnvironmentName, Container], None]
"""Starts the successor of a container that ended, if that is still wanted. Raises WyeError."""


@dataclass(slots=True)
class _Watched:
    environment: EnvironmentName
    container: Container
    service: Service
    healthcheck: Healthcheck | None
    status: ServiceStatus
    descriptor: int | None = None
    probes: int = 0
    failures: int = 0
    failing_since: float = 0.0
    probe_number: int = 0
    """Of the planned probe that counts; an earlier plan is void."""
    restarts: int = 0
    """Since it last ran stably; `status.restarts` counts all."""


_Act = Callable[[_Watched], None]


class ThreadSupervisor:
    """Satisfies `interfaces.Supervisor`."""

    def __init__(self, host: Host, runtime: Runtime, emit: Callable[[Event], None]) -> None:
        self._host, self._runtime, self._emit = host, runtime, emit
        self._restart: Restarter | None = None
        self._watched: dict[str, _Watched] = {}
        self._changed = threading.Condition()
        self._awaited: Counter[str] = Counter()
        """How many wait for a container to become healthy, by id: they wait on through a restart."""
        self._moments: list[tuple[float, int, _Watched, _Act]] = []
        self._numbers = itertools.count()
        self._load = Load()
        self._selector = selectors.DefaultSelector()
        self._bell_read, self._bell_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._bell_read, selectors.EVENT_READ, None)
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="supervise")
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="supervise", daemon=True)

    def serve(self, restart: Restarter) -> None:
        """Begins. What ended before is dealt with now."""
        self._restart = restart
        self._thread.start()

    def close(self) -> None:
        with self._changed:
            self._ended = True
        self._ring()
        if self._thread.is_alive():
            self._thread.join()
        self._pool.shutdown(wait=True, cancel_futures=True)
        with self._changed:
            for container_id in list(self._watched):
                self._drop(container_id)

    # ------------------------------------------------------------ what the engine calls

    def watch(
        self, environment: EnvironmentName, container: Container, service: Service, healthcheck: Healthcheck | None
    ) -> None:
        checked = healthcheck if healthcheck is not None and healthcheck.test else None
        alive = container.pid is not None
        status = ServiceStatus(
            service=container.name,
            state=State.RUNNING if alive else State.EXITED,
            health=Health.STARTING if checked is not None and alive else Health.NONE,
            pid=container.pid,
            exit_code=container.exit_code,
            started_at=container.started_at,
        )
        with self._changed:
            old = self._drop(container.id)
            if old is not None:
                status = replace(status, restarts=old.status.restarts)
            watched = _Watched(environment, container, service, checked, status)
            watched.restarts = old.restarts if old is not None else 0
            self._watched[container.id] = watched
            if alive:
                watched.descriptor = self._runtime.exit_descriptor(container.id)
                if watched.descriptor is None:  # it has ended since
                    self._at(0.0, watched, self._note_end)
                else:
                    self._selector.register(watched.descriptor, selectors.EVENT_READ, container.id)
                if checked is not None:
                    awaited = self._awaited[container.id] > 0
                    self._plan_probe(watched, 0.0 if awaited else min(restarts.UNHURRIED_S, checked.interval_s))
            self._changed.notify_all()
        self._ring()

    def forget(self, container_id: str) -> None:
        with self._changed:
            self._drop(container_id)
            self._changed.notify_all()

    def failed(self, environment: EnvironmentName, container_id: str, service: Service, reason: str) -> None:
        with self._changed:
            watched = self._watched.get(container_id)
            if watched is None:
                return
            watched.status = replace(watched.status, state=State.EXITED, reason=reason)
            self._plan_restart(watched)
            self._changed.notify_all()
        self._ring()

    def rename(self, old: EnvironmentName, new: EnvironmentName) -> None:
        with self._changed:
            for watched in self._watched.values():
                if watched.environment == old:
                    watched.environment = new

    def status(self, container_id: str) -> ServiceStatus | None:
        watched = self._watched.get(container_id)
        return None if watched is None else watched.status

    def wait(self, container_id: str, condition: Condition, timeout_s: float) -> ServiceStatus | None:
        def decided() -> bool:
            watched = self._watched.get(container_id)
            return watched is None or _decided(watched.status, condition)

        with self._changed:
            watched = self._watched.get(container_id)
            for_health = condition is Condition.HEALTHY
            if for_health:
                self._awaited[container_id] += 1
                if watched is not None and watched.status.health is Health.STARTING:
                    self._plan_probe(watched, 0.0)
                    self._ring()
            self._changed.wait_for(decided, timeout_s)
            if for_health:
                self._awaited[container_id] -= 1
                self._awaited += Counter()  # those that nobody waits for any more go
            return self.status(container_id)

    # ------------------------------------------------------------ the watching thread

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._ended:
                    return
                timeout = max(0.0, self._moments[0][0] - self._host.monotonic()) if self._moments else None
            for key, _ in self._selector.select(timeout):
                if key.data is None:
                    while _drained(self._bell_read):
                        pass
                else:
                    self._ended_now(str(key.data), key.fd)
            self._due()

    def _ended_now(self, container_id: str, descriptor: int) -> None:
        with self._changed:
            watched = self._watched.get(container_id)
            if watched is None or watched.descriptor != descriptor:
                return
            self._close_descriptor(watched)
        self._submit(self._note_end, watched)

    def _due(self) -> None:
        now = self._host.monotonic()
        while True:
            with self._changed:
                if not self._moments or self._moments[0][0] > now:
                    return
                _, _, watched, act = heapq.heappop(self._moments)
                if not self._is_current(watched):
                    continue
            self._submit(act, watched)

    def _submit(self, act: _Act, watched: _Watched) -> None:
        is_check = act not in (self._note_end, self._start_again)
        number = self._load.begin(watched.container.environment, is_check, self._host.monotonic())
        if number is None:
            with self._changed:
                self._at(_ASK_AGAIN_S, watched, act)
            return

        def guarded() -> None:
            try:
                act(watched)
            except WyeError as error:
                logger.warning("supervise %s: %s", watched.container.id, error.message)
            except Exception:
                logger.exception("supervise %s", watched.container.id)
            finally:
                self._load.end(number)

        if not self._ended:
            self._pool.submit(guarded)

    # ------------------------------------------------------------ ends and restarts

    def _note_end(self, watched: _Watched) -> None:
        container_id = watched.container.id
        found = self._runtime.wait(container_id, 5.0) or self._runtime.container(container_id)
        with self._changed:
            if not self._is_current(watched):
                return
            self._close_descriptor(watched)
            code = found.exit_code if found is not None else None
            killed = found is not None and found.out_of_memory
            ran_s = self._host.now() - (watched.status.started_at or 0.0)
            if ran_s >= restarts.STABLE_AFTER_S:
                watched.restarts = 0
            reason = "out of memory" if killed else ""
            watched.status = replace(
                watched.status, state=State.EXITED, health=Health.NONE, pid=None, exit_code=code, reason=reason
            )
            self._plan_restart(watched)
            self._changed.notify_all()
            event = Event(
                at=self._host.now(),
                kind="service-ended",
                environment=watched.environment,
                service=watched.container.name,
                detail={"exit_code": str(code), **({"reason": reason} if reason else {})},
            )
        self._emit(event)
        self._ring()

    def _plan_restart(self, watched: _Watched) -> None:
        delay = restarts.delay_before_restart(
            watched.service.restart, exit_code=watched.status.exit_code, restarts=watched.restarts
        )
        if delay is not None:
            watched.restarts += 1
            watched.status = replace(watched.status, state=State.RESTARTING, restarts=watched.status.restarts + 1)
            self._at(delay, watched, self._start_again)

    def _start_again(self, watched: _Watched) -> None:
        if self._restart is None or not self._is_current(watched) or watched.status.state is not State.RESTARTING:
            return
        try:
            self._restart(watched.environment, watched.container)
        except WyeError as error:
            self.failed(watched.environment, watched.container.id, watched.service, error.message)

    # ------------------------------------------------------------ health

    def _plan_probe(self, watched: _Watched, delay_s: float) -> None:
        watched.probe_number += 1
        number = watched.probe_number

        def probe(_: _Watched) -> None:
            if watched.probe_number == number:
                self._probe(watched)

        self._at(delay_s, watched, probe)

    def _probe(self, watched: _Watched) -> None:
        check, container = watched.healthcheck, watched.container
        if check is None or not self._is_current(watched) or watched.status.state is not State.RUNNING:
            return
        code, output = self._runtime.check(container.id, check.test, check.timeout_s)
        with self._changed:
            if not self._is_current(watched) or watched.status.state is not State.RUNNING:
                return
            watched.probes += 1
            before = watched.status.health
            if code == 0:
                watched.failures = 0
                health, reason = Health.HEALTHY, ""
            else:
                health, reason = self._after_failure(watched, check), output.strip()[:200]
            watched.status = replace(watched.status, health=health, reason=reason)
            awaited = self._awaited[container.id] > 0
            delay = restarts.next_probe(check, health=health, probes=watched.probes, awaited=awaited)
            self._plan_probe(watched, delay)
            if health is not before:
                self._changed.notify_all()
        if health is not before:
            self._emit(
                Event(
                    at=self._host.now(),
                    kind=f"service-{health}",
                    environment=watched.environment,
                    service=container.name,
                    detail={"output": reason} if reason else {},
                )
            )
        self._ring()

    def _after_failure(self, watched: _Watched, check: Healthcheck) -> Health:
        now = self._host.now()
        running_s = now - (watched.status.started_at or now)
        if running_s >= check.start_period_s:
            if watched.failures == 0:
                watched.failing_since = now
            watched.failures += 1
        return restarts.health_after_failure(
            check,
            health=watched.status.health,
            running_s=running_s,
            failing_s=now - watched.failing_since,
            failures=watched.failures,
        )

    # ------------------------------------------------------------ small things, all with `_changed` held

    def _at(self, delay_s: float, watched: _Watched, act: _Act) -> None:
        heapq.heappush(self._moments, (self._host.monotonic() + delay_s, next(self._numbers), watched, act))

    def _is_current(self, watched: _Watched) -> bool:
        """Whether it is still this container that is watched, and not its successor by the same id."""
        return self._watched.get(watched.container.id) is watched

    def _drop(self, container_id: str) -> _Watched | None:
        watched = self._watched.pop(container_id, None)
        if watched is not None:
            self._close_descriptor(watched)
        return watched

    def _close_descriptor(self, watched: _Watched) -> None:
        if watched.descriptor is not None:
            self._selector.unregister(watched.descriptor)
            os.close(watched.descriptor)
            watched.descriptor = None

    def _ring(self) -> None:
        """Has the watching thread look again."""
        try:
            os.write(self._bell_write, b"!")
        except BlockingIOError:
            pass  # it will look anyway


def _drained(descriptor: int) -> bool:
    try:
        return len(os.read(descriptor, 4096)) == 4096
    except BlockingIOError:
        return False


def _decided(status: ServiceStatus, condition: Condition) -> bool:
    """Whether a condition holds, or will not hold any more."""
    if status.state is State.EXITED:
        return True
    if status.state is State.RESTARTING:
        return condition is Condition.STARTED
    if condition is Condition.STARTED:
        return status.state is State.RUNNING
    if condition is Condition.HEALTHY:
        return status.health in (Health.HEALTHY, Health.UNHEALTHY, Health.NONE)
    return False

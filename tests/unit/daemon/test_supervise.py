"""The supervisor over a runtime in memory: real threads and a real clock, waits on conditions and not for times."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from wye.daemon.supervise import ThreadSupervisor
from wye.errors import Unavailable
from wye.host import Host
from wye.interfaces import Container, ContainerPlan
from wye.model import (
    Condition,
    EnvironmentId,
    EnvironmentName,
    Event,
    Health,
    Healthcheck,
    Image,
    ImageConfig,
    Restart,
    RestartPolicy,
    Service,
    ServiceName,
    ServiceStatus,
    State,
)
from wye.testing.memory_runtime import Executed, MemoryRuntime, Program

PRODUCTION = EnvironmentName("production")
QUICK = Healthcheck(test=("check",), interval_s=0.01, retries=2, timeout_s=5.0)
ALWAYS = Restart(policy=RestartPolicy.ALWAYS, delay_s=0.001)
SOON_S = 20.0


@dataclass
class World:
    runtime: MemoryRuntime
    events: queue.SimpleQueue[Event] = field(default_factory=queue.SimpleQueue)
    services: dict[str, Service] = field(default_factory=dict)
    check: Callable[[], int] = lambda: 0
    supervisor: ThreadSupervisor = field(init=False)

    def __post_init__(self) -> None:
        self.supervisor = ThreadSupervisor(Host(), self.runtime, self.events.put)
        self.runtime.executes = lambda _, __: Executed(self.check())

    def serve(self) -> None:
        self.supervisor.serve(self.restart)

    def plan(self, name: str, environment: str = "abcdefghijkl") -> ContainerPlan:
        return ContainerPlan(
            environment=EnvironmentId(environment),
            name=name,
            image=Image(reference="x", digest="0", config=ImageConfig()),
            argv=("run",),
            env={},
            working_dir="/",
            user="",
            hostname=name,
        )

    def start(
        self, name: str = "web", restart: Restart | None = None, check: Healthcheck | None = None, *, watch: bool = True
    ) -> Container:
        container = self.runtime.start(self.plan(name), Path("/"), Path("/"))
        self.services[container.id] = Service(name=ServiceName(name), restart=restart or Restart(), healthcheck=check)
        if watch:
            self.watch(container)
        return container

    def watch(self, container: Container, environment: EnvironmentName = PRODUCTION) -> None:
        service = self.services[container.id]
        self.supervisor.watch(environment, container, service, service.healthcheck)

    def restart(self, environment: EnvironmentName, container: Container) -> None:
        self.watch(self.runtime.start(self.plan(container.name), Path("/"), Path("/")), environment)

    def event(self) -> Event:
        return self.events.get(timeout=SOON_S)

    def status(self, container: Container) -> ServiceStatus:
        found = self.supervisor.status(container.id)
        assert found is not None
        return found

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SOON_S
        while not condition():
            assert time.monotonic() < deadline, "it does not come true"
            time.sleep(0.002)


@pytest.fixture
def world() -> Iterator[World]:
    world = World(MemoryRuntime())
    world.serve()
    yield world
    world.supervisor.close()
    for container in world.runtime.containers():
        world.runtime.delete(container.id)


# ---------------------------------------------------------------- ends and restarts


def test_an_end_is_noted(world: World) -> None:
    container = world.start()
    assert world.status(container).state is State.RUNNING
    world.runtime.end(container.id, 3, out_of_memory=True)
    event = world.event()
    assert (event.kind, event.environment, event.service) == ("service-ended", "production", "web")
    assert event.detail == {"exit_code": "3", "reason": "out of memory"}
    status = world.status(container)
    assert (status.state, status.exit_code, status.pid) == (State.EXITED, 3, None)
    assert len(world.runtime.plans) == 1


def test_it_is_started_again_and_again(world: World) -> None:
    container = world.start(restart=ALWAYS)
    for restarts in range(1, 6):
        world.runtime.end(container.id, 0)
        world.until(lambda restarts=restarts: world.status(container).restarts == restarts)
        world.until(lambda: world.status(container).state is State.RUNNING)
    assert len(world.runtime.plans) == 6


def test_retries_come_to_an_end(world: World) -> None:
    world.runtime.programs = lambda _: Program(exit_code=1)
    container = world.start(restart=Restart(policy=RestartPolicy.ON_FAILURE, max_retries=2, delay_s=0.001))
    codes = [world.event().detail["exit_code"] for _ in range(3)]
    assert codes == ["1", "1", "1"]
    status = world.status(container)
    assert (status.state, status.restarts, len(world.runtime.plans)) == (State.EXITED, 2, 3)


def test_on_failure_lets_success_be(world: World) -> None:
    container = world.start(restart=Restart(policy=RestartPolicy.ON_FAILURE, delay_s=0.001))
    world.runtime.end(container.id, 1)
    assert world.event().detail == {"exit_code": "1"}
    world.until(lambda: world.status(container).state is State.RUNNING)
    world.runtime.end(container.id, 0)
    assert world.event().detail == {"exit_code": "0"}
    assert world.status(container).state is State.EXITED


def test_a_start_that_fails_is_tried_again(world: World) -> None:
    container = world.start(restart=ALWAYS)
    world.runtime.refusals["web"] = Unavailable("no memory")
    world.runtime.end(container.id, 1)
    world.until(lambda: world.status(container).restarts >= 3)
    assert world.status(container).reason == "no memory"
    del world.runtime.refusals["web"]
    world.until(lambda: world.status(container).state is State.RUNNING)


def test_what_was_forgotten_stays_down(world: World) -> None:
    container, other = world.start(restart=ALWAYS), world.start("other")
    world.supervisor.forget(container.id)
    world.runtime.end(container.id, 1)
    world.runtime.end(other.id, 0)
    assert world.event().service == "other"
    assert world.supervisor.status(container.id) is None
    assert len(world.runtime.plans) == 2


def test_a_rename_is_heard_of(world: World) -> None:
    container = world.start()
    world.supervisor.rename(PRODUCTION, EnvironmentName("staging"))
    world.runtime.end(container.id, 0)
    assert world.event().environment == "staging"


# ---------------------------------------------------------------- adoption


def test_containers_of_an_earlier_daemon() -> None:
    world = World(MemoryRuntime())
    lives, ended, ends = world.start("a", watch=False), world.start("b", watch=False), world.start("c", watch=False)
    world.runtime.end(ended.id, 7)
    for container in (lives, world.runtime.container(ended.id), ends):
        assert container is not None
        # The last one ends between the listing and the watch.
        if container.name == "c":
            world.runtime.end(ends.id, 9)
        world.watch(container)
    world.serve()
    try:
        assert world.event().detail == {"exit_code": "9"}
        assert [world.status(one).state for one in (lives, ended, ends)] == [State.RUNNING, State.EXITED, State.EXITED]
        assert world.status(ended).exit_code == 7
        world.runtime.end(lives.id, 0)
        assert world.event().service == "a"
    finally:
        world.supervisor.close()


def test_a_late_note_of_an_end_does_not_hit_the_successor(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the end is noted a successor runs."""
    wait, noting, release, noted = world.runtime.wait, *(threading.Event() for _ in range(3))

    def late(container_id: str, _: float | None = None) -> Container | None:
        noting.set()
        release.wait(SOON_S)
        noted.set()
        return wait(container_id, 0.0)

    monkeypatch.setattr(world.runtime, "wait", late)
    container = world.start(restart=ALWAYS)
    world.runtime.end(container.id, 1)
    assert noting.wait(SOON_S)
    world.supervisor.forget(container.id)
    again = world.start(restart=ALWAYS)
    release.set()
    assert noted.wait(SOON_S)
    assert world.status(again).state is State.RUNNING
    world.runtime.end(again.id, 5)
    assert world.event().detail == {"exit_code": "5"}


# ---------------------------------------------------------------- health


def test_health_comes_goes_and_comes(world: World) -> None:
    codes = [0]
    world.check = lambda: codes[0]
    container = world.start(check=QUICK)
    assert world.status(container).health is Health.STARTING
    seen = []
    for code in (0, 1, 0):
        codes[0] = code
        seen.append(world.event().kind)
    assert seen == ["service-healthy", "service-unhealthy", "service-healthy"]


def test_one_failure_is_none(world: World) -> None:
    answers = iter([0, 1, 0, 1, 0])
    checked = threading.Event()

    def check() -> int:
        code = next(answers, None)
        if code is None:
            checked.set()
        return code or 0

    world.check = check
    world.start(check=QUICK)
    assert checked.wait(SOON_S)
    assert world.event().kind == "service-healthy"
    assert world.events.empty()


def test_who_waits_does_not_wait_for_the_interval(world: World) -> None:
    codes = iter([1, 1, 0])
    world.check = lambda: next(codes)
    container = world.start(check=Healthcheck(test=("check",), interval_s=3600.0))
    status = world.supervisor.wait(container.id, Condition.HEALTHY, SOON_S)
    assert status is not None
    assert status.health is Health.HEALTHY


def test_who_waits_waits_on_through_a_restart(world: World) -> None:
    world.check = lambda: 1 if len(world.runtime.plans) == 1 else 0
    container = world.start(restart=ALWAYS, check=Healthcheck(test=("check",), interval_s=3600.0))

    def dies_once_it_was_asked() -> None:
        world.until(lambda: world.supervisor._watched[container.id].probes > 0)  # noqa: SLF001
        world.runtime.end(container.id, 1)

    threading.Thread(target=dies_once_it_was_asked).start()
    began = time.monotonic()
    status = world.supervisor.wait(container.id, Condition.HEALTHY, SOON_S)
    assert status is not None
    assert (status.health, status.restarts) == (Health.HEALTHY, 1)
    assert time.monotonic() - began < SOON_S / 2


@pytest.mark.parametrize("what", ["forget", "end"])
def test_something_happens_during_a_probe(world: World, what: str) -> None:
    entered, release = threading.Event(), threading.Event()

    def check() -> int:
        entered.set()
        release.wait(SOON_S)
        return 0

    world.check = check
    container = world.start(check=QUICK)
    assert entered.wait(SOON_S)
    if what == "forget":
        world.supervisor.forget(container.id)
    else:
        world.runtime.end(container.id, 4)
        assert world.event().kind == "service-ended"
    release.set()
    other = world.start("other", check=QUICK)
    assert world.event().service == other.name
    status = world.supervisor.status(container.id)
    assert status is None if what == "forget" else status is not None and status.health is Health.NONE


# ---------------------------------------------------------------- waits


def test_conditions(world: World) -> None:
    container = world.start()
    wait = world.supervisor.wait
    for condition in (Condition.STARTED, Condition.HEALTHY):
        status = wait(container.id, condition, SOON_S)
        assert status is not None
        assert status.state is State.RUNNING
    assert wait(container.id, Condition.COMPLETED, 0.01) is not None
    threading.Timer(0.02, world.runtime.end, (container.id, 0)).start()
    status = wait(container.id, Condition.COMPLETED, SOON_S)
    assert status is not None
    assert status.exit_code == 0
    assert wait("abcdefghijkl-none", Condition.STARTED, SOON_S) is None


def test_a_wait_ends_with_what_it_waits_for(world: World) -> None:
    container = world.start()
    threading.Timer(0.02, world.supervisor.forget, (container.id,)).start()
    assert world.supervisor.wait(container.id, Condition.COMPLETED, SOON_S) is None


def test_checks_that_hang_keep_nobody_else_waiting(world: World) -> None:
    hang = threading.Event()
    own = world.plan("web").environment
    world.runtime.executes = lambda container, _: Executed(
        0 if container.environment == own or hang.wait(SOON_S) else 1
    )
    try:
        for number in range(12):
            for name in ("a", "b", "c"):
                container = world.runtime.start(world.plan(name, f"fork{number:08}"), Path("/"), Path("/"))
                world.services[container.id] = Service(name=ServiceName(name), healthcheck=QUICK, restart=ALWAYS)
                world.watch(container, EnvironmentName(f"fork-{number}"))
        container = world.start(restart=ALWAYS, check=QUICK)
        status = world.supervisor.wait(container.id, Condition.HEALTHY, SOON_S)
        assert status is not None
        assert status.health is Health.HEALTHY
        world.runtime.end(container.id, 1)
        world.until(lambda: world.status(container).restarts == 1)
    finally:
        hang.set()

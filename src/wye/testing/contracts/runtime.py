"""What every `Runtime` must do. Subclass `RuntimeContract` as `Test...` and give it a fixture `world`.

The suite's programs are a few fixed command lines. A fake that runs none is told by PROGRAMS and EXECS what they
come to; the real thing has a shell.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from wye.errors import BadRequest, Conflict, NotFound, WyeError
from wye.interfaces import ContainerPlan, ExecPlan, LogLine, Runtime
from wye.model import EnvironmentId, File, Image, ImageConfig

RUNS = ("sh", "-c", "trap 'exit 143' TERM; sleep 1000 & wait")
ENDS_WITH_7 = ("sh", "-c", "exit 7")
TALKS = ("sh", "-c", "echo one; echo two; echo three; exit 0")
COMPLAINS = ("sh", "-c", "echo no >&2; exit 1")
CANNOT_START = ("/no/such/program",)

PROGRAMS: dict[tuple[str, ...], tuple[int | None, tuple[tuple[str, str], ...]]] = {
    RUNS: (None, ()),
    ENDS_WITH_7: (7, ()),
    TALKS: (0, (("stdout", "one"), ("stdout", "two"), ("stdout", "three"))),
    COMPLAINS: (1, (("stderr", "no"),)),
}
"""(exit code or None, output as (stream, text)) by command line. CANNOT_START is refused with a WyeError."""

SAYS = ("sh", "-c", "echo out; echo err >&2; exit 3")
TRUE = ("true",)
EXECS: dict[tuple[str, ...], tuple[int, bytes, bytes]] = {SAYS: (3, b"out\n", b"err\n"), TRUE: (0, b"", b"")}
"""(exit code, stdout, stderr) by command line."""

_SOON_S = 20.0
_ENVIRONMENT = EnvironmentId("c0ntract0001")


@dataclass(frozen=True, slots=True)
class World:
    """A runtime, and an environment's root and an image's that its containers can use."""

    runtime: Runtime
    root: Path
    rootfs: Path

    def plan(self, argv: tuple[str, ...], name: str = "web", *, files: tuple[File, ...] = ()) -> ContainerPlan:
        return ContainerPlan(
            environment=_ENVIRONMENT,
            name=name,
            image=Image(reference="tiny", digest="sha256:0", config=ImageConfig()),
            argv=argv,
            env={"GREETING": "hello"},
            working_dir="/",
            user="",
            hostname=name,
            files=files,
        )

    def start(self, argv: tuple[str, ...], name: str = "web", *, files: tuple[File, ...] = ()) -> str:
        return self.runtime.start(self.plan(argv, name, files=files), self.root, self.rootfs).id

    def ended(self, container_id: str) -> int | None:
        """Waits for the end of a container; its exit code."""
        container = self.runtime.wait(container_id, _SOON_S)
        assert container is not None
        assert container.pid is None
        return container.exit_code

    def lines(self, name: str = "web", *, tail: int | None = None) -> list[LogLine]:
        return list(self.runtime.logs(_ENVIRONMENT, name, tail=tail))


class RuntimeContract:
    # ------------------------------------------------------------ start

    def test_a_started_container_runs_and_is_listed(self, world: World) -> None:
        container = world.runtime.start(world.plan(RUNS), world.root, world.rootfs)
        assert container.id == f"{_ENVIRONMENT}-web"
        assert (container.environment, container.name) == (_ENVIRONMENT, "web")
        assert container.pid is not None
        assert container.exit_code is None
        assert world.runtime.container(container.id) == container
        assert world.runtime.containers() == [container]

    def test_a_running_container_is_not_started_again(self, world: World) -> None:
        first = world.runtime.start(world.plan(RUNS), world.root, world.rootfs)
        with pytest.raises(Conflict):
            world.start(RUNS)
        assert world.runtime.containers() == [first]

    def test_an_ended_container_makes_room_for_its_successor(self, world: World) -> None:
        world.ended(world.start(ENDS_WITH_7))
        again = world.start(RUNS)
        assert [(found.id, found.exit_code) for found in world.runtime.containers()] == [(again, None)]

    def test_a_failed_start_leaves_nothing(self, world: World) -> None:
        with pytest.raises(WyeError):
            world.start(CANNOT_START)
        assert world.runtime.containers() == []
        world.start(RUNS)

    @pytest.mark.parametrize("name", ["", "../web", "a/b"])
    def test_a_name_that_is_a_path_is_refused(self, world: World, name: str) -> None:
        with pytest.raises(BadRequest):
            world.start(RUNS, name)
        assert world.runtime.containers() == []

    def test_containers_start_beside_each_other(self, world: World) -> None:
        names = [f"web-{number}" for number in range(4)]
        threads = [threading.Thread(target=world.start, args=(RUNS, name)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found.name for found in world.runtime.containers() if found.pid) == names

    # ------------------------------------------------------------ ends

    def test_the_exit_code_is_kept(self, world: World) -> None:
        container_id = world.start(ENDS_WITH_7)
        assert world.ended(container_id) == 7
        assert world.ended(container_id) == 7
        found = world.runtime.container(container_id)
        assert found is not None
        assert (found.pid, found.exit_code, found.out_of_memory) == (None, 7, False)

    def test_waiting_ends_with_the_time(self, world: World) -> None:
        assert world.runtime.wait(world.start(RUNS), 0.01) is None
        assert world.runtime.wait("nobody-web", 0.01) is None

    def test_a_descriptor_tells_of_the_end(self, world: World) -> None:
        container_id = world.start(RUNS)
        descriptor = world.runtime.exit_descriptor(container_id)
        assert descriptor is not None
        try:
            assert select.select([descriptor], [], [], 0)[0] == []
            world.runtime.kill_all(container_id)
            assert select.select([descriptor], [], [], _SOON_S)[0] == [descriptor]
        finally:
            os.close(descriptor)
        world.ended(container_id)
        assert world.runtime.exit_descriptor(container_id) is None
        assert world.runtime.exit_descriptor("nobody-web") is None

    def test_a_signal_reaches_the_first_process(self, world: World) -> None:
        container_id = world.start(RUNS)
        # The shell has set its trap when its child runs; asked again until then, as TERM does nothing before.
        for _ in range(200):
            world.runtime.signal(container_id, signal.SIGTERM)
            if world.runtime.wait(container_id, 0.1) is not None:
                break
        assert world.ended(container_id) == 143
        world.runtime.signal(container_id, signal.SIGTERM)
        world.runtime.signal("nobody-web", signal.SIGTERM)

    def test_kill_all_ends_it(self, world: World) -> None:
        container_id = world.start(RUNS)
        world.runtime.kill_all(container_id)
        assert world.ended(container_id) == 137
        world.runtime.kill_all(container_id)
        world.runtime.kill_all("nobody-web")

    def test_delete_takes_it_away_running_or_ended(self, world: World) -> None:
        running, ended = world.start(RUNS, "a"), world.start(ENDS_WITH_7, "b")
        for container_id in (running, ended, ended, "nobody-web"):
            world.runtime.delete(container_id)
            assert world.runtime.container(container_id) is None
        assert world.runtime.containers() == []

    # ------------------------------------------------------------ logs

    def test_logs_have_streams_and_order(self, world: World) -> None:
        world.ended(world.start(TALKS))
        world.ended(world.start(COMPLAINS, "worker"))
        assert [(line.stream, line.text) for line in world.lines()] == [
            ("stdout", "one"),
            ("stdout", "two"),
            ("stdout", "three"),
        ]
        assert [(line.stream, line.text) for line in world.lines("worker")] == [("stderr", "no")]
        assert world.lines("nobody") == []

    def test_the_tail_is_the_end(self, world: World) -> None:
        world.ended(world.start(TALKS))
        assert [line.text for line in world.lines(tail=2)] == ["two", "three"]
        assert [line.text for line in world.lines(tail=9)] == ["one", "two", "three"]
        assert world.lines(tail=0) == []

    def test_logs_since_a_time(self, world: World) -> None:
        world.ended(world.start(TALKS))
        lines = world.lines()
        since = lines[-1].at
        later = list(world.runtime.logs(_ENVIRONMENT, "web", since_at=since))
        assert later == [line for line in lines if line.at >= since]
        assert list(world.runtime.logs(_ENVIRONMENT, "web", since_at=since + 1000)) == []

    def test_logs_outlive_containers(self, world: World) -> None:
        for _ in range(2):
            container_id = world.start(TALKS)
            world.ended(container_id)
            world.runtime.delete(container_id)
        assert len(world.lines()) == 6
        world.runtime.delete_logs(_ENVIRONMENT)
        world.runtime.delete_logs(_ENVIRONMENT)
        assert world.lines() == []

    def test_following_gives_what_is_still_to_come(self, world: World) -> None:
        first = world.start(TALKS, "a")
        world.ended(first)
        texts: list[str] = []
        for line in world.runtime.logs(_ENVIRONMENT, "a", tail=1, follow=lambda: len(texts) < 4):
            texts.append(line.text)
            if len(texts) == 1:
                world.ended(world.start(TALKS, "a"))
        assert texts == ["three", "one", "two", "three"]

    # ------------------------------------------------------------ inside

    def test_exec_has_output_and_exit_code(self, world: World) -> None:
        process = world.runtime.exec(world.start(RUNS), ExecPlan(argv=SAYS))
        try:
            assert process.stderr is not None
            process.close_stdin()
            assert (_all_of(process.stdout), _all_of(process.stderr)) == (b"out\n", b"err\n")
            assert process.wait(_SOON_S) == 3
            assert process.wait() == 3
        finally:
            process.close()
        process.close()

    def test_exec_needs_a_running_container(self, world: World) -> None:
        ended = world.start(ENDS_WITH_7)
        world.ended(ended)
        for container_id in (ended, "nobody-web"):
            with pytest.raises(NotFound):
                world.runtime.exec(container_id, ExecPlan(argv=TRUE))
            with pytest.raises(NotFound):
                world.runtime.check(container_id, TRUE, 1.0)

    def test_check_has_exit_code_and_output(self, world: World) -> None:
        container_id = world.start(RUNS)
        assert world.runtime.check(container_id, TRUE, _SOON_S) == (0, "")
        code, output = world.runtime.check(container_id, SAYS, _SOON_S)
        assert code == 3
        assert sorted(output.split()) == ["err", "out"]

    def test_only_files_of_the_plan_are_replaced(self, world: World) -> None:
        container_id = world.start(RUNS, files=(File(name="hosts", target="/etc/hosts", content=""),))
        world.runtime.replace_file(container_id, "/etc/hosts", b"127.0.0.1 localhost\n")
        with pytest.raises(NotFound):
            world.runtime.replace_file(container_id, "/etc/passwd", b"")
        with pytest.raises(NotFound):
            world.runtime.replace_file("nobody-web", "/etc/hosts", b"")

    def test_memory_is_known_of_what_runs(self, world: World) -> None:
        memory = world.runtime.memory_bytes(world.start(RUNS))
        assert memory is not None
        assert memory > 0
        assert world.runtime.memory_bytes("nobody-web") is None


def _all_of(descriptor: int) -> bytes:
    data = b""
    while got := os.read(descriptor, 65536):
        data += got
    return data

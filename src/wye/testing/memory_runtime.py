"""A Runtime without processes: a verified fake for fast tests of what uses one.

It passes `contracts.runtime` and keeps what it was told, so that a test can look (`plans`, `signals`), decide what a
container's program does (`programs`, `refusals`), what an exec answers (`executes`), and end a container (`end`).
Whatever else a container would do to the machine, it does not.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from wye.errors import BadRequest, Conflict, NotFound, Unavailable, WyeError
from wye.interfaces import Container, ContainerPlan, ExecPlan, ExecProcess, LogLine
from wye.model import EnvironmentId

_FIRST_PID = 100_000
_IGNORED = frozenset((signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH))


@dataclass(frozen=True, slots=True)
class Program:
    """What a container's program does: says `output`, as (stream, text), and ends with `exit_code`; None: runs on."""

    exit_code: int | None = None
    output: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Executed:
    """What an exec comes to."""

    exit_code: int = 0
    stdout: bytes = b""
    stderr: bytes = b""


def runs_on(_: ContainerPlan) -> Program:
    return Program()


def succeeds(_: Container, __: ExecPlan) -> Executed:
    return Executed()


@dataclass(slots=True)
class _Present:
    plan: ContainerPlan
    container: Container
    ended: int
    """An eventfd, readable once it has ended."""
    files: dict[str, bytes] = field(default_factory=dict)


class MemoryRuntime:
    def __init__(
        self,
        *,
        programs: Callable[[ContainerPlan], Program] = runs_on,
        executes: Callable[[Container, ExecPlan], Executed] = succeeds,
    ) -> None:
        self.programs = programs
        self.executes = executes
        self.refusals: dict[str, WyeError] = {}
        """By replica's name: its start raises this."""
        self.plans: list[ContainerPlan] = []
        """Of every start, in order."""
        self.signals: list[tuple[str, int]] = []
        self.execs: list[tuple[str, ExecPlan]] = []
        self._present: dict[str, _Present] = {}
        self._logs: dict[tuple[str, str], list[LogLine]] = {}
        self._pids = _FIRST_PID
        self._changed = threading.Condition(threading.RLock())

    # ------------------------------------------------------------ for tests

    def end(self, container_id: str, exit_code: int, *, out_of_memory: bool = False) -> None:
        """Ends a container that runs. Raises NotFound if none does."""
        with self._changed:
            present = self._running(container_id)
            present.container = replace(present.container, pid=None, exit_code=exit_code, out_of_memory=out_of_memory)
            os.eventfd_write(present.ended, 1)
            self._changed.notify_all()

    def say(self, container_id: str, text: str, stream: str = "stdout") -> None:
        """A line of a container's output."""
        with self._changed:
            container = self._present[container_id].container
            lines = self._logs.setdefault((container.environment, container.name), [])
            lines.append(LogLine(at=time.time(), stream=stream, text=text))
            self._changed.notify_all()

    def file(self, container_id: str, target: str) -> bytes:
        """What `replace_file` last put there. Raises KeyError."""
        return self._present[container_id].files[target]

    # ------------------------------------------------------------ Runtime

    def start(self, plan: ContainerPlan, root: Path, rootfs: Path) -> Container:
        if not plan.name or "/" in plan.name:
            raise BadRequest(f"{plan.name!r} cannot name a container")
        with self._changed:
            present = self._present.get(plan.id)
            if present is not None and present.container.pid is not None:
                raise Conflict(f"container {plan.id} runs already")
            self.delete(plan.id)
            self.plans.append(plan)
            if plan.name in self.refusals:
                raise self.refusals[plan.name]
            program = self.programs(plan)
            self._pids += 1
            container = Container(
                id=plan.id, environment=plan.environment, name=plan.name, pid=self._pids, started_at=time.time()
            )
            self._present[plan.id] = _Present(plan, container, os.eventfd(0))
            for stream, text in program.output:
                self.say(plan.id, text, stream)
            if program.exit_code is not None:
                self.end(plan.id, program.exit_code)
            return container

    def container(self, container_id: str) -> Container | None:
        with self._changed:
            present = self._present.get(container_id)
            return present.container if present else None

    def containers(self) -> list[Container]:
        with self._changed:
            return [self._present[key].container for key in sorted(self._present)]

    def signal(self, container_id: str, number: int) -> None:
        with self._changed:
            container = self.container(container_id)
            if container is None or container.pid is None:
                return
            self.signals.append((container_id, number))
            if number not in _IGNORED:
                self.end(container_id, 128 + number)

    def kill_all(self, container_id: str) -> None:
        self.signal(container_id, signal.SIGKILL)

    def wait(self, container_id: str, timeout_s: float | None = None) -> Container | None:
        def ended() -> bool:
            container = self.container(container_id)
            return container is None or container.pid is None

        with self._changed:
            return self.container(container_id) if self._changed.wait_for(ended, timeout_s) else None

    def exit_descriptor(self, container_id: str) -> int | None:
        with self._changed:
            present = self._present.get(container_id)
            return os.dup(present.ended) if present and present.container.pid is not None else None

    def replace_file(self, container_id: str, target: str, content: bytes) -> None:
        with self._changed:
            present = self._present.get(container_id)
            if present is None or target not in {file.target for file in present.plan.files}:
                raise NotFound(f"container {container_id} has no file {target}")
            present.files[target] = content

    def delete(self, container_id: str) -> None:
        with self._changed:
            if container_id in self._present:
                self.kill_all(container_id)
                os.close(self._present.pop(container_id).ended)
                self._changed.notify_all()

    def delete_logs(self, environment: EnvironmentId) -> None:
        with self._changed:
            for key in [key for key in self._logs if key[0] == environment]:
                del self._logs[key]

    def exec(self, container_id: str, plan: ExecPlan) -> ExecProcess:
        with self._changed:
            container = self._running(container_id).container
            self.execs.append((container_id, plan))
        return MemoryProcess(self.executes(container, plan), tty=plan.tty)

    def check(
        self, container_id: str, argv: Sequence[str], timeout_s: float, *, output_bytes: int = 4096
    ) -> tuple[int, str]:
        with self._changed:
            container = self._running(container_id).container
        executed = self.executes(container, ExecPlan(argv=tuple(argv)))
        return executed.exit_code, (executed.stdout + executed.stderr)[:output_bytes].decode(errors="replace")

    def logs(
        self,
        environment: EnvironmentId,
        name: str,
        *,
        since_at: float | None = None,
        tail: int | None = None,
        follow: Callable[[], bool] | None = None,
    ) -> Iterator[LogLine]:
        seen = 0
        while True:
            goes_on = follow is not None and follow()
            with self._changed:
                lines = self._logs.get((environment, name), [])
                first = max(0, len(lines) - tail) if tail is not None and seen == 0 else seen
                new, seen = lines[first:], max(len(lines), first)
            yield from (line for line in new if since_at is None or line.at >= since_at)
            if not goes_on:
                return
            with self._changed:
                self._changed.wait(0.05)

    def open_socket(self, container_id: str, path: str) -> int:
        self._running(container_id)
        raise NotFound(f"there is no socket {path} in the container: nothing runs here")

    def dial(self, container_id: str, port: int) -> socket.socket:
        self._running(container_id)
        raise Unavailable(f"nothing answers at port {port} of the container")

    def port_use(self, container_id: str, port: int) -> tuple[bool, int]:
        return False, 0

    def memory_bytes(self, container_id: str) -> int | None:
        container = self.container(container_id)
        return 1 << 20 if container is not None and container.pid is not None else None

    def _running(self, container_id: str) -> _Present:
        present = self._present.get(container_id)
        if present is None or present.container.pid is None:
            raise NotFound(f"container {container_id} does not run")
        return present


class MemoryProcess:
    """An exec that has ended already; its output waits in the pipes, so no more of it than a pipe holds."""

    def __init__(self, executed: Executed, *, tty: bool) -> None:
        self._code = executed.exit_code
        self._unread, self.stdin = os.pipe()
        self.stdout = _readable(executed.stdout + executed.stderr if tty else executed.stdout)
        self.stderr = None if tty else _readable(executed.stderr)
        self._open = {self._unread, self.stdin, self.stdout, *([] if self.stderr is None else [self.stderr])}
        self.signals: list[int] = []
        self.size: tuple[int, int] | None = None

    def close_stdin(self) -> None:
        self._close(self.stdin)

    def resize(self, rows: int, columns: int) -> None:
        self.size = (rows, columns)

    def signal(self, number: int) -> None:
        self.signals.append(number)

    def wait(self, timeout_s: float | None = None) -> int | None:
        return self._code

    def close(self) -> None:
        for descriptor in list(self._open):
            self._close(descriptor)

    def _close(self, descriptor: int) -> None:
        if descriptor in self._open:
            self._open.discard(descriptor)
            os.close(descriptor)


def _readable(data: bytes) -> int:
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    return read

"""A daemon's whole upper half, served on a Unix socket by a thread: real routes, real engine, real client.

Below the engine are memory drivers; a container is a process of this machine, without any walls. That is enough to
see verbs, streams, and exec with real descriptors, in milliseconds and without root.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from wye.api.client import Client, connect
from wye.cli import commands
from wye.daemon.doors import HostDoors
from wye.daemon.routes import application
from wye.daemon.routes.serving import Server, listen_tcp, listen_unix
from wye.daemon.supervise import ThreadSupervisor
from wye.engine.context import Engine
from wye.engine.events import Events
from wye.errors import Conflict, NotFound
from wye.host import Host
from wye.interfaces import Container, ContainerPlan, ExecPlan, Finding, LogLine, Report
from wye.kinds.trees.kind import Trees
from wye.model import Build, EnvironmentId, Image, ImageConfig
from wye.store.ledger import Ledger
from wye.store.memory import MemoryStore
from wye.testing.memory_network import MemoryNetwork
from wye.testing.memory_volumes import MemoryVolumes

TOKEN = "correct horse"


class LocalProcess:
    """An `ExecProcess` that is an ordinary process."""

    def __init__(self, plan: ExecPlan) -> None:
        env = {**os.environ, **plan.env}
        self.stderr: int | None = None
        if plan.tty:
            self.stdin, theirs = pty.openpty()
            self.stdout = self.stdin
            self.resize(plan.rows, plan.columns)
            self._popen = subprocess.Popen(
                plan.argv, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            )  # fmt: skip
            os.close(theirs)
        else:
            self._popen = subprocess.Popen(
                plan.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env,
                cwd=plan.working_dir, start_new_session=True,
            )  # fmt: skip
            self.stdin, self.stdout, self.stderr = (
                os.dup(each.fileno())
                for each in (self._popen.stdin, self._popen.stdout, self._popen.stderr)
                if each is not None
            )
            for each in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
                if each is not None:
                    each.close()
        self._open = {self.stdin, self.stdout, self.stderr} - {None}
        self.pid = self._popen.pid

    def close_stdin(self) -> None:
        if self.stdin == self.stdout:
            os.write(self.stdin, b"\x04")
        else:
            self._close(self.stdin)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.stdout, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, number)

    def wait(self, timeout_s: float | None = None) -> int | None:
        try:
            code = self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        return code if code >= 0 else 128 - code

    def close(self) -> None:
        for each in list(self._open):
            self._close(each)
        self.signal(signal.SIGKILL)
        self._popen.wait()

    def _close(self, descriptor: int | None) -> None:
        if descriptor is not None and descriptor in self._open:
            self._open.discard(descriptor)
            os.close(descriptor)


@dataclass
class _Running:
    container: Container
    popen: subprocess.Popen[bytes]


@dataclass
class LocalRuntime:
    """A `Runtime` whose containers are ordinary processes."""

    running: dict[str, _Running] = field(default_factory=dict)
    lines: dict[tuple[str, str], list[LogLine]] = field(default_factory=dict)
    execs: list[LocalProcess] = field(default_factory=list)
    followers: int = 0

    def start(self, plan: ContainerPlan, root: Path, rootfs: Path) -> Container:
        if (found := self.container(plan.id)) is not None and found.pid is not None:
            raise Conflict(f"{plan.id} runs")
        popen = subprocess.Popen(
            plan.argv, env={**os.environ, **plan.env}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        container = Container(
            id=plan.id, environment=plan.environment, name=plan.name, pid=popen.pid, started_at=time.time()
        )
        self.running[plan.id] = _Running(container, popen)
        kept = self.lines.setdefault((plan.environment, plan.name), [])

        def read() -> None:
            assert popen.stdout is not None
            with popen.stdout as stream:
                for line in stream:
                    kept.append(LogLine(at=time.time(), stream="stdout", text=line.decode().rstrip("\n")))

        threading.Thread(target=read, daemon=True).start()
        return container

    def container(self, container_id: str) -> Container | None:
        found = self.running.get(container_id)
        if found is None:
            return None
        code = found.popen.poll()
        if code is None:
            return found.container
        return Container(
            id=container_id, environment=found.container.environment, name=found.container.name, pid=None,
            started_at=found.container.started_at, exit_code=code if code >= 0 else 128 - code,
        )  # fmt: skip

    def containers(self) -> list[Container]:
        return [found for each in list(self.running) if (found := self.container(each)) is not None]

    def signal(self, container_id: str, number: int) -> None:
        if container_id in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.running[container_id].popen.pid, number)

    def kill_all(self, container_id: str) -> None:
        self.signal(container_id, signal.SIGKILL)

    def wait(self, container_id: str, timeout_s: float | None = None) -> Container | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            if container_id in self.running:
                self.running[container_id].popen.wait(timeout_s)
                return self.container(container_id)
        return None

    def exit_descriptor(self, container_id: str) -> int | None:
        found = self.running.get(container_id)
        try:
            return None if found is None or found.popen.poll() is not None else os.pidfd_open(found.popen.pid)
        except ProcessLookupError:
            return None

    def delete(self, container_id: str) -> None:
        if container_id in self.running:
            self.kill_all(container_id)
            self.running.pop(container_id).popen.wait()

    def delete_logs(self, environment: EnvironmentId) -> None:
        for key in [key for key in self.lines if key[0] == environment]:
            del self.lines[key]

    def exec(self, container_id: str, plan: ExecPlan) -> LocalProcess:
        found = self.container(container_id)
        if found is None or found.pid is None:
            raise NotFound(f"{container_id} does not run")
        try:
            self.execs.append(LocalProcess(plan))
        except FileNotFoundError:
            raise NotFound(f"{plan.argv[0]}: not found") from None
        return self.execs[-1]

    def check(
        self, container_id: str, argv: Sequence[str], timeout_s: float, *, output_bytes: int = 4096
    ) -> tuple[int, str]:
        done = subprocess.run(argv, capture_output=True, timeout=timeout_s, check=False, text=True)
        return done.returncode, done.stdout

    def logs(
        self,
        environment: EnvironmentId,
        name: str,
        *,
        since_at: float | None = None,
        tail: int | None = None,
        follow: Callable[[], bool] | None = None,
    ) -> Iterator[LogLine]:
        lines = self.lines.setdefault((environment, name), [])
        index = 0 if tail is None else max(0, len(lines) - tail)
        self.followers += 1
        try:
            while True:
                while index < len(lines):
                    if since_at is None or lines[index].at >= since_at:
                        yield lines[index]
                    index += 1
                if follow is None or not follow():
                    return
                time.sleep(0.01)
        finally:
            self.followers -= 1

    def memory_bytes(self, container_id: str) -> int | None:
        return None


class LocalImages:
    """Any reference is an image; nothing is in it."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        """Cleared, it holds up whoever asks for an image called "slow"."""

    def resolve(self, reference: str, *, pull: bool, report: Report) -> Image:
        if reference == "missing":
            raise NotFound("there is no image 'missing'", hint="name another one")
        if reference == "broken":
            raise ZeroDivisionError("a bug")
        if reference == "slow":
            assert self.gate.wait(20)
        return Image(reference=reference, digest=f"sha256:{'0' * 64}", config=ImageConfig(command=("sleep", "1000")))

    def present(self, reference: str) -> Image | None:
        raise NotImplementedError

    def build(self, build: Build, *, report: Report) -> Image:
        raise NotImplementedError

    def rootfs(self, image: Image) -> Path:
        return Path("/")

    def digests(self) -> frozenset[str]:
        return frozenset()

    def delete(self, digest: str) -> None:
        pass


@dataclass
class Served:
    """What tests hold: a client, and what is behind it."""

    client: Client
    engine: Engine
    runtime: LocalRuntime
    images: LocalImages
    socket: Path
    tcp: str
    directory: Path
    stop: Callable[[], None]

    def up(self, compose: str, **options: object) -> None:
        (self.directory / "compose.yaml").write_text(compose)
        self.client.up(self.directory, **{"wait": False, **options})  # type: ignore[arg-type]


COMPOSE = """\
name: shop
services:
  web:
    image: any
    command: ["sh", "-c", "echo hello from web; sleep 1000"]
    ports: ["8000"]
"""


@contextlib.contextmanager
def serving(root: Path) -> Iterator[Served]:
    host, runtime, images, events, store = Host(), LocalRuntime(), LocalImages(), Events(), MemoryStore()
    volumes = MemoryVolumes(root / "pool")
    volumes.open()
    supervisor = ThreadSupervisor(host, runtime, events.emit)
    doors = HostDoors(host, first=30200, last=30399)
    engine = Engine(
        host=host,
        ledger=Ledger(store, store),
        volumes=volumes,
        images=images,
        runtime=runtime,
        network=MemoryNetwork(host),
        doors=doors,
        supervisor=supervisor,
        files=Trees(host, uid_base=os.getuid()),
        probes=(("kernel", lambda: [Finding(subject="kernel", level="ok", text="new enough")]),),
        events=events,
    )
    supervisor.serve(lambda name, container: None)
    tcp = listen_tcp("127.0.0.1", 0)
    ready = threading.Event()
    server = Server(application(engine, token=TOKEN), started=ready.set)
    listeners = [listen_unix(root / "wye.sock"), tcp]
    address = f"http://127.0.0.1:{tcp.getsockname()[1]}"
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=listeners)), daemon=True)
    thread.start()
    assert ready.wait(10)

    def stop() -> None:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()

    client = connect(f"unix://{root / 'wye.sock'}")
    try:
        yield Served(client, engine, runtime, images, root / "wye.sock", address, root, stop)
    finally:
        client.close()
        images.gate.set()
        stop()
        for container in list(runtime.running):
            runtime.delete(container)
        supervisor.close()
        doors.close()


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served")) as found:
        yield found


@pytest.fixture
def served(module_server: Served, tmp_path: Path) -> Iterator[Served]:
    """A daemon with no environments."""
    module_server.directory = tmp_path
    module_server.runtime.execs.clear()
    try:
        yield module_server
    finally:
        module_server.images.gate.set()
        for process in module_server.runtime.execs:
            process.signal(signal.SIGKILL)
        for environment in module_server.client.environments():
            module_server.client.discard(environment.name, confirm_production=True)


@pytest.fixture
def shop(served: Served) -> Served:
    """Production of a small project, up."""
    served.up(COMPOSE)
    return served


@pytest.fixture
def own_shop(tmp_path: Path) -> Iterator[Served]:
    """The same with a daemon of its own, for who stops it."""
    with serving(tmp_path) as found:
        found.up(COMPOSE)
        yield found


@pytest.fixture
def run(
    served: Served, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Calls `wye` in this process: (exit code, stdout, stderr)."""
    monkeypatch.setenv("WYE_ADDRESS", f"unix://{served.socket}")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(served.directory)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["wye", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            commands.run()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return call

"""Real servers on private directories and Unix sockets: the machine's own Redis, and a newer Redis and Valkey."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from wye.errors import Unavailable
from wye.host import Host
from wye.interfaces import Served
from wye.kinds.redis import told
from wye.kinds.redis.connection import Client
from wye.kinds.redis.server import settings, settle
from wye.testing.installations import Installation, newer_redis

HOST = Host()
OWN = Installation(Path("/usr/bin"))
SERVERS = {"redis": "redis-server", "redis-8": "redis-server", "valkey-8": "valkey-server"}
"""`redis` is what this machine has installed; `redis-8` is for the long run."""


@dataclass
class LocalServer:
    process: subprocess.Popen[bytes]
    connection: Client
    socket: str

    def stop(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()


class LocalLauncher:
    """Satisfies `wye.kinds.redis.server.Launcher` with processes of this machine."""

    def __init__(self, installation: Installation, program: str, sockets: Path) -> None:
        self.installation = installation
        self.program = program
        self.sockets = sockets
        self.servers: list[LocalServer] = []

    def launch(self, directory: Path, settings: tuple[str, ...], *, password: str | None = None) -> LocalServer:
        socket = str(self.sockets / f"{len(self.servers)}.sock")
        given = ("--port", "0", "--unixsocket", socket, "--dir", str(directory), *settings)
        argv = self.installation.argv(self.program, *given)
        log = self.sockets / f"{len(self.servers)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(argv, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while True:
            client = Client.at(HOST, socket, password=password)
            try:
                client.execute("PING")
            except Unavailable as error:
                client.close()
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    process.wait()
                    raise Unavailable(f"redis did not come up: {log.read_text()[-2000:]}") from error
                time.sleep(0.005)
                continue
            server = LocalServer(process, client, socket)
            self.servers.append(server)
            return server

    def stop(self) -> None:
        for server in self.servers:
            server.stop()


def on_copy(directory: Path, served: Served | None = None) -> tuple[str, ...]:
    """The settings of a server on a copy, here, of the files of one that ran at `served.target`."""
    return settings(replace(told.resolve(HOST, directory, served or Served()), directory=""))


@dataclass
class Three:
    """A production, its fork, and the fork's base. Production and fork are running servers with append-only files."""

    launcher: LocalLauncher
    home: Path
    live: LocalServer
    live_settings: tuple[str, ...]
    told: dict[str, bytes] = field(default_factory=dict)
    """What was told with base and theirs."""

    @property
    def ours(self) -> Client:
        return self.live.connection

    def snapshot(self, source: str, target: str) -> Path:
        shutil.copytree(self.home / source, self.home / target)
        return self.home / target

    def fork(self) -> Client:
        """Copies production's directory; the fork starts, and its base is taken."""
        self.snapshot("live", "fork")
        fork = self.launcher.launch(self.home / "fork", self.live_settings).connection
        found = told.ask(fork)
        self.told["base"] = self.told["theirs"] = self._told(found)
        self.snapshot("fork", "base")
        return fork

    def again(self) -> None:
        """Forgets what `end` made, so that it can be called again."""
        for name in ("theirs", "base-run", "theirs-run"):
            shutil.rmtree(self.home / name)

    def settle(self, fork: Client) -> None:
        folder = self.home / "fork"
        self.told["theirs"] = told.to_json(settle(HOST, fork, folder, str(folder)))

    def _told(self, found: told.Files) -> bytes:
        folder = self.home / "fork"
        return told.to_json(replace(found, saved=told.dump_of(HOST, folder, found, str(folder))))

    def end(self) -> tuple[Client, Client, Path, Path]:
        """Snapshots the fork; servers on private copies of base and theirs, and the directories."""
        theirs = self.snapshot("fork", "theirs")
        servers = []
        for name in ("base", "theirs"):
            directory = self.snapshot(name, f"{name}-run")
            served = Served(target=str(self.home / "fork"), told=self.told.get(name, b""))
            servers.append(self.launcher.launch(directory, on_copy(directory, served)).connection)
        return servers[0], servers[1], self.home / "base", theirs


@pytest.fixture(scope="session")
def newer() -> Installation:
    try:
        return newer_redis(HOST)
    except Unavailable as error:
        pytest.skip(error.message)


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow if name == "redis-8" else ()) for name in SERVERS])
def launcher(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalLauncher]:
    installation = OWN if request.param == "redis" else request.getfixturevalue("newer")
    made = LocalLauncher(installation, SERVERS[request.param], tmp_path)
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def three(launcher: LocalLauncher, tmp_path: Path) -> Three:
    (tmp_path / "live").mkdir()
    options = ("--save", "", "--appendonly", "yes", "--appendfsync", "no")
    return Three(launcher, tmp_path, launcher.launch(tmp_path / "live", options), options)

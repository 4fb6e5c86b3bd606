"""A production cluster on a real pool, and forks of it as the engine makes them; in every version that can be had.

Everything runs on the machine's own PostgreSQL, and what depends on a version on the oldest and the newest too. The
versions between them are for `bin/test --slow`.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from wye.drivers.btrfs.pool import Pool
from wye.errors import Unavailable
from wye.host import Host
from wye.kinds.postgres.apply import Applied, Options, apply
from wye.kinds.postgres.changes import DatabaseChanges, from_json, to_json
from wye.kinds.postgres.cluster import THROWAWAY, clean
from wye.kinds.postgres.lost import read_lost
from wye.kinds.postgres.plan import read_changes
from wye.kinds.postgres.prepare import prepare
from wye.kinds.postgres.session import begin_session
from wye.model import EnvironmentId, SnapshotId
from wye.testing.installations import Installation
from wye.testing.loop_pool import loop_pool
from wye.testing.postgres_server import SUITES, PostgresServers, RunningServer, postgres, postgres_servers, versions

DATA = "volumes/db/data"
OWN, *OTHERS = versions()
FOR_ALL = (
    "test_alone", "test_cases", "test_oracle", "test_prepare", "test_returning", "test_shown", "test_skipping",
    "test_setting_back", "test_undo", "test_mixed", "test_waiting",
)  # fmt: skip
FOR_NEWEST = (
    "test_cases", "test_oracle", "test_postgis", "test_prepare", "test_returning", "test_setting_back", "test_shown",
)  # fmt: skip
"""Modules that run on all versions in the long run, and on the oldest and the newest always."""
WITH_POSTGIS = [version for version in OTHERS if version in SUITES and version > 15]
UNAVAILABLE: dict[int, str] = {}
"""Why a version cannot be had: it is not asked for again."""


def fresh() -> str:
    return secrets.token_hex(6)


@dataclass
class Site:
    """One environment with a running server."""

    rig: Rig
    id: EnvironmentId
    server: RunningServer
    base: SnapshotId | None = None

    def run(self, database: str, sql: str | list[str], path: str = "t, public") -> None:
        """Each statement on its own, as a client with autocommit sends them; a list item is one message."""
        connection = self.server.connect(database)
        try:
            connection.execute(f"set search_path = {path}")
            for statement in [sql] if isinstance(sql, str) else sql:
                if statement:
                    connection.execute(statement)
        finally:
            connection.close()

    def query(self, database: str, sql: str) -> list[tuple[Any, ...]]:
        connection = begin_session(self.server.connect(database))
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def discard(self) -> None:
        self.server.stop()
        self.rig.pool.delete_environment(self.id)


@dataclass
class Rig:
    host: Host
    pool: Pool
    servers: PostgresServers
    version: int = OWN
    snapshots: list[SnapshotId] = field(default_factory=list)

    def create(self, *options: str, settings: dict[str, str] | None = None) -> Site:
        environment = EnvironmentId(fresh())
        self.pool.create(environment)
        data = self.pool.environment_path(environment) / DATA
        data.parent.mkdir(parents=True)
        self.servers.own(data.parent)
        self.servers.create(data, *options)
        with (data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in {"fsync": "off", **(settings or {})}.items())
        return Site(self, environment, self.servers.start(data))

    def start(self, snapshot: SnapshotId, settings: dict[str, str] | None = None) -> Site:
        environment = EnvironmentId(fresh())
        self.pool.fork(snapshot, environment)
        data = self.pool.environment_path(environment) / DATA
        clean(self.host, data)
        return Site(self, environment, self.servers.start(data, settings), snapshot)

    def snapshot(self, site: Site) -> SnapshotId:
        snapshot = SnapshotId(fresh())
        self.pool.snapshot(site.id, snapshot)
        self.snapshots.append(snapshot)
        return snapshot

    def sweep(self) -> None:
        """Deletes all snapshots."""
        while self.snapshots:
            self.pool.delete_snapshot(self.snapshots.pop())

    def base(self, source: Site, **options: Any) -> SnapshotId:
        """What all forks of a revision share."""
        site = self.start(self.snapshot(source), dict(THROWAWAY))
        prepare(self.host, site.server, **options)
        site.server.stop(cleanly=True)
        snapshot = self.snapshot(site)
        site.discard()
        return snapshot

    def fork(self, source: Site, **options: Any) -> Site:
        return self.start(self.base(source, **options))

    def start_base(self, fork: Site) -> Site:
        assert fork.base is not None
        return self.start(fork.base, dict(THROWAWAY))

    def diff(self, fork: Site, *, base: Site | None = None, **options: Any) -> list[DatabaseChanges]:
        """`base`: one for several diffs, each of another database."""
        shared, base = base, base or self.start_base(fork)
        try:

            def freeze() -> Any:
                end = self.snapshot(fork)
                found = self.pool.changes(fork.base, end)
                self.pool.delete_snapshot(self.snapshots.pop())
                return found

            found = read_changes(self.host, base.server, fork.server, freeze, DATA, **options)
        finally:
            if shared is None:
                base.discard()
        return [from_json(to_json(changes)) for changes in found]

    def apply(
        self, target: Site, changes: DatabaseChanges, options: Options | None = None, resolutions: Any = None
    ) -> Applied:
        connection = target.server.connect(changes.database)
        try:
            return apply(self.host, connection, changes, options, resolutions)
        finally:
            connection.close()

    def with_lost(self, undo: DatabaseChanges, before: SnapshotId) -> DatabaseChanges:
        """What takes a merge back, with what the merge destroyed, from the bytes before it."""
        if not undo.lost.keys():
            return undo
        site = self.start(before, dict(THROWAWAY))
        try:
            return read_lost(begin_session(site.server.connect(undo.database)), undo)
        finally:
            site.discard()

    def apply_over(self, connection: Any, changes: DatabaseChanges, keep: Any) -> Applied:
        return apply(self.host, connection, changes, keep=keep)


def installation_of(version: int) -> Installation:
    """Skips where it cannot be had."""
    if version not in UNAVAILABLE:
        try:
            return postgres(Host(), version)
        except Unavailable as error:
            UNAVAILABLE[version] = error.message
    pytest.skip(f"no PostgreSQL {version}: {UNAVAILABLE[version]}")


@contextmanager
def new_rig(size_bytes: int, version: int = OWN) -> Iterator[Rig]:
    host = Host()
    installation = installation_of(version)
    directory = Path(tempfile.mkdtemp(prefix="wye-postgres-"))
    os.chmod(directory, 0o755)
    try:
        with ExitStack() as stack:
            pool = stack.enter_context(loop_pool(directory, size_bytes, host=host))
            servers = stack.enter_context(postgres_servers(host, directory / "servers", installation))
            yield Rig(host, pool, servers, version)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "rig" not in metafunc.fixturenames:
        return
    module = metafunc.module.__name__.rpartition(".")[2]
    wanted = WITH_POSTGIS if module == "test_postgis" else [OWN, *(OTHERS if module in FOR_ALL else ())]
    always = {OWN, *((min(wanted), max(wanted)) if module in FOR_NEWEST else ())}
    chosen = [
        pytest.param(version, id=f"postgres-{version}", marks=[] if version in always else [pytest.mark.slow])
        for version in wanted
    ]
    metafunc.parametrize("rig", chosen, indirect=True, scope="module")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A case of what a version brought is no test on those before it. Versions that are not the host's own try every
    third case, the others on another day."""
    turn = int(os.environ.get("WYE_TEST_TURN", "0"))
    for item in list(items):
        cases = getattr(getattr(item, "module", None), "CASES", ())
        chosen = getattr(getattr(item, "callspec", None), "params", {})
        if not cases or "number" not in chosen:
            continue
        if chosen["rig"] < cases[chosen["number"]].since:
            items.remove(item)
        elif chosen["rig"] != OWN and (chosen["number"] + turn) % 3:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module")
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with new_rig(4 << 30, request.param) as made:
        yield made


@pytest.fixture
def own_rig() -> Iterator[Rig]:
    """For a test that fills a pool."""
    with new_rig(2 << 30) as made:
        yield made


@pytest.fixture(scope="module")
def start(request: pytest.FixtureRequest, rig: Rig) -> Iterator[SnapshotId]:
    """What a module's tests begin with: its SETUP, run in its database APP."""
    site = rig.create()
    site.run(request.module.APP, request.module.SETUP)
    site.server.stop(cleanly=True)  # so that those who start with it need not recover it first
    yield rig.snapshot(site)
    site.discard()


@pytest.fixture
def production(rig: Rig, start: SnapshotId) -> Iterator[Site]:
    site = rig.start(start)
    yield site
    site.discard()

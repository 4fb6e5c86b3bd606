"""Postgres as the engine knows it: this room's parts behind `interfaces.ServerKind`.

Connections go through the server's Unix socket, where the images' `local all all trust` lets a superuser in without
a password; only root on the host can get to it, and to the socket of a container by its own name for it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from wye.errors import BadRequest, InvariantError, NotFound, Unavailable
from wye.interfaces import Applied, Changes, Endpoint, PathChange, Served, Terms
from wye.kinds.postgres import apply as merging
from wye.kinds.postgres import unsynced
from wye.kinds.postgres.blocks import CONFIGURATION, is_foreign
from wye.kinds.postgres.changes import DatabaseChanges, page, stat, to_json
from wye.kinds.postgres.cluster import KEPT, THROWAWAY, find_data, has_unlogged, is_starting, refuse_tablespaces
from wye.kinds.postgres.lost import read_lost
from wye.kinds.postgres.patient import PatientConnection
from wye.kinds.postgres.plan import read_changes
from wye.kinds.postgres.prepare import MAINTENANCE, list_databases, opened, prepare
from wye.kinds.postgres.session import Connection, value
from wye.kinds.postgres.volume import PROGRAM, PostgresVolume
from wye.kinds.postgres.watch import full_column, full_name, names_in
from wye.merge.conflict import Conflict, resolutions_from_json
from wye.merge.refused import Refused
from wye.merge.rows import Grain

_READY_S = 60.0
_OVER_S, _AGAIN_S = 30.0, 0.05
"""How long a transaction that was cut short may go on, and how often it is asked about."""
_SETTINGS_BYTES = 1 << 20
_LOOK_EVERY_S, _ASK_EVERY_S = 0.001, 0.5
_Keep = Callable[[DatabaseChanges, str], None]
"""Takes what takes a transaction back, and its number, before it commits."""


@dataclass(frozen=True, slots=True)
class EndpointServer:
    """Satisfies `cluster.Server` over an endpoint."""

    endpoint: Endpoint

    def connect(self, database: str) -> Connection:
        port = self.endpoint.env.get("PGPORT", "5432")
        user = self.endpoint.env.get("POSTGRES_USER") or "postgres"
        try:
            with self.endpoint.socket(f"/var/run/postgresql/.s.PGSQL.{port}") as link:
                return PatientConnection.connect(
                    host=str(link.parent), port=int(port), user=user, dbname=database, connect_timeout=10,
                    autocommit=True, application_name="wye", passfile="/nonexistent",
                )  # fmt: skip
        except NotFound as error:
            raise Unavailable(f"postgres is not there to be asked: {error.message}") from error
        except psycopg.OperationalError as error:
            raise Unavailable(f"postgres does not let wye in: {str(error).strip()}") from error


@dataclass(frozen=True, slots=True)
class PostgresChanges:
    """Satisfies `interfaces.Changes`: what happened in every database of one service."""

    place: str
    databases: tuple[DatabaseChanges, ...]
    kind: str = "postgres"

    def __bool__(self) -> bool:
        return any(self.databases)

    def stat(self) -> dict[str, Any]:
        return {"databases": [stat(each) for each in self.databases]}

    def page(self, offset: int, limit: int) -> dict[str, Any]:
        """Rows of all tables of all databases, counted through from 0."""
        shown = []
        left, begin = limit, offset
        for database in self.databases:
            tables = []
            for table in database.tables:
                size = len(table.deletes) + len(table.updates) + len(table.inserts)
                rows = page(table, begin, left) if begin < size and left > 0 else []
                left -= len(rows)
                begin = max(0, begin - size)
                tables.append({"table": table.table, "rows": rows, "total": size})
            shown.append({**_as_dict(stat(database)), "tables": tables, "stat": stat(database)})
        return {"databases": shown}

    def to_json(self) -> bytes:
        return b"[" + b",".join(to_json(each) for each in self.databases) + b"]"


class PostgresKind(PostgresVolume):
    """Satisfies `interfaces.LiveKind`."""

    def moment(self, server: Endpoint) -> str:
        """Which transactions there have been, and which of them are not over: all that writes has a number."""
        with _asking("postgres"), opened(EndpointServer(server), MAINTENANCE) as connection:
            return str(value(connection, "select pg_current_snapshot()"))

    def outlives(self, root: Path) -> bool:
        """Tables that are not logged are empty after recovery."""
        data = find_data(self._host, root)
        return data is not None and not has_unlogged(self._host, root / data)

    def settle(self, server: Endpoint) -> bytes:
        """Every committed row is in the WAL, which is in the snapshot."""
        return b""

    def tell(self, server: Endpoint) -> bytes:
        return b""

    def throwaway_argv(self, program: str | None, root: Path, *, durable: bool, served: Served) -> tuple[str, ...]:
        data = find_data(self._host, root)
        if data is None:
            raise NotFound("there is no data directory in the volume")
        refuse_tablespaces(self._host, root / data)
        # The engine reaches a throwaway through its socket alone; `listen_addresses` of the fence closes the rest.
        return (
            program or PROGRAM,
            *(word for name, value in (KEPT if durable else THROWAWAY).items() for word in ("-c", f"{name}={value}")),
        )

    def await_ready(self, server: Endpoint, timeout_s: float) -> None:
        self._connect(server, timeout_s).close()

    def hasten(self, root: Path) -> None:
        data = find_data(self._host, root)
        if data is not None:
            unsynced.begin(self._host, root / data)

    def prepare_fork(self, server: Endpoint) -> None:
        with _asking("postgres"), contextlib.closing(self._connect(server, _READY_S)) as connection:
            prepare(self._host, EndpointServer(server), connection)
            data = find_data(self._host, server.root)
            if data is not None and unsynced.end(self._host, server.root / data):
                # In no time, while it still need not sync: what the base has in its files no throwaway on it has to
                # recover, and the fork's first diff need not sync, file by file.
                self._host.at("postgres:prepare:checkpoint")
                connection.execute("checkpoint")
                unsynced.reload(self._host, connection)

    def _connect(self, server: Endpoint, timeout_s: float) -> Connection:
        """Once the server lets it in. One that says that it is starting is asked only now and then, lest it lies: it
        would turn a connection away, and take longer to start for having made a process for it."""
        data = find_data(self._host, server.root)
        deadline = time.monotonic() + timeout_s
        ask_at = time.monotonic() + _ASK_EVERY_S
        while True:
            if data is None or time.monotonic() > ask_at or not is_starting(self._host, server.root / data):
                try:
                    return EndpointServer(server).connect(MAINTENANCE)
                except Unavailable as error:
                    if time.monotonic() > deadline:
                        raise Unavailable(f"postgres does not answer after {timeout_s:g} s: {error.message}") from error
                ask_at = time.monotonic() + _ASK_EVERY_S
            time.sleep(_LOOK_EVERY_S)

    def read(
        self,
        base: Endpoint,
        theirs: Endpoint,
        freeze: Callable[[], list[PathChange]],
        *,
        place: str,
        settings: Terms,
        descends: bool = True,
    ) -> Changes:
        data = find_data(self._host, theirs.root)
        if data is None:
            raise NotFound("there is no data directory in the volume")
        with _asking(place):
            found = read_changes(
                self._host,
                EndpointServer(base),
                EndpointServer(theirs),
                lambda: [each for each in freeze() if not self._is_as_it_was(base, theirs, data, each.path)],
                data=data,
                watched=_is_watched(settings.settings),
                descends=descends,
            )
        return PostgresChanges(place, tuple(found))

    def _is_as_it_was(self, base: Endpoint, theirs: Endpoint, data: str, path: str) -> bool:
        """Whether it is a file of settings that was only written anew: the server does that, and so does wye."""
        name = path.removeprefix(f"{data}/")
        if name not in CONFIGURATION and not is_foreign(name):
            return False
        try:
            before, after = (
                self._host.read_beneath(side.root, path, limit_bytes=_SETTINGS_BYTES) for side in (base, theirs)
            )
        except OSError:
            return False
        return before == after and len(after) < _SETTINGS_BYTES

    def unknown_tables(self, server: Endpoint, settings: Terms) -> frozenset[str]:
        tables = {str(name): full_name(str(name)) for name in settings.settings.get("table") or {}}
        columns = {str(name): full_column(str(name)) for name in settings.settings.get("delta") or ()}
        if not tables and not columns:
            return frozenset()
        known: set[tuple[str, ...]] = set()
        with _asking("postgres"):
            with opened(EndpointServer(server), MAINTENANCE) as maintenance:
                databases = list_databases(maintenance)
            for database in databases:
                with opened(EndpointServer(server), database) as connection:
                    known |= names_in(connection, {each[:2] for each in (*tables.values(), *columns.values())})
        return frozenset(name for name, parts in {**tables, **columns}.items() if parts not in known)

    def apply(
        self, target: Endpoint, changes: Changes, terms: Terms, keep: Callable[[bytes], None] | None = None
    ) -> Applied:
        if not isinstance(changes, PostgresChanges):
            raise InvariantError(f"{changes.kind} changes given to postgres")
        kept: list[_Kept] = []

        def keep_one(undo: DatabaseChanges, transaction: str) -> None:
            kept.append(_Kept(transaction, undo))
            if keep is not None:
                keep(msgspec.json.encode(kept))

        try_or_land = self._try if terms.dry_run else self._land
        seconds: dict[str, float] = {}
        applied = try_or_land(target, changes.databases, terms, keep_one)
        for done in applied:
            for step, took in done.seconds.items():
                seconds[step] = seconds.get(step, 0.0) + took
        return Applied(
            seconds=seconds,
            items=sum(done.rows + done.others for done in applied),
            settled=frozenset(each for done in applied for each in done.settled),
        )

    def _try(
        self, target: Endpoint, databases: Sequence[DatabaseChanges], terms: Terms, keep: _Keep
    ) -> list[merging.Applied]:
        """Each database, also if one refuses. Raises Refused with what all of them refuse."""
        applied: list[merging.Applied] = []
        refused: list[Conflict] = []
        for database in databases:
            try:
                applied.append(self._merge(target, database, terms, keep))
            except Refused as error:
                refused += error.conflicts
        if refused:
            raise Refused(refused)
        return applied

    def _land(
        self, target: Endpoint, databases: Sequence[DatabaseChanges], terms: Terms, keep: _Keep
    ) -> list[merging.Applied]:
        """No database commits before all of them can: one that refuses leaves none that is merged already, and a merge
        that is tried again writes nothing twice."""
        if not databases:
            return []
        first, *rest = databases
        others: list[merging.Applied] = []
        took = 0.0

        def keep_and_go_on(undo: DatabaseChanges, transaction: str) -> None:
            nonlocal took
            keep(undo, transaction)
            began = self._host.monotonic()
            others.extend(self._land(target, rest, terms, keep))
            took = self._host.monotonic() - began

        done = self._merge(target, first, terms, keep_and_go_on)
        done.seconds["commit"] -= took
        return [done, *others]

    def _merge(self, target: Endpoint, database: DatabaseChanges, terms: Terms, keep: _Keep) -> merging.Applied:
        with _opened(target, database.database) as connection:
            options, resolutions = _options(terms, database), resolutions_from_json(terms.resolutions)
            return merging.apply(self._host, connection, database, options, resolutions, keep)

    def load(
        self,
        kept: bytes,
        *,
        place: str,
        target: Endpoint | None = None,
        back: Sequence[bytes] = (),
        before: Callable[[], AbstractContextManager[Endpoint]] | None = None,
    ) -> Changes:
        found, *earlier = (msgspec.json.decode(each, type=list[_Kept]) for each in (kept, *back))
        with _asking(place):
            gone = {one.undo.database for each in earlier for one in each if target and _is_committed(target, one)}
            left = [each for each in found if each.undo.database not in gone]
            undone = [each.undo for each in left if target is None or _is_committed(target, each)]
            if before is not None and any(undo.lost.keys() for undo in undone):
                with before() as server:
                    undone = [_with_lost(server, undo) for undo in undone]
        return PostgresChanges(place, tuple(undone))


@dataclass(frozen=True, slots=True)
class _Kept:
    """What takes one database's transaction back, and the number of that transaction."""

    transaction: str
    undo: DatabaseChanges


def _is_committed(target: Endpoint, kept: _Kept) -> bool:
    """A number that the server does not know yet is of a transaction that it never heard of again after a crash. One
    that is under way may yet be committed, though nobody waits for its answer any more. Raises Unavailable if it stays
    under way."""
    deadline = time.monotonic() + _OVER_S
    with _opened(target, kept.undo.database) as connection:
        while True:
            try:
                status = value(connection, f"select txid_status({int(kept.transaction)})")
            except psycopg.errors.InvalidParameterValue:
                return False
            if status != "in progress":
                return bool(status == "committed")
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"transaction {kept.transaction} in database {kept.undo.database} is still under way after"
                    f" {_OVER_S:g} s, and whether it will be committed nobody knows",
                    hint="see in pg_stat_activity who holds it up",
                )
            time.sleep(_AGAIN_S)


def _with_lost(before: Endpoint, undo: DatabaseChanges) -> DatabaseChanges:
    if not undo.lost.keys():
        return undo
    with opened(EndpointServer(before), undo.database) as connection:
        return read_lost(connection, undo)


@contextlib.contextmanager
def _asking(place: str) -> Iterator[None]:
    """A server that goes away meanwhile, or refuses to answer, is nothing that wye has done wrong."""
    try:
        yield
    except psycopg.Error as error:
        raise Unavailable(f"{place} could not be read: {str(error).strip()}") from error


@contextlib.contextmanager
def _opened(target: Endpoint, database: str) -> Iterator[Connection]:
    connection = EndpointServer(target).connect(database)
    try:
        yield connection
    finally:
        connection.close()


def _as_dict(value: Any) -> dict[str, Any]:
    return dict(value)


def _grains(settings: Mapping[str, Any]) -> dict[tuple[str, ...], Grain]:
    """`x-wye: merge: {table: {orders: row}}`, by schema and name. Raises BadRequest."""
    try:
        return {full_name(str(name)): Grain(str(grain)) for name, grain in dict(settings.get("table") or {}).items()}
    except ValueError as error:
        raise BadRequest(f"x-wye: merge: table: {error}", hint="cell, row or table") from error


def _is_watched(settings: Mapping[str, Any]) -> Callable[[str], bool]:
    """Of a table, by the name that the catalog prints."""
    grains = _grains(settings)
    return lambda table: grains.get(full_name(table)) is Grain.TABLE


def _options(terms: Terms, changes: DatabaseChanges) -> merging.Options:
    names = {name for table in changes.tables for name in (table.table, table.was) if name}
    names |= {each.table for each in changes.contents}
    grains = _grains(terms.settings)
    adding = [full_column(str(name)) for name in terms.settings.get("delta") or ()]
    delta: dict[str, frozenset[str]] = {}
    for name in names:
        own = full_name(name)
        delta[name] = frozenset(each[-1] for each in adding if each[:-1] == own)
    return merging.Options(
        grain={name: grains.get(full_name(name), Grain.CELL) for name in names},
        delta=delta,
        checks=tuple(sql for sql, _ in terms.settings.get("sql_checks", ())),
        check_limits_s=dict(terms.settings.get("sql_checks", ())),
        dry_run=terms.dry_run,
    )

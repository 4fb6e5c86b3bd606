"""Merges a fork's changes into a live database in one transaction, or leaves it as it was and says why.

In order: the schemas are merged and compared; what DDL names must have that name in the target, and what the fork
dropped be unchanged there; DDL; the rows that the fork touched are read and merged; the versions that were read are
overwritten, and no others, with triggers, rules and cascades off; foreign keys are proven; the DDL that had to wait;
the schema must be what the merge expected; the written rows must be what was decided; checks; commit. A conflict
anywhere rolls all of it back. Writers of other rows go on meanwhile; one who was quicker with a row of the merge has it
begin again, and then rows are locked first.

The same function rehearses: on a throwaway fork of the target, or with `dry_run`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import psycopg

from wye.host import Host
from wye.kinds.postgres.additions import changed_since
from wye.kinds.postgres.catalog import Schema, difference, digest, merge_schemas, read_schema
from wye.kinds.postgres.changes import Content, DatabaseChanges, Return
from wye.kinds.postgres.checks import failed_checks
from wye.kinds.postgres.ddl import EXPAND, Statement, added_values
from wye.kinds.postgres.drops import changed_drops
from wye.kinds.postgres.exchanged_names import written_since
from wye.kinds.postgres.exchanging import lock_out
from wye.kinds.postgres.fills import filled_otherwise
from wye.kinds.postgres.giving_way import IN_THE_WAY, GivingWay, told
from wye.kinds.postgres.locking import DEADLOCK_MS, lock_for_schema
from wye.kinds.postgres.losses import GivenUp, Guarding
from wye.kinds.postgres.references import check_deferred, check_references, hold_deferrable, keep_parents
from wye.kinds.postgres.refuse import refusal
from wye.kinds.postgres.replay import expand, replay, split
from wye.kinds.postgres.returning import Returning
from wye.kinds.postgres.sequences import keep_positions, move_ahead, positions
from wye.kinds.postgres.session import Connection, begin_session, fetch, value
from wye.kinds.postgres.stage import Staged, find_targets, stage
from wye.kinds.postgres.standing import renamed_in_target
from wye.kinds.postgres.tables import read_tables
from wye.kinds.postgres.undo import Altered, Earlier, undo_of
from wye.kinds.postgres.violations import Violation, amend, copy_all, explain
from wye.kinds.postgres.watch import added_up, grain_of, watch
from wye.kinds.postgres.write import Overtaken, renumber, verify, write, write_less_log
from wye.merge.conflict import Conflict, Decisions, Favouring, Resolution, Side
from wye.merge.refused import Refused
from wye.merge.rows import Grain, Table
from wye.merge.settling import Settling

_VIEWS = """select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'm'"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`grain` and `delta` (numeric columns whose changes add up) by quoted table name; `checks`: SQL that must return
    no rows, each within its limit or `check_timeout_s`; `schema`: the target's schema digest at the rehearsal, which
    must still hold."""

    grain: Mapping[str, Grain] = field(default_factory=dict)
    delta: Mapping[str, frozenset[str]] = field(default_factory=dict)
    checks: Sequence[str] = ()
    lock_timeout_s: float = 3.0
    check_timeout_s: float = 60.0
    check_limits_s: Mapping[str, float] = field(default_factory=dict)
    schema: str | None = None
    dry_run: bool = False


@dataclass(slots=True)
class Applied:
    """`seconds` by step, in order; `rows` written; `others`: statements, sequences and views; `schema`: digest of the
    target's schema before, if DDL is merged. `undo`: changes that take the merge back.
    `settled`: ids of resolutions that took effect."""

    seconds: dict[str, float] = field(default_factory=dict)
    rows: int = 0
    others: int = 0
    schema: str | None = None
    undo: DatabaseChanges | None = None
    settled: frozenset[str] = frozenset()


def apply(
    host: Host,
    connection: Connection,
    changes: DatabaseChanges,
    options: Options | None = None,
    resolutions: Mapping[str, Resolution] | None = None,
    keep: Callable[[DatabaseChanges, str], None] | None = None,
) -> Applied:
    """Merges `changes` over a fresh superuser connection to their database in the target.

    Raises Refused with every conflict that could be found; the target is then unchanged, but for new values of
    enumerated types. Raises Unavailable if the connection broke; if that was at the commit, nobody knows what came of
    it. Merging the same changes again is harmless: what the target has already is not written twice (but rows of a
    table without a key, which nothing tells apart, are). Before the commit `keep` gets the undo and the transaction's
    number, which later tells whether it was committed; it is called once, and a failure after it is Unavailable.
    """
    options = options or Options()
    begin_session(connection)
    way = GivingWay()
    while True:
        merge = _Merge(host, connection, changes, options, Decisions(resolutions), way)
        try:
            return _apply(merge, keep)
        except (Overtaken, psycopg.Error) as error:
            if merge.is_kept or not way.begins_again(error):
                raise told(error, merge.place, is_kept=merge.is_kept) from error


def _apply(merge: _Merge, keep: Callable[[DatabaseChanges, str], None] | None) -> Applied:
    merge.expand()
    with merge.connection.transaction(force_rollback=merge.options.dry_run):
        merge.run()
        if keep is not None and merge.applied.undo is not None and not merge.options.dry_run:
            number = str(value(merge.connection, "select txid_current()"))
            merge.is_kept = True
            keep(merge.applied.undo, number)
        merge.host.at("postgres:apply:commit")
    merge.lap("commit")
    merge.applied.settled = frozenset(merge.decisions.settled)
    merge.host.at("postgres:apply:done")
    return merge.applied


class _Refusing(Exception):
    def __init__(self, found: list[Violation]) -> None:
        self.found = found


class _Merge:
    def __init__(
        self,
        host: Host,
        connection: Connection,
        changes: DatabaseChanges,
        options: Options,
        decisions: Decisions,
        way: GivingWay,
    ) -> None:
        self.host = host
        self.connection = connection
        self.changes = changes
        self.options = options
        self.decisions = decisions
        self.way = way
        self.place = f"postgres/{changes.database}"
        self.applied = Applied()
        self.is_kept = False
        """What takes it back was given away: from then on it is this attempt that commits, or none."""
        self._since = host.monotonic()
        self._before: Schema = {}
        self._given_up: list[Content] = []
        self._converted: list[GivenUp] = []

    def lap(self, step: str) -> None:
        now = self.host.monotonic()
        self.applied.seconds[step] = now - self._since
        self._since = now

    def expand(self) -> None:
        """Only after the schemas were seen to merge: this commits."""
        adds = any(statement.stage == EXPAND for statement in self.changes.ddl)
        if adds and not self.options.dry_run and self._expected_schema() is not None:
            expand(self.host, self.connection, self.changes.ddl)

    def run(self) -> None:
        _refuse([
            refusal("irreversible", self.place, "this cannot be taken back in place", key=(sql,))
            for sql in (*self.changes.irreversible, *self.changes.lost.keys())
        ])  # fmt: skip
        self._set("lock_timeout", f"{self.options.lock_timeout_s:g}s")
        self._set("deadlock_timeout", f"{DEADLOCK_MS}ms")
        self._set("track_counts", "on")
        write_less_log(self.connection)
        expected = self._expected_schema()
        # A target that has the fork's schema already gets no DDL: "create index on t (c)" twice makes two indexes.
        ddl = [] if expected is None else self.changes.ddl
        if expected is not None:
            lock_for_schema(self.connection, self.changes.base, self.changes.theirs)
        _refuse(renamed_in_target(self.connection, self.changes, self.place, runs=expected is not None))
        _refuse(written_since(self.connection, self.changes.exchanged, self.place))
        columns = self._columns() if self.changes.ddl else {}
        earlier = Earlier.read(self.connection, ddl) if expected is not None else None
        self.lap("schema")
        if self._refuse_lost(expected is not None):
            ddl, expected = [], None
        filled_otherwise(self.connection, self.changes.fills, self.place, self.decisions)
        whole = watch(self.connection, self.place, self.changes, self.options.grain, self.decisions)
        before, after = split(ddl, ddl_first=self.changes.ddl_first)
        numbers = positions(self.connection, self.changes.sequences) if before else {}
        self._replay(before)
        keep_positions(self.connection, self.changes.sequences, numbers, self.place, self.decisions)
        back = self._begin_return() if expected is not None and self.changes.back != Return() else None
        self.lap("ddl")
        tables = self._stage(columns, whole)
        self.lap("lock and merge")
        self._write(tables)
        if back is not None:
            self._defining(lambda: _refuse(back.columns()))
            self._defining(back.finish)
        self._replay(after)
        self._refresh()
        self.applied.others += len(ddl) + len(self.changes.views)
        self._verify_schema(expected)
        if not self.options.dry_run:
            self._keep_undo(tables, ddl, earlier, expected)
        self.lap("verify")
        self.applied.others += move_ahead(self.connection, self.changes.sequences)
        # What would be refused at the commit is refused while nothing that goes by this merge has gone ahead.
        self.connection.execute("set constraints all immediate")
        self._check()
        self.lap("checks")

    def _expected_schema(self) -> dict[str, str] | None:
        """The schema that the target must have in the end; None if it has it already."""
        if self.changes.base == self.changes.theirs:
            return None
        ours = self._before = read_schema(self.connection)
        if self.applied.schema is None:
            self.applied.schema = digest(ours)
            if self.options.schema not in (None, self.applied.schema):
                raise Refused(
                    [refusal("target-schema-moved", self.place, "the target's schema changed since the rehearsal")]
                )
        base, theirs = self.changes.base, self.changes.theirs
        expected, conflicts = merge_schemas(base, ours, theirs, added_values(self.changes.ddl))
        _refuse([
            refusal(
                "schema", self.place, f"both changed {n}",
                key=(n,), base=base.get(n), ours=ours.get(n), theirs=theirs.get(n),
            )
            for n in conflicts
        ])  # fmt: skip
        return None if expected == ours else expected

    def _columns(self) -> dict[str, set[str]]:
        names = [table.table for table in self.changes.tables]
        return {r.name: set(r.columns) for r in read_tables(self.connection, names).values()}

    def _refuse_lost(self, drops: bool) -> bool:
        """Whether somebody decided that all of the merge that is taken back stays."""
        if not drops:
            return False
        self._given_up += changed_drops(self.connection, self.changes, self.place, self.decisions)
        stays = changed_since(self.connection, self.changes, self.place, self.decisions)
        if self.changes.additions:
            _refuse(self.decisions.open)  # what else is in conflict depends on that
        return stays

    def _begin_return(self) -> Returning:
        """What the merge destroyed is there again, but for rows and columns."""
        back = Returning(self.host, self.connection, self.place, self.changes.back)
        self._defining(lambda: _refuse(back.begin(read_schema(self.connection))))
        self.changes = replace(self.changes, tables=(*self.changes.tables, *self.changes.back.tables))
        self.applied.others += len(self.changes.back.statements())
        return back

    def _replay(self, statements: list[Statement]) -> None:
        guarding = Guarding(self.connection, self.place, self.decisions)
        self._defining(lambda: replay(self.host, self.connection, statements, guarding.around))
        self._converted += guarding.given_up

    def _defining(self, act: Callable[[], None]) -> None:
        try:
            act()
        except IN_THE_WAY:
            raise
        except psycopg.Error as error:
            failed = refusal("ddl-failed", self.place, str(error).strip())
            raise Refused([*self.decisions.open, failed]) from error

    def _stage(self, columns: Mapping[str, set[str]], whole: Mapping[str, Side]) -> list[Staged]:
        """`columns`: what the target had before the DDL; `whole`: what was decided of tables that only one side may
        change, and both have."""
        relations, refused = find_targets(self.connection, self.changes.database, self.changes.tables)
        _refuse(refused)
        exchanging = self.way.exchanging
        lock_out(self.connection, [relation for name, relation in relations.items() if name in exchanging])
        self._set("session_replication_role", "replica")
        staged = []
        for number, changes in enumerate(self.changes.tables):
            side = whole.get(changes.table)
            if side is Side.OURS:
                continue
            grain = grain_of(self.options.grain, self.changes, changes)
            table = Table(
                place=f"{self.place}/{changes.table}",
                columns=changes.columns,
                key=changes.key,
                # By row what nobody could watch: a table of the fork's own, and what a revert writes.
                grain=Grain.ROW if grain is Grain.TABLE else grain,
                delta=added_up(self.options.delta, changes),
                new=frozenset(changes.new) - columns.get(changes.table, set()),
                given=frozenset(changes.given),
            )
            self.host.at("postgres:apply:lock")
            decisions = Favouring(self.decisions, side) if side is not None else self.decisions
            relation = relations[changes.table]
            anew = changes.table in exchanging
            staged.append(
                stage(self.connection, number, changes, table, relation, decisions, lock=self.way.lock, anew=anew)
            )
        return [table for table in staged if table.writes]

    def _write(self, tables: list[Staged]) -> None:
        """Writes; again, after decisions about what constraints refuse. Raises Refused with all that is undecided, of
        rows and of constraints."""
        Settling(self.decisions).settle(lambda: self._attempt(tables), amend)
        _refuse(self.decisions.open)
        tables[:] = [staged for staged in tables if staged.writes]
        self._set("session_replication_role", "origin")
        self.applied.rows = sum(len(staged.writes) for staged in tables)
        self.lap("references")

    def _attempt(self, tables: list[Staged]) -> list[Violation]:
        """What constraints refuse; if that is anything, nothing is written."""
        connection, database = self.connection, self.changes.database
        try:
            with connection.transaction():
                copy_all(connection, tables, self.decisions)
                renumber(connection, tables, self.changes.sequences)
                hold_deferrable(connection, tables)
                keys = keep_parents(connection, tables)
                if not write(self.host, connection, tables, self.way.exchanging):
                    refused = explain(connection, database, tables)
                    if not refused:
                        raise Overtaken("what was in the way of a row is gone again")
                    raise _Refusing(refused)
                self.lap("write")
                found = check_references(connection, database, tables, keys)
                found += check_deferred(connection, database, tables)
                if found:
                    raise _Refusing(found)
                _refuse(verify(connection, database, tables))
        except _Refusing as refusing:
            return refusing.found
        return []

    def _refresh(self) -> None:
        """Only by a name that the target itself has for a view: in a fork's answer it may be any text."""
        views = self.changes.views
        there = {name for (name,) in fetch(self.connection, _VIEWS)} if views else set()
        missing = [view for view in views if view not in there]
        _refuse([refusal("view-missing", self.place, "the target has no such view", key=(view,)) for view in missing])
        for view in views:
            self.connection.execute(f"refresh materialized view {view}")

    def _verify_schema(self, expected: dict[str, str] | None) -> None:
        if expected is None:
            return
        got = read_schema(self.connection)
        _refuse([
            refusal(
                "schema-mismatch", self.place, f"not as merged: {n}",
                key=(n,), ours=got.get(n), theirs=expected.get(n),
            )
            for n in difference(got, expected)
        ])  # fmt: skip

    def _keep_undo(
        self, tables: list[Staged], ddl: Sequence[Statement], earlier: Earlier | None, expected: Schema | None
    ) -> None:
        altered = None
        if expected is not None and earlier is not None:
            converted = (each.content(earlier.tables) for each in self._converted)
            given_up = (*self._given_up, *(each for each in converted if each is not None))
            altered = Altered(self._before, expected, earlier, read_tables(self.connection), given_up)
        self.applied.undo = undo_of(self.connection, self.changes, tables, ddl, altered)

    def _check(self) -> None:
        default, limits = self.options.check_timeout_s, self.options.check_limits_s
        checks = [(sql, limits.get(sql, default)) for sql in self.options.checks]
        if checks:
            _refuse(failed_checks(self.host, self.connection, checks, self.place))

    def _set(self, name: str, setting: str) -> None:
        self.connection.execute(f"set local {name} = '{setting}'")


def _refuse(conflicts: Sequence[Conflict]) -> None:
    if conflicts:
        raise Refused(list({conflict.id: conflict for conflict in conflicts}.values()))

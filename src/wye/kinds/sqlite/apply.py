"""The three-way merge of a database, in one transaction on it: decided and carried out under its lock.

The merge needs the target's rows only where the fork changed some, so it is done where it counts: after BEGIN
IMMEDIATE nobody else can write, every row is read, merged (`merge.rows`) and written, and the transaction stays open
until the caller commits. A plan is the same on a private copy, rolled back. A process that dies leaves SQLite's own
journal, which the next one to open the file rolls back.

Triggers do not fire (their effects are in the diff already) and foreign keys do not cascade; the keys are checked at
the end, as is what every constraint says of every row. All conflicts are collected before anything is refused.

Reverting is the same merge with the roles swapped: changes from the state after the merge to the one before. A merge
that was committed and must not stay is taken back the same way, by what it did itself (`inverse`): what others have
written since is not in it, and stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import apsw

from wye.host import Host
from wye.kinds.sqlite.cells import Cells
from wye.kinds.sqlite.changes import VIRTUAL, Refusal, SqliteChanges, TableChanges, content, encoding, pragma
from wye.kinds.sqlite.counters import Counters
from wye.kinds.sqlite.database import opened, quoted, translated
from wye.kinds.sqlite.definitions import DROPS, REST, STAYS, TABLES, Definitions, refusal
from wye.kinds.sqlite.dropped import Dropped, LostTable
from wye.kinds.sqlite.record import Record
from wye.kinds.sqlite.references import References, unproven_children
from wye.kinds.sqlite.schema import read_objects, read_shape
from wye.kinds.sqlite.staged import Staged, Violation, amend
from wye.kinds.sqlite.unique import Standing, UniqueIndex
from wye.kinds.sqlite.write import Writer
from wye.merge import settling
from wye.merge.conflict import BOTH, Conflict, Decisions, Favouring, Resolution, Side
from wye.merge.refused import Refused
from wye.merge.rows import Grain, MergedRows, Row, Table, Triple, merge_keyed, merge_multiset
from wye.merge.settling import Found, Settling

_BACK_BUSY_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How near two changes of one table may come; see `merge.rows`."""

    grain: Grain = Grain.CELL
    delta: frozenset[str] = frozenset()


class Application:
    """A merge in an open transaction. `written`: rows; `is_empty`: the database had all of it already; `inverse`: what
    takes it back (`take_back`), nothing while there are conflicts. Leaving the context without `commit` rolls back."""

    def __init__(self, connection: apsw.Connection, host: Host, subject: str) -> None:
        self._connection = connection
        self._host = host
        self._subject = subject
        self.conflicts: list[Conflict] = []
        self.written = 0
        self.is_empty = False
        self.inverse = SqliteChanges()

    def commit(self) -> None:
        """Durable when it returns. Raises Refused with all conflicts if there are any."""
        if self.conflicts:
            raise Refused(self.conflicts)
        self._host.at("sqlite:commit")
        with translated(self._subject):
            self._connection.execute("COMMIT")


@contextmanager
def merged(
    host: Host,
    place: str,
    root: Path,
    path: str,
    found: SqliteChanges,
    decisions: Decisions | None = None,
    rules: Mapping[str, Rules] | None = None,
    *,
    busy_s: float = 5.0,
    is_back: bool = False,
) -> Iterator[Application]:
    """Merges `found` into the database at `path` beneath `root`. `place` names it in conflicts ("volume data: app.db").
    `is_back`: `found` takes a merge back, so what others have changed since stays without a conflict.

    Raises DatabaseBusy if the application keeps its lock for `busy_s`. Its own writers wait until the context is left,
    so be quick between the merge and `commit`. A file that is in use is merged through `live`."""
    with opened(host, {"main": (root, path)}, busy_s=busy_s) as connection:
        host.at("sqlite:begin")
        connection.execute("BEGIN IMMEDIATE")
        application = Application(connection, host, path)
        merge = _Merge(connection, place, Decisions() if decisions is None else decisions, dict(rules or {}), is_back)
        known = len(merge.decisions.open)
        merge.run(found)
        application.conflicts = [*merge.decisions.open[known:], *merge.refused]
        application.written = merge.written
        application.is_empty = not (merge.written or merge.defined)
        if not application.conflicts:
            application.inverse = merge.inverse
        try:
            yield application
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def take_back(
    host: Host, place: str, root: Path, path: str, inverse: SqliteChanges, rules: Mapping[str, Rules] | None = None
) -> list[str]:
    """Takes a merge back that was committed, by its `Application.inverse`, and says what of it could not be, because of
    what others have written since. Harmless if it was not committed. Raises DatabaseBusy, DatabaseFailed."""
    back = merged(host, place, root, path, inverse, _KeepOurs(), rules, busy_s=_BACK_BUSY_S, is_back=True)
    with back as application:
        left = [
            f"{each.place} {', '.join(map(str, each.key))}: {each.kind} {each.column}: {each.detail}"
            for each in application.conflicts
        ]
        application.conflicts = []
        application.commit()
    return left


class _KeepOurs(Decisions):
    """What somebody else has written since stays."""

    def of(self, conflict: Conflict) -> Resolution | None:
        return Resolution(side=Side.OURS) if Side.OURS in conflict.choices else super().of(conflict)


class _LeftOut(Settling):
    """What is refused of a merge's way back is left out, and told."""

    def __init__(self, told: list[Conflict]) -> None:
        super().__init__(Decisions())
        self._told = told

    def round(self, found: Iterable[Found]) -> list[tuple[Found, Resolution]]:
        refused = list(found)
        self._told += [each.conflict for each in refused]
        return [(each, Resolution(side=Side.OURS)) for each in refused]


class _Refusing(Exception):
    """Something could not be written."""


class _Kept(Exception):
    """A table is to stay that was dropped already."""


class _Merge:
    def __init__(
        self,
        connection: apsw.Connection,
        place: str,
        decisions: Decisions,
        rules: Mapping[str, Rules],
        is_back: bool,
    ) -> None:
        self.connection = connection
        self.place = place
        self.decisions = decisions
        self.rules = rules
        self.cells = Cells(encoding(connection))
        self.passing = Cells(encoding(connection), limit_bytes=None)
        """For rows of which only a few are kept."""
        self.is_back = is_back
        self.refused: list[Conflict] = []
        self.kept: dict[tuple[str, str], Conflict] = {}
        """Why tables stay that the fork dropped: by (table, column that refers to it)."""
        self.written = 0
        self.defined = 0

    def run(self, found: SqliteChanges) -> None:
        """Again, with a table that has to stay, when rows of the target turn out to hang on it."""
        opened, settled = len(self.decisions.open), set(self.decisions.settled)
        self.connection.execute("SAVEPOINT merge")
        while True:
            try:
                self._try(found)
            except _Kept:
                self.connection.execute("ROLLBACK TO merge")
                told = {conflict.id for conflict in self.kept.values()}
                self.decisions.open[opened:] = [each for each in self.decisions.open[opened:] if each.id in told]
                self.decisions.settled.intersection_update(settled | told)
                self.refused = [each for each in self.refused if each.id in told]
            else:
                break
        self.connection.execute("RELEASE merge")

    def _try(self, found: SqliteChanges) -> None:
        ours = read_objects(self.connection, "main")
        for each in found.refused:
            if each.kind == VIRTUAL:
                self._virtual(each, ours.get(("table", each.name)))
            else:
                self._refuse(each.kind, each.name, each.detail)
        self.definitions = Definitions(self.connection, self.place, self.refused)
        self.definitions.choose(found, self.decisions, {table for table, _ in self.kept}, is_back=self.is_back)
        self.keeping = set(self.kept)
        wanted = self.definitions.wanted
        concerned = {table.table for table in found.tables} | {change.name for change in wanted}
        self.record = Record(self.connection, self.cells, concerned)
        unproven = unproven_children(self.connection, found)
        broken = self._violations(unproven)
        whole = self._watch(found, ours)
        for change in wanted:
            if change.type == "table" and change.after is None:
                self.record.keep(change.name)
            elif change.lost_columns:
                self.record.keep_columns(change.name, change.lost_columns)
        self.dropped = Dropped(self.connection, self.passing, self.place, self.definitions.dropped())
        self.definitions.carry_out(DROPS)
        self.definitions.carry_out(TABLES)
        counters = Counters(self.connection, self.place)
        sides = [(table, whole.get(table.table)) for table in found.tables]
        staged = [self._stage(table, side) for table, side in sides if side is not Side.OURS]
        self._write([each for each in staged if each is not None and each.writes])
        self.definitions.carry_out(REST)
        self.definitions.verify()
        self.defined = self.definitions.done + counters.merge(found.counters, self.decisions, whole)
        self._pragmas(found)
        for violation, count in (self._violations(unproven) - broken).items():
            self._refuse("foreign-key", violation[0], f"{count} rows without their parent in {violation[1]}")
        self.inverse, lasting = self.record.inverse()
        for name in dict.fromkeys(lasting) if not self.is_back else ():
            self._refuse("schema", name, "these columns could not be brought back: drop them in the target yourself")

    def _virtual(self, found: Refusal, current: str | None) -> None:
        """A virtual table of the target can stay as it is, but not be another than the fork's: what else the fork
        defined may rest on it."""
        if current != found.definition:
            done = "drop it" if found.definition is None else "make it so"
            self._refuse(found.kind, found.name, f"{found.detail}: {done} in the target yourself, and merge again")
        elif current is not None:
            detail = f"{found.detail}: ours leaves the target's as it is; if it is an index, rebuild it after the merge"
            self.decisions.of(
                Conflict(kind=found.kind, place=self.place, key=(found.name,), choices=STAYS, detail=detail)
            )

    # ------------------------------------------------------------ rows

    def _watch(self, found: SqliteChanges, ours: Mapping[tuple[str, str], str]) -> dict[str, Side]:
        """Tables that only one side may change, and both have: whose each shall be. With theirs the fork's rows are
        taken, and rows that only the target changed stay; "ours" stands for undecided too."""
        whole: dict[str, Side] = {}
        for table in found.tables:
            was = found.watched.get(table.table) if self._rules(table.table).grain is Grain.TABLE else None
            known = ("table", table.table) in ours
            if was is None or not known or content(self.connection, table.table) == was:
                continue
            conflict = Conflict(
                kind="table/table",
                place=f"{self.place} {table.table}",
                theirs={"rows": len(table.keyed) + len(table.loose)},
                choices=BOTH,
                detail="only one side may change this table (x-wye: merge: table); ours leaves it as it is in the"
                " target, theirs takes the fork's rows, and rows that only the target changed stay",
            )
            chosen = self.decisions.of(conflict)
            whole[table.table] = Side.OURS if chosen is None else chosen.side
        return whole

    def _rules(self, table: str) -> Rules:
        return self.rules.get(table.lower(), Rules())

    def _stage(self, found: TableChanges, side: Side | None) -> Staged | None:
        """What to write, decided on the target's rows as they are now; None if its table cannot take it."""
        shape = read_shape(self.connection, "main", found.table)
        missing = set(found.columns) - set(shape.columns)
        if missing or shape.key != found.key:
            detail = f"the target's table lacks {', '.join(sorted(missing))}" if missing else "its primary key differs"
            if all(conflict.key != (found.table,) for conflict in self.refused):
                self._refuse("schema", found.table, detail)
            return None
        rules = self._rules(found.table)
        decisions = self.decisions if side is None else Favouring(self.decisions, side)
        table = Table(
            place=f"{self.place} {found.table}",
            columns=found.columns,
            key=found.key,
            grain=Grain.ROW if rules.grain is Grain.TABLE else rules.grain,
            delta=rules.delta,
        )
        writer = Writer(self.connection, self.cells, table, shape)
        triples = [
            Triple(base=before, ours=writer.read(after or before or ()), theirs=after) for before, after in found.keyed
        ]
        keyed = merge_keyed(table, triples, decisions).writes
        loose = self._merge_loose(table, writer, found.loose, decisions).writes
        numbers = frozenset(range(len(keyed), len(keyed) + len(loose)))
        return Staged(table=table, shape=shape, writes=dict(enumerate([*keyed, *loose])), loose=numbers)

    def _write(self, tables: list[Staged]) -> None:
        """Writes; again, after decisions about what constraints refuse."""
        whole = [replace(each, place=f"{self.place} {each.key[0]}", key=()) for each in self.refused if each.key]
        rounds = _LeftOut(self.refused) if self.is_back else Settling(self.decisions, whole)
        rounds.settle(lambda: self._attempt(tables), self._amend)
        self.written = sum(len(staged.writes) for staged in tables)

    def _attempt(self, tables: list[Staged]) -> list[settling.Violation]:
        """Writes all, or nothing and says why."""
        refused: list[settling.Violation] = []
        if self.kept.keys() != self.keeping:
            raise _Kept
        self.definitions.made.clear()
        self.connection.execute("SAVEPOINT attempt")
        try:
            with ExitStack() as watched:
                for staged in tables:
                    watched.enter_context(self.record.watching(staged))
                references = References(self.connection, self.cells, self.place, tables)
                for staged in tables:
                    refused += Writer(self.connection, self.cells, staged.table, staged.shape).carry_out(staged)
                refused = refused or [*self.dropped.violations(tables)] or [*references.violations()]
                for change in self.definitions.make_unique() if not refused else ():
                    index = UniqueIndex(self.connection, self.passing, self.place, change)
                    refused += index.violations(tables)
                if refused:
                    raise _Refusing
        except _Refusing:
            self.connection.execute("ROLLBACK TO attempt")
        self.connection.execute("RELEASE attempt")
        return refused

    def _amend(self, violation: settling.Violation, chosen: Resolution) -> bool:
        match violation:
            case Violation():
                return amend(violation, chosen)
            case Standing():
                self.definitions.leave_out(violation.index)
            case LostTable():
                self.kept[violation.table, violation.conflict.column] = violation.conflict
        return True

    def _merge_loose(
        self, table: Table, writer: Writer, rows: tuple[tuple[Row, int, int], ...], decisions: Decisions
    ) -> MergedRows:
        base = Counter({row: before for row, before, _ in rows})
        theirs = Counter({row: after for row, _, after in rows})
        ours = Counter({row: writer.count(row) for row, _, _ in rows})
        if self.is_back:  # as many as there are now, less what the merge added
            due = [(row, after - before) for row, before, after in rows if ours[row] != after]
            theirs = Counter({row: max(0, ours[row] + change) for row, change in due})
            base = Counter({row: ours[row] for row, _ in due})
        return merge_multiset(table, base, ours, theirs, decisions)

    # ------------------------------------------------------------ the rest

    def _violations(self, unproven: Collection[str]) -> Counter[tuple[str, str]]:
        """Rows without their parent, by (table, parent)."""
        broken: Counter[tuple[str, str]] = Counter()
        for name in unproven:
            try:
                rows = self.connection.execute(f"PRAGMA main.foreign_key_check({quoted(name)})").fetchall()
            except apsw.SQLError:
                continue  # a mismatched foreign key: SQLite does not enforce it either
            broken.update((str(row[0]), str(row[2])) for row in rows)
        return broken

    def _pragmas(self, found: SqliteChanges) -> None:
        for name, before, after in found.pragmas:
            current = pragma(self.connection, "main", name)
            if current == after:
                continue
            if current != before:
                conflict = Conflict(
                    kind="update/update", place=self.place, key=(name,), base=before, ours=current, theirs=after,
                    choices=BOTH,
                )  # fmt: skip
                chosen = self.decisions.of(conflict)
                if chosen is None or chosen.side is not Side.THEIRS:
                    continue
            self.connection.execute(f"PRAGMA main.{name} = {after}")
            self.defined += 1

    def _refuse(self, kind: str, name: str, detail: str) -> None:
        self.refused.append(refusal(self.place, kind, name, detail))

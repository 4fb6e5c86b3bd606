"""Reads the target's version of every row that the fork changed, and decides what becomes of it.

The target's rows are found by the server's equality on the key; what they become is decided by `wye.merge.rows` on the
text of their cells, in pure code. Nothing is written here. What is written later is the very version that was looked
at, or the write fails: a row's version is where it lies and the transaction that made it, and whoever writes another
one gets another. Locking the rows here would do as well, but writes each of their pages once more; it is done after
others were quicker.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace

import psycopg

from wye.kinds.postgres.changes import TableChanges
from wye.kinds.postgres.coming_again import coming_again, other_than_new
from wye.kinds.postgres.refuse import refusal
from wye.kinds.postgres.rows import Source, copy_rows, count_equal, read_rows
from wye.kinds.postgres.session import Connection, array, fetch, literal, names, quote
from wye.kinds.postgres.tables import Index, Relation, read_parts, read_tables
from wye.merge.conflict import BOTH, Conflict, Decisions, Side
from wye.merge.rows import Cell, Grain, Row, Table, Triple, Write, merge_multiset, merge_row

DELETE, UPDATE, RECREATE, INSERT = "D", "U", "R", "I"
"""Recreate: deleted and inserted again; when and how is said in `exchanging`."""

_UNSEEN = "the target has set columns that the fork does not have"


@dataclass(slots=True)
class Staged:
    """One table of the merge: the target's relation, and for each entry (a number) what to do: (operation, write)."""

    number: int
    changes: TableChanges
    relation: Relation
    key: Index | None
    numbered: tuple[str, ...] = ()
    """Columns that came just now, in which the target's server gave each row a value."""
    is_locked: bool = False
    """Nobody else can change the rows any more."""
    is_exchanging: bool = False
    """Its rows exchange unique values: those that are changed in such columns are recreated."""
    writes: list[tuple[int, str, Write]] = field(default_factory=list)
    versions: dict[int, tuple[Cell, Cell]] = field(default_factory=dict)
    """Of the target's rows that were looked at: where they lie, and the transaction that made them."""

    @property
    def keys(self) -> str:
        """The temporary table of (n, k0, k1, ...): the keys of the rows that were looked for."""
        return f"pg_temp._wye_k{self.number}"

    @property
    def merged(self) -> str:
        """The temporary table of (n, op, changed, place, version, c0, c1, ...): the rows to write."""
        return f"pg_temp._wye_m{self.number}"

    def match_old(self, row: str = "t", keys: str = "s") -> str:
        """The condition that `row` of the target is the one whose key is in `keys`."""
        assert self.key is not None
        return " and ".join(
            f"{row}.{quote(column)} {operator} {keys}.k{i}"
            for i, (column, operator) in enumerate(zip(self.key.columns, self.key.operators, strict=True))
        )

    def match_seen(self, row: str = "t", keys: str = "s", merged: str = "m") -> str:
        """The condition that `row` of the target is the one to write, in the version that was looked at."""
        version = f"{row}.ctid = {merged}.place and {row}.xmin = {merged}.version"
        return f"{merged}.n = {keys}.n and {self.match_old(row, keys)} and {version}"

    def match_new(self, row: str = "t", merged: str = "m") -> str:
        """The condition that `row` of the target is the written row `merged`."""
        assert self.key is not None
        return " and ".join(
            f"{row}.{quote(column)} {operator} {merged}.c{self.index(column)}"
            for column, operator in zip(self.key.columns, self.key.operators, strict=True)
        )

    def known(self, row: Row) -> Row:
        """The cells of a row that the server did not give it."""
        return tuple(c for c, column in zip(row, self.changes.columns, strict=True) if column not in self.changes.given)

    def index(self, column: str) -> int:
        return self.changes.columns.index(column)

    def count(self, *operations: str) -> int:
        return sum(operation in operations for _, operation, _ in self.writes)


def find_targets(
    connection: Connection, database: str, tables: Collection[TableChanges]
) -> tuple[dict[str, Relation], list[Conflict]]:
    """The target's relations by name, and refusals where one cannot take the changes."""
    relations = {r.name: r for r in read_tables(connection, [t.table for t in tables]).values()}
    read_parts(connection, relations.values())
    refused = []
    for changes in tables:
        place = f"postgres/{database}/{changes.table}"
        relation = relations.get(changes.table)
        if relation is None:
            refused.append(refusal("table-missing", place, "the target has no such table"))
            continue
        missing = [column for column in changes.columns if column not in relation.stored]
        refused += [refusal("column-missing", place, f"the target has no column {c}", key=(c,)) for c in missing]
        if changes.key and not missing and relation.key_of(changes.key) is None:
            refused.append(refusal("key-missing", place, f"the target has no unique key ({', '.join(changes.key)})"))
        if any(not index.immediate and index.excludes for _, index in relation.constraints()):
            refused.append(refusal("deferrable-exclusion", place, "a deferrable exclusion constraint cannot be proven"))
    return relations, refused + _triggers(connection, database, relations.values())


def stage(connection: Connection, number: int, changes: TableChanges, table: Table, relation: Relation,
          decisions: Decisions, *, lock: bool, anew: bool = False) -> Staged:  # fmt: skip
    """Reads and decides one table, and locks what it reads if told to. Open conflicts are left with `decisions`.
    `anew`: its rows exchange unique values, and nobody else can write it."""
    key = relation.key_of(changes.key) if changes.key else None
    numbered = tuple(column for column in changes.given if column in table.new)
    staged = Staged(number, changes, relation, key, numbered, lock, anew)
    if staged.key is None:
        _stage_multiset(connection, staged, table, decisions)
        return staged
    entries = _entries(changes, {staged.index(column) for column in changes.given if column not in numbered})
    ours = _look_up(connection, staged, entries)
    _forget_what_goes(staged, entries, ours)
    unseen = _changed_unseen(connection, staged, table.grain)
    for n, (base, theirs) in enumerate(entries):
        write = merge_row(table, Triple(base=base, ours=ours.get(n), theirs=theirs), decisions)
        if write is not None and n in unseen and _is_blind(table, base, write) and not _may_go(table, write, decisions):
            continue
        if write is not None:
            staged.writes.append((n, operation_of(staged, write), write))
    if table.delta:
        _as_the_server_has(connection, staged, table.delta)
    return staged


def _as_the_server_has(connection: Connection, staged: Staged, columns: Collection[str]) -> None:
    """Sums in `columns` as the server will hold them, which is not as exact as they are: the undo says what is there.
    One that it does not take is left as it is, for the server to refuse."""
    at = sorted(staged.index(column) for column in columns)
    sums = {
        entry: write.after
        for entry, (_, _, write) in enumerate(staged.writes)
        if write.before and write.after and any(write.before[i] != write.after[i] for i in at)
    }
    if not sums:
        return
    cells = ", ".join(f"t.{quote(staged.changes.columns[i])} as c{i}" for i in at)
    made = f"create temp table _wye_s{staged.number} on commit drop"
    with contextlib.suppress(psycopg.DataError, psycopg.IntegrityError), connection.transaction():
        connection.execute(f"{made} as select 0 as n, {cells} from {staged.relation.source} t limit 0")
        table = f"pg_temp._wye_s{staged.number}"
        copy_rows(connection, table, ((str(n), *(row[i] for i in at)) for n, row in sums.items()))
        for entry, *held in read_rows(connection, f"select * from {table}"):
            n, operation, write = staged.writes[int(entry or 0)]
            cells_of = dict(enumerate(write.after or ())) | dict(zip(at, held, strict=True))
            staged.writes[int(entry or 0)] = (n, operation, replace(write, after=tuple(cells_of.values())))
    staged.writes = [each for each in staged.writes if each[2].before != each[2].after]


def copy_writes(connection: Connection, staged: Staged) -> None:
    """Puts the decided rows on the server, for `write`."""
    cells = "".join(f", t.{quote(column)} as c{i}" for i, column in enumerate(staged.changes.columns))
    known = "0 as n, ''::text as op, null::int[] as changed, null::tid as place, null::xid as version"
    connection.execute(
        f"create temp table {_name(staged.merged)} on commit drop as"
        f" select {known}{cells} from {staged.relation.source} t limit 0"
    )
    copy_rows(connection, staged.merged, (_staged_row(staged, *entry) for entry in staged.writes))
    connection.execute(f"analyze {staged.merged}")


def changed(write: Write) -> list[int]:
    """Indexes of the cells in which an update differs."""
    assert write.before is not None
    assert write.after is not None
    return [i for i, (old, new) in enumerate(zip(write.before, write.after, strict=True)) if old != new]


def _entries(changes: TableChanges, unknown: Collection[int]) -> list[tuple[Row | None, Row | None]]:
    """`unknown`: cells that each side's server has filled on its own: what the base's came to is nothing in common."""
    deletes: list[tuple[Row | None, Row | None]] = [(row, None) for row in changes.deletes]
    updates = (
        (tuple(None if i in unknown else cell for i, cell in enumerate(was)) if unknown else was, now)
        for was, now in changes.updates
    )
    return [*deletes, *updates, *((None, row) for row in changes.inserts)]


def _look_up(connection: Connection, staged: Staged, entries: list[tuple[Row | None, Row | None]]) -> dict[int, Row]:
    """The target's rows under the entries' keys, by entry. Remembers their versions."""
    assert staged.key is not None
    at = [staged.index(column) for column in staged.key.columns]
    key = ", ".join(f"t.{quote(column)} as k{i}" for i, column in enumerate(staged.key.columns))
    connection.execute(
        f"create temp table {_name(staged.keys)} on commit drop as select 0 as n, {key}"
        f" from {staged.relation.source} t limit 0"
    )
    rows = ((str(n), *((base or theirs or ())[i] for i in at)) for n, (base, theirs) in enumerate(entries))
    copy_rows(connection, staged.keys, rows)
    connection.execute(f"analyze {staged.keys}")
    cells = names(staged.changes.columns, "t.")
    sql = f"""select s.n, t.ctid, t.xmin, {cells} from {staged.relation.source} t
        join {staged.keys} s on {staged.match_old()} {"for update of t" if staged.is_locked else ""}"""
    found = {}
    for entry, place, version, *row in read_rows(connection, sql):
        n = int(entry or 0)
        staged.versions[n], found[n] = (place, version), tuple(row)
    return found


def _is_blind(table: Table, base: Row | None, write: Write) -> bool:
    """Whether values that the fork has not seen are nobody's decision yet: of a row that goes, or that only one side
    may change. Where the target has changed others too, they were decided with these."""
    if write.after is None or base is None or write.before is None:
        return write.after is None
    others = (a != b and c not in table.new for c, a, b in zip(table.columns, base, write.before, strict=True))
    return table.grain is not Grain.CELL and not any(others)


def _changed_unseen(connection: Connection, staged: Staged, grain: Grain) -> set[int]:
    """Entries whose row in the target was given a value in a column that the fork does not have: a deletion in the
    fork did not see that value, nor did a change of a row that only one side may change."""
    strange = _strange(staged)
    if not strange or not (staged.changes.deletes or (staged.changes.updates and grain is not Grain.CELL)):
        return set()
    again = coming_again(staged.changes)
    if again:
        numbers = ", ".join(map(str, again))
        strange = f"{strange} or (s.n in ({numbers}) and ({_lost_on_the_way(connection, staged)}))"
    sql = f"""select s.n from {staged.relation.source} t join {staged.keys} s on {staged.match_old()} where {strange}"""
    return {n for (n,) in fetch(connection, sql)}


def _lost_on_the_way(connection: Connection, staged: Staged) -> str:
    return other_than_new(connection, staged.relation, set(staged.relation.stored) - set(staged.changes.columns))


def _strange(staged: Staged) -> str:
    """The condition that a row `t` has a value in a column that the fork does not have; one that every row got when the
    column came is none. Empty if there are no such columns."""
    return " or ".join(
        _is_given(f"t.{quote(c)}", literal(staged.relation.missing.get(c, "{NULL}")))
        for c in staged.relation.stored
        if c not in staged.changes.columns
    )


def _is_given(cell: str, missing: str) -> str:
    """`missing`: an array of the one value. That of an array has no such array around it: it is compared as text."""
    text = f"case when {cell} is distinct from null then format('%s', {cell}) end"
    return f"(array[{cell}]::text is distinct from {missing} and {text} is distinct from ({missing}::text[])[1])"


def _may_go(table: Table, write: Write, decisions: Decisions) -> bool:
    assert write.before is not None
    row = dict(zip(table.columns, write.before, strict=True))
    conflict = Conflict(
        kind="delete/update" if write.after is None else "update/update",
        place=table.place,
        key=tuple(row[column] for column in table.key or table.columns),
        base=row,
        ours=row,
        theirs=None if write.after is None else dict(zip(table.columns, write.after, strict=True)),
        choices=BOTH,
        detail=_UNSEEN,
    )
    chosen = decisions.of(conflict)
    return chosen is not None and chosen.side is Side.THEIRS


def _forget_what_goes(staged: Staged, entries: list[tuple[Row | None, Row | None]], ours: dict[int, Row]) -> None:
    """A new row may meet, by the server's equality, a row that the fork itself deleted ('ABC' for 'abc'): it is gone
    by the time the new one comes."""
    at = [staged.index(column) for column in staged.changes.key]
    gone = {tuple(base[i] for i in at) for base, theirs in entries if base is not None and theirs is None}
    for n, (base, _) in enumerate(entries):
        if base is None and n in ours and tuple(ours[n][i] for i in at) in gone:
            del ours[n]


def _stage_multiset(connection: Connection, staged: Staged, table: Table, decisions: Decisions) -> None:
    changes = staged.changes
    # Rows are deleted and inserted again. Who refers to one must not wait for it, or he would find it gone.
    mode = "exclusive" if any(index.unique for _, index in staged.relation.constraints()) else "share row exclusive"
    connection.execute(f"lock table {staged.relation.source} in {mode} mode")
    if changes.given:
        _exchange(connection, staged, table, decisions)
        return
    base = Counter(dict(changes.counts))
    theirs = base - Counter(changes.deletes) + Counter(changes.inserts)
    target = Source(connection, staged.relation.source, changes.columns)
    ours = count_equal(target, changes.deletes)
    strange = _strange(staged)
    if strange and coming_again(changes):
        strange = f"{strange} or {_lost_on_the_way(connection, staged)}"
    unseen = count_equal(target, changes.deletes, strange) if strange else Counter[Row]()
    merged = merge_multiset(table, base, ours, theirs, decisions)
    for n, write in enumerate(merged.writes):
        if write.before is not None and unseen[write.before] and not _may_go(table, write, decisions):
            continue
        staged.writes.append((n, DELETE if write.after is None else INSERT, write))


def _exchange(connection: Connection, staged: Staged, table: Table, decisions: Decisions) -> None:
    """All rows of the base for all rows of the fork, which have numbers now. Rows that only the target has keep those
    that the server has just given them. A row that the target changed or deleted cannot be told from these."""
    changes = staged.changes
    was = Counter(staged.known(row) for row in changes.deletes)
    columns = [column for column in changes.columns if column not in changes.given]
    target = Source(connection, staged.relation.source, columns)
    now = count_equal(target, was)
    strange = _strange(staged)
    moved = [row for row, count in was.items() if now[row] != count]
    moved += count_equal(target, was, strange) if strange else []
    has_them = staged.numbered != changes.given
    if moved or has_them:
        since = "the target has done so too" if has_them else f"the target has changed {len(moved)} of them since"
        detail = (
            f"the fork has given the rows {', '.join(changes.given)}, and {since}, so nothing tells which are the same:"
            " merge the column alone, and go on in a new fork"
        )
        decisions.open.append(refusal("rows-not-told-apart", table.place, detail, key=changes.given))
        return
    halves = [*(Write(before=row, after=None) for row in changes.deletes)]
    halves += [Write(before=None, after=row) for row in changes.inserts]
    staged.writes += [(n, DELETE if write.after is None else INSERT, write) for n, write in enumerate(halves)]


def operation_of(staged: Staged, write: Write) -> str:
    if write.before is None:
        return INSERT
    if write.after is None:
        return DELETE
    relation, columns = staged.relation, (staged.changes.columns[i] for i in changed(write))
    anew = relation.identity | relation.bound if staged.is_exchanging else relation.identity
    return UPDATE if anew.isdisjoint(columns) else RECREATE


def _staged_row(staged: Staged, n: int, operation: str, write: Write) -> Row:
    cells = "{" + ",".join(map(str, changed(write))) + "}" if operation in (UPDATE, RECREATE) else None
    row = write.before if write.after is None else write.after
    assert row is not None
    return (str(n), operation, cells, *staged.versions.get(n, (None, None)), *row)


def _triggers(connection: Connection, database: str, relations: Collection[Relation]) -> list[Conflict]:
    """Triggers and rules that would fire although replication is said to write: their effects are in the diff too."""
    if not relations:
        return []
    tables = f"select x.relid from unnest({array(r.name for r in relations)}) n, pg_partition_tree(n::regclass) x"
    tables = f"{tables} union select n::regclass from unnest({array(r.name for r in relations)}) n"
    found = fetch(
        connection,
        f"""select tgrelid::regclass::text, tgname from pg_trigger
            where tgenabled in ('A', 'R') and not tgisinternal and tgrelid in ({tables})
            union all select ev_class::regclass::text, rulename from pg_rewrite
            where ev_enabled in ('A', 'R') and ev_class in ({tables}) and rulename <> '_RETURN'""",
    )
    return [
        refusal("always-trigger", f"postgres/{database}/{table}", f"{name} is ENABLE ALWAYS or REPLICA", key=(name,))
        for table, name in found
    ]


def _name(temporary: str) -> str:
    return temporary.removeprefix("pg_temp.")

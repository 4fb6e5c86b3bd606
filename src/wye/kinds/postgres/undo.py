"""What takes a merge back: the changes from the target after it to the target before it.

They are made from the rows that the merge really wrote (after resolutions and sums), inside its transaction, and are
applied like any other changes. So a revert is a three-way merge too: what was written to the same rows later stays, or
is a conflict, and what others wrote meanwhile is not in it.

If the merge ran DDL, the undo runs its inverse (`reverse`). Its rows have the columns that stay, under the names that
they had before. What the merge set (rights, owners, options) is set back to what it was. It carries what the merge did,
for two reasons: what it drops must hold what the merge left there (`additions`), and undoing the undo needs the values
that went with the columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from wye.kinds.postgres.additions import additions
from wye.kinds.postgres.catalog import Schema, difference
from wye.kinds.postgres.changes import Content, DatabaseChanges, Lost, Return, TableChanges
from wye.kinds.postgres.ddl import Statement
from wye.kinds.postgres.objects import Name, qualified
from wye.kinds.postgres.reverse import reverse
from wye.kinds.postgres.rows import Source, count_equal
from wye.kinds.postgres.session import Connection, literal, value
from wye.kinds.postgres.setting_back import set_back
from wye.kinds.postgres.settings import Settings, read_settings, sets_something
from wye.kinds.postgres.stage import Staged
from wye.kinds.postgres.tables import Relation, read_tables
from wye.merge.rows import Row, Write


@dataclass(frozen=True, slots=True)
class Earlier:
    """Of the target before the merge's DDL: its tables by oid, and what is set in it, if the DDL sets something."""

    tables: Mapping[int, Relation]
    settings: Settings | None

    @classmethod
    def read(cls, connection: Connection, ddl: Sequence[Statement]) -> Earlier:
        return cls(read_tables(connection), read_settings(connection) if sets_something(ddl) else None)


@dataclass(frozen=True, slots=True)
class Altered:
    """The target's schema, and its tables by oid, before the merge's DDL and after it. `given_up`: what went although
    it had been changed."""

    before: Schema
    after: Schema
    earlier: Earlier
    new: Mapping[int, Relation]
    given_up: tuple[Content, ...] = ()

    @property
    def old(self) -> Mapping[int, Relation]:
        return self.earlier.tables

    def cut(self) -> tuple[Schema, Schema]:
        """Before and after, without all that is the same: what a three-way merge needs of them."""
        names = difference(self.before, self.after)
        before, after = ({n: side[n] for n in names if n in side} for side in (self.before, self.after))
        return before, after


def undo_of(
    connection: Connection,
    changes: DatabaseChanges,
    tables: Sequence[Staged],
    ddl: Sequence[Statement],
    altered: Altered | None,
) -> DatabaseChanges:
    """To call after writing, in the same transaction. `ddl`: the statements that ran; `altered` is None if none did."""
    if altered is None:
        rows = tuple(_undo_table(connection, each, None) for each in tables)
        return DatabaseChanges(database=changes.database, tables=rows, views=changes.views)
    filled = changes.back != Return()
    added = tuple(additions(connection, altered.old, altered.new, filled=filled))
    if changes.redo is not None:
        return replace(
            changes.redo,
            tables=tuple(_redone(each, tables, altered) for each in changes.redo.tables),
            contents=tuple(each for each in changes.redo.contents if not (filled and each.is_drop)),
            additions=added if filled else (),
        )
    found = reverse(ddl, altered.before, altered.after)
    if found.irreversible:
        return DatabaseChanges(database=changes.database, irreversible=found.irreversible)
    before, after = altered.cut()
    settings = altered.earlier.settings
    back = set_back(connection, settings, read_settings(connection)) if settings is not None else []
    rows = tuple(
        _undo_table(connection, each, altered.old[each.relation.oid])
        for each in tables
        if each.relation.oid in altered.old
    )
    return DatabaseChanges(
        database=changes.database,
        ddl=(*found.statements, *back),
        ddl_first=False,
        tables=tuple(each for each in rows if each.deletes or each.inserts or each.updates),
        views=tuple(view for view in changes.views if f"view {view}" in altered.before),
        base=after,
        theirs=before,
        additions=added,
        lost=Lost(
            gone=found.lost,
            retyped=tuple(_types_since(connection, found.retyped)),
            given_up=altered.given_up,
            dialect=found.dialect,
        ),
        redo=replace(changes, tables=tuple(_done(each) for each in tables), sequences=(), base=before, theirs=after),
    )


def _types_since(connection: Connection, columns: Sequence[tuple[str, Name]]) -> Iterator[tuple[str, str]]:
    """Keys of columns, and the types that they have now."""
    for key, (_, *table, column) in columns:
        sql = f"""select format_type(atttypid, atttypmod) from pg_attribute
            where attrelid = {literal(qualified(*table))}::regclass and attname = {literal(column)}"""
        yield key, str(value(connection, sql))


def _done(staged: Staged) -> TableChanges:
    """What was written, forwards. Of new columns all values, also those that the target's server had given a row alike:
    the next time it may give it others."""
    changes = staged.changes
    done = _changes(changes, [write for _, _, write in staged.writes])
    new = {changes.columns.index(column) for column in changes.new}
    if staged.key is None or not new:
        return done
    taken = {_key(changes, write.before or write.after or ()) for _, _, write in staged.writes}
    given = [(row, row) for _, row in changes.updates if _key(changes, row) not in taken]
    updates = [
        (tuple(None if i in new and a == b else a for i, (a, b) in enumerate(zip(was, now, strict=True))), now)
        for was, now in (*done.updates, *given)
    ]
    return replace(done, updates=tuple((was, now) for was, now in updates if was != now))


def _undo_table(connection: Connection, staged: Staged, old: Relation | None) -> TableChanges:
    """What was written, backwards; with the names of `old`, the table before DDL, and without columns that it lacks."""
    names = [_name(column, staged.relation, old) for column in staged.changes.columns]
    at = [i for i, name in enumerate(names) if name is not None]
    columns = tuple(name for name in names if name is not None)
    key = tuple(_name(column, staged.relation, old) or "" for column in staged.changes.key)
    if staged.key is None or (old is not None and old.key_of(key) is None):
        key = ()

    def cut(row: Row | None) -> Row | None:
        return None if row is None else tuple(row[i] for i in at)

    back = [Write(before=write.after, after=write.before) for _, _, write in staged.writes]
    if len(at) < len(names):
        back = [Write(before=cut(write.before), after=cut(write.after)) for write in back]
    if not key:
        back = [half for write in back for half in _halves(write)]
    name = old.name if old else staged.changes.table
    was = staged.changes.table if staged.changes.table != name else ""
    renamed = tuple((a, b) for a, b in zip(names, staged.changes.columns, strict=True) if a is not None and a != b)
    table = replace(
        staged.changes, table=name, columns=columns, key=key, new=(), given=(), counts=(), was=was, renamed=renamed
    )
    undo = _changes(table, back)
    if key:
        return undo
    now = [staged.changes.columns[i] for i in at]
    counts = count_equal(Source(connection, staged.relation.source, now), undo.deletes)
    return replace(undo, counts=tuple(counts.items()))


def _name(column: str, new: Relation, old: Relation | None) -> str | None:
    """A column's name before DDL; None: there was none to be written."""
    if old is None:
        return column
    number = new.numbers[column]
    return next((name for name in old.stored if old.numbers[name] == number), None)


def _halves(write: Write) -> list[Write]:
    """An update of a row that nothing tells apart: one goes, one comes."""
    if write.before == write.after:
        return []
    if write.before is None or write.after is None:
        return [write]
    return [Write(before=write.before, after=None), Write(before=None, after=write.after)]


def _changes(table: TableChanges, writes: Sequence[Write]) -> TableChanges:
    return replace(
        table,
        deletes=tuple(w.before for w in writes if w.after is None and w.before is not None),
        inserts=tuple(w.after for w in writes if w.before is None and w.after is not None),
        updates=tuple((w.before, w.after) for w in writes if w.before and w.after and w.before != w.after),
    )


def _redone(table: TableChanges, tables: Sequence[Staged], altered: Altered) -> TableChanges:
    """Of what the merge did to a table, what this undo took back. A row that it left as somebody had made it since is
    not written again, but for values that went with their columns."""
    new = next((relation for relation in altered.old.values() if relation.name == table.table), None)
    old = altered.new.get(new.oid) if new is not None else None
    staged = next((each for each in tables if old is not None and each.relation.oid == old.oid), None)
    if new is None or old is None or not table.key or (staged is not None and staged.key is None):
        return table
    at = {name: i for i, column in enumerate(table.columns) if (name := _name(column, new, old)) is not None}
    taken = {_key(staged.changes, write.before or write.after or ()) for _, _, write in staged.writes} if staged else ()
    key = [at[column] for column in (staged.changes.key if staged else ())]

    def is_taken(row: Row) -> bool:
        return tuple(row[i] for i in key) in taken

    def in_new_only(before: Row | None, after: Row) -> tuple[Row, Row]:
        return tuple(c if i in at.values() or not before else before[i] for i, c in enumerate(after)), after

    gone = [i for i in range(len(table.columns)) if i not in at.values()]
    empty = tuple(None for _ in table.columns)
    updates = [
        *((a, b) if is_taken(a) or is_taken(b) else in_new_only(a, b) for a, b in table.updates),
        *(in_new_only(empty, row) for row in table.inserts if gone and not is_taken(row)),
    ]
    return replace(
        table,
        deletes=tuple(row for row in table.deletes if is_taken(row)),
        inserts=tuple(row for row in table.inserts if is_taken(row)),
        updates=tuple((a, b) for a, b in updates if a != b),
    )


def _key(table: TableChanges, row: Row) -> Row:
    return tuple(row[table.columns.index(column)] for column in table.key)

"""What a server gave the rows that were there when a column was added, where target and fork have both added it.

The fork's default may be gone since, and the values are no change of rows: the base gets them from the same DDL. In the
target `add column` finds the column there, and gives nothing. So what the fork's rows were given is noted of each new
column, and the target's must have been given the same. Columns that get another value in each row are told apart by
their rows (`given`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wye.kinds.postgres.changes import ColumnFill, TableChanges
from wye.kinds.postgres.session import Connection, fetch, quote, value
from wye.kinds.postgres.side import Side
from wye.kinds.postgres.tables import Relation, read_tables
from wye.merge.conflict import OURS_ONLY, Conflict, Decisions


def column_fills(
    side: Side,
    old: Mapping[int, Relation],
    reached: Mapping[int, Relation],
    new: Mapping[int, Relation],
    changed: Iterable[TableChanges],
) -> list[ColumnFill]:
    """Of the columns that came with the fork, in tables that had rows. `reached`: these with the fork's DDL;
    `changed`: what became of their rows."""
    given = {each.table: each.given for each in changed}
    found = []
    for oid, table in old.items():
        before, after = reached.get(oid), new.get(oid)
        if before is None or after is None or not table.blocks:
            continue
        known = table.numbers.values()
        for column in before.stored:
            if before.numbers[column] in known or column not in after.stored or column in given.get(after.root, ()):
                continue
            if column in table.columns:
                continue  # the target has the one of the base, which goes
            fill, theirs = before.missing.get(column), after.missing.get(column)
            if theirs not in (None, fill):
                continue  # by the clock: each row tells
            if fill is None and before.file != table.file:
                fill = _first(side.base, before, column)
            if fill is None and not value(side.fork, f"select {_any(after, f'{quote(column)} is null')}"):
                continue  # the fork has written them all since
            found.append(ColumnFill(table=table.name, now=after.name, column=column, fill=fill))
    return found


def filled_otherwise(connection: Connection, fills: Iterable[ColumnFill], place: str, decisions: Decisions) -> None:
    """To call ahead of any DDL. Leaves a conflict with `decisions` for each column that the target has already, and has
    given its rows something else."""
    fills = list(fills)
    named = sorted({name for each in fills for name in (each.table, each.now)})
    relations = {each.name: each for each in read_tables(connection, named).values()} if named else {}
    for each in fills:
        relation = next((r for r in map(relations.get, (each.table, each.now)) if r and each.column in r.stored), None)
        if relation is None:
            continue
        here = relation.missing.get(each.column)
        if here == each.fill or (here is None and not _holds_other(connection, relation, each)):
            continue
        decisions.of(
            Conflict(
                kind="filled-otherwise", place=f"{place}/{relation.name}", column=each.column,
                ours=_shown(here), theirs=_shown(each.fill), choices=OURS_ONLY,
                detail="both added this column, and gave the rows that were there other values: ours leaves those that"
                " are here",
            )
        )  # fmt: skip


def _holds_other(connection: Connection, relation: Relation, each: ColumnFill) -> bool:
    """A table that was written anew since the column was added tells only by its rows what they were given: what most
    of them hold, and somebody may have written others."""
    cell = f"(array[t.{quote(each.column)}])::text"
    sql = f"select count(*), bool_or(t.{quote(each.column)} is null), mode() within group (order by {cell})"
    [(rows, has_null, most)] = fetch(connection, f"{sql} from {relation.source} t")
    return bool(rows and (has_null or most != each.fill))


def _first(connection: Connection, relation: Relation, column: str) -> str | None:
    """All rows have the same."""
    cell = f"case when t.{quote(column)} is not null then (array[t.{quote(column)}])::text end"
    found = connection.execute(f"select {cell} from {relation.source} t limit 1").fetchone()
    return found[0] if found is not None else None


def _any(relation: Relation, where: str) -> str:
    return f"exists (select 1 from {relation.source} t where {where})"


def _shown(fill: str | None) -> str | None:
    """As an array of one value."""
    return fill[1:-1] if fill is not None else None

"""Tables that only one side may change (`x-wye: merge: table: {audit: table}`), whichever rows.

The base's content has a fingerprint in the changes. If the target's is another, under a lock that keeps writers out,
both sides have changed the table: one conflict for all of it. The settings name tables as people write them, so here is
also how such a name is read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from wye.kinds.postgres.changes import DatabaseChanges, TableChanges
from wye.kinds.postgres.replay import fingerprint
from wye.kinds.postgres.session import Connection, array, fetch
from wye.kinds.postgres.tables import Relation, read_table
from wye.merge.conflict import BOTH, Conflict, Decisions, Side
from wye.merge.rows import Grain

_PART = re.compile(r'"((?:[^"]|"")*)"|([^."]+)')


def parts(name: str) -> tuple[str, ...]:
    """The parts of a name, with or without quotes: 'billing."Order"' is ("billing", "Order")."""
    return tuple(quoted.replace('""', '"') or plain for quoted, plain in _PART.findall(name))


def full_name(name: str) -> tuple[str, ...]:
    """A table's name with its schema, which is public if none is named."""
    found = parts(name)
    return found if len(found) > 1 else ("public", *found)


def full_column(name: str) -> tuple[str, ...]:
    """A column's name with its table's and its schema: "orders.total" is ("public", "orders", "total")."""
    found = parts(name)
    return found if len(found) > 2 else ("public", *found)


def names_in(connection: Connection, tables: Collection[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """Of `tables` (schema, name) those that a database has, and their columns with them."""
    wanted = array(".".join(table) for table in tables)
    sql = f"""select n.nspname, c.relname, a.attname from pg_class c join pg_namespace n on n.oid = c.relnamespace
        join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where c.relkind in ('r', 'p') and n.nspname || '.' || c.relname = any({wanted})"""
    columns = {tuple(row) for row in fetch(connection, sql)}
    return columns | {column[:2] for column in columns}


def strictest(grain: Mapping[str, Grain], *names: str) -> Grain:
    """What is asked for under any of a table's names."""
    found = {grain.get(name, Grain.CELL) for name in names}
    return next((each for each in (Grain.TABLE, Grain.ROW) if each in found), Grain.CELL)


def grain_of(grain: Mapping[str, Grain], changes: DatabaseChanges, table: TableChanges) -> Grain:
    """What is asked for under the name that the fork gave a table, or under that of the base."""
    known = (each.table for each in changes.contents if each.now == table.table and not each.is_drop)
    return strictest(grain, table.table, table.was, *known)


def added_up(delta: Mapping[str, frozenset[str]], table: TableChanges) -> frozenset[str]:
    """The columns whose changes add up, under either name of the table and of the column."""
    wanted = delta.get(table.table, frozenset()) | delta.get(table.was, frozenset())
    were = dict(table.renamed)
    return frozenset(column for column in table.columns if not wanted.isdisjoint((column, were.get(column, column))))


def former_names(table: Relation, before: Relation | None) -> tuple[str, tuple[tuple[str, str], ...]]:
    """A table's name before, if it had another one, and its columns that had other names, with those."""
    if before is None:
        return "", ()
    names = {number: name for name, number in before.numbers.items()}
    columns = ((name, names.get(number, name)) for name, number in table.numbers.items() if name in table.columns)
    renamed = tuple((name, was) for name, was in columns if name != was)
    return ("" if before.name == table.name else before.name), renamed


def watch(
    connection: Connection, place: str, changes: DatabaseChanges, grain: Mapping[str, Grain], decisions: Decisions
) -> dict[str, Side]:
    """Locks and compares, ahead of any DDL. By the fork's name of a table that both changed: whose it shall be. With
    theirs the fork's rows are taken, and rows that only the target changed stay; "ours" stands for undecided too."""
    found: dict[str, Side] = {}
    changed = {table.table: table for table in changes.tables}
    for content in changes.contents:
        theirs = changed.get(content.now)
        if content.is_drop or theirs is None or strictest(grain, content.table, content.now) is not Grain.TABLE:
            continue
        relation = read_table(connection, content.table)
        if relation is None:
            continue
        connection.execute(f"lock table {relation.source} in share row exclusive mode")
        known = set(content.columns) <= set(relation.stored)
        rows, digest = fingerprint(connection, relation.source, content.columns) if known else (0, "")
        if (rows, digest) == (content.rows, content.digest) and len(relation.stored) == len(content.columns):
            continue
        chosen = decisions.of(_both_changed(f"{place}/{content.table}", content.rows, rows, theirs))
        found[content.now] = Side.OURS if chosen is None else chosen.side
    return found


def _both_changed(place: str, before: int, now: int, theirs: TableChanges) -> Conflict:
    return Conflict(
        kind="table/table",
        place=place,
        base={"rows": before},
        ours={"rows": now},
        theirs={"inserted": len(theirs.inserts), "updated": len(theirs.updates), "deleted": len(theirs.deletes)},
        choices=BOTH,
        detail="only one side may change this table (x-wye: merge: table); ours leaves it as it is in the target,"
        " theirs takes the fork's rows, and rows that only the target changed stay",
    )

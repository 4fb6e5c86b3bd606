"""Rows that a fork deletes and inserts again, under another key or with other values, in a table without one: what the
target's new columns hold in them goes, and the new row gets what every new row gets.

That is no loss where it is the same. It is another where `add column ... default 'x'` gave all rows a value, and new
ones get none since.
"""

from __future__ import annotations

from collections.abc import Collection

from wye.kinds.postgres.additions import is_constant
from wye.kinds.postgres.changes import TableChanges
from wye.kinds.postgres.session import Connection, array, fetch, literal, quote, value
from wye.kinds.postgres.tables import Relation

_DEFAULTS = """
select a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid)
from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = {oid} and a.attname = any({columns})"""


def coming_again(changes: TableChanges) -> list[int]:
    """Of the deleted rows, by their place, those that are inserted again under another key: all else is the same. In a
    table without a key any may be."""
    rest = [i for i, column in enumerate(changes.columns) if column not in changes.key]
    if not changes.key:
        return list(range(len(changes.deletes))) if changes.inserts else []
    come = {tuple(row[i] for i in rest) for row in changes.inserts} if rest else set()
    return [n for n, row in enumerate(changes.deletes) if tuple(row[i] for i in rest) in come]


def other_than_new(connection: Connection, relation: Relation, columns: Collection[str]) -> str:
    """The condition that a row `t` holds in one of `columns` what a new row would not get."""
    found = fetch(connection, _DEFAULTS.format(oid=relation.oid, columns=array(sorted(columns))))
    parts = []
    for column, type_name, default in found:
        if default is not None and not is_constant(default):
            return "true"
        new = value(connection, f"select array[({default or 'null'})::{type_name}]::text")
        parts.append(f"array[t.{quote(column)}]::text is distinct from {literal(new)}")
    return " or ".join(parts)

"""What takes a merge back: the changes from the target after it to the target before it.

They are made from the rows that the merge really wrote (after resolutions and sums), inside its transaction, and are
applied like any other changes. So a revert is a three-way merge too: what was written to the same rows later stays, or
is a conflict.

Of DDL is taken back what can be without data of the past: what was created is dropped, constraints and indexes that
were dropped come back, and so do columns' types, defaults and NOT NULL. Whether that was all is not decided here: the
schema is compared afterwards, as in every merge, and if a dropped table or column is missing the whole is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from wye.kinds.postgres.catalog import Schema
from wye.kinds.postgres.changes import DatabaseChanges, TableChanges
from wye.kinds.postgres.ddl import AFTER, BEFORE, Statement
from wye.kinds.postgres.rows import Source, count_equal
from wye.kinds.postgres.session import Connection
from wye.kinds.postgres.stage import Staged
from wye.merge.rows import Row

_NAME = r'(?:"(?:[^"]|"")*"|[^".]+)'
_PART = re.compile(rf"(?P<owner>{_NAME}(?:\.{_NAME})?)\.(?P<name>{_NAME})")
_COLUMN = re.compile(r"(?P<type>.*?)(?P<not_null> not null)?(?: default (?P<default>.*?))? [pexm](?: .*)?", re.DOTALL)
_INDEX = re.compile(r"(?P<sql>create .*?) [tf] [tf] [tf](?: .*)?", re.DOTALL | re.IGNORECASE)
_DROPS: dict[str, tuple[str, str]] = {
    "foreign key": ("constraint ", "FOREIGN KEY"), "trigger": ("trigger ", ""), "policy": ("policy ", ""),
    "rule": ("rule ", ""), "view": ("view ", "v"), "materialized view": ("view ", "m"), "table": ("table ", "r"),
    "partitioned table": ("table ", "p"), "foreign table": ("table ", "f"), "constraint": ("constraint ", ""),
    "index": ("index ", ""), "column": ("column ", ""), "sequence": ("table ", "S"), "routine": ("function ", ""),
    "operator": ("operator ", ""), "type": ("type ", ""), "row type": ("table ", "c"),
    "statistics": ("statistics ", ""), "collation": ("collation ", ""), "publication": ("publication ", ""),
    "extension": ("extension ", ""), "schema": ("schema ", ""),
}  # fmt: skip
"""What is dropped, in this order, so that nothing is while something else needs it: what its name in a schema begins
with, and what its definition begins with. What is gone with its table by then is not missed."""
_SQL = {"partitioned table": "table", "row type": "type", "foreign key": "constraint"}


def undo_of(connection: Connection, changes: DatabaseChanges, tables: Sequence[Staged]) -> DatabaseChanges:
    """To call after writing, in the same transaction. Rows only; see `undo_schema`."""
    return DatabaseChanges(
        database=changes.database, tables=tuple(_undo_table(connection, t) for t in tables), views=changes.views
    )


def _undo_table(connection: Connection, staged: Staged) -> TableChanges:
    writes = [write for _, _, write in staged.writes]
    deletes = tuple(w.after for w in writes if w.before is None and w.after is not None)
    columns = staged.changes.columns
    counts: Counter[Row] = Counter()
    if staged.key is None:
        counts = count_equal(Source(connection, staged.relation.source, columns), deletes)
    return TableChanges(
        table=staged.changes.table,
        columns=columns,
        key=staged.changes.key,
        deletes=deletes,
        inserts=tuple(w.before for w in writes if w.after is None and w.before is not None),
        updates=tuple((w.after, w.before) for w in writes if w.before is not None and w.after is not None),
        counts=tuple(counts.items()),
    )


def undo_schema(undo: DatabaseChanges, before: Schema, after: Schema) -> DatabaseChanges:
    """`undo` with DDL from the schema after the merge to the one before it."""
    before = {**before, **{name: after[name] for name in before if _is_grown_enum(before[name], after.get(name))}}
    created = after.keys() - before.keys()
    drops = [sql for kind in _DROPS for sql in _drop(kind, {name: after[name] for name in sorted(created)})]
    back = [sql for name in sorted(before) for sql in _recreate(name, before[name], after.get(name))]
    alters = [sql for name in sorted(before) for sql in _alter(name, before[name], after.get(name, before[name]))]
    statements = [Statement(sql=sql, stage=BEFORE, role="none", path="") for sql in (*drops, *alters)]
    statements += [Statement(sql=sql, stage=AFTER, role="none", path="") for sql in back]
    gone = {name.removeprefix("table ") for name in created if name.startswith("table ")}
    columns = {_column(name) for name in created if name.startswith("column ")}
    tables = (_without(table, columns) for table in undo.tables if table.table not in gone)
    return replace(
        undo,
        ddl=tuple(statements),
        ddl_first=False,
        tables=tuple(table for table in tables if table.deletes or table.inserts or table.updates),
        views=tuple(view for view in undo.views if view not in gone),
        base=after,
        theirs=before,
    )


def _is_grown_enum(before: str, after: str | None) -> bool:
    """A value that was added to a type stays: it cannot be dropped, and harms nothing."""
    if after is None or not before.startswith("e ") or not after.startswith("e "):
        return False
    return before != after and set(re.findall(r"'(?:[^']|'')*'", before)) <= set(re.findall(r"'(?:[^']|'')*'", after))


def _drop(kind: str, created: Schema) -> Iterator[str]:
    begin, definition = _DROPS[kind]
    named = [
        name.removeprefix(begin) for name in created if name.startswith(begin) and created[name].startswith(definition)
    ]
    what = _SQL.get(kind, kind)
    if what in ("constraint", "column", "trigger", "policy", "rule"):
        parts = [found for found in map(_PART.fullmatch, named) if found is not None]
        for part in parts:
            if what in ("constraint", "column"):
                yield f"alter table if exists {part['owner']} drop {what} if exists {part['name']}"
            else:
                yield f"drop {what} if exists {part['name']} on {part['owner']}"
    elif named and what in ("table", "view", "materialized view"):
        yield f"drop {what} if exists {', '.join(named)}"
    else:
        for name in named:
            domain = what == "type" and created.get(f"type {name}", "").startswith("d")
            yield f"drop {'domain' if domain else what} if exists {name}"


def _recreate(name: str, before: str, after: str | None) -> Iterator[str]:
    kind, _, named = name.partition(" ")
    if after == before or kind not in ("constraint", "index"):
        return
    if kind == "constraint":
        found = _PART.fullmatch(named)
        if found is not None:
            if after is not None:
                yield f"alter table {found['owner']} drop constraint {found['name']}"
            yield f"alter table {found['owner']} add constraint {found['name']} {before}"
        return
    definition = _INDEX.fullmatch(before)
    if definition is not None:
        if after is not None:
            yield f"drop index {named}"
        yield definition["sql"]


def _alter(name: str, before: str, after: str) -> Iterator[str]:
    kind, _, named = name.partition(" ")
    found, was, now = _PART.fullmatch(named), _COLUMN.fullmatch(before), _COLUMN.fullmatch(after)
    if kind != "column" or before == after or found is None or was is None or now is None:
        return
    column = f"alter table {found['owner']} alter column {found['name']}"
    if now["default"] is not None and (was["default"] != now["default"] or was["type"] != now["type"]):
        yield f"{column} drop default"
    if was["type"] != now["type"]:
        yield f"{column} type {was['type']} using {found['name']}::{was['type']}"
    if was["default"] is not None and (was["default"] != now["default"] or was["type"] != now["type"]):
        yield f"{column} set default {was['default']}"
    if bool(was["not_null"]) != bool(now["not_null"]):
        yield f"{column} {'set' if was['not_null'] else 'drop'} not null"


def _column(name: str) -> tuple[str, str]:
    """(Table as it is quoted, column as it is called) of a schema's "column ..."."""
    found = _PART.fullmatch(name.removeprefix("column "))
    if found is None:
        return "", name
    column = found["name"]
    return found["owner"], column[1:-1].replace('""', '"') if column.startswith('"') else column


def _without(table: TableChanges, gone: set[tuple[str, str]]) -> TableChanges:
    """Its rows without the columns that are dropped anyway."""
    kept = [i for i, column in enumerate(table.columns) if (table.table, column) not in gone]
    if len(kept) == len(table.columns):
        return table

    def cut(row: Row) -> Row:
        return tuple(row[i] for i in kept)

    updates = ((cut(old), cut(new)) for old, new in table.updates)
    return replace(
        table,
        columns=tuple(table.columns[i] for i in kept),
        deletes=tuple(cut(row) for row in table.deletes),
        inserts=tuple(cut(row) for row in table.inserts),
        updates=tuple((old, new) for old, new in updates if old != new),
        counts=tuple((cut(row), count) for row, count in table.counts),
    )

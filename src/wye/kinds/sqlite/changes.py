"""What a fork changed in a database: definitions and rows, net and exact, against the base.

Both are private copies, attached to one connection, so SQLite itself finds the rows that differ. SQLite's session
extension is not used: it compares with the columns' collations (a change of 'abc' to 'ABC' in a NOCASE column is none
to it), takes 1 and 1.0 for equal, and passes over tables without a primary key and rows with NULL in one. Here every
comparison is binary and by type; what has no key is counted. Only 0.0 and -0.0 are one value, as everywhere in SQLite.

The fork's new tables and columns are first made in the copy of the base too, so that both have one shape and a new
column's default is not mistaken for a change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import msgspec

from wye.errors import BadRequest
from wye.host import Host
from wye.kinds.sqlite.cells import Cells, differs
from wye.kinds.sqlite.counters import CounterChanges, changed_counters
from wye.kinds.sqlite.database import opened, quoted
from wye.kinds.sqlite.schema import (
    Name,
    ObjectChange,
    Shape,
    changed_objects,
    column_defaults,
    read_objects,
    read_shape,
    virtual_tables,
)
from wye.merge.conflict import Json
from wye.merge.rows import Row

VIRTUAL = "virtual-table"
PRAGMAS = ("user_version", "application_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableChanges:
    """Rows that differ, in the order of `columns`. `keyed`: (before, after), None: not there. `loose`: rows without a
    key, with how often they are in the base and in the fork."""

    table: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    keyed: tuple[tuple[Row | None, Row | None], ...] = ()
    loose: tuple[tuple[Row, int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Something that is not merged: a kind of conflict, what it is about, and why. `definition`: the fork's, of a
    virtual table; None: it has none."""

    kind: str
    name: str
    detail: str
    definition: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteChanges:
    """`dropped`: a fingerprint of what the base had in each table that the fork dropped, or dropped columns of.
    `sequences`: the fork's AUTOINCREMENT counters that moved, None: gone; `sequences_before`: what they were, of those
    that the base has. `pragmas`: (name, before, after). `watched`: a fingerprint of what the base had in each changed
    table that only one side may change."""

    objects: tuple[ObjectChange, ...] = ()
    tables: tuple[TableChanges, ...] = ()
    dropped: dict[str, str] = field(default_factory=dict)
    sequences: dict[str, int | None] = field(default_factory=dict)
    sequences_before: dict[str, int] = field(default_factory=dict)
    pragmas: tuple[tuple[str, int, int], ...] = ()
    refused: tuple[Refusal, ...] = ()
    watched: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.objects or self.tables or self.sequences or self.pragmas or self.refused)

    @property
    def counters(self) -> CounterChanges:
        return CounterChanges(self.sequences_before, self.sequences)


def changes(host: Host, base: Path, theirs: Path, watched: Collection[str] = ()) -> SqliteChanges:
    """Compares two private copies (`database.copy`). `watched`: tables, in lower case. Raises DatabaseFailed if one is
    damaged or needs a collation or function that only its application has."""
    with opened(host, {"main": (base, "db"), "theirs": (theirs, "db")}) as connection:
        connection.execute("BEGIN")
        found = _Comparison(connection, watched).run()
        connection.execute("ROLLBACK")
        return found


def content(connection: apsw.Connection, table: str, columns: Sequence[str] = ()) -> str:
    """A fingerprint of all rows of a table of the main database, whatever their order. With `columns`: of these alone,
    and of no row that has nothing but defaults in them."""
    shape = read_shape(connection, "main", table)
    cells = Cells(encoding(connection), limit_bytes=None)
    chosen, where = tuple(shape.columns), ""
    if columns:
        chosen = (*shape.key, *(column for column in columns if column in shape.columns))
        where = telling(connection, table, columns)
    total, count = 0, 0
    for values in connection.execute(f"SELECT {cells.selected(chosen)} FROM main.{quoted(table)}{where}"):
        digest = hashlib.sha256(repr(cells.row(values)).encode()).digest()
        total = (total + int.from_bytes(digest)) % (1 << 256)
        count += 1
    return f"{count}:{total:064x}:{','.join(chosen)}"


def telling(connection: apsw.Connection, table: str, columns: Sequence[str]) -> str:
    """SQL: where some stored one of these columns holds another value than its default."""
    defaults = column_defaults(connection, table)
    stored = read_shape(connection, "main", table).columns
    told = [f"{quoted(name)} IS NOT ({defaults[name]}) COLLATE BINARY" for name in columns if name in stored]
    return f" WHERE {' OR '.join(told) or 'FALSE'}"


def encoding(connection: apsw.Connection) -> str:
    ((name,),) = connection.execute("PRAGMA encoding").fetchall()
    return str(name)


def pragma(connection: apsw.Connection, schema: str, name: str) -> int:
    ((value,),) = connection.execute(f"PRAGMA {schema}.{name}").fetchall()
    return int(str(value))


def to_json(found: SqliteChanges) -> bytes:
    return msgspec.json.encode(found, order="sorted")


def from_json(data: bytes) -> SqliteChanges:
    """Raises BadRequest."""
    try:
        return msgspec.json.decode(data, type=SqliteChanges)
    except msgspec.DecodeError as error:
        raise BadRequest(f"not a database's changes: {error}") from error


def stat(found: SqliteChanges) -> Json:
    """What fits a screen."""
    return {
        "schema": [{"type": c.type, "name": c.name, "before": c.before, "after": c.after} for c in found.objects],
        "tables": [
            {
                "table": table.table,
                "inserted": sum(before is None for before, _ in table.keyed)
                + sum(max(after - before, 0) for _, before, after in table.loose),
                "deleted": sum(after is None for _, after in table.keyed)
                + sum(max(before - after, 0) for _, before, after in table.loose),
                "updated": sum(before is not None and after is not None for before, after in table.keyed),
            }
            for table in found.tables
        ],
        "refused": [{"kind": r.kind, "name": r.name, "detail": r.detail} for r in found.refused],
    }


def page(table: TableChanges, offset: int, limit: int) -> list[Json]:
    """Changed rows from `offset` on. Cells are SQL literals."""
    rows: list[Json] = []
    for before, after in table.keyed[offset : offset + limit]:
        if before is not None and after is not None:
            cells = {c: [a, b] for c, a, b in zip(table.columns, before, after, strict=True) if a != b}
            key = {column: before[table.columns.index(column)] for column in table.key}
            rows.append({"change": "update", "key": key, "cells": cells})
        else:
            row = before if after is None else after
            named = dict(zip(table.columns, row or (), strict=True))
            rows.append({"change": "delete" if after is None else "insert", "row": named})
    start = max(offset - len(table.keyed), 0)
    for row, was, now in table.loose[start : start + limit - len(rows)]:
        named = dict(zip(table.columns, row, strict=True))
        rows.append({"change": "count", "row": named, "before": was, "after": now})
    return rows


class _Comparison:
    """Of "main" (the base, in a transaction that is rolled back) with "theirs"."""

    def __init__(self, connection: apsw.Connection, watched: Collection[str]) -> None:
        self.connection = connection
        self.watched = watched
        self.cells = Cells(encoding(connection))
        self.refused: list[Refusal] = []

    def run(self) -> SqliteChanges:
        base, theirs = (read_objects(self.connection, schema) for schema in ("main", "theirs"))
        objects, odd = changed_objects(base, theirs)
        special = virtual_tables(self.connection, "main") | virtual_tables(self.connection, "theirs")
        for kind, name in odd:
            if name not in special:
                detail = f"this change of a {kind} is not taken over: make it in the target yourself"
                self.refused.append(Refusal(kind="schema", name=name, detail=detail))
        objects = [change for change in objects if change.name not in special]
        dropped = {
            change.name: content(self.connection, change.name, change.lost_columns)
            for change in objects
            if change.type == "table" and (change.after is None or change.lost_columns)
        }
        watched = {
            name: content(self.connection, name)
            for kind, name in base
            if kind == "table" and name.lower() in self.watched and name not in special
        }
        self._give_base_theirs_shape(objects)
        tables = [
            found
            for name in sorted(name for kind, name in theirs if kind == "table")
            if (found := self._table(name, special.get(name), theirs)) is not None
        ]
        for name in sorted({name for kind, name in base.keys() | theirs.keys() if name in special}):
            if base.get(("table", name)) != theirs.get(("table", name)):
                self._refuse_virtual(special[name], theirs.get(("table", special[name])))
        counters = changed_counters(self.connection)
        return SqliteChanges(
            objects=tuple(objects),
            tables=tuple(tables),
            dropped=dropped,
            sequences=counters.after,
            sequences_before=counters.before,
            pragmas=tuple(self._pragmas()),
            refused=tuple(self.refused),
            watched={table.table: watched[table.table] for table in tables if table.table in watched},
        )

    def _refuse_virtual(self, name: str, definition: str | None) -> None:
        if all(refusal.name != name for refusal in self.refused):
            detail = "the fork changed this virtual table, whose content only its module knows"
            self.refused.append(Refusal(kind=VIRTUAL, name=name, detail=detail, definition=definition))

    def _give_base_theirs_shape(self, objects: list[ObjectChange]) -> None:
        for step in range(2):
            for change in objects:
                for statement in change.steps[step]:
                    self.connection.execute(statement)

    def _table(self, name: str, owner: str | None, theirs: dict[Name, str]) -> TableChanges | None:
        """`owner`: the virtual table to which it belongs."""
        shapes = [read_shape(self.connection, schema, name) for schema in ("main", "theirs")]
        if not shapes[0].columns or sorted(shapes[0].columns) != sorted(shapes[1].columns):
            return None  # virtual, or refused above
        if shapes[0].key != shapes[1].key:
            return None
        shape = shapes[1]
        keyed = tuple(self._keyed(shape)) if shape.key else ()
        loose = tuple(self._loose(shape))
        if not keyed and not loose:
            return None
        if owner is not None:
            self._refuse_virtual(owner, theirs.get(("table", owner)))
            return None
        return TableChanges(table=name, columns=shape.columns, key=shape.key, keyed=keyed, loose=loose)

    def _keyed(self, shape: Shape) -> Iterator[tuple[Row | None, Row | None]]:
        table, width = quoted(shape.name), 2 * len(shape.columns)
        joined = " AND ".join(f"t.{quoted(column)} = b.{quoted(column)}" for column in shape.key)
        changed = " OR ".join(differs(f"t.{quoted(column)}", f"b.{quoted(column)}") for column in shape.columns)
        first = quoted(shape.key[0])
        both = self.connection.execute(
            f"SELECT b.{first} IS NOT NULL, {self.cells.selected(shape.columns, 'b')}, "
            f"{self.cells.selected(shape.columns, 't')} "
            f"FROM theirs.{table} t LEFT JOIN main.{table} b ON {joined} "
            f"WHERE {_present(shape, 't')} AND (b.{first} IS NULL OR {changed})"
        )
        for values in both:
            before = self.cells.row(values[1 : width + 1]) if values[0] else None
            yield before, self.cells.row(values[width + 1 :])
        gone = self.connection.execute(
            f"SELECT {self.cells.selected(shape.columns, 'b')} FROM main.{table} b "
            f"WHERE {_present(shape, 'b')} AND NOT EXISTS (SELECT 1 FROM theirs.{table} t WHERE {joined})"
        )
        for values in gone:
            yield self.cells.row(values), None

    def _loose(self, shape: Shape) -> Iterator[tuple[Row, int, int]]:
        """Rows without a key, or with NULL in it, whose number differs."""
        where = f"WHERE NOT ({_present(shape, 'x')})" if shape.key else ""
        columns = self.cells.selected(shape.columns, "x")
        positions = ", ".join(str(n) for n in range(1, 2 * len(shape.columns) + 1))
        main, theirs = (
            f"SELECT {columns}, count(*) FROM {schema}.{quoted(shape.name)} x {where} GROUP BY {positions}"
            for schema in ("main", "theirs")
        )
        counts: dict[Row, list[int]] = {}
        for side, (one, other) in enumerate(((main, theirs), (theirs, main))):
            for values in self.connection.execute(f"{one} EXCEPT {other}"):
                row = self.cells.row(values[:-1])
                counts.setdefault(row, [0, 0])[side] = int(str(values[-1]))
        for row, (before, after) in sorted(counts.items(), key=repr):
            yield row, before, after

    def _pragmas(self) -> Iterator[tuple[str, int, int]]:
        for name in PRAGMAS:
            before, after = (pragma(self.connection, schema, name) for schema in ("main", "theirs"))
            if before != after:
                yield name, before, after


def _present(shape: Shape, alias: str) -> str:
    return " AND ".join(f"{alias}.{quoted(column)} IS NOT NULL" for column in shape.key)

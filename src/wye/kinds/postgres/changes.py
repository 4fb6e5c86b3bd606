"""What a fork changed in its databases: a value that can be stored, shown in pages, and merged later.

It is net and exact: a row that was changed and changed back is not in it. It holds all that a merge needs, so a merge
reads neither base nor fork again. Its id is a hash of its content: two equal diffs are one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import msgspec

from wye.errors import BadRequest, NotFound
from wye.kinds.postgres.catalog import Schema
from wye.kinds.postgres.ddl import Statement
from wye.kinds.postgres.dialect import Dialect
from wye.merge.conflict import Json
from wye.merge.rows import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A fingerprint of a table's content in the base, or of some of its columns."""

    table: str
    columns: tuple[str, ...]
    rows: int
    digest: str
    is_drop: bool = False
    """The fork dropped these columns (all of them: the table)."""
    now: str = ""
    """Of a watched table: its name in the fork; empty if the fork dropped it."""
    by: tuple[str, ...] = ()
    """Columns of the table's key, which are in the fingerprint too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """Columns that took each other's names in the fork, which no part of the schema shows, with their rows' key `by`: a
    fingerprint of the base's content, and one of the fork's."""

    table: str
    columns: tuple[str, ...]
    by: tuple[str, ...]
    rows: int
    digest: str
    rows_now: int
    digest_now: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnFill:
    """What a column that came with the fork holds in the rows that were there, as an array of one; None: NULL. `table`:
    its name in the base, and `now` in the fork."""

    table: str
    now: str
    column: str
    fill: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """An object of the base that the fork dropped (`now` is empty) or called otherwise. `number`: a column's. `holds`:
    it holds values."""

    catalog: str
    oid: int
    was: str
    now: str = ""
    number: int = 0
    holds: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """`cluster`: where the oids mean these objects."""

    cluster: str = ""
    changed: tuple[Named, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TableChanges:
    """Rows that differ. `key` empty: rows are told apart by nothing, and `counts` says how often each deleted row was
    in the base. `new`: columns that the fork added. All rows are in the order of `columns`.

    `given`: those of the new columns that a server fills on its own, on each side another way. A base row has None
    there where it came to the same as in the fork. Of a table without a key, `deletes` is every row of the base, always
    with None there, and `inserts` every row of the fork.

    `was`: the table's name before, if it had another one; `renamed`: columns that had another name, with that."""

    table: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    deletes: tuple[Row, ...] = ()
    inserts: tuple[Row, ...] = ()
    updates: tuple[tuple[Row, Row], ...] = ()
    counts: tuple[tuple[Row, int], ...] = ()
    new: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    was: str = ""
    renamed: tuple[tuple[str, str], ...] = ()

    def changed_columns(self) -> tuple[str, ...]:
        """Columns that some update changes, in the table's order."""
        return tuple(c for i, c in enumerate(self.columns) if any(old[i] != new[i] for old, new in self.updates))


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceChange:
    """`value` is the last one that the fork's sequence gave out, and `base` the one that the base's did; None if it
    came with the fork. `oid`: the base's."""

    name: str
    value: int
    increment: int
    base: int | None = None
    oid: int = 0

    def is_behind(self, at: int) -> bool:
        """Whether `at` is a position that the fork's has not come to."""
        return self.value < at if self.increment > 0 else self.value > at

    @property
    def is_set_back(self) -> bool:
        return self.base is not None and self.is_behind(self.base)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """What a merge added to a database and its undo drops: `columns` of `table`, or all of it (`is_table`). `idle`, by
    column: what it holds, as the server prints a row of it, where nobody has given it a value. `rows` and `digest`: a
    fingerprint of the values that were given, if the server gave each row one of its own, or if they came back."""

    table: str
    columns: tuple[str, ...]
    idle: tuple[tuple[str, ...], ...] = ()
    is_table: bool = False
    rows: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """What a merge destroyed, by keys of the schema before it: `gone` is no longer there, `retyped` are columns with
    the type that they have since. Definitions and values are in the bytes before the merge (`read_lost`); `given_up`
    must be there as it is here, for somebody had written it since the merge's own base. `dialect`: the settings under
    which the types were changed, and are changed back."""

    gone: tuple[str, ...] = ()
    retyped: tuple[tuple[str, str], ...] = ()
    given_up: tuple[Content, ...] = ()
    dialect: Dialect = ()

    def keys(self) -> tuple[str, ...]:
        return (*self.gone, *(key for key, _ in self.retyped))


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A statement that brings back what the key in the schema before the merge stands for, or a part of it."""

    key: str
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """Old values of a column that comes back (`key` is the schema's) or gets its old type back. `rows`: cells of the
    table's key `by`, which the server's `operators` compare, and the value; without operators `by` is all that tells
    rows apart, as text, and `rows` are all rows. `since`: the type that it has until then; empty if there is no such
    column."""

    key: str
    table: str
    column: str
    type: str
    by: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    since: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """What was read of `Lost`. `first` runs before rows are written, and those of dropped `tables` are among them;
    `columns` runs after them, then come the `fills`, and `last` is what may want all values in place. `dialect`: the
    settings under which types are changed back."""

    first: tuple[Definition, ...] = ()
    tables: tuple[TableChanges, ...] = ()
    columns: tuple[Definition, ...] = ()
    fills: tuple[Fill, ...] = ()
    last: tuple[Definition, ...] = ()
    dialect: Dialect = ()

    def statements(self) -> tuple[str, ...]:
        return tuple(each.sql for each in (*self.first, *self.columns, *self.last))


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseChanges:
    """`ddl_first`: all DDL before the rows; otherwise its AFTER stage waits for them. `views`: materialized views to
    refresh. `base` and `theirs` are empty if no DDL happened: then the target's schema does not matter as a whole.
    `names`: of what DDL dropped or renamed; `exchanged`: columns, where nothing tells of DDL;
    `fills`: of columns that came with the fork.

    Of an undo: `additions` must hold what the merge left in them; `redo` is what the merge did, so that the undo can be
    undone; `irreversible`: DDL of the merge that cannot be taken back, so that nothing can; `lost`: what has to be read
    from the bytes before the merge, and `back`, what was."""

    database: str
    ddl: tuple[Statement, ...] = ()
    ddl_first: bool = True
    tables: tuple[TableChanges, ...] = ()
    sequences: tuple[SequenceChange, ...] = ()
    views: tuple[str, ...] = ()
    contents: tuple[Content, ...] = ()
    exchanged: tuple[Exchanged, ...] = ()
    names: Names = Names()
    fills: tuple[ColumnFill, ...] = ()
    base: Schema = field(default_factory=dict)
    theirs: Schema = field(default_factory=dict)
    additions: tuple[Addition, ...] = ()
    redo: DatabaseChanges | None = None
    irreversible: tuple[str, ...] = ()
    lost: Lost = Lost()
    back: Return = Return()

    def __bool__(self) -> bool:
        changed = self.ddl or self.tables or self.sequences or self.views or self.irreversible
        return bool(changed or self.base != self.theirs)

    def table(self, name: str) -> TableChanges:
        """Raises NotFound."""
        for changes in self.tables:
            if changes.table == name:
                return changes
        raise NotFound(f"{name} has no changes in database {self.database}")

    @property
    def id(self) -> str:
        return hashlib.sha256(to_json(self)).hexdigest()


def to_json(changes: DatabaseChanges) -> bytes:
    return msgspec.json.encode(changes, order="sorted")


def from_json(data: bytes) -> DatabaseChanges:
    """Raises BadRequest."""
    try:
        return msgspec.json.decode(data, type=DatabaseChanges)
    except msgspec.DecodeError as error:
        raise BadRequest(f"not a database's changes: {error}") from error


def stat(changes: DatabaseChanges) -> Json:
    """What fits a screen: statements, and counts per table."""
    return {
        "database": changes.database,
        "ddl": [*(statement.sql for statement in changes.ddl), *changes.back.statements()],
        "tables": [
            {
                "table": table.table,
                "inserted": len(table.inserts),
                "deleted": len(table.deletes),
                "updated": len(table.updates),
                "columns": list(table.changed_columns()),
            }
            for table in (*changes.tables, *changes.back.tables)
        ],
        "sequences": {sequence.name: sequence.value for sequence in changes.sequences},
        "sequences_set_back": {sequence.name: sequence.base for sequence in changes.sequences if sequence.is_set_back},
        "views": list(changes.views),
    }


def page(table: TableChanges, offset: int, limit: int) -> list[Json]:
    """Changed rows from `offset` on: deletions, then updates (with only the cells that changed), then insertions."""
    rows: list[Json] = []
    deletes, updates = len(table.deletes), len(table.updates)
    for index in range(offset, min(offset + limit, deletes + updates + len(table.inserts))):
        if index < deletes:
            rows.append({"change": "delete", "row": _named(table, table.deletes[index])})
        elif index < deletes + updates:
            old, new = table.updates[index - deletes]
            cells = {c: [a, b] for c, a, b in zip(table.columns, old, new, strict=True) if a != b}
            key = {column: old[table.columns.index(column)] for column in table.key}
            rows.append({"change": "update", "key": key, "cells": cells})
        else:
            rows.append({"change": "insert", "row": _named(table, table.inserts[index - deletes - updates])})
    return rows


def _named(table: TableChanges, row: Row) -> Json:
    return dict(zip(table.columns, row, strict=True))

"""Reads and writes single rows of one table inside a merge's transaction.

Rows are found by key, or by their whole content where they have none; never by rowid, which means nothing in another
database. All deletions come first, then updates, then insertions, and an update that touches a unique column is a
deletion and an insertion, so rows can exchange unique values. A statement that a constraint rejects becomes a violation
(`merge.settling`), one for each unique index that it runs into, whatever the schema's own ON CONFLICT clause says; the
others go on, so that the list is complete.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import apsw

from wye.kinds.sqlite.cells import Cells, Value
from wye.kinds.sqlite.database import quoted
from wye.kinds.sqlite.schema import Shape
from wye.kinds.sqlite.staged import Staged, Violation
from wye.merge.conflict import NONE, Conflict
from wye.merge.rows import Cell, Row, Table, Write
from wye.merge.settling import CHOICES

_FAILED = re.compile(r"(?:UNIQUE|NOT NULL|CHECK) constraint failed: (.+)", re.DOTALL)
_KINDS = {
    apsw.SQLITE_CONSTRAINT_UNIQUE: "unique",
    apsw.SQLITE_CONSTRAINT_PRIMARYKEY: "unique",
    apsw.SQLITE_CONSTRAINT_ROWID: "unique",
    apsw.SQLITE_CONSTRAINT_CHECK: "check",
    apsw.SQLITE_CONSTRAINT_NOTNULL: "not-null",
}
_ROWIDS = ("rowid", "_rowid_", "oid")


class Writer:
    """`table` names the columns that a merge is about; `shape` is the target's table, which may have more."""

    def __init__(self, connection: apsw.Connection, cells: Cells, table: Table, shape: Shape) -> None:
        self._connection = connection
        self._cells = cells
        self._table = table
        self._shape = shape
        self._name = f"main.{quoted(shape.name)}"
        taken = {column.lower() for column in shape.columns}
        self._rowid = next((name for name in _ROWIDS if shape.has_rowid and name not in taken), "")

    def read(self, row: Row) -> Row | None:
        """The target's row with the key of `row`."""
        where, values = self._key(row)
        select = self._cells.selected(self._table.columns)
        found = self._connection.execute(f"SELECT {select} FROM {self._name} WHERE {where}", values).fetchall()
        return self._cells.row(found[0]) if found else None

    def count(self, row: Row) -> int:
        """How many rows of the target have this content."""
        where, values = self._content(row)
        ((count,),) = self._connection.execute(f"SELECT count(*) FROM {self._name} WHERE {where}", values).fetchall()
        return int(str(count))

    def carry_out(self, staged: Staged) -> list[Violation]:
        """Writes all of it, and says what could not be written."""
        refused: list[Violation] = []
        insertions: list[tuple[int, tuple[str, ...], Row]] = []
        back: list[tuple[int, tuple[str, ...], Row]] = []
        updates: list[int] = []
        for number, write in staged.writes.items():
            if write.before is None and write.after is not None:
                insertions.append((number, self._table.columns, write.after))
            elif write.before is not None and number in staged.loose:
                refused += self._delete_one(staged, number, write.before)
            elif write.before is not None and write.after is None:
                refused += self._delete(staged, number, write.before)
            elif write.before is not None and write.after is not None:
                if self._changed(write) & self._shape.unique:
                    columns, row = self._full(write.before, write.after)
                    refused += self._delete(staged, number, write.before)
                    back.append((number, columns, row))
                else:
                    updates.append(number)
        for number in updates:
            refused += self._update(staged, number, staged.writes[number])
        # What comes back has its rowid already, which no new row may be given meanwhile.
        for number, columns, row in (*back, *insertions):
            refused += self._insert(staged, number, (columns, row))
        return refused

    def _changed(self, write: Write) -> set[str]:
        before, after = write.before or (), write.after or ()
        return {c for c, a, b in zip(self._table.columns, before, after, strict=True) if a != b}

    def _full(self, before: Row, after: Row) -> tuple[tuple[str, ...], Row]:
        """A row that is to come back changed, with its rowid and the columns that only the target has."""
        columns = (*([self._rowid] if self._rowid else []), *self._shape.columns)
        where, values = self._key(before)
        select = self._cells.selected(columns)
        ((*found,),) = self._connection.execute(f"SELECT {select} FROM {self._name} WHERE {where}", values).fetchall()
        full = dict(zip(columns, self._cells.row(found), strict=True))
        full.update(zip(self._table.columns, after, strict=True))
        return columns, tuple(full[column] for column in columns)

    def _delete(self, staged: Staged, number: int, row: Row) -> list[Violation]:
        where, values = self._key(row)
        return self._execute(staged, number, f"DELETE FROM {self._name} WHERE {where}", values)

    def _delete_one(self, staged: Staged, number: int, row: Row) -> list[Violation]:
        where, values = self._content(row)
        if not self._rowid:
            detail = "its columns hide the rowid, so one of several equal rows cannot be deleted"
            conflict = Conflict(
                kind="constraint", place=self._table.place, key=row, theirs=staged.named(row), choices=NONE,
                detail=detail,
            )  # fmt: skip
            return [Violation(conflict=conflict, staged=staged, entry=number, own=(self._table.place, row))]
        one = f"SELECT {self._rowid} FROM {self._name} WHERE {where} LIMIT 1"
        return self._execute(staged, number, f"DELETE FROM {self._name} WHERE {self._rowid} IN ({one})", values)

    def _update(self, staged: Staged, number: int, write: Write) -> list[Violation]:
        before, after = write.before or (), write.after or ()
        changed = self._changed(write)
        pairs = [(c, cell) for c, cell in zip(self._table.columns, after, strict=True) if c in changed]
        assignments, values = [], []
        for column, cell in pairs:
            sql, value = self._cells.bound(cell)
            assignments.append(f"{quoted(column)} = {sql}")
            values.append(value)
        where, found = self._key(before)
        statement = f"UPDATE OR ABORT {self._name} SET {', '.join(assignments)} WHERE {where}"
        return self._execute(staged, number, statement, [*values, *found])

    def _insert(self, staged: Staged, number: int, given: tuple[tuple[str, ...], Row]) -> list[Violation]:
        columns, cells = given
        bound = [self._cells.bound(cell) for cell in cells]
        names = ", ".join(column if column == self._rowid else quoted(column) for column in columns)
        statement = f"INSERT OR ABORT INTO {self._name} ({names}) VALUES ({', '.join(sql for sql, _ in bound)})"
        return self._execute(staged, number, statement, [value for _, value in bound])

    def _execute(self, staged: Staged, number: int, statement: str, values: Sequence[Value]) -> list[Violation]:
        try:
            self._connection.execute(statement, values)
        except (apsw.ConstraintError, apsw.MismatchError) as error:
            return list(self._told(staged, number, error))
        return []

    def _told(self, staged: Staged, number: int, error: apsw.Error) -> Iterator[Violation]:
        """A violation for each unique index that the target's rows are in, or else the one that SQLite names."""
        write, place = staged.writes[number], self._table.place
        row = write.after or write.before or ()
        kind, theirs = _KINDS.get(getattr(error, "extendedresult", 0), "constraint"), staged.named(row)
        own = staged.own(number, row)
        taken = list(self._taken(row, write.before)) if kind == "unique" else []
        for columns, holder in taken:
            conflict = Conflict(
                kind=kind, place=place, key=own, column=", ".join(columns), ours=holder, theirs=theirs,
                choices=CHOICES,
                detail="a row of the target has this already; ours leaves the fork's out, a value gives it another"
                f" {', '.join(columns)}; theirs would lose the target's row: change that there",
            )  # fmt: skip
            key = self._table.key
            other = (place, key, tuple(holder.get(column) for column in key)) if key else (place, columns, ())
            yield Violation(
                conflict=conflict, staged=staged, entry=number, columns=columns, own=(place, own), about=(other,)
            )
        if taken:
            return
        named = found[1] if (found := _FAILED.fullmatch(str(error))) else ""
        columns = self._columns(named) if kind != "check" else ()
        conflict = Conflict(
            kind=kind, place=place, key=own, column=", ".join(columns) or named,
            ours=None if write.before is None else staged.named(write.before), theirs=theirs, choices=CHOICES,
            detail=f"{error}; ours leaves the target's as it is, a value ({{column: cell}}) repairs the fork's row",
        )  # fmt: skip
        yield Violation(conflict=conflict, staged=staged, entry=number, columns=columns, own=(place, own))

    def _columns(self, named: str) -> tuple[str, ...]:
        """Columns that SQLite names, if these are what it names."""
        columns = tuple(part.removeprefix(f"{self._shape.name}.") for part in named.split(", "))
        return columns if set(columns) <= set(self._table.columns) else ()

    def _taken(self, row: Row, before: Row | None) -> Iterator[tuple[tuple[str, ...], dict[str, Cell]]]:
        """Columns of unique indexes under which the target has an equal row already, and that row: another than
        `before`, which is still there if only an index over some rows refused it."""
        cells = dict(zip(self._table.columns, row, strict=True))
        select = self._cells.selected(self._table.columns)
        for index in self._shape.indexes:
            columns = tuple(column for column, _ in index)
            if not set(columns) <= set(cells) or any(cells[column] is None for column in columns):
                continue
            bound = [self._cells.bound(cells[column]) for column in columns]
            where = " AND ".join(
                f"{quoted(column)} = {sql} COLLATE {quoted(collation)}"
                for (column, collation), (sql, _) in zip(index, bound, strict=True)
            )
            statement = f"SELECT {select} FROM {self._name} WHERE {where} LIMIT 1"
            found = self._connection.execute(statement, [value for _, value in bound]).fetchall()
            holder = self._cells.row(found[0]) if found else None
            if holder is not None and holder != before:
                yield columns, dict(zip(self._table.columns, holder, strict=True))

    def _key(self, row: Row) -> tuple[str, list[Value]]:
        cells = dict(zip(self._table.columns, row, strict=True))
        parts, values = [], []
        for column in self._table.key:
            sql, value = self._cells.bound(cells[column])
            parts.append(f"{quoted(column)} = {sql}")
            values.append(value)
        return " AND ".join(parts), values

    def _content(self, row: Row) -> tuple[str, list[Value]]:
        parts, values = [], []
        for column, cell in zip(self._table.columns, row, strict=True):
            sql, value = self._cells.bound(cell)
            parts.append(f"typeof({quoted(column)}) = typeof({sql}) AND {quoted(column)} IS {sql} COLLATE BINARY")
            values += [value, value]
        return " AND ".join(parts), values

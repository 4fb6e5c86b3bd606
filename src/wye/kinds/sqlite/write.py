"""Reads and writes single rows of one table inside a merge's transaction.

Rows are found by key, or by their whole content where they have none; never by rowid, which means nothing in another
database. All deletions come first, then updates, then insertions, and an update that touches a unique column is a
deletion and an insertion, so rows can exchange unique values. A statement that a constraint rejects becomes a conflict,
whatever the schema's own ON CONFLICT clause says, and the others go on, so that the list is complete.
"""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from wye.kinds.sqlite.cells import Cells, Value
from wye.kinds.sqlite.database import quoted
from wye.kinds.sqlite.schema import Shape
from wye.merge.conflict import NONE, Conflict
from wye.merge.rows import Cell, Row, Table, Write

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
        self._conflicts: list[Conflict] = []

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

    def carry_out(self, keyed: Sequence[Write], loose: Sequence[Write]) -> list[Conflict]:
        """Writes them all, and says which could not be written."""
        insertions: list[tuple[Row, tuple[str, ...], Row]] = []
        updates: list[Write] = []
        for write in keyed:
            if write.before is None and write.after is not None:
                insertions.append((write.after, self._table.columns, write.after))
            elif write.before is not None and write.after is None:
                self._delete(write.before)
            elif write.before is not None and write.after is not None:
                if self._changed(write) & self._shape.unique:
                    insertions.append(self._taken_out(write.before, write.after))
                else:
                    updates.append(write)
        for write in loose:
            if write.before is not None:
                self._delete_one(write.before)
        for write in updates:
            self._update(write)
        insertions += [(w.after, self._table.columns, w.after) for w in loose if w.after is not None]
        for row, columns, cells in insertions:
            self._insert(row, columns, cells)
        return self._conflicts

    def _changed(self, write: Write) -> set[str]:
        before, after = write.before or (), write.after or ()
        return {c for c, a, b in zip(self._table.columns, before, after, strict=True) if a != b}

    def _taken_out(self, before: Row, after: Row) -> tuple[Row, tuple[str, ...], Row]:
        """Deletes a row that is to come back changed, and keeps its rowid and the columns that only the target has."""
        columns = (*([self._rowid] if self._rowid else []), *self._shape.columns)
        where, values = self._key(before)
        select = self._cells.selected(columns)
        ((*found,),) = self._connection.execute(f"SELECT {select} FROM {self._name} WHERE {where}", values).fetchall()
        full = dict(zip(columns, self._cells.row(found), strict=True))
        full.update(zip(self._table.columns, after, strict=True))
        self._delete(before)
        return after, columns, tuple(full[column] for column in columns)

    def _delete(self, row: Row) -> None:
        where, values = self._key(row)
        self._execute(row, f"DELETE FROM {self._name} WHERE {where}", values)

    def _delete_one(self, row: Row) -> None:
        where, values = self._content(row)
        if not self._rowid:
            self._note(row, "its columns hide the rowid, so one of several equal rows cannot be deleted")
            return
        one = f"SELECT {self._rowid} FROM {self._name} WHERE {where} LIMIT 1"
        self._execute(row, f"DELETE FROM {self._name} WHERE {self._rowid} IN ({one})", values)

    def _update(self, write: Write) -> None:
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
        self._execute(after, statement, [*values, *found])

    def _insert(self, row: Row, columns: Sequence[str], cells: Row) -> None:
        bound = [self._cells.bound(cell) for cell in cells]
        names = ", ".join(column if column == self._rowid else quoted(column) for column in columns)
        statement = f"INSERT OR ABORT INTO {self._name} ({names}) VALUES ({', '.join(sql for sql, _ in bound)})"
        self._execute(row, statement, [value for _, value in bound])

    def _execute(self, row: Row, statement: str, values: Sequence[Value]) -> None:
        try:
            self._connection.execute(statement, values)
        except (apsw.ConstraintError, apsw.MismatchError) as error:
            self._note(row, str(error))

    def _note(self, row: Row, detail: str) -> None:
        key: tuple[Cell, ...] = tuple(row[self._table.columns.index(column)] for column in self._table.key) or row
        named = dict(zip(self._table.columns, row, strict=True))
        self._conflicts.append(
            Conflict(kind="constraint", place=self._table.place, key=key, theirs=named, choices=NONE, detail=detail)
        )

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

"""Reads and writes single rows of one table inside a merge's transaction.

Rows are found by key, or by their whole content where they have none; never by rowid, which means nothing in another
database. All deletions come first, then updates, then insertions, and an update that touches a unique column is a
deletion and an insertion, so rows can exchange unique values. A statement that a constraint rejects becomes a conflict,
whatever the schema's own ON CONFLICT clause says, and the others go on, so that the list is complete.

Such a conflict can be settled: "ours" leaves of the fork's row out what the constraint rejects, a value repairs it.
"theirs" would lose the target's row, so it is not offered.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import apsw

from wye.kinds.sqlite.cells import Cells, Value
from wye.kinds.sqlite.database import quoted
from wye.kinds.sqlite.schema import Shape
from wye.merge.conflict import NONE, Conflict, Resolution, Side
from wye.merge.rows import Cell, Row, Table, Write, repaired_row, row_with_ours

_NAMED = re.compile(r"(?:UNIQUE|NOT NULL) constraint failed: (.+)")
_ROWIDS = ("rowid", "_rowid_", "oid")


@dataclass(frozen=True, slots=True)
class Refused:
    """A write that could not be made. `columns`: what "ours" takes from the target's row; none: all of it."""

    conflict: Conflict
    write: Write
    columns: tuple[str, ...]

    def decided(self, table: Table, chosen: Resolution) -> Write | None:
        """What to write instead. Raises BadRequest for a value that does not fit."""
        before, after = self.write.before, self.write.after
        if chosen.side is Side.OURS:
            kept = row_with_ours(self.write, table.columns, self.columns)
            # If it has the target's cells already, another row of the fork took them meanwhile: then all of it stays.
            return None if kept in (before, after) else Write(before=before, after=kept)
        repaired = repaired_row(
            self.write,
            table.columns,
            self.columns,
            chosen.value,
            identity=self.conflict.id,
            example=table.columns[-1],
        )
        return None if repaired == before else Write(before=before, after=repaired)


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
        self._refused: list[Refused] = []

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

    def carry_out(self, keyed: Sequence[Write], loose: Sequence[Write]) -> list[Refused]:
        """Writes them all, and says which could not be written."""
        insertions: list[tuple[Write, tuple[str, ...], Row]] = []
        updates: list[Write] = []
        for write in keyed:
            if write.before is None and write.after is not None:
                insertions.append((write, self._table.columns, write.after))
            elif write.before is not None and write.after is None:
                self._delete(write, write.before)
            elif write.before is not None and write.after is not None:
                if self._changed(write) & self._shape.unique:
                    insertions.append(self._taken_out(write, write.before, write.after))
                else:
                    updates.append(write)
        for write in loose:
            if write.before is not None:
                self._delete_one(write, write.before)
        for write in updates:
            self._update(write)
        insertions += [(write, self._table.columns, write.after) for write in loose if write.after is not None]
        for write, columns, cells in insertions:
            self._insert(write, columns, cells)
        return self._refused

    def _changed(self, write: Write) -> set[str]:
        before, after = write.before or (), write.after or ()
        return {c for c, a, b in zip(self._table.columns, before, after, strict=True) if a != b}

    def _taken_out(self, write: Write, before: Row, after: Row) -> tuple[Write, tuple[str, ...], Row]:
        """Deletes a row that is to come back changed, and keeps its rowid and the columns that only the target has."""
        columns = (*([self._rowid] if self._rowid else []), *self._shape.columns)
        where, values = self._key(before)
        select = self._cells.selected(columns)
        ((*found,),) = self._connection.execute(f"SELECT {select} FROM {self._name} WHERE {where}", values).fetchall()
        full = dict(zip(columns, self._cells.row(found), strict=True))
        full.update(zip(self._table.columns, after, strict=True))
        self._delete(write, before)
        return write, columns, tuple(full[column] for column in columns)

    def _delete(self, write: Write, row: Row) -> None:
        where, values = self._key(row)
        self._execute(write, f"DELETE FROM {self._name} WHERE {where}", values)

    def _delete_one(self, write: Write, row: Row) -> None:
        where, values = self._content(row)
        if not self._rowid:
            self._note(write, "its columns hide the rowid, so one of several equal rows cannot be deleted")
            return
        one = f"SELECT {self._rowid} FROM {self._name} WHERE {where} LIMIT 1"
        self._execute(write, f"DELETE FROM {self._name} WHERE {self._rowid} IN ({one})", values)

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
        self._execute(write, statement, [*values, *found])

    def _insert(self, write: Write, columns: Sequence[str], cells: Row) -> None:
        bound = [self._cells.bound(cell) for cell in cells]
        names = ", ".join(column if column == self._rowid else quoted(column) for column in columns)
        statement = f"INSERT OR ABORT INTO {self._name} ({names}) VALUES ({', '.join(sql for sql, _ in bound)})"
        self._execute(write, statement, [value for _, value in bound])

    def _execute(self, write: Write, statement: str, values: Sequence[Value]) -> None:
        try:
            self._connection.execute(statement, values)
        except (apsw.ConstraintError, apsw.MismatchError) as error:
            self._note(write, str(error), rejected=True)

    def _note(self, write: Write, detail: str, *, rejected: bool = False) -> None:
        row = write.after or write.before or ()
        key: tuple[Cell, ...] = tuple(row[self._table.columns.index(column)] for column in self._table.key) or row
        columns = self._rejected(detail) if rejected else ()
        advice = (
            "; ours leaves that of the fork's row out, a value repairs it; theirs would lose the target's row: change"
            " that there"
        )
        conflict = Conflict(
            kind="constraint",
            place=self._table.place,
            key=key,
            column=", ".join(columns),
            ours=self._holder(columns, row) if columns else None,
            theirs=dict(zip(self._table.columns, row, strict=True)),
            choices=frozenset({Side.OURS, Side.VALUE} if write.after is not None else {Side.OURS})
            if rejected
            else NONE,
            detail=detail + (advice if rejected else ""),
        )
        self._refused.append(Refused(conflict, write, columns))

    def _rejected(self, message: str) -> tuple[str, ...]:
        """Columns that the message names, if these are what it names."""
        found = _NAMED.fullmatch(message)
        if found is None:
            return ()
        columns = tuple(part.removeprefix(f"{self._shape.name}.") for part in found[1].split(", "))
        return columns if set(columns) <= set(self._table.columns) else ()

    def _holder(self, columns: tuple[str, ...], row: Row) -> dict[str, Cell] | None:
        """The target's row that has the same in these columns."""
        cells = dict(zip(self._table.columns, row, strict=True))
        bound = [self._cells.bound(cells[column]) for column in columns]
        where = " AND ".join(f"{quoted(column)} = {sql}" for column, (sql, _) in zip(columns, bound, strict=True))
        select = self._cells.selected(self._table.columns)
        statement = f"SELECT {select} FROM {self._name} WHERE {where} LIMIT 1"
        found = self._connection.execute(statement, [value for _, value in bound]).fetchall()
        return dict(zip(self._table.columns, self._cells.row(found[0]), strict=True)) if found else None

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

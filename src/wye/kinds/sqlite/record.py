"""What a merge does to its target, noted while it is done: the changes that take it back, whatever others write after.

The target's state before and after cannot be compared instead: there is no instant after the commit at which nobody
else can have written. So every row is read just before and just after it is written, in the merge's own transaction
and with all the columns that the target has; definitions are compared as a whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import apsw

from wye.kinds.sqlite.cells import Cells
from wye.kinds.sqlite.changes import PRAGMAS, SqliteChanges, TableChanges, content, pragma, telling
from wye.kinds.sqlite.counters import read_counters
from wye.kinds.sqlite.database import quoted
from wye.kinds.sqlite.schema import ObjectChange, Shape, changed_objects, read_objects, read_shape
from wye.kinds.sqlite.staged import Staged
from wye.kinds.sqlite.write import Writer
from wye.merge.rows import Cell, Row, Table


class Record:
    """Of one merge, made in its open transaction before the first statement. `concerned`: tables that it may change."""

    def __init__(self, connection: apsw.Connection, cells: Cells, concerned: Collection[str]) -> None:
        self._connection = connection
        self._cells = cells
        self._objects = read_objects(connection, "main")
        self._columns: dict[str, frozenset[str]] = {
            name: frozenset(read_shape(connection, "main", name).columns)
            for kind, name in self._objects
            if kind == "table" and name in concerned
        }
        self._counters = read_counters(connection, "main")
        self._pragmas = {name: pragma(connection, "main", name) for name in PRAGMAS}
        self._tables: list[TableChanges] = []
        self._lost: dict[str, TableChanges] = {}
        self._lasting: list[str] = []

    def keep(self, name: str) -> None:
        """All rows of a table that is about to go."""
        shape = read_shape(self._connection, "main", name)
        rows = self._connection.execute(f"SELECT {self._cells.selected(shape.columns)} FROM main.{quoted(name)}")
        keyed: list[tuple[Row | None, Row | None]] = []
        loose: Counter[Row] = Counter()
        for values in rows:
            row = self._cells.row(values)
            if shape.key and all(row[shape.columns.index(column)] is not None for column in shape.key):
                keyed.append((None, row))
            else:
                loose[row] += 1
        counts = tuple((row, 0, count) for row, count in loose.items())
        self._note(TableChanges(table=name, columns=shape.columns, key=shape.key, keyed=tuple(keyed), loose=counts))

    def keep_columns(self, name: str, lost: Sequence[str]) -> None:
        """What is in columns that are about to go."""
        shape = read_shape(self._connection, "main", name)
        columns = (*shape.key, *(column for column in lost if column in shape.columns))
        select = self._cells.selected(columns)
        found = self._connection.execute(
            f"SELECT {select} FROM main.{quoted(name)}{telling(self._connection, name, lost)}"
        )
        rows = [self._cells.row(values) for values in found]
        if any(None in row[: len(shape.key)] for row in rows) or (rows and not shape.key):
            self._lasting.append(name)  # without a key nobody can say whose values they were
        self._lost[name] = TableChanges(
            table=name, columns=columns, key=shape.key, keyed=tuple((None, row) for row in rows)
        )

    @contextmanager
    def watching(self, staged: Staged) -> Iterator[None]:
        """While it is written. Columns that the merge itself has added go away again, with what is in them."""
        table, shape = staged.table, staged.shape
        keyed = [write for number, write in staged.writes.items() if number not in staged.loose]
        loose = [write for number, write in staged.writes.items() if number in staged.loose]
        had = self._columns.get(shape.name, frozenset())
        keyed_columns = tuple(column for column in shape.columns if column in had)
        if not had or not set(shape.key) <= had:
            yield  # a table of the merge's own goes away as a whole
            return
        keys = [_named(table.columns, write.after or write.before or ()) for write in keyed]
        reader = self._reader(shape, keyed_columns)
        seen = [tuple(key.get(column) for column in keyed_columns) for key in keys]
        before = [reader.read(row) for row in seen]

        loose_columns = tuple(column for column in table.columns if column in had)
        counter = self._reader(shape, loose_columns)
        told = [_named(table.columns, write.after or write.before or ()) for write in loose]
        rows = dict.fromkeys(tuple(row[column] for column in loose_columns) for row in told)
        counts = {row: counter.count(row) for row in rows}
        yield
        pairs = [(reader.read(row), was) for row, was in zip(seen, before, strict=True)]
        changed = tuple(pair for pair in pairs if pair[0] != pair[1])
        moved = tuple((row, now, was) for row, was in counts.items() if (now := counter.count(row)) != was)
        self._note(TableChanges(table=shape.name, columns=keyed_columns, key=shape.key, keyed=changed))
        self._note(TableChanges(table=shape.name, columns=loose_columns, key=shape.key, loose=moved))

    def inverse(self) -> tuple[SqliteChanges, list[str]]:
        """From what is there now, at the end of the merge, to what was there before it; and the names of tables whose
        loss of columns cannot be taken back."""
        objects, _ = changed_objects(read_objects(self._connection, "main"), self._objects)
        filled = self._filled(objects) if self._lost else []
        counters = read_counters(self._connection, "main")
        set_back = [name for name, was in self._counters.items() if counters.get(name, 0) < was]
        found = SqliteChanges(
            objects=tuple(objects),
            tables=(*self._tables, *filled),
            dropped={
                change.name: content(self._connection, change.name, change.lost_columns)
                for change in objects
                if change.type == "table" and (change.after is None or change.lost_columns)
            },
            sequences={name: self._counters[name] for name in set_back},
            sequences_before={name: counters[name] for name in set_back if name in counters},
            pragmas=tuple(
                (name, now, was)
                for name, was in self._pragmas.items()
                if (now := pragma(self._connection, "main", name)) != was
            ),
        )
        return found, self._lasting

    def _filled(self, objects: Sequence[ObjectChange]) -> list[TableChanges]:
        """What to put into the lost columns when they are back. What they hold by then, is tried: only SQLite knows
        what it makes of a default, and whether the definition comes out as it was."""
        filled = []
        self._connection.execute("SAVEPOINT back")
        try:
            for change in objects:
                if change.name in self._lost:
                    for statement in change.statements:
                        self._connection.execute(statement)
            back = read_objects(self._connection, "main")
            for name, lost in self._lost.items():
                if back.get(("table", name)) != self._objects["table", name]:
                    self._lasting.append(name)
                elif lost.key:
                    reader = self._reader(read_shape(self._connection, "main", name), lost.columns)
                    rows = {row[: len(lost.key)]: row for _, row in lost.keyed if row is not None}
                    there = [(reader.read(row), row) for row in rows.values()]
                    filled.append(replace(lost, keyed=tuple(pair for pair in there if pair[0] is not None)))
                    self._tables = [part for table in self._tables for part in _completed(table, lost, rows)]
        except apsw.Error:
            self._lasting += self._lost
        finally:
            self._connection.execute("ROLLBACK TO back")
            self._connection.execute("RELEASE back")
        return filled

    def _reader(self, shape: Shape, columns: tuple[str, ...]) -> Writer:
        return Writer(self._connection, self._cells, Table(place="", columns=columns, key=shape.key), shape)

    def _note(self, found: TableChanges) -> None:
        if found.keyed or found.loose:
            self._tables.append(found)


def _completed(table: TableChanges, lost: TableChanges, rows: Mapping[Row, Row]) -> Iterator[TableChanges]:
    """Rows that the merge removed come back with what they had in the lost columns."""
    if table.table != lost.table or not table.keyed:
        yield table
        return
    places = [table.columns.index(column) for column in table.key]
    rest, whole = [], []
    for now, was in table.keyed:
        had = rows.get(tuple(was[place] for place in places)) if now is None and was is not None else None
        if had is None or was is None:
            rest.append((now, was))
        else:
            whole.append((None, (*was, *had[len(lost.key) :])))
    yield replace(table, keyed=tuple(rest))
    yield replace(table, columns=(*table.columns, *lost.columns[len(lost.key) :]), keyed=tuple(whole))


def _named(columns: Sequence[str], row: Row) -> dict[str, Cell]:
    return dict(zip(columns, row, strict=True))

"""Foreign keys, which are off while a merge writes: what it left without a parent, as conflicts that can be settled.

Only what the merge itself did is looked at: references that it wrote, and parents that it took away. A reference that
led nowhere before stays as it is (SQLite checks keys only where an application asks for it), and nothing cascades: a
deletion in the fork never reaches rows that only the target has.

A child refers to a parent if they are equal by the parent's collation and affinity, which is SQLite's own rule: so
values are compared with the parent's column, and those that a parent had are kept in a table of such columns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import apsw

from wye.kinds.sqlite.cells import Cells
from wye.kinds.sqlite.changes import SqliteChanges
from wye.kinds.sqlite.database import quoted
from wye.kinds.sqlite.schema import read_objects, read_shape
from wye.kinds.sqlite.staged import Staged, Violation
from wye.merge.conflict import Conflict, Side
from wye.merge.rows import Cell, Row, Write
from wye.merge.settling import CHOICES, named_cells

_SHOWN_CHILDREN = 20


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Names as the tables themselves spell them."""

    child: str
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    has_parent: bool
    """Whether that table is there at all."""

    def told(self) -> str:
        to = f" ({', '.join(self.parent_columns)})" if self.parent_columns else ""
        return f"{self.child} ({', '.join(self.columns)}) refers to {self.parent}{to}"


def read_foreign_keys(connection: apsw.Connection, tables: Collection[str]) -> list[ForeignKey]:
    """Those from or to one of `tables`, without such as can hold for no row: of another number of columns than the
    parent's key, or to columns that are not there."""
    there = {name.lower(): name for kind, name in read_objects(connection, "main") if kind == "table"}
    near = {name.lower() for name in tables}
    found = []
    for child in there.values():
        listed: list[Any] = connection.execute(f"PRAGMA main.foreign_key_list({quoted(child)})").fetchall()
        for _, parts in groupby(sorted(listed, key=lambda part: (part[0], part[1])), key=lambda part: part[0]):
            rows = list(parts)
            parent = str(rows[0][2])
            if child.lower() not in near and parent.lower() not in near:
                continue
            columns, given = tuple(str(row[3]) for row in rows), [row[4] for row in rows]
            spelt = there.get(parent.lower())
            if spelt is None:
                found.append(ForeignKey(child, columns, parent, tuple(filter(None, given)), has_parent=False))
            elif len(named := _parent_columns(connection, spelt, given)) == len(columns):
                found.append(ForeignKey(child, columns, spelt, named, has_parent=True))
    return found


def _parent_columns(connection: apsw.Connection, parent: str, given: Sequence[str | None]) -> tuple[str, ...]:
    """As the table itself spells them, and those alone that it has; none given stands for its key."""
    columns = connection.execute(f"PRAGMA main.table_xinfo({quoted(parent)})").fetchall()  # with those it computes
    spelt = {str(column[1]).lower(): str(column[1]) for column in columns}
    names = [name.lower() for name in given if name is not None]
    if not names:
        return read_shape(connection, "main", parent).key
    return tuple(spelt[name] for name in names if name in spelt)


def unproven_children(connection: apsw.Connection, found: SqliteChanges) -> list[str]:
    """Tables whose references may be lost in ways that `References` does not see, to be counted as a whole: by a table
    that goes for another of its name, or by columns that the fork does not know or that SQLite computes."""
    columns = {table.table: set(table.columns) for table in found.tables}
    made = {change.name.lower() for change in found.objects if change.type == "table" and change.before is None}
    gone = {change.name for change in found.objects if change.type == "table" and change.after is None}
    gone = {name for name in gone if name.lower() in made}
    return sorted({
        key.child
        for key in read_foreign_keys(connection, {*columns, *gone})
        if key.parent in gone
        or not set(key.columns) <= columns.get(key.child, set(key.columns))
        or not set(key.parent_columns) <= columns.get(key.parent, set(key.parent_columns))
    })  # fmt: skip


def same_by_parent(connection: apsw.Connection, key: ForeignKey) -> str:
    """SQL: whether a child `c` refers to a parent whose cells are kept as c0, c1, ... of `o`; its table is there."""
    same = []
    for i, (column, wanted) in enumerate(zip(key.columns, key.parent_columns, strict=True)):
        collation = connection.column_metadata("main", key.parent, wanted)[1]
        same.append(f"o.c{i} COLLATE {quoted(collation)} = c.{quoted(column)}")
    return " AND ".join(same)


class References:
    """Of one attempt to write `tables`: to be made before, asked after. `place` names the database in conflicts."""

    def __init__(self, connection: apsw.Connection, cells: Cells, place: str, tables: Sequence[Staged]) -> None:
        self._connection = connection
        self._cells = cells
        self._place = place
        self._tables = {staged.shape.name: staged for staged in tables}
        self._keys = read_foreign_keys(connection, self._tables) if tables else []
        self._lost = [lost for key in self._keys if (lost := self._keep(key)) is not None]

    def violations(self) -> list[Violation]:
        found: list[Violation] = []
        for key in self._keys:
            child = self._tables.get(key.child)
            if child is not None and child.knows(key.columns):
                found += self._missing_parents(child, key)
        for key, kept in self._lost:
            found += self._left_children(self._tables[key.parent], key, kept)
            self._connection.execute(f"DROP TABLE temp.{kept}")
        return found

    # ------------------------------------------------------------ references that were written

    def _missing_parents(self, child: Staged, key: ForeignKey) -> Iterator[Violation]:
        known: dict[Row, bool] = {}
        for number, write in child.writes.items():
            if write.after is None:
                continue
            refers = child.cells(key.columns, write.after)
            ours = None if write.before is None else child.cells(key.columns, write.before)
            if None in refers or refers == ours:
                continue
            if refers not in known:
                known[refers] = key.has_parent and self._is_there(key, refers)
            if not known[refers]:
                yield self._missing(child, key, number, (write.after, refers, ours))

    def _is_there(self, key: ForeignKey, cells: Row) -> bool:
        bound = [self._cells.bound(cell) for cell in cells]
        same = " AND ".join(
            f"{quoted(column)} = +{sql}" for column, (sql, _) in zip(key.parent_columns, bound, strict=True)
        )
        values = [value for _, value in bound]
        found = self._connection.execute(f"SELECT 1 FROM main.{quoted(key.parent)} WHERE {same} LIMIT 1", values)
        return bool(found.fetchall())

    def _missing(self, child: Staged, key: ForeignKey, number: int, found: tuple[Row, Row, Row | None]) -> Violation:
        after, refers, ours = found
        place, own = child.table.place, child.own(number, after)
        conflict = Conflict(
            kind="fk-parent-missing",
            place=place,
            key=own,
            column=", ".join(key.columns),
            ours=None if ours is None else named_cells(key.columns, ours),
            theirs=named_cells(key.columns, refers),
            choices=CHOICES,
            detail=f"{key.told()}, where the target has no such row; ours leaves the fork's"
            f" {'row' if ours is None else 'change'} out, a value refers to another; for theirs, put that row there",
        )
        parent = (self._place_of(key.parent), key.parent_columns, refers)
        return Violation(
            conflict=conflict, staged=child, entry=number, columns=key.columns, own=(place, own), about=(parent,)
        )

    # ------------------------------------------------------------ parents that were taken away

    def _keep(self, key: ForeignKey) -> tuple[ForeignKey, str] | None:
        """Remembers what others may refer to and the merge takes away, in a temporary table of (n, c0, c1, ...)."""
        parent = self._tables.get(key.parent)
        if parent is None or not parent.knows(key.parent_columns):
            return None
        lost = [
            (number, cells)
            for number, write in parent.writes.items()
            if (cells := _lost(parent, key, write)) is not None and None not in cells
        ]
        if not lost:
            return None
        kept = f"_wye_kept{self._keys.index(key)}"
        columns = ", ".join(f"p.{quoted(column)} AS c{i}" for i, column in enumerate(key.parent_columns))
        self._connection.execute(
            f"CREATE TEMP TABLE {kept} AS SELECT 0 AS n, {columns} FROM main.{quoted(key.parent)} p LIMIT 0"
        )
        for number, cells in lost:
            bound = [self._cells.bound(cell) for cell in cells]
            self._connection.execute(
                f"INSERT INTO temp.{kept} VALUES (?, {', '.join(sql for sql, _ in bound)})",
                [number, *(value for _, value in bound)],
            )
        return key, kept

    def _left_children(self, parent: Staged, key: ForeignKey, kept: str) -> Iterator[Violation]:
        shape = read_shape(self._connection, "main", key.child)
        there = [
            f"p.{quoted(wanted)} = +c.{quoted(column)}"
            for column, wanted in zip(key.columns, key.parent_columns, strict=True)
        ]
        rows = self._connection.execute(
            f"SELECT o.n, {self._cells.selected(shape.columns, 'c')} FROM temp.{kept} o"
            f" JOIN main.{quoted(key.child)} c ON {same_by_parent(self._connection, key)}"
            f" WHERE NOT EXISTS (SELECT 1 FROM main.{quoted(key.parent)} p WHERE {' AND '.join(there)})"
        )
        children: dict[int, list[dict[str, Cell]]] = {}
        counts: dict[int, int] = {}
        for n, *values in rows:
            number = int(str(n))
            counts[number] = counts.get(number, 0) + 1
            if counts[number] <= _SHOWN_CHILDREN:
                cells = self._cells.row(values)
                children.setdefault(number, []).append(dict(zip(shape.columns, cells, strict=True)))
        for number, shown in sorted(children.items()):
            yield self._left(parent, key, number, (counts[number], shown))

    def _left(
        self, parent: Staged, key: ForeignKey, number: int, children: tuple[int, list[dict[str, Cell]]]
    ) -> Violation:
        write, (count, shown) = parent.writes[number], children
        before, place = write.before or (), parent.table.place
        own = parent.own(number, before)
        conflict = Conflict(
            kind="fk-child-exists",
            place=place,
            key=own,
            column=f"{key.child}.{', '.join(key.columns)}",
            base=parent.named(before),
            ours=shown,
            theirs=None if write.after is None else parent.named(write.after),
            choices=frozenset({Side.OURS}),
            detail=f"{key.told()}: {count} rows do in the target, and the fork"
            f" {'gave it another key' if write.after else 'deleted it'}; ours keeps it as it is; theirs would lose what"
            " refers to it: change or delete that in the target",
        )
        child = (self._place_of(key.child), key.columns, parent.cells(key.parent_columns, before))
        return Violation(
            conflict=conflict, staged=parent, entry=number, columns=key.parent_columns, own=(place, own), about=(child,)
        )

    def _place_of(self, table: str) -> str:
        return f"{self._place} {table}"


def _lost(parent: Staged, key: ForeignKey, write: Write) -> Row | None:
    """What others may have referred to and find no more."""
    if write.before is None:
        return None
    cells = parent.cells(key.parent_columns, write.before)
    return None if write.after is not None and parent.cells(key.parent_columns, write.after) == cells else cells

"""Rows that stand in the way of a unique index which the fork made: who they are, and what can be done about each.

A row that the merge writes is in nobody's way but the target's row with the same value: that is the conflict `unique`,
settled as with an index that was there before. Where rows that only the target has are equal, the fork's rows are not
the reason: then the index can be left out (`unique-index`), or the rows changed in the target.

SQLite itself says which rows are equal, by the index's own expressions, collations and condition, so all kinds of
indexes are understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import apsw

from wye.kinds.sqlite.cells import Cells
from wye.kinds.sqlite.database import quoted
from wye.kinds.sqlite.schema import ObjectChange, Shape, indexed, read_shape
from wye.kinds.sqlite.staged import Staged, Violation
from wye.merge import settling
from wye.merge.conflict import Conflict, Side
from wye.merge.rows import Cell, Row
from wye.merge.settling import CHOICES

_SHOWN_ROWS = 20
_COLLATED = re.compile(r"(.+?)(?:\s+COLLATE\s+\S+)?\Z", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing(settling.Violation):
    """`index` cannot be made."""

    index: str


class UniqueIndex:
    """One that cannot be made, after the merge's rows were written. `place` names the database in conflicts."""

    def __init__(self, connection: apsw.Connection, cells: Cells, place: str, change: ObjectChange) -> None:
        self._connection = connection
        self._cells = cells
        self._change = change
        self._of = indexed(change.after or "")  # the failed statement has left nothing, so its text must say it
        ((table,),) = connection.execute(
            "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE", (self._of.table,)
        ).fetchall()
        self._shape: Shape = read_shape(connection, "main", str(table))
        self._place = f"{place} {table}"
        spelt = {column.lower(): column for column in self._shape.columns}
        plain = [spelt.get(_plain(part).lower()) for part in self._of.parts]
        self._columns: tuple[str, ...] = tuple(filter(None, plain)) if all(plain) else ()
        self._column = ", ".join(self._columns or self._of.parts)

    def violations(self, tables: Sequence[Staged]) -> Iterator[settling.Violation]:
        """`tables`: what the merge writes."""
        staged = next((each for each in tables if each.shape.name == self._shape.name), None)
        written = None if staged is None else staged.giving(self._columns if staged.knows(self._columns) else ())
        told: list[tuple[Row, int]] = []
        shown: list[Row] = []
        count = 0
        for _, rows in groupby(self._equal(), key=lambda each: each[0]):
            group = [(row, None if written is None else written.number(self._named(row))) for _, row in rows]
            others = [row for row, number in group if number is None]
            if len(others) > 1:
                count += len(others)
                shown += others[: max(_SHOWN_ROWS - len(shown), 0)]
            holder = others[0] if others else group[0][0]
            told += [(holder, number) for row, number in group if number is not None and row is not holder]
        if count:
            yield self._standing(count, shown)
        elif staged is not None:
            yield from (self._taken(staged, number, holder) for holder, number in told)

    def _equal(self) -> Iterator[tuple[int, Row]]:
        """(number of a group, row), group by group."""
        parts = [f"({part})" for part in self._of.parts]
        given = " AND ".join(f"{part} IS NOT NULL" for part in parts)
        where = f"({self._of.where}) AND {given}" if self._of.where else given
        groups = ", ".join(f"{part} AS _wye_g{i}" for i, part in enumerate(parts))
        same = " AND ".join(f"{part} = d._wye_g{i}" for i, part in enumerate(parts))
        table = f"main.{quoted(self._shape.name)}"
        rows = self._connection.execute(
            f"WITH d AS MATERIALIZED (SELECT row_number() OVER () AS _wye_n, {groups} FROM {table} WHERE {where}"
            f" GROUP BY {', '.join(parts)} HAVING count(*) > 1)"
            f" SELECT d._wye_n, {self._cells.selected(self._shape.columns)} FROM {table} JOIN d ON {same}"
            f" WHERE {where} ORDER BY d._wye_n"
        )
        for n, *values in rows:
            yield int(str(n)), self._cells.row(values)

    def _named(self, row: Row) -> dict[str, Cell]:
        return dict(zip(self._shape.columns, row, strict=True))

    def _standing(self, count: int, shown: Sequence[Row]) -> Standing:
        key = self._shape.key
        named = [self._named(row) for row in shown]
        conflict = Conflict(
            kind="unique-index",
            place=self._place,
            key=(self._change.name,),
            column=self._column,
            base=self._change.before,
            ours=named,
            theirs=self._change.after,
            choices=frozenset({Side.OURS}),
            detail=f"the fork made {self._column} unique, and {count} rows of the target are equal in it to another;"
            " ours leaves that index out; for theirs, change or delete the rows in the target",
        )
        about = tuple((self._place, key, tuple(row[column] for column in key)) for row in named) if key else ()
        return Standing(
            conflict=conflict, index=self._change.name, own=(self._place, (self._change.name,)), about=about
        )

    def _taken(self, staged: Staged, number: int, holder: Row) -> Violation:
        write = staged.writes[number]
        row = write.after or ()
        own = staged.own(number, row)
        named = self._named(holder)
        known = self._columns if staged.knows(self._columns) else ()
        conflict = Conflict(
            kind="unique",
            place=self._place,
            key=own,
            column=self._column,
            ours=named,
            theirs=staged.named(row),
            choices=CHOICES,
            detail=f"the fork made this unique by {self._change.name}, and a row of the target has the same; ours"
            " leaves the fork's out, a value gives it another; theirs would lose the target's row: change that there",
        )
        key = self._shape.key
        other = (self._place, key or self._columns, tuple(named[column] for column in key))
        return Violation(
            conflict=conflict, staged=staged, entry=number, columns=known, own=(self._place, own), about=(other,)
        )


def _plain(part: str) -> str:
    """A column's name, as far as it is one."""
    found = _COLLATED.match(part)
    name = found[1] if found else part
    close = {'"': '"', "`": "`", "[": "]"}.get(name[:1])
    return name[1:-1].replace(close * 2, close) if close and name.endswith(close) else name

"""What a merge is about to write into one table, by number, so that a decision about a row finds it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wye.kinds.sqlite.schema import Shape
from wye.merge import settling
from wye.merge.conflict import Resolution
from wye.merge.rows import Cell, Row, Table, Write
from wye.merge.settling import amended


@dataclass(slots=True)
class Staged:
    """`table` names the columns that the merge is about; `shape` is the target's table, which may have more. `loose`:
    numbers of the rows that have no key."""

    table: Table
    shape: Shape
    writes: dict[int, Write] = field(default_factory=dict)
    loose: frozenset[int] = frozenset()

    def own(self, number: int, row: Row) -> Row:
        """What names a row in conflicts: its key, or all of it."""
        return row if number in self.loose else self.cells(self.table.key, row)

    def cells(self, columns: tuple[str, ...], row: Row) -> Row:
        return tuple(row[self.table.columns.index(column)] for column in columns)

    def knows(self, columns: tuple[str, ...]) -> bool:
        return set(columns) <= set(self.table.columns)

    def named(self, row: Row) -> dict[str, str | None]:
        return dict(zip(self.table.columns, row, strict=True))

    def giving(self, columns: tuple[str, ...]) -> Giving:
        """The writes that give a row its cells in `columns`; none: its row."""
        numbers = {}
        for number, write in self.writes.items():
            if write.after is None:
                continue
            if write.before and columns and self.cells(columns, write.before) == self.cells(columns, write.after):
                continue
            numbers[self.own(number, write.after)] = number
        return Giving(self.table, numbers)


@dataclass(frozen=True, slots=True)
class Giving:
    """Writes by what names their rows."""

    table: Table
    numbers: dict[Row, int]

    def number(self, row: Mapping[str, Cell]) -> int | None:
        """Of the write that made this row of the target, as it is now, what it is."""
        key = tuple(row[column] for column in self.table.key)
        whole = tuple(row[column] for column in self.table.columns)
        return self.numbers.get(key) if key and None not in key else self.numbers.get(whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation(settling.Violation):
    """Write `entry` of `staged` is refused."""

    staged: Staged
    entry: int


def amend(violation: Violation, chosen: Resolution) -> bool:
    """Changes the write as was decided. Whether there was one."""
    staged = violation.staged
    write = staged.writes.get(violation.entry)
    if write is None:
        return False
    instead = amended(violation, chosen, write, staged.table.columns)
    if instead is None:
        del staged.writes[violation.entry]
    else:
        staged.writes[violation.entry] = instead
    return True

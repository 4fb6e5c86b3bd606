"""Rows of the target that refer to a table which the fork dropped: conflicts, settled by keeping the table.

Dropping a table leads nowhere what refers to it, and only the target knows all that does. To drop it all the same would
take the parent from rows that the fork never saw. So what they could refer to is remembered before the table goes, and
once the fork's own rows are written, those that refer to it still are told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import apsw

from wye.kinds.sqlite.cells import Cells
from wye.kinds.sqlite.database import quoted
from wye.kinds.sqlite.references import ForeignKey, read_foreign_keys, same_by_parent
from wye.kinds.sqlite.schema import read_shape
from wye.kinds.sqlite.staged import Staged
from wye.merge import settling
from wye.merge.conflict import Conflict, Side
from wye.merge.rows import Cell

_SHOWN_CHILDREN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LostTable(settling.Violation):
    """`table` cannot go."""

    table: str


class Dropped:
    """The tables `names`; to be made before they go, asked after the rows are written. `place` names the database in
    conflicts."""

    def __init__(self, connection: apsw.Connection, cells: Cells, place: str, names: Collection[str]) -> None:
        self._connection = connection
        self._cells = cells
        self._place = place
        keys = read_foreign_keys(connection, names) if names else []
        self._keys = [key for key in keys if key.has_parent and key.parent in names and key.child not in names]
        self._same = [self._keep(n, key) for n, key in enumerate(self._keys)]

    def _keep(self, n: int, key: ForeignKey) -> str:
        """Remembers the parents. SQL: whether a child `c` refers to one of them, `o`."""
        columns = [quoted(column) for column in key.parent_columns]
        self._connection.execute(
            f"CREATE TEMP TABLE _wye_gone{n} AS SELECT {', '.join(f'{c} AS c{i}' for i, c in enumerate(columns))}"
            f" FROM main.{quoted(key.parent)} WHERE {' AND '.join(f'{c} IS NOT NULL' for c in columns)}"
        )
        return same_by_parent(self._connection, key)

    def violations(self, tables: Sequence[Staged]) -> Iterator[LostTable]:
        """`tables`: what the merge writes. Where it refers to a parent itself, that is a conflict of its own."""
        for n, (key, same) in enumerate(zip(self._keys, self._same, strict=True)):
            shape = read_shape(self._connection, "main", key.child)
            if not set(key.columns) <= set(shape.columns):
                continue
            staged = next((each for each in tables if each.shape.name == key.child and each.knows(key.columns)), None)
            written = None if staged is None else staged.giving(key.columns)
            select = self._cells.selected(shape.columns, "c")
            shown: list[dict[str, Cell]] = []
            count = 0
            found = f"SELECT {select} FROM main.{quoted(key.child)} c JOIN temp._wye_gone{n} o ON {same}"
            for values in self._connection.execute(found):
                row = dict(zip(shape.columns, self._cells.row(values), strict=True))
                if written is None or written.number(row) is None:
                    count += 1
                    shown += [row] if count <= _SHOWN_CHILDREN else []
            if count:
                yield self._told(key, shape.key, count, shown)

    def _told(self, key: ForeignKey, names: tuple[str, ...], count: int, shown: list[dict[str, Cell]]) -> LostTable:
        place = f"{self._place} {key.parent}"
        conflict = Conflict(
            kind="fk-child-exists",
            place=place,
            column=f"{key.child}.{', '.join(key.columns)}",
            ours=shown,
            choices=frozenset({Side.OURS}),
            detail=f"{key.told()}: {count} rows do in the target, and the fork dropped that table; ours keeps it as it"
            " is, with its indexes and triggers; theirs would lose what refers to it: change or delete that in the"
            " target",
        )
        child = f"{self._place} {key.child}"
        about = tuple((child, names, tuple(row[name] for name in names)) for row in shown)
        return LostTable(conflict=conflict, table=key.parent, own=(place, ()), about=about if names else ())

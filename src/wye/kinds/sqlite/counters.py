"""The numbers that AUTOINCREMENT counts in: what a fork made of them, and their merge, forward and back.

SQLite keeps them in `sqlite_sequence`, which is there once a table needs it, and which applications write to: to start
anew they delete a table's row there. It gives a new row a number above the counter and above every row of the table,
so a counter that goes back never makes two rows meet; it only lets numbers of rows that are gone be given once more.

Rows of `sqlite_sequence` that SQLite does not count with are passed over: those of no table, and all but the first of
one table. A row that is not there counts as 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import apsw

from wye.kinds.sqlite.schema import read_shape
from wye.merge.conflict import Decisions, Favouring, Json, Side
from wye.merge.counters import merge_counter

Numbers = dict[str, int]
"""By table."""


@dataclass(frozen=True, slots=True)
class CounterChanges:
    """Those that differ: `before`, of tables that had one, and `after`, None where it is gone."""

    before: Numbers = field(default_factory=dict)
    after: dict[str, int | None] = field(default_factory=dict)

    def told(self) -> Json:
        """As a diff has it: where they are, and what those were that went back."""
        back = {name: was for name, was in self.before.items() if (self.after.get(name) or 0) < was}
        return {"sequences": dict(self.after), "sequences_set_back": back}


def read_counters(connection: apsw.Connection, schema: str) -> Numbers:
    """As SQLite reads them, whatever an application has written there."""
    if not connection.execute(f"SELECT 1 FROM {schema}.sqlite_schema WHERE name = 'sqlite_sequence'").fetchall():
        return {}
    rows: Any = connection.execute(
        f"SELECT name, coalesce(CAST(seq AS INTEGER), 0) FROM {schema}.sqlite_sequence ORDER BY rowid DESC"
    )
    return {str(name): number for name, number in rows}


def has_counter(connection: apsw.Connection, schema: str, table: str) -> bool:
    """Whether there is such a table, and its key is AUTOINCREMENT."""
    key = read_shape(connection, schema, table).key
    return len(key) == 1 and bool(connection.column_metadata(schema, table, key[0])[4])


def changed_counters(connection: apsw.Connection) -> CounterChanges:
    """Of "theirs" against "main"."""
    before, after = (read_counters(connection, schema) for schema in ("main", "theirs"))
    moved = sorted(name for name in before.keys() | after.keys() if before.get(name, 0) != after.get(name, 0))
    changed = [name for name in moved if has_counter(connection, "theirs", name)]
    return CounterChanges(
        {name: before[name] for name in changed if name in before}, {name: after.get(name) for name in changed}
    )


class Counters:
    """Of the target of one merge, as they are before it writes the first row: that may move them on by itself."""

    def __init__(self, connection: apsw.Connection, place: str) -> None:
        self._connection = connection
        self._place = place
        self._ours = read_counters(connection, "main")

    def merge(self, found: CounterChanges, decisions: Decisions, whole: Mapping[str, Side]) -> int:
        """Sets them, after the rows. `whole`: tables that are one side's altogether. Says how many were set. Of a table
        that the target no longer has, or no longer counts in, there is none to set."""
        done = 0
        written = read_counters(self._connection, "main")
        for table, theirs in found.after.items():
            side = whole.get(table)
            if side is Side.OURS or not has_counter(self._connection, "main", table):
                continue
            chosen = decisions if side is None else Favouring(decisions, side)
            ours = self._ours.get(table)
            number = merge_counter(self._place, table, found.before.get(table), ours, theirs, chosen)
            due, now = number or 0, written.get(table, 0)
            # What goes back is set exactly; else rows of the merge may have greater numbers, which are given out now.
            if now < due or (now > due and due < (ours or 0)):
                self._set(table, number)
                done += 1
        return done

    def _set(self, table: str, number: int | None) -> None:
        if number is None:
            self._connection.execute("DELETE FROM main.sqlite_sequence WHERE name = ?", (table,))
            return
        self._connection.execute("UPDATE main.sqlite_sequence SET seq = ? WHERE name = ?", (number, table))
        if not self._connection.changes():
            self._connection.execute("INSERT INTO main.sqlite_sequence (name, seq) VALUES (?, ?)", (table, number))

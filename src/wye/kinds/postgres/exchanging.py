"""Rows that no UPDATE makes what they shall be, so that they are deleted and inserted again: what that takes.

A server checks a unique index row by row, so rows that exchange their values, or pass them on, are in each other's
way; and no UPDATE gives a row another number that is GENERATED ALWAYS AS IDENTITY. All other rows are updated, because
whoever waits for a row that is updated then finds the new one, and whoever waits for one that is deleted finds none,
with no error: his write would be lost, or what he cascades would miss the row that came in its place. So where rows are
deleted and inserted again nobody may be waiting: their tables are locked against all but readers, before that. A
statement that waits for a table looks at its rows afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from wye.kinds.postgres.locking import children_first
from wye.kinds.postgres.session import Connection
from wye.kinds.postgres.stage import RECREATE, UPDATE, Staged, operation_of
from wye.kinds.postgres.tables import Relation, read_foreign_keys


def lock_out(connection: Connection, relations: Collection[Relation]) -> None:
    """Waits for whoever writes these tables or refers to them, and keeps others out. Raises psycopg's
    LockNotAvailable, DeadlockDetected."""
    keys = read_foreign_keys(connection, [relation.oid for relation in relations]) if len(relations) > 1 else ()
    for relation in children_first(relations, keys):
        connection.execute(f"lock table {relation.source} in exclusive mode")


def recreate_bound(connection: Connection, tables: Sequence[Staged]) -> list[Staged]:
    """Has the rows that were to be updated in what a unique index binds recreated. Returns the tables that have any."""
    found = []
    for staged in tables:
        if staged.is_exchanging:
            continue
        staged.is_exchanging = True
        before = staged.count(RECREATE)
        staged.writes[:] = [(n, operation_of(staged, write), write) for n, _, write in staged.writes]
        if staged.count(RECREATE) == before:
            staged.is_exchanging = False
            continue
        bound = ", ".join(str(i) for i, column in enumerate(staged.changes.columns) if column in staged.relation.bound)
        connection.execute(
            f"update {staged.merged} set op = '{RECREATE}' where op = '{UPDATE}' and changed && array[{bound}]::int[]"
        )
        found.append(staged)
    return found

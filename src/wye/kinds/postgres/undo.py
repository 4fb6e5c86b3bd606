"""What takes a merge back: the changes from the target after it to the target before it.

They are made from the rows that the merge really wrote (after resolutions and sums), inside its transaction, and are
applied like any other changes. So a revert is a three-way merge too: what was written to the same rows later stays, or
is a conflict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from wye.kinds.postgres.changes import DatabaseChanges, TableChanges
from wye.kinds.postgres.rows import Source, count_equal
from wye.kinds.postgres.session import Connection
from wye.kinds.postgres.stage import Staged
from wye.merge.rows import Row


def undo_of(connection: Connection, changes: DatabaseChanges, tables: Sequence[Staged]) -> DatabaseChanges | None:
    """To call after writing, in the same transaction. None if DDL was merged: rows alone do not take that back."""
    if changes.ddl or changes.base != changes.theirs:
        return None
    return DatabaseChanges(
        database=changes.database, tables=tuple(_undo_table(connection, t) for t in tables), views=changes.views
    )


def _undo_table(connection: Connection, staged: Staged) -> TableChanges:
    writes = [write for _, _, write in staged.writes]
    deletes = tuple(w.after for w in writes if w.before is None and w.after is not None)
    columns = staged.changes.columns
    counts: Counter[Row] = Counter()
    if staged.key is None:
        counts = count_equal(Source(connection, staged.relation.source, columns), deletes)
    return TableChanges(
        table=staged.changes.table,
        columns=columns,
        key=staged.changes.key,
        deletes=deletes,
        inserts=tuple(w.before for w in writes if w.after is None and w.before is not None),
        updates=tuple((w.after, w.before) for w in writes if w.before is not None and w.after is not None),
        counts=tuple(counts.items()),
    )

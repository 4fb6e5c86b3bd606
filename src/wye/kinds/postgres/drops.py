"""What a fork dropped must be in the target as it was in the base: the drop has seen no change of it.

Somebody may decide that it goes all the same. Then the undo remembers what went, to find it in the bytes before the
merge: what was written between their snapshot and the merge is not in them, and is not brought back as something else.
"""

from __future__ import annotations

from wye.kinds.postgres.changes import Content, DatabaseChanges
from wye.kinds.postgres.replay import fingerprint
from wye.kinds.postgres.session import Connection
from wye.kinds.postgres.tables import read_table
from wye.merge.conflict import THEIRS_ONLY, Conflict, Decisions


def changed_drops(connection: Connection, changes: DatabaseChanges, place: str, decisions: Decisions) -> list[Content]:
    """Locks what is to be dropped and leaves a conflict with `decisions` where the target has changed it. Returns what
    is given up although it was."""
    given_up = []
    for content in changes.contents:
        relation = read_table(connection, content.table) if content.is_drop else None
        columns = tuple(column for column in content.columns if relation and column in relation.columns)
        if relation is None or not columns:
            continue
        connection.execute(f"lock table {relation.source} in access exclusive mode")
        by = tuple(column for column in content.by if column in relation.columns)
        rows, digest = fingerprint(connection, relation.source, [*by, *columns])
        if (columns, rows, digest) == (content.columns, content.rows, content.digest):
            continue
        conflict = Conflict(
            kind="drop-vs-change",
            place=f"{place}/{content.table}",
            key=content.columns,
            base=content.rows,
            ours=rows,
            choices=THEIRS_ONLY,
            detail=f"dropped in the fork, changed in the target: {', '.join(columns)}; theirs drops it all the same",
        )
        if decisions.of(conflict) is not None:
            given_up.append(Content(table=content.table, columns=columns, rows=rows, digest=digest, by=by))
    return given_up


def missing(connection: Connection, given_up: Content) -> str | None:
    """Says what is not, in these bytes, what was given up; None if it is."""
    relation = read_table(connection, given_up.table)
    if relation is not None and {*given_up.by, *given_up.columns} <= set(relation.columns):
        found = fingerprint(connection, relation.source, [*given_up.by, *given_up.columns])
        if found == (given_up.rows, given_up.digest):
            return None
    return f"{given_up.table}: {', '.join(given_up.columns)}: something was written there just before the merge took it"

"""The project's own checks: SQL that returns no rows where the merged database is as it should be.

They run last, in the merge's transaction, and can write nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import psycopg

from wye.host import Host
from wye.kinds.postgres.refuse import refusal
from wye.kinds.postgres.session import Connection, fetch
from wye.merge.conflict import Conflict

_SHOWN_ROWS = 20


def failed_checks(
    host: Host, connection: Connection, checks: Iterable[tuple[str, float]], place: str
) -> list[Conflict]:
    """Refusals. `checks`: each with its limit in seconds. Nothing can be written to the database any more."""
    connection.execute("set local transaction_read_only = 'on'; set local search_path to default")
    found = []
    for sql, limit_s in checks:
        host.at("postgres:apply:check")
        connection.execute(f"set local statement_timeout = '{max(1, int(limit_s * 1000))}ms'")
        try:
            with connection.transaction():
                rows = fetch(connection, sql)
        except psycopg.Error as error:
            found.append(refusal("check-failed", place, str(error).strip(), key=(sql,)))
            continue
        if rows:
            shown = [[None if cell is None else str(cell) for cell in row] for row in rows[:_SHOWN_ROWS]]
            found.append(refusal("check-failed", place, f"{len(rows)} rows", key=(sql,), ours=shown))
    return found

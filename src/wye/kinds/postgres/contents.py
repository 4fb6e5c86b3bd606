"""Fingerprints of what the base holds where the fork dropped it, or where only one side may change it: a target that
holds something else has changed it too.

Of a dropped column the rows' keys are in it: values that changed their rows are other values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from wye.kinds.postgres.changes import Content
from wye.kinds.postgres.replay import fingerprint
from wye.kinds.postgres.side import Side
from wye.kinds.postgres.tables import Relation


def read_contents(
    side: Side,
    old: Mapping[int, Relation],
    new: Mapping[int, Relation],
    watched: Callable[[str], bool],
    *,
    altered: bool,
) -> list[Content]:
    """Of the base's tables `old`. If the fork has not `altered` the schema, nothing was dropped, and a table is the one
    of its name."""
    named = {} if altered else {table.name: table for table in new.values()}
    found = []
    for oid, table in old.items():
        after = named.get(table.name) or new.get(oid)
        now = after.name if after is not None else ""
        if altered and not table.is_partitioned:
            kept = after.numbers.values() if after is not None else ()
            gone = tuple(column for column in table.columns if table.numbers[column] not in kept)
            if gone:
                key = table.key(among=table.stored)
                by = tuple(column for column in (key.columns if key is not None else ()) if column not in gone)
                found.append(_content(side, table, gone, now, by, is_drop=True))
        if table.root == table.name and (watched(table.name) or watched(now)):
            found.append(_content(side, table, tuple(table.stored), now))
    return found


def _content(
    side: Side, table: Relation, columns: tuple[str, ...], now: str, by: tuple[str, ...] = (), *, is_drop: bool = False
) -> Content:
    rows, digest = fingerprint(side.base, table.source, [*by, *columns])
    return Content(table=table.name, columns=columns, rows=rows, digest=digest, is_drop=is_drop, now=now, by=by)

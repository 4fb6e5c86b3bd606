"""The locks that a merge's DDL will need, taken ahead and in an order that applications are not likely to cross.

An application locks a child's row and then, for the foreign key, its parent; DDL that held the parent and then asked
for the child would meet it in a deadlock, and the server might end the application's transaction instead of ours. So
children come first, nothing is held yet while the first is waited for, and this session looks for deadlocks long
before others do: whoever finds one is the one that ends.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from wye.kinds.postgres.catalog import Schema, difference
from wye.kinds.postgres.session import Connection
from wye.kinds.postgres.tables import ForeignKey, Relation, read_foreign_keys, read_tables

DEADLOCK_MS = 20
"""How long this session waits for a lock before it looks for a deadlock; others wait a second."""

_PART = r'(?:"(?:[^"]|"")*"|[^".\s(]+)'
_OWNER = re.compile(rf"(?:column|constraint|trigger|policy|rule) ({_PART}\.{_PART})\.{_PART}")
_NAMED = re.compile(rf"(?: ON (?:ONLY )?|REFERENCES )({_PART}\.{_PART})")


def lock_for_schema(connection: Connection, base: Schema, theirs: Schema) -> None:
    """Locks what the statements between two schemas will lock. Raises psycopg's LockNotAvailable, DeadlockDetected."""
    altered, named = touched(base, theirs)
    tables = read_tables(connection, altered | named).values()
    keys = read_foreign_keys(connection, [table.oid for table in tables])
    for table in children_first(tables, keys):
        mode = "access exclusive" if table.name in altered else "share row exclusive"
        connection.execute(f"lock table {table.source} in {mode} mode")


def touched(base: Schema, theirs: Schema) -> tuple[set[str], set[str]]:
    """Tables, as statements name them: that will be altered, and that only get an index or a reference."""
    altered: set[str] = set()
    named: set[str] = set()
    for key in difference(base, theirs):
        kind, _, name = key.partition(" ")
        owner = _OWNER.fullmatch(key)
        if owner is not None:
            altered.add(owner[1])
        elif kind == "table":
            altered.add(name)
        if kind in ("constraint", "index"):
            altered.update(_NAMED.findall(base.get(key, "")))
            named.update(_NAMED.findall(theirs.get(key, "")))
    return altered, named - altered


def children_first(tables: Collection[Relation], keys: Collection[ForeignKey]) -> list[Relation]:
    """Tables that refer to others before those; where they refer to each other, by name."""
    left = {table.name: table for table in sorted(tables, key=lambda table: table.name)}
    ordered: list[Relation] = []
    while left:
        parents = {
            name
            for key in keys
            if (key.child in left or key.child_root in left) and key.child_root != key.parent_root
            for name in (key.parent, key.parent_root)
        }
        name = next((name for name in left if name not in parents), next(iter(left)))
        ordered.append(left.pop(name))
    return ordered

"""What a fork changed in its keys: net, by database and key, against the base.

With candidates (`aof.candidates`) only those are looked at; otherwise every key of both servers is digested. A key that
is gone because its time was up is no change of the fork's: it went, or goes, the same way in the target.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from wye.kinds.redis.connection import Connection, ServerRefused, require_supported
from wye.kinds.redis.keys import KeyState, databases, now_ms, preview, read_states, scan, shown
from wye.merge.conflict import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChange:
    """None: the key is not there."""

    database: int
    key: bytes
    before: KeyState | None
    after: KeyState | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisChanges:
    """`keys` by database and key. `functions_differ`: libraries of functions, which are data too, are not the same."""

    keys: tuple[KeyChange, ...] = ()
    functions_differ: bool = False
    scanned: bool = False
    """Every key was looked at, because the append-only file could not tell which ones."""


def changes(base: Connection, theirs: Connection, candidates: Mapping[int, set[bytes]] | None = None) -> RedisChanges:
    """Compares two servers that nobody writes to. Raises Unsupported, see `require_supported`."""
    for server in (base, theirs):
        require_supported(server)
    found: list[KeyChange] = []
    for number in sorted({*databases(base), *databases(theirs)} if candidates is None else candidates):
        keys = _differing(base, theirs, number) if candidates is None else candidates[number]
        before, after = read_states(base, number, keys), read_states(theirs, number, keys)
        now = now_ms(theirs)
        for key in sorted(before.keys() | after.keys()):
            was, is_now = before.get(key), after.get(key)
            if was != is_now and not _ran_out(was, is_now, now):
                found.append(KeyChange(database=number, key=key, before=was, after=is_now))
    return RedisChanges(
        keys=tuple(found),
        functions_differ=_functions(base) != _functions(theirs),
        scanned=candidates is None,
    )


def stat(found: RedisChanges) -> Json:
    """Counts that fit a screen."""
    by_database: dict[str, dict[str, int]] = {}
    for change in found.keys:
        counts = by_database.setdefault(str(change.database), {"added": 0, "removed": 0, "modified": 0})
        counts[_sort(change)] += 1
    return {"databases": by_database, "functions_differ": found.functions_differ}


def page(
    base: Connection, theirs: Connection, found: RedisChanges, *, offset: int = 0, limit: int = 100, items: int = 20,
    size: int = 1000,
) -> list[Json]:  # fmt: skip
    """Changed keys from `offset` on, with the beginning of their values: at most `items` elements of `size` bytes."""
    return [
        {
            "database": change.database,
            "key": shown(change.key),
            "change": _sort(change),
            "before": _side(base, change, change.before, items, size),
            "after": _side(theirs, change, change.after, items, size),
        }
        for change in found.keys[offset : offset + limit]
    ]


def _side(connection: Connection, change: KeyChange, state: KeyState | None, items: int, size: int) -> Json:
    if state is None:
        return None
    value = preview(connection, change.database, change.key, state, items=items, size=size)
    return {"type": state.type, "length": state.length, "expires_ms": state.expires_ms, "value": value}


def _sort(change: KeyChange) -> str:
    return "added" if change.before is None else "removed" if change.after is None else "modified"


def _differing(base: Connection, theirs: Connection, number: int) -> list[bytes]:
    before, after = scan(base, number), scan(theirs, number)
    return [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]


def _ran_out(before: KeyState | None, after: KeyState | None, now: int) -> bool:
    return after is None and before is not None and before.expires_ms is not None and before.expires_ms <= now


def _functions(connection: Connection) -> str:
    """A digest of all libraries, in whatever order they are listed."""
    try:
        libraries = connection.execute("FUNCTION", "LIST", "WITHCODE")
    except ServerRefused:
        return ""
    return hashlib.sha256(repr(sorted(map(repr, libraries))).encode()).hexdigest()

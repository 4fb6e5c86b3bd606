"""Keys and their states, as bytes and numbers, and how they are read.

A key is arbitrary bytes. Where text is needed (conflicts, JSON), `to_text` gives a string that `to_bytes` turns back
exactly. Reading is bounded: a preview shows the beginning of a value, and values too large to compare inside the
server within a moment are marked so.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from wye.errors import InvariantError, Unavailable
from wye.kinds.redis.connection import Connection, Reply, info
from wye.kinds.redis.script import ABSENT, DIGEST_LETTERS, NO_EXPIRY, READ, SCAN
from wye.merge.conflict import Json
from wye.merge.keys import FIELD_TYPES, KeyValue

TYPES = frozenset({"string", "list", "hash", "set", "zset", "stream"})
"""Any other is a module's."""

_KEYS_AT_ONCE = 500
_SCAN_S = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyState:
    """`length`: elements, or bytes of a string. `expires_ms`: Unix milliseconds, None for never."""

    type: str
    digest: str
    expires_ms: int | None = None
    length: int = 0

    @property
    def has_expiring_fields(self) -> bool:
        """Whether fields of it have a time of their own: then a second digest, of these, follows the first."""
        return self.type == "hash" and len(self.digest) > DIGEST_LETTERS

    def value(self, fields: tuple[tuple[str, str], ...] | None = None) -> KeyValue:
        return KeyValue(type=self.type, digest=self.digest, expires_ms=self.expires_ms, fields=fields)


def state_to_json(state: KeyState | None) -> Json:
    """For people, without the value."""
    return None if state is None else {"type": state.type, "expires_ms": state.expires_ms, "length": state.length}


def to_text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def databases(connection: Connection) -> list[int]:
    """The numbers of those that have keys."""
    return sorted(int(name.removeprefix("db")) for name in info(connection, "keyspace") if name.startswith("db"))


def now_ms(connection: Connection) -> int:
    seconds, micros = connection.execute("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


def scan(connection: Connection, database: int) -> dict[bytes, bytes]:
    """All keys with their states as the server wrote them (`state_from`). For servers that nobody writes to.

    Raises Unavailable if that has no end."""
    found: dict[bytes, bytes] = {}
    cursor = b"0"
    until = time.monotonic() + _SCAN_S
    while True:
        if time.monotonic() > until:
            raise Unavailable(f"redis has not named all its keys in {_SCAN_S:g} s")
        cursor, text = connection.execute("EVAL", SCAN, 0, database, cursor)
        at = 0
        while at < len(text):
            end = text.index(b"\n", at)
            length, state = text[at:end].split(b" ", 1)
            at = end + 1 + int(length)
            found[text[end + 1 : at]] = state
        if cursor == b"0":
            return found


def read_states(
    connection: Connection, database: int, keys: Iterable[bytes], *, bounded: bool = False
) -> dict[bytes, KeyState]:
    """Of those that are there. `bounded`, for a live server: what would take it long gets the digest LARGE, and it has
    time for others now and then. Each script call is one instant; several are not."""
    ordered = sorted(keys)
    found: dict[bytes, KeyState] = {}
    at = 0
    while at < len(ordered):
        batch = ordered[at : at + _KEYS_AT_ONCE]
        lines = connection.execute("EVAL", READ, len(batch), *batch, database, int(bounded)).split(b"\n")
        for key, line in zip(batch, lines, strict=False):
            state = state_from(line)
            if state is not None:
                found[key] = state
        at += len(lines)
    return found


def state_from(line: bytes) -> KeyState | None:
    """From what a script says: type, digest, expiry, length; None if the key is not there."""
    kind, digest, expires, length = line.decode().split(" ")
    if kind == ABSENT:
        return None
    expires_ms = int(expires)
    return KeyState(
        type=kind, digest=digest, expires_ms=None if expires_ms == NO_EXPIRY else expires_ms, length=int(length)
    )


def read_dumps(connection: Connection, database: int, keys: Sequence[bytes]) -> dict[bytes, bytes]:
    """Serialised values of those that are there."""
    connection.execute("SELECT", database)
    replies = connection.execute_all([("DUMP", key) for key in keys])
    return {key: dump for key, dump in zip(keys, replies, strict=True) if dump is not None}


def read_fields(connection: Connection, database: int, key: bytes, kind: str) -> tuple[tuple[str, str], ...]:
    """Of a hash, set or sorted set, sorted by name; see `merge.keys.KeyValue.fields`."""
    if kind not in FIELD_TYPES:
        raise InvariantError(f"a {kind} has no fields")
    connection.execute("SELECT", database)
    if kind == "set":
        return tuple(sorted((to_text(member), "") for member in connection.execute("SMEMBERS", key)))
    command = ("HGETALL", key) if kind == "hash" else ("ZRANGE", key, 0, -1, "WITHSCORES")
    return tuple(sorted((to_text(name), to_text(value)) for name, value in _pairs(connection.execute(*command))))


def preview(connection: Connection, database: int, key: bytes, state: KeyState, *, items: int, size: int) -> Json:
    """The beginning of a value, for people: text, a list or a mapping; bytes that are no text appear as escapes."""
    connection.execute("SELECT", database)
    last = items - 1
    match state.type:
        case "string":
            return _shown(connection.execute("GETRANGE", key, 0, size - 1), size)
        case "list":
            return [_shown(item, size) for item in connection.execute("LRANGE", key, 0, last)]
        case "set":
            _, members = connection.execute("SSCAN", key, 0, "COUNT", items)
            return sorted(_shown(member, size) for member in members)[:items]
        case "hash":
            _, flat = connection.execute("HSCAN", key, 0, "COUNT", items)
            return dict(sorted((_shown(name, size), _shown(value, size)) for name, value in _pairs(flat))[:items])
        case "zset":
            flat = connection.execute("ZRANGE", key, 0, last, "WITHSCORES")
            return {_shown(member, size): _shown(score, size) for member, score in _pairs(flat)}
        case "stream":
            entries = connection.execute("XRANGE", key, "-", "+", "COUNT", items)
            return {
                _shown(entry, size): {_shown(name, size): _shown(value, size) for name, value in _pairs(flat)}
                for entry, flat in entries
            }
        case _:
            return None


def shown(raw: bytes) -> str:
    """For people, never an invalid string."""
    return raw.decode("utf-8", "backslashreplace")


def _shown(raw: bytes, size: int) -> str:
    return shown(raw[:size])


def _pairs(flat: Reply) -> Iterator[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)

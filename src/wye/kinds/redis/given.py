"""Values that people gave for keys in conflict, as a server serialises them.

They are made on a throwaway server, under a name of its own, so that the target gets them like any other value: whole,
compared and replaced in one script.
"""

from __future__ import annotations

import secrets

from wye.kinds.redis.connection import Connection
from wye.kinds.redis.keys import KeyState, read_dumps, read_states, to_bytes
from wye.merge.keys import GivenValue

_COMMANDS = {"string": "SET", "list": "RPUSH", "set": "SADD", "hash": "HSET", "zset": "ZADD"}


def make_given(throwaway: Connection, database: int, given: GivenValue) -> tuple[KeyState, bytes]:
    """Its state, without an expiry, and its serialised value."""
    key = f"wye:given:{secrets.token_hex(16)}".encode()
    throwaway.execute("SELECT", database)
    throwaway.execute(_COMMANDS[given.type], key, *map(to_bytes, given.items))
    state = read_states(throwaway, database, [key])[key]
    payload = read_dumps(throwaway, database, [key])[key]
    throwaway.execute("DEL", key)
    return state, payload

"""The three-way merge of keys, decided: what to write into the target, or the complete list of conflicts.

`merge.keys` decides. A plan holds all that applying needs and all that undoing needs, so neither reads the fork again:
every write carries the state expected in the target, the new value and the old one. `inverse` turns it round. Reverting
later, when the target has gone on, is a plan of its own with the roles swapped: base is the state after the merge,
theirs the one before.

Refused by name: modules' types, functions, and values too large to be compared and replaced within a moment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from wye.errors import BadRequest, InvariantError
from wye.kinds.redis.changes import KeyChange, RedisChanges
from wye.kinds.redis.connection import Connection
from wye.kinds.redis.given import make_given
from wye.kinds.redis.keys import (
    TYPES,
    KeyState,
    preview,
    read_dumps,
    read_fields,
    read_states,
    state_to_json,
    to_bytes,
    to_text,
)
from wye.kinds.redis.script import (
    BYTES_PER_ELEMENT,
    ELEMENTS_LIMIT,
    LARGE,
    STRING_LIMIT_BYTES,
    elements_digest,
)
from wye.merge.conflict import NONE, Conflict, Decisions, Json, Side
from wye.merge.keys import FIELD_TYPES, KeyTriple, KeyWrite, merge_keys

PAYLOAD_LIMIT_BYTES = 256 << 20
"""Of all new values in one plan: they travel in one command, and a server takes a gigabyte at most."""
WORK_LIMIT = 500_000
"""Of all keys in one plan together, in elements: the target compares them while it stands still."""
_SHOWN_ITEMS, _SHOWN_BYTES = 20, 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedKey:
    """`operation`: "restore" (`payload` is the serialised value), "delete", "fields" or "expire". `expected` and
    `after` are the target's states before and after; `was` is its serialised value before."""

    database: int
    key: bytes
    expected: KeyState | None
    operation: str
    after: KeyState | None
    payload: bytes = b""
    set_fields: tuple[tuple[bytes, bytes], ...] = ()
    unset_fields: tuple[bytes, ...] = ()
    was: bytes = b""

    def conflict(self, place: str, now: KeyState | None, kind: str, choices: frozenset[Side], detail: str) -> Conflict:
        """With the target's key, which is `now` and not what was expected."""
        return Conflict(
            kind=kind,
            place=f"{place} db{self.database}",
            key=(to_text(self.key),),
            base=state_to_json(self.expected),
            ours=state_to_json(now),
            theirs=state_to_json(self.after),
            choices=choices,
            detail=detail,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisPlan:
    """`writes` are meaningless while `conflicts` is not empty."""

    writes: tuple[PlannedKey, ...] = ()
    conflicts: tuple[Conflict, ...] = ()


def plan(
    place: str,
    base: Connection,
    ours: Connection,
    theirs: Connection,
    found: RedisChanges,
    decisions: Decisions | None = None,
    by_field: Callable[[bytes], bool] | None = None,
) -> RedisPlan:
    """Merges `found` into `ours`, which is only read: the live target, or a server on a snapshot of it. `base` is a
    throwaway. `place` names the store in conflicts ("redis cache"). `by_field` says which keys merge by field."""
    decisions = Decisions() if decisions is None else decisions
    known = len(decisions.open)
    refused = []
    if found.functions_differ:
        detail = "the fork changed libraries of functions: load them into the target yourself"
        refused.append(_refusal(place, "functions", detail))
    planner = _Planner(place, base, ours, theirs, decisions, by_field or (lambda key: False))
    for number in sorted({change.database for change in found.keys}):
        planner.database(number, [change for change in found.keys if change.database == number])
    if sum(len(write.payload) for write in planner.writes) > PAYLOAD_LIMIT_BYTES:
        refused.append(_refusal(place, "too-large", f"the new values take more than {PAYLOAD_LIMIT_BYTES} bytes"))
    if sum(_work(write.expected) for write in planner.writes) > WORK_LIMIT:
        refused.append(_refusal(place, "too-large", f"the keys to compare hold more than {WORK_LIMIT} elements"))
    conflicts = [_with_values(conflict, base, ours, theirs) for conflict in decisions.open[known:]]
    return RedisPlan(writes=tuple(planner.writes), conflicts=(*conflicts, *refused, *planner.refused))


def inverse(planned: RedisPlan) -> RedisPlan:
    """What takes `planned` back, on a target where nobody has touched these keys since."""
    return RedisPlan(
        writes=tuple(
            PlannedKey(
                database=write.database,
                key=write.key,
                expected=write.after,
                operation="delete" if write.expected is None else "restore",
                after=write.expected,
                payload=write.was,
            )
            for write in planned.writes
        )
    )


def to_json(planned: RedisPlan) -> bytes:
    """The writes, to be stored before they are applied."""
    return msgspec.json.encode(planned.writes, order="sorted")


def from_json(data: bytes) -> RedisPlan:
    """Raises BadRequest."""
    try:
        return RedisPlan(writes=msgspec.json.decode(data, type=tuple[PlannedKey, ...]))
    except msgspec.DecodeError as error:
        raise BadRequest(f"not a plan for redis: {error}") from error


class _Planner:
    def __init__(
        self,
        place: str,
        base: Connection,
        ours: Connection,
        theirs: Connection,
        decisions: Decisions,
        by_field: Callable[[bytes], bool],
    ) -> None:
        self.place = place
        self.base, self.ours, self.theirs = base, ours, theirs
        self.decisions = decisions
        self.by_field = by_field
        self.writes: list[PlannedKey] = []
        self.refused: list[Conflict] = []

    def database(self, number: int, found: list[KeyChange]) -> None:
        place = f"{self.place} db{number}"
        present = read_states(self.ours, number, [change.key for change in found], bounded=True)
        triples = []
        states: dict[str, tuple[KeyChange, KeyState | None]] = {}
        for change in found:
            mine = present.get(change.key)
            problem = _problem(change, mine)
            if problem:
                self.refused.append(_refusal(place, *problem, key=to_text(change.key)))
                continue
            states[to_text(change.key)] = (change, mine)
            triples.append(self._triple(place, change, mine))
        merged = merge_keys(triples, self.decisions)
        taken = [to_bytes(write.key) for write in merged.writes if write.content == "theirs"]
        payloads = read_dumps(self.theirs, number, taken)
        old = read_dumps(self.ours, number, [to_bytes(write.key) for write in merged.writes])
        for write in merged.writes:
            change, mine = states[write.key]
            planned = self._planned(number, change, mine, write, payloads)
            self.writes.append(replace(planned, was=old.get(change.key, b"")))

    def _triple(self, place: str, change: KeyChange, mine: KeyState | None) -> KeyTriple:
        sides = (change.before, mine, change.after)
        connections = (self.base, self.ours, self.theirs)
        kinds = {state.type if state else "" for state in sides}
        with_fields = len(kinds) == 1 and kinds <= FIELD_TYPES and self.by_field(change.key)
        # A field's own time is no part of what `merge.keys` merges: such a hash is one value.
        expiring = with_fields and any(state is not None and state.has_expiring_fields for state in sides)
        with_fields = with_fields and not expiring
        values = [
            state.value(read_fields(connection, change.database, change.key, state.type) if with_fields else None)
            if state
            else None
            for state, connection in zip(sides, connections, strict=True)
        ]
        return KeyTriple(
            place=place,
            key=to_text(change.key),
            base=values[0],
            ours=values[1],
            theirs=values[2],
            detail="fields of it expire on their own, so it is not merged by field" if expiring else "",
        )

    def _planned(
        self, number: int, change: KeyChange, mine: KeyState | None, write: KeyWrite, payloads: dict[bytes, bytes]
    ) -> PlannedKey:
        planned = PlannedKey(database=number, key=change.key, expected=mine, operation=write.content, after=None)
        if write.content == "delete":
            return planned
        if write.content == "theirs":
            if change.after is None or change.key not in payloads:
                raise InvariantError(f"theirs has no {change.key!r} to take")
            after = replace(change.after, expires_ms=write.expires_ms)
            return replace(planned, operation="restore", payload=payloads[change.key], after=after)
        if write.given is not None:
            state, payload = make_given(self.base, number, write.given)
            return replace(
                planned, operation="restore", payload=payload, after=replace(state, expires_ms=write.expires_ms)
            )
        if mine is None:
            raise InvariantError(f"the target has no {change.key!r} to change")
        if write.content == "ours":
            return replace(planned, operation="expire", after=replace(mine, expires_ms=write.expires_ms))
        fields = dict(read_fields(self.ours, number, change.key, mine.type)) | dict(write.set_fields)
        fields = {name: value for name, value in fields.items() if name not in write.unset_fields}
        elements = [(to_bytes(n),) if mine.type == "set" else (to_bytes(n), to_bytes(v)) for n, v in fields.items()]
        after_fields = replace(
            mine, digest=elements_digest(elements), length=len(elements), expires_ms=write.expires_ms
        )
        return replace(
            planned,
            after=after_fields if elements else None,
            set_fields=tuple((to_bytes(name), to_bytes(value)) for name, value in write.set_fields),
            unset_fields=tuple(to_bytes(name) for name in write.unset_fields),
        )


def _problem(change: KeyChange, mine: KeyState | None) -> tuple[str, str] | None:
    for state in (change.before, change.after, mine):
        if state is None:
            continue
        if state.type not in TYPES:
            return "module-type", f"{state.type} is a module's type"
        limit = STRING_LIMIT_BYTES if state.type == "string" else ELEMENTS_LIMIT
        if state.digest == LARGE or state.length > limit:
            return "too-large", f"a {state.type} of {state.length} is not compared and replaced within a moment"
    return None


def _work(state: KeyState | None) -> int:
    if state is None:
        return 0
    return state.length // BYTES_PER_ELEMENT if state.type == "string" else state.length


def _refusal(place: str, kind: str, detail: str, *, key: str | None = None) -> Conflict:
    return Conflict(kind=kind, place=place, key=() if key is None else (key,), choices=NONE, detail=detail)


def _with_values(conflict: Conflict, base: Connection, ours: Connection, theirs: Connection) -> Conflict:
    """The beginning of each side's value instead of digests, for people."""
    found = (conflict.base, conflict.ours, conflict.theirs)
    if conflict.key[0] is None or any(side is not None and not isinstance(side, dict) for side in found):
        return conflict  # about a field
    number, key = int(conflict.place.rpartition(" db")[2]), to_bytes(conflict.key[0])
    sides: list[Json] = []
    for connection, side in ((base, conflict.base), (ours, conflict.ours), (theirs, conflict.theirs)):
        if side is None:
            sides.append(None)
            continue
        state = KeyState(type=side["type"], digest=side["digest"], expires_ms=side["expires_ms"])
        value = preview(connection, number, key, state, items=_SHOWN_ITEMS, size=_SHOWN_BYTES)
        sides.append({"type": state.type, "expires_ms": state.expires_ms, "value": value})
    return replace(conflict, base=sides[0], ours=sides[1], theirs=sides[2])

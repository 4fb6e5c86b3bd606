"""Carries a plan out on a live server: one script, which compares all keys of all databases before it writes any.

The script is atomic, so writers see all of it or nothing, and a refusal names every key that is not as the plan
expects. If the answer is lost, `is_applied` tells from the keys themselves whether the script ran. To undo is to apply
`inverse(plan)`: the same comparison protects what was written since.
"""

from __future__ import annotations

from wye.errors import InvariantError
from wye.kinds.redis.connection import Argument, Connection, require_supported
from wye.kinds.redis.keys import KeyState, read_states, state_from
from wye.kinds.redis.plan import PlannedKey, RedisPlan
from wye.kinds.redis.script import ABSENT, NO_EXPIRY, WRITE
from wye.merge.conflict import NONE
from wye.merge.refused import Refused


def apply(place: str, live: Connection, planned: RedisPlan) -> None:
    """Writes all of `planned`, or nothing. `place` as in `plan`.

    Raises Refused with all keys that have changed since the plan was made; ServerRefused if the server could not do
    it (out of memory, read-only, a payload it does not know), ConnectionLost if nobody knows (`is_applied`)."""
    if planned.conflicts:
        raise InvariantError("a plan with conflicts cannot be applied")
    if not planned.writes:
        return
    require_supported(live, writable=True)
    # Restores go first: if memory is short the server refuses the first of them, before anything is written.
    ordered = sorted(planned.writes, key=lambda write: write.operation != "restore")
    arguments: list[Argument] = [len(ordered)]
    for write in ordered:
        arguments += _arguments(write)
    answer = live.execute("EVAL", WRITE, 0, *arguments)
    if answer:
        found = [(ordered[raw[0] - 1], state_from(b" ".join(raw[1:]))) for raw in answer]
        detail = "the target's key has changed since the merge was planned"
        raise Refused([write.conflict(place, now, "changed-since", NONE, detail) for write, now in found])


def is_applied(live: Connection, planned: RedisPlan) -> bool:
    """Whether every key is as after the plan. Ask right after a lost answer: later writes make it false."""
    for number in sorted({write.database for write in planned.writes}):
        writes = [write for write in planned.writes if write.database == number]
        states = read_states(live, number, [write.key for write in writes], bounded=True)
        if any(states.get(write.key) != write.after for write in writes):
            return False
    return True


def _arguments(write: PlannedKey) -> list[Argument]:
    expected, after = write.expected, write.after
    set_fields: list[Argument] = []
    for name, value in write.set_fields:
        kind = expected.type if expected else ""
        set_fields += [name] if kind == "set" else [value, name] if kind == "zset" else [name, value]
    return [
        write.database, write.key,
        expected.type if expected else ABSENT, expected.digest if expected else "", _expiry(expected),
        write.operation, _expiry(after), write.payload,
        len(set_fields), *set_fields, len(write.unset_fields), *write.unset_fields,
    ]  # fmt: skip


def _expiry(state: KeyState | None) -> int:
    return NO_EXPIRY if state is None or state.expires_ms is None else state.expires_ms

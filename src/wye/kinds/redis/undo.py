"""Taking an application of a plan back later, when the target has gone on.

What an application keeps is its `inverse`: for each key the state that it gave and the state before. A key that still
has the former gets the latter; one that has the latter already is done, so a plan that never ran is taken back as well;
one that was written to since is a conflict, and by default people keep what was written last.
"""

from __future__ import annotations

from dataclasses import replace

from wye.kinds.redis.connection import Connection
from wye.kinds.redis.keys import KeyState, now_ms, read_dumps, read_states, shown, state_to_json
from wye.kinds.redis.plan import PlannedKey, RedisPlan
from wye.merge.conflict import BOTH, Decisions, Json, Side


def plan_undo(place: str, live: Connection, inverse: RedisPlan, decisions: Decisions) -> RedisPlan:
    """`inverse` against the target as it is now, which is only read."""
    known = len(decisions.open)
    now = now_ms(live)
    writes: list[PlannedKey] = []
    for number in sorted({write.database for write in inverse.writes}):
        wanted = [write for write in inverse.writes if write.database == number]
        keys = [write.key for write in wanted]
        states = read_states(live, number, keys, bounded=True)
        dumps = read_dumps(live, number, keys)
        for write in wanted:
            mine = states.get(write.key)
            if mine == write.after or (mine is None and _ran_out(write.expected, now)):
                continue
            if mine != write.expected:
                kind = f"{'delete' if write.after is None else 'update'}/{'delete' if mine is None else 'update'}"
                detail = "the key was written to after the merge"
                chosen = decisions.of(write.conflict(place, mine, kind, BOTH, detail))
                if chosen is None or chosen.side is not Side.THEIRS:
                    continue
            writes.append(replace(write, expected=mine, was=dumps.get(write.key, b"")))
    return RedisPlan(writes=tuple(writes), conflicts=tuple(decisions.open[known:]))


def is_in_effect(live: Connection, inverse: RedisPlan) -> bool:
    """Whether what `inverse` takes back was ever written: it is all or nothing, so one key tells."""
    for number in sorted({write.database for write in inverse.writes}):
        writes = [write for write in inverse.writes if write.database == number and write.expected != write.after]
        states = read_states(live, number, [write.key for write in writes], bounded=True)
        if any(states.get(write.key) == write.expected for write in writes):
            return True
    return False


def undo_stat(inverse: RedisPlan) -> Json:
    """Counts that fit a screen, as `changes.stat` gives them."""
    by_database: dict[str, dict[str, int]] = {}
    for write in inverse.writes:
        counts = by_database.setdefault(str(write.database), {"added": 0, "removed": 0, "modified": 0})
        counts[_sort(write)] += 1
    return {"databases": by_database, "functions_differ": False}


def undo_page(inverse: RedisPlan, *, offset: int, limit: int) -> list[Json]:
    """Keys from `offset` on, without their values."""
    return [
        {
            "database": write.database,
            "key": shown(write.key),
            "change": _sort(write),
            "before": state_to_json(write.expected),
            "after": state_to_json(write.after),
        }
        for write in inverse.writes[offset : offset + limit]
    ]


def _sort(write: PlannedKey) -> str:
    return "added" if write.expected is None else "removed" if write.after is None else "modified"


def _ran_out(state: KeyState | None, now: int) -> bool:
    return state is not None and state.expires_ms is not None and state.expires_ms <= now

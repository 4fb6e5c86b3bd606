"""Three-way merge of a counter that hands out identities, such as SQLite's for AUTOINCREMENT.

Identities that rows take move it forward, on both sides at once and with nobody's intent: the greater number is then
right for both. That it goes back is somebody's wish, which the other side's new identities may speak against: so it is
taken where the other side has left the counter alone, and a conflict where it has not.
"""

from __future__ import annotations

from wye.merge.conflict import BOTH, Conflict, Decisions, Side


def merge_counter(
    place: str, name: str, base: int | None, ours: int | None, theirs: int | None, decisions: Decisions
) -> int | None:
    """The number that the counter `name` shall have: the last identity that is taken. None: it has none yet, which is
    as good as 0. While a conflict is open, ours."""
    was, mine, other = (number or 0 for number in (base, ours, theirs))
    if other in (was, mine):
        return ours
    if mine == was:
        return theirs
    if mine > was and other > was:
        return max(mine, other)
    moved = [("set it back" if number < was else "moved it on") for number in (other, mine)]
    done = "both sides set it back" if moved[0] == moved[1] else f"the fork {moved[0]}, the target {moved[1]}"
    conflict = Conflict(
        kind="sequence-set-back", place=place, key=(name,), base=base, ours=ours, theirs=theirs, choices=BOTH,
        detail=f"the counter that numbers its rows: {done}; ours keeps the target's number, theirs sets the fork's",
    )  # fmt: skip
    chosen = decisions.of(conflict)
    return theirs if chosen is not None and chosen.side is Side.THEIRS else ours

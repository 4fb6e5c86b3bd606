"""Refusals: a merge that cannot be done safely says so by name, completely, and changes nothing.

A refusal carries conflicts in the sense of `wye.merge.conflict`. Those that a person can settle have choices; the
others name what this room will not merge (a role, a large object, DDL inside a function), because ignoring it would
lose it in silence.
"""

from __future__ import annotations

from collections.abc import Sequence

from wye.errors import CheckFailed
from wye.merge.conflict import NONE, Conflict, Json

_SHOWN = 3


class Refused(CheckFailed):
    """Nothing was merged. `conflicts` is never empty."""

    code = "merge_refused"

    def __init__(self, conflicts: Sequence[Conflict]) -> None:
        shown = "; ".join(_brief(conflict) for conflict in conflicts[:_SHOWN])
        more = f"; and {len(conflicts) - _SHOWN} more" if len(conflicts) > _SHOWN else ""
        hint = None
        if any(conflict.choices for conflict in conflicts):
            hint = "'wye conflicts' lists them; 'wye merge --resolve FILE' settles them"
        super().__init__(f"{len(conflicts)} conflicts: {shown}{more}", hint=hint)
        self.conflicts = list(conflicts)


def refusal(
    kind: str,
    place: str,
    detail: str = "",
    *,
    key: Sequence[str | None] = (),
    base: Json = None,
    ours: Json = None,
    theirs: Json = None,
) -> Conflict:
    """Something that no resolution can settle: the fork or the target has to change."""
    return Conflict(
        kind=kind, place=place, key=tuple(key), base=base, ours=ours, theirs=theirs, choices=NONE, detail=detail
    )


def _brief(conflict: Conflict) -> str:
    key = "(" + ", ".join("NULL" if part is None else part for part in conflict.key) + ")" if conflict.key else ""
    column = f".{conflict.column}" if conflict.column else ""
    detail = f": {conflict.detail}" if conflict.detail else ""
    return f"{conflict.kind} {conflict.place}{key}{column}{detail}"

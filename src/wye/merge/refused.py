"""A merge that cannot be done as asked says so completely: every conflict, and nothing has changed."""

from __future__ import annotations

from collections.abc import Sequence

from wye.errors import CheckFailed
from wye.merge.conflict import Conflict

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


def _brief(conflict: Conflict) -> str:
    key = "(" + ", ".join("NULL" if part is None else part for part in conflict.key) + ")" if conflict.key else ""
    column = f".{conflict.column}" if conflict.column else ""
    detail = f": {conflict.detail}" if conflict.detail else ""
    return f"{conflict.kind} {conflict.place}{key}{column}{detail}"

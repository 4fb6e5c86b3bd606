"""Refusals: a merge that cannot be done safely says so by name, completely, and changes nothing.

A refusal carries conflicts in the sense of `wye.merge.conflict`. Those that a person can settle have choices; the
others name what this room will not merge (a role, a large object, DDL inside a function), because ignoring it would
lose it in silence.
"""

from __future__ import annotations

from collections.abc import Sequence

from wye.merge.conflict import NONE, Conflict, Json


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

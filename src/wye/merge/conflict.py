"""A conflict is a value, with an identity that outlives the merge that found it.

The identity is a hash of what is in conflict (kind, place, key, column), not of the three values: a person
resolves a conflict once, and the resolution still fits when the merge is planned again a minute later.
Whoever merges asks `Decisions.of(conflict)`; what is undecided is collected, so that a refusal is complete.

`Absent` is the JSON value null for whole things (a file, a row, a key). A cell of a row that is SQL's NULL is
null as well, but such a conflict names its column, so the two never meet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from wye.errors import BadRequest, NotFound

Json = Any
"""What json.dumps takes: None, bool, int, float, str, lists and dicts with str keys."""


class Side(StrEnum):
    """Who wins: the target as it is now, the fork, or a value given by a person."""

    OURS = "ours"
    THEIRS = "theirs"
    VALUE = "value"


BOTH = frozenset({Side.OURS, Side.THEIRS})
ALL = frozenset(Side)
NONE: frozenset[Side] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Both sides changed `place`/`key`/`column` since the base, each in its own way.

    `kind` is "<what theirs did>/<what ours did>" or a name ("unique", "fk-parent-missing"). `choices` says which
    resolutions make sense; empty: it must be repaired in the fork or in the target, and merged again.
    """

    kind: str
    place: str
    key: tuple[str | None, ...] = ()
    column: str = ""
    base: Json = None
    ours: Json = None
    theirs: Json = None
    choices: frozenset[Side] = ALL
    detail: str = ""

    @property
    def id(self) -> str:
        """Twelve hex digits, the same whenever the same thing is in conflict."""
        identity = json.dumps([self.kind, self.place, self.key, self.column], ensure_ascii=True)
        return hashlib.sha256(identity.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What to take for one conflict; `value` counts for Side.VALUE only."""

    side: Side
    value: Json = None

    def choose(self, conflict: Conflict) -> Json:
        if self.side is Side.OURS:
            return conflict.ours
        return conflict.theirs if self.side is Side.THEIRS else self.value


class Decisions:
    """Resolutions by conflict id, and the conflicts that none of them settles, in the order they came up."""

    def __init__(self, resolutions: Mapping[str, Resolution] | None = None) -> None:
        self._resolutions = dict(resolutions or {})
        self.open: list[Conflict] = []

    def of(self, conflict: Conflict) -> Resolution | None:
        """The resolution of `conflict`; None, and noted as open, if there is none that it allows."""
        resolution = self._resolutions.get(conflict.id)
        if resolution is None or resolution.side not in conflict.choices:
            self.open.append(conflict)
            return None
        return resolution


def resolve(conflicts: Iterable[Conflict], resolutions: Mapping[str, Resolution]) -> list[Conflict]:
    """The conflicts that `resolutions` leave open.

    Raises NotFound for a resolution of something that is not in conflict, BadRequest for one that its conflict
    does not allow: a resolution that does nothing is a mistake that nobody should make in silence.
    """
    known = {conflict.id: conflict for conflict in conflicts}
    for identity, resolution in resolutions.items():
        if identity not in known:
            raise NotFound(
                f"there is no conflict {identity}", hint="'wye conflicts' lists what is in conflict and the ids"
            )
        allowed = known[identity].choices
        if resolution.side not in allowed:
            names = ", ".join(sorted(allowed)) or "nothing: change the fork or the target and merge again"
            raise BadRequest(f"conflict {identity} cannot be resolved with {resolution.side}; possible: {names}")
    return [conflict for identity, conflict in known.items() if identity not in resolutions]


def conflict_to_json(conflict: Conflict) -> dict[str, Json]:
    return {
        "id": conflict.id,
        "kind": conflict.kind,
        "place": conflict.place,
        "key": list(conflict.key),
        "column": conflict.column,
        "base": conflict.base,
        "ours": conflict.ours,
        "theirs": conflict.theirs,
        "choices": sorted(conflict.choices),
        "detail": conflict.detail,
    }


def conflict_from_json(data: Mapping[str, Json]) -> Conflict:
    """Raises BadRequest if `data` is no conflict."""
    try:
        return Conflict(
            kind=data["kind"],
            place=data["place"],
            key=tuple(data["key"]),
            column=data["column"],
            base=data["base"],
            ours=data["ours"],
            theirs=data["theirs"],
            choices=frozenset(Side(side) for side in data["choices"]),
            detail=data["detail"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadRequest(f"not a conflict: {error}") from error


def resolution_to_json(resolution: Resolution) -> Json:
    """ "ours", "theirs" or {"value": ...}: what a person writes in a resolution file."""
    return {"value": resolution.value} if resolution.side is Side.VALUE else str(resolution.side)


def resolution_from_json(data: Json) -> Resolution:
    """Raises BadRequest."""
    if data in (Side.OURS.value, Side.THEIRS.value):
        return Resolution(side=Side(data))
    if isinstance(data, dict) and set(data) == {"value"}:
        return Resolution(side=Side.VALUE, value=data["value"])
    raise BadRequest(f"not a resolution: {data!r}", hint='write "ours", "theirs" or {"value": ...}')

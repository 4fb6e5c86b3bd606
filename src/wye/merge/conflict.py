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
from collections.abc import Collection, Iterable, Iterator, Mapping
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
OURS_ONLY, THEIRS_ONLY = frozenset({Side.OURS}), frozenset({Side.THEIRS})
NONE: frozenset[Side] = frozenset()
_SHOWN = 5


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
    """Resolutions by conflict id, and the conflicts that none of them settles, in the order they came up.

    `settled`: ids of resolutions that were asked for and took effect."""

    def __init__(self, resolutions: Mapping[str, Resolution] | None = None) -> None:
        self.resolutions = dict(resolutions or {})
        self.open: list[Conflict] = []
        self.settled: set[str] = set()

    def of(self, conflict: Conflict) -> Resolution | None:
        """The resolution of `conflict`; None, and noted as open, if there is none that it allows."""
        resolution = self.resolutions.get(conflict.id)
        if resolution is None or resolution.side not in conflict.choices:
            self.open.append(conflict)
            return None
        self.settled.add(conflict.id)
        return resolution

    def values(self) -> dict[str, list[str]]:
        """Of the resolutions that gave a value and took effect: the texts in it."""
        given = {key: self.resolutions[key] for key in sorted(self.settled)}
        return {key: list(_texts(each.value)) for key, each in given.items() if each.side is Side.VALUE}


def _texts(value: Json) -> Iterator[str]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if inner is None:
        yield str(value)
    for each in inner or ():
        yield from _texts(each)


class Favouring(Decisions):
    """Those of `others`, and `side` for whatever they do not say and the conflict allows."""

    def __init__(self, others: Decisions, side: Side) -> None:
        super().__init__(others.resolutions)
        self.open, self.settled = others.open, others.settled
        self._side = side

    def of(self, conflict: Conflict) -> Resolution | None:
        if conflict.id not in self.resolutions and self._side in conflict.choices:
            return Resolution(side=self._side)
        return super().of(conflict)


def check_resolutions(
    resolutions: Mapping[str, Resolution], settled: Collection[str], conflicts: Iterable[Conflict]
) -> None:
    """That each of `resolutions` does something: a decision that does nothing is a mistake that nobody should make in
    silence. `settled`: ids of those that took effect; `conflicts`: what is still open.

    Raises BadRequest for what a conflict does not allow, NotFound for what is not in conflict. The latter only if
    nothing is open: what is open may hide what depends on it."""
    still = {conflict.id: conflict for conflict in conflicts}
    wrong = [
        f"conflict {identity} ({still[identity].kind} in {still[identity].place}) cannot be resolved with"
        f" {resolution.side}; possible: {', '.join(sorted(still[identity].choices)) or 'nothing'}"
        + (f" ({still[identity].detail})" if still[identity].detail else "")
        for identity, resolution in resolutions.items()
        if identity in still and resolution.side not in still[identity].choices
    ]
    if wrong:
        raise BadRequest("; ".join(wrong), hint="what has no choice must be changed in the fork or in the target")
    unknown = [identity for identity in resolutions if identity not in settled and identity not in still]
    if unknown and not still:
        raise NotFound(
            f"there is no conflict {', '.join(sorted(unknown)[:_SHOWN])}; nothing was changed",
            hint="'wye conflicts' lists what is in conflict now, and the ids: take the others out of the file",
        )


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
    raise BadRequest(f"not a resolution: {str(data)[:80]!r}", hint='write "ours", "theirs" or {"value": ...}')


def resolutions_from_json(data: Mapping[str, Json]) -> dict[str, Resolution]:
    """By conflict id. Raises BadRequest that names the one which is no resolution."""
    found = {}
    for identity, each in data.items():
        try:
            found[identity] = resolution_from_json(each)
        except BadRequest as error:
            raise BadRequest(f"conflict {identity[:80]}: {error.message}", hint=error.hint) from error
    return found

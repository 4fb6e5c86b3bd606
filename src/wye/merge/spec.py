"""Three-way merge of normalised settings: nested JSON values, service by service and field by field.

Mappings merge by key, at any depth: so environment variables, labels, services and limits do. Lists whose items have a
natural key merge by it (mounts by target, ports by container port), lists that are sets merge as sets, and every
other list (a command, a healthcheck's test) is one value: half of each side's command runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from wye.merge.conflict import Conflict, Decisions, Json

LIST_KEYS: dict[str, tuple[str, ...]] = {
    "mounts": ("target",),
    "files": ("target",),
    "ports": ("container", "protocol"),
}
"""By field: the members that tell its items apart."""
SETS = frozenset({"aliases", "expose", "group_add", "cap_add", "cap_drop", "dns", "extra_hosts"})

_ABSENT = object()
"""Not there, which is not the same as null."""


def merge_spec(
    base: Mapping[str, Json], ours: Mapping[str, Json], theirs: Mapping[str, Json], decisions: Decisions | None = None
) -> tuple[dict[str, Json], list[Conflict]]:
    """The merged settings and the open conflicts; where one is open, ours stands. Nothing given is changed."""
    decisions = Decisions() if decisions is None else decisions
    merged = _merge_mapping(base, ours, theirs, (), decisions)
    return merged, decisions.open


def _merge(base: Json, ours: Json, theirs: Json, path: tuple[str, ...], decisions: Decisions) -> Json:
    if theirs in (base, ours):
        return ours
    if ours == base:
        return theirs
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return _merge_mapping(base if isinstance(base, dict) else {}, ours, theirs, path, decisions)
    if isinstance(ours, list) and isinstance(theirs, list) and (path[-1] in LIST_KEYS or path[-1] in SETS):
        name = path[-1]
        was, mine, other = (_keyed(side if isinstance(side, list) else [], name) for side in (base, ours, theirs))
        return list(_merge_mapping(was, mine, other, path, decisions).values())
    conflict = Conflict(
        kind=_kind(base, ours, theirs),
        place="spec",
        key=path[:-1],
        column=path[-1],
        base=_to_json(base),
        ours=_to_json(ours),
        theirs=_to_json(theirs),
    )
    chosen = decisions.of(conflict)
    if chosen is None:
        return ours
    value = chosen.choose(conflict)
    deleted = _ABSENT in (ours, theirs) and value is None
    return _ABSENT if deleted else value


def _merge_mapping(
    base: Mapping[str, Json],
    ours: Mapping[str, Json],
    theirs: Mapping[str, Json],
    path: tuple[str, ...],
    decisions: Decisions,
) -> dict[str, Json]:
    merged = {}
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        value = _merge(
            base.get(key, _ABSENT), ours.get(key, _ABSENT), theirs.get(key, _ABSENT), (*path, key), decisions
        )
        if value is not _ABSENT:
            merged[key] = value
    return merged


def _keyed(items: list[Json], name: str) -> dict[str, Json]:
    members = LIST_KEYS.get(name)
    keyed: dict[str, Json] = {}
    for item in items:
        label = "/".join(str(item.get(member)) for member in members) if members else repr(item)
        while label in keyed:
            label += "'"
        keyed[label] = item
    return keyed


def _kind(base: Json, ours: Json, theirs: Json) -> str:
    if base is _ABSENT:
        return "add/add"
    if ours is _ABSENT:
        return "update/delete"
    return "delete/update" if theirs is _ABSENT else "update/update"


def _to_json(value: Json) -> Json:
    return None if value is _ABSENT else value

"""The inverses of statements that only set something: comments on parts of tables, statistics targets, whether a
trigger fires. Pure.

What was set before is in the dictionary, under a key of its own; no key means that nothing was. See `reverse`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from wye.kinds.postgres.objects import Name, Thing, qualified
from wye.kinds.postgres.session import literal, quote
from wye.kinds.postgres.walk import NoInverse, Walk, two

PARTS = {
    "OBJECT_TRIGGER": ("trigger", "trigger"),
    "OBJECT_POLICY": ("policy", "policy"),
    "OBJECT_RULE": ("rule", "rule"),
    "OBJECT_TABCONSTRAINT": ("constraint", "table constraint"),
}
"""By sort of object: its kind in the dictionary, and what a comment's key calls it."""
_MODES = {"O": "enable", "D": "disable", "A": "enable always", "R": "enable replica"}


def comment_on_part(walk: Walk, sort: str, node: Any) -> None:
    *above, last = node.object.list.items
    table = walk.objects.relation(walk.path, *two(above))
    if table is None:
        raise NoInverse
    kind, called = PARTS[sort]
    thing = walk.objects.things[table]
    part = _part(walk, kind, table, thing, last.string.sval)
    if part is not None:
        old = walk.before.get(f"comment {_own(part)} {called}")
        text = "null" if old is None else literal(old)
        at = f"{quote(last.string.sval)} on {qualified(*table[1:])}"
        walk.add(f"comment on {kind} {at} is {text}", thing, part)


def _set_statistics(walk: Walk, command: Any, table: Name, thing: Thing) -> None:
    column = _part(walk, "column", table, thing, command.name)
    if column is not None:
        found = re.match(r"statistics (\d+)", walk.before.get(f"column-setting {_own(column)}", ""))
        at = f"alter table {qualified(*table[1:])} alter column {quote(command.name)}"
        walk.add(f"{at} set statistics {found[1] if found else -1}", thing, column)


def _trigger_mode(walk: Walk, command: Any, table: Name, thing: Thing) -> None:
    trigger = _part(walk, "trigger", table, thing, command.name)
    if trigger is not None:
        mode = _MODES[walk.definition(trigger)[-1]]
        walk.add(f"alter table {qualified(*table[1:])} {mode} trigger {quote(command.name)}", thing, trigger)


def _part(walk: Walk, kind: str, table: Name, thing: Thing, name: str) -> Thing | None:
    """Something of a table that was there before the merge; None for what the merge made."""
    found = walk.objects.find(kind, *table[1:], name)
    if thing.is_made or (found is not None and found.is_made):
        return None
    if found is None:
        raise NoInverse
    return found


def _own(part: Thing) -> str:
    """Its name in the dictionary before."""
    return (part.key or "").partition(" ")[2]


SETTINGS: dict[str, Callable[[Walk, Any, Name, Thing], None]] = {
    "AT_SetStatistics": _set_statistics,
    "AT_EnableTrig": _trigger_mode,
    "AT_EnableAlwaysTrig": _trigger_mode,
    "AT_EnableReplicaTrig": _trigger_mode,
    "AT_DisableTrig": _trigger_mode,
}
"""By part of ALTER TABLE."""

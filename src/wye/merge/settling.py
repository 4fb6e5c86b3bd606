"""What a database's constraints refuse of a merge: conflicts that a person can settle, decided round after round.

The fork's rows were fine in the fork, and the target's in the target; only together they break a unique key, a foreign
key or a check. "ours" leaves out of the fork's row what the constraint refuses, a value repairs it. "theirs" would
remove or change rows of the target that the fork never saw: it is not offered, and the conflict says what to do.

A row may break several constraints, and leaving one row out may break another's: so the writes are tried again after
each round of decisions. What nobody has decided counts as "ours" meanwhile, so that the rest comes to light at once;
what depends on something undecided is not told before that is decided. Every round that changes anything takes a
repair, or cells of the fork, out of the writes, so there is a last one. Trying is the database's part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from wye.merge.conflict import Conflict, Decisions, Json, Resolution, Side
from wye.merge.rows import Cell, Row, Write, repaired_row, row_with_ours

CHOICES = frozenset({Side.OURS, Side.VALUE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A write that is refused. `columns`: the cells that "ours" takes from the target's row; empty: it takes the row.
    `own`: the place and key of the row; `about`: others (place, columns, cells) that this hangs on."""

    conflict: Conflict
    columns: tuple[str, ...] = ()
    own: tuple[str, Row] = ("", ())
    about: tuple[tuple[str, tuple[str, ...], Row], ...] = ()


Found = TypeVar("Found", bound=Violation)


class Settling:
    """The decisions of one merge about what is refused, round after round. Open conflicts are left with `decisions`.
    `refused`: what is in conflict besides these."""

    def __init__(self, decisions: Decisions, refused: Iterable[Conflict] = ()) -> None:
        self._decisions = decisions
        self._repaired: set[str] = set()
        """Ids whose value was taken in an earlier round, so that it is what is refused now."""
        self._hidden = list(refused)
        """What is not told here, above all because it hangs on something undecided."""

    def settle(self, attempt: Callable[[], Sequence[Found]], amend: Callable[[Found, Resolution], bool]) -> None:
        """Attempts until nothing is refused, or nothing of that can be changed. `attempt` writes all, or nothing and
        says what is refused; `amend` makes of a write what was decided, and says whether it was still there."""
        while found := attempt():
            changed = [amend(violation, chosen) for violation, chosen in self.round(found)]
            if not any(changed):
                break

    def round(self, found: Iterable[Found]) -> list[tuple[Found, Resolution]]:
        """What is to become of each write; see `amended`. What has no choice, or was given a value in vain, is open."""
        undecided = [*self._decisions.open, *self._hidden]
        known = {conflict.id for conflict in self._decisions.open}
        values: set[str] = set()
        settled = []
        for each in found:
            conflict, chosen = each.conflict, None
            if not conflict.choices or conflict.id in self._repaired:
                if conflict.id not in known:
                    again = "the value that was given is refused too: " if conflict.id in self._repaired else ""
                    self._decisions.open.append(replace(conflict, detail=again + conflict.detail))
            elif any(_concerns(other, each) for other in undecided):
                self._hidden.append(conflict)
            else:
                chosen = self._decisions.of(conflict)
            known.add(conflict.id)
            if chosen is not None and chosen.side is Side.VALUE:
                values.add(conflict.id)
            settled.append((each, chosen or Resolution(side=Side.OURS)))
        self._repaired |= values
        return settled


def amended(violation: Violation, chosen: Resolution, write: Write, columns: Sequence[str]) -> Write | None:
    """What to write instead of `write`, a row of `columns`; None: nothing. Raises BadRequest for a value that does not
    fit."""
    refused = violation.columns
    if chosen.side is Side.VALUE:
        example = (refused or columns)[0]
        after: Row | None = repaired_row(
            write, columns, refused, chosen.value, identity=violation.conflict.id, example=example
        )
    else:
        after = row_with_ours(write, columns, refused)
        if after == write.after:  # it has the target's cells already: another row of the fork took them meanwhile
            after = write.before
    return None if after == write.before else replace(write, after=after)


def named_cells(columns: Sequence[str], cells: Sequence[Cell]) -> Json:
    """As a conflict shows them: a cell, or several by name."""
    return cells[0] if len(cells) == 1 else dict(zip(columns, cells, strict=True))


def _concerns(undecided: Conflict, violation: Violation) -> bool:
    """Whether it may be gone, or another, once the undecided conflict is decided."""
    place, key = violation.own
    if undecided.place == place and undecided.key in ((), key):
        at = undecided.column.split(", ") if undecided.column else []
        return not at or not violation.columns or not set(violation.columns).isdisjoint(at)
    return any(_is_about(undecided, place, columns, cells) for place, columns, cells in violation.about)


def _is_about(conflict: Conflict, place: str, columns: tuple[str, ...], cells: Row) -> bool:
    if conflict.place != place:
        return False
    if not conflict.key:
        return True
    if not cells:
        return False
    for side in (conflict.base, conflict.ours, conflict.theirs):
        if isinstance(side, dict) and tuple(side.get(column) for column in columns) == cells:
            return True
        if not isinstance(side, dict) and columns == (conflict.column,) and (side,) == cells:
            return True
    return conflict.key == cells

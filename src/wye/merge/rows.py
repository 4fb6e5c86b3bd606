"""Three-way merge of a table's rows, cell by cell.

A row is a tuple of cells in the table's column order; a cell is the text that the database prints, or None for
NULL. Equality is equality of that text, never the database's `=`: 1.0 and 1.00 differ, so do values that a collation
takes for equal, and json has no `=` at all. A table with a key is a mapping; one without is a multiset of rows.

Only what the fork changed is looked at: for each such row the caller gives the base, theirs and the target's row, which
is overwritten as it is given or not at all. Production's other rows cost nothing and are never written. Writes carry
the row expected in the target. Unique constraints, foreign keys and checks are the database's part.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal, Inexact, InvalidOperation
from enum import StrEnum

from wye.errors import BadRequest
from wye.merge.conflict import BOTH, Conflict, Decisions, Json, Side

_EXACT = Context(prec=200_000, traps=[Inexact, InvalidOperation])
"""Wider than any numeric that a database stores, so a sum is never rounded."""

Cell = str | None
Row = tuple[Cell, ...]


class Grain(StrEnum):
    """How near two changes may come without a conflict."""

    CELL = "cell"
    ROW = "row"
    TABLE = "table"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """`place` names the table in conflicts. `key` empty: a multiset. `delta`: numeric columns where both sides'
    changes add up, also equal ones. `new`: columns that the target does not have yet; theirs wins there. `given`: those
    that a server filled on its own, for base and theirs another way; nobody can say who changed one of them."""

    place: str
    columns: tuple[str, ...]
    key: tuple[str, ...] = ()
    grain: Grain = Grain.CELL
    delta: frozenset[str] = frozenset()
    new: frozenset[str] = frozenset()
    given: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Triple:
    """One key: the row at the base, in the target now, and in the fork. None: it is not there."""

    base: Row | None
    ours: Row | None
    theirs: Row | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Replaces `before` (the target's row, None: insert) by `after` (None: delete)."""

    before: Row | None
    after: Row | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedRows:
    """`writes` in the order of the input, one per row that has to change; meaningless while `conflicts` is not
    empty."""

    writes: list[Write] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)


def merge_row(table: Table, triple: Triple, decisions: Decisions) -> Write | None:
    """What to do in the target for one key; None: nothing. Open conflicts are left with `decisions`."""
    base, ours, theirs = triple.base, triple.ours, triple.theirs
    if theirs == base or (theirs == ours and not (table.delta and base and table.grain is Grain.CELL)):
        return None
    if ours is None and base and theirs and _differ_in_given_only(table, base, theirs):
        return None  # the target's deletion stays: nobody changed the row but the server that numbered it
    is_whole = theirs is None or table.grain is not Grain.CELL
    if base == ours or (is_whole and base and ours and _differ_in_new_only(table, base, ours)):
        return Write(before=ours, after=theirs)
    if base is None or ours is None or theirs is None or table.grain is not Grain.CELL:
        after = _merge_whole(table, triple, decisions)
    else:
        after = _merge_cells(table, base, ours, theirs, decisions)
    return None if after == ours else Write(before=ours, after=after)


def merge_keyed(table: Table, triples: Iterable[Triple], decisions: Decisions | None = None) -> MergedRows:
    """Merges rows that have a key. Each triple is one key that theirs changed."""
    decisions = Decisions() if decisions is None else decisions
    merged = MergedRows(conflicts=decisions.open)
    for triple in triples:
        write = merge_row(table, triple, decisions)
        if write is not None:
            merged.writes.append(write)
    return merged


def merge_multiset(
    table: Table, base: Counter[Row], ours: Counter[Row], theirs: Counter[Row], decisions: Decisions | None = None
) -> MergedRows:
    """Merges rows without a key: theirs's additions are added, its removals removed.

    Equal rows cannot be told apart. So a removal counts only while the target still has as many of them as the base
    had; otherwise nobody can say which ones were meant. A count that both changed alike is taken as one change
    each: two orders of the same thing are two orders.
    """
    decisions = Decisions() if decisions is None else decisions
    merged = MergedRows(conflicts=decisions.open)
    for row in sorted(base.keys() | theirs.keys(), key=lambda row: [(cell is not None, cell or "") for cell in row]):
        change = theirs[row] - base[row]
        if change < 0 and ours[row] != base[row]:
            conflict = Conflict(
                kind="keyless-row-count",
                place=table.place,
                key=row,
                base=base[row],
                ours=ours[row],
                theirs=theirs[row],
                choices=BOTH,
            )
            chosen = decisions.of(conflict)
            change = theirs[row] - ours[row] if chosen and chosen.side is Side.THEIRS else 0
        merged.writes.extend([Write(before=None, after=row)] * change)
        merged.writes.extend([Write(before=row, after=None)] * -change)
    return merged


def _differ_in_new_only(table: Table, base: Row, ours: Row) -> bool:
    """Whether all differences are in new columns, whose default may differ on each side: nobody changed the row."""
    return all(a == b or c in table.new for c, a, b in zip(table.columns, base, ours, strict=True))


def _differ_in_given_only(table: Table, base: Row, theirs: Row) -> bool:
    return all(a == b or c in table.given for c, a, b in zip(table.columns, base, theirs, strict=True))


def _merge_cells(table: Table, base: Row, ours: Row, theirs: Row, decisions: Decisions) -> Row:
    after = list(ours)
    for index, column in enumerate(table.columns):
        was, mine, other = base[index], ours[index], theirs[index]
        if other == was:
            continue
        if was == mine or column in table.new:
            after[index] = other
        elif column in table.delta and (total := _sum(was, mine, other)) is not None:
            after[index] = total  # also where both did the same: two sold one each
        elif other != mine:
            conflict = Conflict(
                kind="update/update",
                place=table.place,
                key=_key(table, base),
                column=column,
                base=was,
                ours=mine,
                theirs=other,
            )
            chosen = decisions.of(conflict)
            if chosen is not None:
                after[index] = cell_of(chosen.choose(conflict), column)
    return tuple(after)


def _merge_whole(table: Table, triple: Triple, decisions: Decisions) -> Row | None:
    """One side's row, or a given one: all three differ, and one may be missing."""
    base, ours, theirs = triple.base, triple.ours, triple.theirs
    known = base or theirs or ours
    assert known is not None, "at least two of three differ"
    if base is None and ours is not None:
        kind = "insert/insert"
    else:
        kind = f"{'delete' if theirs is None else 'update'}/{'delete' if ours is None else 'update'}"
    conflict = Conflict(
        kind=kind,
        place=table.place,
        key=_key(table, known),
        base=_to_json(table, base),
        ours=_to_json(table, ours),
        theirs=_to_json(table, theirs),
    )
    chosen = decisions.of(conflict)
    if chosen is None or chosen.side is Side.OURS:
        return ours
    if chosen.side is Side.THEIRS:
        return theirs
    row = _from_json(table, chosen.value)
    if row is None and kind == "update/update":
        raise BadRequest(f"the resolution of {conflict.id} must be a row: it was deleted by neither side")
    return row


def _sum(base: Cell, ours: Cell, theirs: Cell) -> str | None:
    """ours + (theirs - base), exactly; None if one is not a finite number."""
    if base is None or ours is None or theirs is None:
        return None
    try:
        numbers = [Decimal(base), Decimal(ours), Decimal(theirs)]
    except InvalidOperation:
        return None
    if not all(number.is_finite() for number in numbers):
        return None
    was, mine, other = numbers
    return format(_EXACT.add(mine, _EXACT.subtract(other, was)), "f")


def _key(table: Table, row: Row) -> Row:
    return tuple(row[table.columns.index(column)] for column in table.key)


def _to_json(table: Table, row: Row | None) -> Json:
    return None if row is None else dict(zip(table.columns, row, strict=True))


def _from_json(table: Table, value: Json) -> Row | None:
    if value is None:
        return None
    if not isinstance(value, dict) or set(value) != set(table.columns):
        names: Sequence[str] = table.columns
        raise BadRequest(f"a row of {table.place} needs exactly these columns: {', '.join(names)}")
    return tuple(cell_of(value[column], column) for column in table.columns)


def row_with_ours(write: Write, columns: Sequence[str], refused: Collection[str]) -> Row | None:
    """What a write leaves if a constraint refuses `refused` of its cells and ours is chosen: the target's cells there.
    None refused, or no row on one side: the target's row."""
    if write.before is None or write.after is None or not refused:
        return write.before
    return tuple(
        mine if column in refused else other
        for column, mine, other in zip(columns, write.before, write.after, strict=True)
    )


def repaired_row(
    write: Write, columns: Sequence[str], refused: Sequence[str], value: Json, *, identity: str, example: str
) -> Row:
    """The same if a value is given: a cell, if one is refused, or several by column. `identity` of the conflict and the
    column `example` are for the error. Raises BadRequest for a value that does not fit."""
    if isinstance(value, dict) and value and set(value) <= set(columns):
        cells = {column: cell_of(cell, column) for column, cell in value.items()}
    elif len(refused) == 1 and not isinstance(value, dict):
        cells = {refused[0]: cell_of(value, refused[0])}
    else:
        raise BadRequest(
            f"the value for conflict {identity} must name columns of the row and their cells",
            hint=f"for example {{value: {{{example}: ...}}}}; there are: {', '.join(columns)}",
        )
    return tuple(cells.get(column, cell) for column, cell in zip(columns, write.after or (), strict=True))


def cell_of(value: Json, column: str) -> Cell:
    """A cell given by a person: text as the database prints it, a number or boolean as JSON has them, or what is JSON
    itself. Raises BadRequest."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and "\0" in value:
        raise BadRequest(f"the value for {column} has a character that no database stores as text: U+0000")
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value)

"""What a constraint refuses of a merge: conflicts that a person can settle, and what a decision makes of the writes.

The fork's rows were fine in the fork, and the target's in the target; only together they break a unique key, a foreign
key or a check. "ours" leaves out of the fork's row what the constraint refuses, a value repairs it. "theirs" would
remove or change rows of the target that the fork never saw: it is not offered, and the conflict says what to do.

A row may break several constraints, and leaving one row out may break another's: so the writes are tried again after
each round of decisions. What nobody has decided counts as "ours" meanwhile, so that the rest comes to light at once;
what depends on something undecided is not told before that is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import psycopg

from wye.errors import BadRequest
from wye.kinds.postgres.rows import read_rows
from wye.kinds.postgres.session import Connection, fetch, quote
from wye.kinds.postgres.stage import DELETE, INSERT, RECREATE, UPDATE, Staged, copy_writes, operation_of
from wye.kinds.postgres.tables import Index
from wye.kinds.postgres.write import delete_rows, insert_rows, update_rows
from wye.merge.conflict import Conflict, Decisions, Json, Resolution, Side
from wye.merge.rows import Cell, Row, Write, repaired_row, row_with_ours

CHOICES = frozenset({Side.OURS, Side.VALUE})

_KINDS = {"23505": "unique", "23514": "check", "23502": "not-null", "23P01": "exclusion"}
_PLAIN = """
select format('%I', c.relname) from pg_index i join pg_class c on c.oid = i.indexrelid
where i.indrelid = {oid} and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """`entries` of `staged` are what is refused; empty: there is no choice. `columns`: the cells that "ours" takes from
    the target's row; empty: it takes the row. `own`: the place and key of the row; `about`: others (place, columns,
    cells) that this hangs on."""

    conflict: Conflict
    staged: Staged | None = None
    entries: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()
    own: tuple[str, Row] = ("", ())
    about: tuple[tuple[str, tuple[str, ...], Row], ...] = ()


def place_of(database: str, table: str) -> str:
    return f"postgres/{database}/{table}"


class Settling:
    """The decisions of one merge about what is refused, round after round. Open conflicts are left with `decisions`."""

    def __init__(self, decisions: Decisions) -> None:
        self._decisions = decisions
        self._repaired: set[str] = set()
        """Ids whose value was taken in an earlier round, so that it is what is refused now."""
        self._hidden: list[Conflict] = []
        """What is not told, for it hangs on something undecided."""

    def round(self, found: Collection[Violation]) -> bool:
        """Changes the writes as was decided. Whether any changed: then try again."""
        undecided = [*self._decisions.open, *self._hidden]
        known = {conflict.id for conflict in self._decisions.open}
        values: set[str] = set()
        changed = False
        for each in found:
            conflict, chosen = each.conflict, None
            if not each.entries or conflict.id in self._repaired:
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
            changed |= _amend(each, chosen or Resolution(side=Side.OURS))
        self._repaired |= values
        return changed


def explain(connection: Connection, database: str, tables: Sequence[Staged]) -> list[Violation]:
    """Writes row by row, each under a savepoint, to find every row that a constraint refuses; then undoes it all."""
    found: list[Violation] = []
    steps: tuple[tuple[Callable[[Connection, Staged, str], None], tuple[str, ...]], ...] = (
        (update_rows, (UPDATE,)),
        (insert_rows, (RECREATE, INSERT)),
    )
    with connection.transaction(force_rollback=True):
        for staged in tables:
            delete_rows(connection, staged)
        for step, operations in steps:
            for staged in tables:
                for n, done, written in staged.writes:
                    if done in operations:
                        error = _try(connection, staged, n, step)
                        if error is not None:
                            found += _told(connection, database, staged, (n, written), error)
    return found


def _try(
    connection: Connection, staged: Staged, n: int, step: Callable[[Connection, Staged, str], None]
) -> psycopg.errors.IntegrityError | None:
    try:
        with connection.transaction():
            step(connection, staged, f"and m.n = {n}")
    except psycopg.errors.IntegrityError as error:
        return error
    return None


def _told(
    connection: Connection,
    database: str,
    staged: Staged,
    entry: tuple[int, Write],
    error: psycopg.errors.IntegrityError,
) -> Iterator[Violation]:
    n, written = entry
    kind = _KINDS.get(error.sqlstate or "", "constraint")
    taken = list(_taken(connection, staged, n)) if kind == "unique" else []
    place, after = place_of(database, staged.changes.table), written.after or ()
    key = key_cells(staged, after)
    theirs = dict(zip(staged.changes.columns, after, strict=False))
    for index, holder in taken:
        detail = (
            f"{index.name}: a row of the target has this already; ours leaves the fork's out, a value gives it another"
            f" {', '.join(index.columns)}; theirs would lose the target's row: change that there"
        )
        conflict = Conflict(
            kind=kind, place=place, key=key or after, column=", ".join(index.columns), ours=holder, theirs=theirs,
            choices=CHOICES, detail=detail,
        )  # fmt: skip
        other = (place, staged.changes.key, tuple(holder.get(column) for column in staged.changes.key))
        yield Violation(
            conflict=conflict, staged=staged, entries=(n,), columns=index.columns, own=(place, key), about=(other,)
        )
    if taken:
        return
    said = error.diag
    column = said.column_name or ""
    conflict = Conflict(
        kind=kind, place=place, key=key or after, column=column or said.constraint_name or "",
        ours=dict(zip(staged.changes.columns, written.before, strict=True)) if written.before else None, theirs=theirs,
        choices=CHOICES,
        detail=f"{said.constraint_name or column}: {said.message_detail or said.message_primary}; ours leaves the"
        " target's row as it is, a value ({column: cell}) repairs the fork's",
    )  # fmt: skip
    columns = (column,) if column in staged.changes.columns else ()
    yield Violation(conflict=conflict, staged=staged, entries=(n,), columns=columns, own=(place, key))


def _taken(connection: Connection, staged: Staged, n: int) -> Iterator[tuple[Index, dict[str, Cell]]]:
    """Unique indexes under which the target has an equal row already, and that row."""
    plain = {name for (name,) in fetch(connection, _PLAIN.format(oid=staged.relation.oid))}
    shown = [column for column in staged.relation.stored if column in staged.changes.columns]
    for index in staged.relation.indexes:
        usable = index.unique and index.immediate and len(index.operators) == len(index.columns)
        if not usable or index.name not in plain or not set(index.columns) <= set(staged.changes.columns):
            continue
        same = " and ".join(
            f"t.{quote(column)} {operator} m.c{staged.index(column)}"
            for column, operator in zip(index.columns, index.operators, strict=True)
        )
        cells = ", ".join(f"t.{quote(column)}::text" for column in shown)
        sql = (
            f"""select {cells} from {staged.relation.source} t join {staged.merged} m on m.n = {n} and {same} limit 1"""
        )
        for row in fetch(connection, sql):
            yield index, dict(zip(shown, row, strict=True))


def key_cells(staged: Staged, row: Row) -> Row:
    """The cells of a row's key; of a table without one, nothing."""
    return tuple(row[staged.index(column)] for column in staged.changes.key) if staged.key else ()


def named_cells(columns: Sequence[str], cells: Sequence[Cell]) -> Json:
    """As a conflict shows them: a cell, or several by name."""
    return cells[0] if len(cells) == 1 else dict(zip(columns, cells, strict=True))


# ---------------------------------------------------------------- what a decision makes of the writes


def _amend(violation: Violation, chosen: Resolution) -> bool:
    staged = violation.staged
    if staged is None:
        return False
    kept = []
    changed = False
    for n, done, write in staged.writes:
        if n not in violation.entries:
            kept.append((n, done, write))
            continue
        changed = True
        known, refused = staged.changes.columns, violation.columns
        if chosen.side is Side.VALUE:
            after: Row | None = repaired_row(
                write, known, refused, chosen.value, identity=violation.conflict.id, example=(refused or known)[0]
            )
        else:
            after = row_with_ours(write, known, refused)
            if after == write.after:  # it has the target's cells already: another row of the fork took them meanwhile
                after = write.before
        if after != write.before:
            repaired = replace(write, after=after)
            bound = staged.relation.bound | staged.relation.identity
            kept.append((n, operation_of(staged.changes.columns, repaired, bound), repaired))
    staged.writes[:] = kept
    return changed


def copy_all(connection: Connection, tables: Sequence[Staged], decisions: Decisions) -> None:
    """Puts the decided rows on the server. Raises BadRequest for a value that it cannot take and a person gave; all
    else it has printed itself."""
    given = decisions.values()
    try:
        for staged in tables:
            copy_writes(connection, staged)
            if given:
                _reread(connection, staged)
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        said = str(error).strip()
        at = [f"conflict {key}" for key, value in given.items() if any(cell in said for cell in value)] or list(given)
        if not at:
            raise
        raise BadRequest(
            f"the value for {', '.join(at)} does not fit its column: {said.splitlines()[0]}",
            hint="write it as the database prints it, in quotes: '{1,2}' for an array, '\\x00ff' for bytes",
        ) from error


def _reread(connection: Connection, staged: Staged) -> None:
    """Takes the rows to write as the server prints them: 1.5 that a person gave may be its 1.50."""
    cells = ", ".join(f"m.c{i}" for i in range(len(staged.changes.columns)))
    if not cells:
        return
    printed = read_rows(connection, f"select m.n, {cells} from {staged.merged} m where m.op <> '{DELETE}'")
    rows = {int(n or 0): tuple(row) for n, *row in printed}
    staged.writes[:] = [
        (n, done, replace(write, after=rows[n]) if n in rows else write) for n, done, write in staged.writes
    ]


# ---------------------------------------------------------------- what hangs on what


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

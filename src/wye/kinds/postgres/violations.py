"""What PostgreSQL's constraints refuse of a merge, found row by row, and what a decision makes of the staged writes.

Why there are such conflicts and how they are decided is said in `merge.settling`; here the server is asked which rows,
and told the decided ones again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import psycopg

from wye.errors import BadRequest
from wye.kinds.postgres.rows import read_rows
from wye.kinds.postgres.session import Connection, fetch, quote
from wye.kinds.postgres.stage import DELETE, INSERT, RECREATE, UPDATE, Staged, copy_writes, operation_of
from wye.kinds.postgres.tables import Index
from wye.kinds.postgres.write import delete_rows, insert_rows, update_rows
from wye.merge import settling
from wye.merge.conflict import Conflict, Decisions, Resolution
from wye.merge.rows import Cell, Row, Write
from wye.merge.settling import CHOICES, amended

_KINDS = {"23505": "unique", "23514": "check", "23502": "not-null", "23P01": "exclusion"}
_PLAIN = """
select format('%I', c.relname) from pg_index i join pg_class c on c.oid = i.indexrelid
where i.indrelid = {oid} and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation(settling.Violation):
    """`entry` of `staged` is what is refused; without `staged` there is no choice."""

    staged: Staged | None = None
    entry: int = -1


def place_of(database: str, table: str) -> str:
    return f"postgres/{database}/{table}"


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
            conflict=conflict, staged=staged, entry=n, columns=index.columns, own=(place, key), about=(other,)
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
    yield Violation(conflict=conflict, staged=staged, entry=n, columns=columns, own=(place, key))


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


# ---------------------------------------------------------------- what a decision makes of the writes


def amend(violation: Violation, chosen: Resolution) -> bool:
    """Changes the write as was decided. Whether there was one."""
    staged = violation.staged
    if staged is None:
        return False
    at = next((i for i, (n, _, _) in enumerate(staged.writes) if n == violation.entry), None)
    if at is None:
        return False
    columns = staged.changes.columns
    write = amended(violation, chosen, staged.writes[at][2], columns)
    operation = operation_of(staged, write) if write else ""
    staged.writes[at : at + 1] = [(violation.entry, operation, write)] if write else []
    return True


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

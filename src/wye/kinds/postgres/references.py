"""Proves what the writes left unproven: foreign keys, and unique constraints that are deferrable.

Both are kept by triggers, which are off while rows are written. So every reference from or to a written row is
checked here, with the parents locked against removal, and all violations are listed. A deletion in the fork never
reaches rows that only the target has: a cascade is not repeated, it is a conflict, which can be settled by not
deleting.
"""

from __future__ import annotations

from collections.abc import Sequence

from wye.kinds.postgres.refuse import refusal
from wye.kinds.postgres.session import Connection, fetch, names, quote
from wye.kinds.postgres.stage import DELETE, INSERT, RECREATE, UPDATE, Staged, changed
from wye.kinds.postgres.tables import ForeignKey, Index, Relation, read_foreign_keys
from wye.kinds.postgres.violations import Violation, key_cells, place_of
from wye.merge.conflict import Conflict, Side
from wye.merge.settling import CHOICES, named_cells

_SHOWN_CHILDREN = 20


def keep_parents(connection: Connection, tables: Sequence[Staged]) -> list[ForeignKey]:
    """To call before writing: remembers the old rows that others may refer to. Returns the foreign keys around."""
    keys = read_foreign_keys(connection, [staged.relation.oid for staged in tables])
    for staged in tables:
        own = [key for key in keys if key.parent_root == staged.relation.name]
        if not any(_loses(staged, key) for key in own):
            continue
        columns = sorted({column for key in own for column in key.parent_columns})
        if staged.key is None:
            cells, rows = names(columns, "t."), _without_key(staged, staged.relation.source, DELETE, columns)
            number = "t._wye_n"
        else:
            cells, number = names(columns, "t."), "m.n as _wye_n"
            rows = (
                f"{staged.relation.source} t join {staged.keys} s on {staged.match_old()}"
                f" join {staged.merged} m on m.n = s.n where m.op in ('{DELETE}', '{UPDATE}', '{RECREATE}')"
            )
        connection.execute(f"create temp table {_old(staged)} on commit drop as select {number}, {cells} from {rows}")
    return keys


def hold_deferrable(connection: Connection, tables: Sequence[Staged]) -> None:
    """To call before writing: waits for writers of tables whose unique constraints are deferrable, and keeps others
    out. Such an index lets in a value that somebody has given and not committed; his check was before, ours is off."""
    for staged in tables:
        if _deferrable(staged):
            connection.execute(f"lock table {staged.relation.source} in share row exclusive mode")


def _deferrable(staged: Staged) -> list[tuple[Relation, Index]]:
    """Unique constraints that the server does not enforce for what is written here, with the table or the partition
    that has them."""
    if not staged.count(INSERT, UPDATE, RECREATE):
        return []
    return [each for each in staged.relation.constraints() if each[1].unique and not each[1].immediate]


def check_references(
    connection: Connection, database: str, tables: Sequence[Staged], keys: Sequence[ForeignKey]
) -> list[Violation]:
    """What foreign keys refuse after writing. `keys`: those that keep_parents returned."""
    found: list[Violation] = []
    by_name = {staged.relation.name: staged for staged in tables}
    for key in keys:
        child, parent = by_name.get(key.child_root), by_name.get(key.parent_root)
        if child is not None and child.count(INSERT, UPDATE, RECREATE):
            found += _missing_parents(connection, database, child, key)
        if parent is not None and _loses(parent, key):
            found += _left_children(connection, database, parent, key)
    return found


def check_deferred(connection: Connection, database: str, tables: Sequence[Staged]) -> list[Violation]:
    """What deferrable unique constraints refuse. Which of the rows was first, nobody can say any more."""
    found: list[Violation] = []
    for staged in tables:
        for relation, index in _deferrable(staged):
            columns = names(index.columns, "t.")
            given = [f"t.{quote(c)} is not null" for c in index.columns]
            whole = "true" if index.nulls_are_equal else " and ".join(given)
            sql = f"""select {", ".join(f"t.{quote(c)}::text" for c in index.columns)} from {relation.source} t
                where {whole} group by {columns} having count(*) > 1"""
            place = place_of(database, staged.changes.table)
            detail = (
                f"{index.name}: both sides have given this value; change one of them, there or here, and merge again"
            )
            found += [
                Violation(conflict=refusal("unique", place, detail, key=row), about=((place, index.columns, row),))
                for row in fetch(connection, sql)
            ]
    return found


def _missing_parents(connection: Connection, database: str, child: Staged, key: ForeignKey) -> list[Violation]:
    """Written rows that refer to nothing."""
    written, number = _written(child, key), "m.n" if child.key else "t._wye_n"
    kept = _written(child, key, anew=True)
    connection.execute(
        f"select 1 from {key.parent_rows} q where exists (select 1 from {kept} where {key.join('q', 't')})"
        " for key share of q"
    )
    given = [f"t.{quote(c)} is not null" for c in key.child_columns]
    refers = f"({(' or ' if key.match_full else ' and ').join(given)})"
    sql = f"""select {number}, {", ".join(f"t.{quote(c)}::text" for c in key.child_columns)} from {written}
        where {refers} and not {key.holds("t")}"""
    writes = {n: write for n, _, write in child.writes}
    found = []
    for n, *cells in fetch(connection, sql):
        write, row = writes[n], tuple(cells)
        after = write.after or ()
        place = place_of(database, child.changes.table)
        own = key_cells(child, after)
        known = set(key.child_columns) <= set(child.changes.columns)
        ours = [write.before[child.index(c)] for c in key.child_columns] if write.before and known else None
        conflict = Conflict(
            kind="fk-parent-missing",
            place=place,
            key=own or row,
            column=", ".join(key.child_columns),
            ours=named_cells(key.child_columns, ours) if ours else None,
            theirs=named_cells(key.child_columns, row),
            choices=CHOICES if known else CHOICES - {Side.VALUE},
            detail=f"{key.name}: {key.parent} has no such row in the target; ours leaves the fork's"
            f" {'change' if write.before else 'row'} out, a value refers to another; for theirs, put that row there",
        )
        parent = (place_of(database, key.parent_root), key.parent_columns, row)
        columns = key.child_columns if known else ()
        found.append(
            Violation(conflict=conflict, staged=child, entry=n, columns=columns, own=(place, own), about=(parent,))
        )
    return found


def _left_children(connection: Connection, database: str, parent: Staged, key: ForeignKey) -> list[Violation]:
    """Rows that refer to what the merge removed."""
    sql = f"""select o._wye_n, count(*), (array_agg(to_jsonb(c)))[:{_SHOWN_CHILDREN}] from {key.child_rows} c
        join pg_temp.{_old(parent)} o on {key.join("o", "c")}
        where not {key.holds("c")} group by 1 order by 1"""
    writes = {n: write for n, _, write in parent.writes}
    known = set(key.parent_columns) <= set(parent.changes.columns)
    found = []
    for n, count, children in fetch(connection, sql):
        write = writes[n]
        before, place = write.before or (), place_of(database, parent.changes.table)
        row = dict(zip(parent.changes.columns, before, strict=True))
        own = key_cells(parent, before)
        conflict = Conflict(
            kind="fk-child-exists",
            place=place,
            key=own or before,
            column=f"{key.child}.{', '.join(key.child_columns)}",
            base=row,
            ours=children,
            theirs=dict(zip(parent.changes.columns, write.after, strict=True)) if write.after else None,
            choices=frozenset({Side.OURS}),
            detail=f"{key.name}: {count} rows of {key.child} refer to it in the target, and the fork"
            f" {'gave it another key' if write.after else 'deleted it'}; ours keeps it as it is; theirs would lose what"
            " refers to it: change or delete that in the target",
        )
        refers = tuple(row.get(column) for column in key.parent_columns)
        child = (place_of(database, key.child_root), key.child_columns, refers)
        found.append(
            Violation(
                conflict=conflict,
                staged=parent,
                entry=n,
                columns=key.parent_columns if known else (),
                own=(place, own),
                about=(child,),
            )
        )
    return found


def _written(staged: Staged, key: ForeignKey, *, anew: bool = False) -> str:
    """For FROM, as t: the rows to which the merge gave a reference that they had not; `anew`: and recreated ones."""
    is_own = key.child != staged.relation.name
    if staged.key is None:
        return _without_key(staged, key.child_rows, INSERT, key.child_columns, is_own=is_own)
    refers = [str(i) for i, column in enumerate(staged.changes.columns) if column in key.child_columns]
    new = f"m.op in ('{INSERT}', '{RECREATE}')" if anew else f"m.op = '{INSERT}'"
    given = f"({new} or m.changed && array[{', '.join(refers)}]::int[])"
    if is_own or len(refers) < len(key.child_columns):  # a row may have come into the partition as it was
        given = f"m.op <> '{DELETE}'"
    return f"{key.child_rows} t join {staged.merged} m on {given} and {staged.match_new()}"


def _without_key(staged: Staged, source: str, operation: str, columns: Sequence[str], *, is_own: bool = False) -> str:
    """For FROM, as t: these columns of the rows to delete or to insert, and _wye_n. What the server computes, and
    whether a row is in a partition (`is_own`), is read from the rows of `source` that look like them."""
    written = f"{staged.merged} m where m.op = '{operation}'"
    if set(columns) <= set(staged.changes.columns) and not is_own:
        cells = ", ".join(f"m.c{staged.index(c)} as {quote(c)}" for c in columns)
        return f"(select m.n as _wye_n, {cells} from {written}) t"
    known = [column for column in staged.changes.columns if column not in staged.changes.given]
    theirs = ", ".join(f"m.c{staged.index(column)}" for column in known)
    return f"""(select w.n as _wye_n, {names(columns, "x.")} from
        (select distinct row({names(known, "l.")})::text as _wye_row, {names(columns, "l.")} from {source} l) x
        join (select m.n, row({theirs})::text as cells from {written}) w on w.cells = x._wye_row) t"""


def _loses(staged: Staged, key: ForeignKey) -> bool:
    """Whether a row may have lost a value that others refer to, or gone to where they do not look for it."""
    columns, relation = set(key.parent_columns), staged.relation
    at = {staged.index(column) for column in columns if column in staged.changes.columns}
    unseen = key.parent != relation.name or not columns.isdisjoint(relation.generated)
    return any(
        operation == DELETE or (operation in (UPDATE, RECREATE) and (unseen or not at.isdisjoint(changed(write))))
        for _, operation, write in staged.writes
    )


def _old(staged: Staged) -> str:
    return f"_wye_o{staged.number}"

"""Proves what the writes left unproven: foreign keys, and unique constraints that are deferrable.

Both are kept by triggers, which are off while rows are written. So every reference from or to a written row is
checked here, with the parents locked against removal, and all violations are listed. A deletion in the fork never
reaches rows that only the target has: a cascade is not repeated, it is a conflict.
"""

from __future__ import annotations

from collections.abc import Sequence

from wye.kinds.postgres.refuse import refusal
from wye.kinds.postgres.session import Connection, fetch, names, quote
from wye.kinds.postgres.stage import DELETE, INSERT, RECREATE, UPDATE, Staged, changed
from wye.kinds.postgres.tables import ForeignKey, read_foreign_keys
from wye.merge.conflict import Conflict


def keep_parents(connection: Connection, tables: Sequence[Staged]) -> list[ForeignKey]:
    """To call before writing: remembers the old rows that others may refer to. Returns the foreign keys around."""
    keys = read_foreign_keys(connection, [staged.relation.oid for staged in tables])
    for staged in tables:
        columns = sorted({c for key in keys if key.parent == staged.relation.name for c in key.parent_columns})
        if columns and staged.key and _loses(staged, columns):
            connection.execute(
                f"create temp table {_old(staged)} on commit drop as select {names(columns, 't.')}"
                f" from {staged.relation.source} t join {staged.keys} s on {staged.match_old()}"
                f" join {staged.merged} m on m.n = s.n where m.op in ('{DELETE}', '{UPDATE}', '{RECREATE}')"
            )
    return keys


def check_references(
    connection: Connection, database: str, tables: Sequence[Staged], keys: Sequence[ForeignKey]
) -> list[Conflict]:
    """Conflicts with foreign keys after writing. `keys`: those that keep_parents returned."""
    found: list[Conflict] = []
    by_name = {staged.relation.name: staged for staged in tables}
    for key in keys:
        child, parent = by_name.get(key.child), by_name.get(key.parent)
        if child is not None and child.count(INSERT, UPDATE, RECREATE):
            found += _missing_parents(connection, database, child, key)
        if parent is not None and parent.key and _loses(parent, key.parent_columns):
            found += _left_children(connection, database, parent, key)
    return found


def check_deferred(connection: Connection, database: str, tables: Sequence[Staged]) -> list[Conflict]:
    """Conflicts with unique constraints that are deferrable."""
    found = []
    for staged in tables:
        for index in staged.relation.indexes:
            if index.immediate or not index.unique or not staged.count(INSERT, UPDATE, RECREATE):
                continue
            columns = names(index.columns, "t.")
            whole = " and ".join(f"t.{quote(c)} is not null" for c in index.columns)
            sql = f"""select {", ".join(f"t.{quote(c)}::text" for c in index.columns)} from {staged.relation.source} t
                where {whole} group by {columns} having count(*) > 1"""
            place = f"postgres/{database}/{staged.changes.table}"
            found += [
                refusal("unique", place, f"{index.name}: the value is taken", key=row) for row in fetch(connection, sql)
            ]
    return found


def _missing_parents(connection: Connection, database: str, child: Staged, key: ForeignKey) -> list[Conflict]:
    """Written rows that refer to nothing."""
    if child.key is None and not set(key.child_columns) <= set(child.changes.columns):
        return []
    written = _written(child, key)
    connection.execute(
        f"select 1 from {key.parent} q where exists (select 1 from {written} where {key.join('q', 't')})"
        " for key share of q"
    )
    given = [f"t.{quote(c)} is not null" for c in key.child_columns]
    refers = f"({(' or ' if key.match_full else ' and ').join(given)})"
    shown = child.key.columns if child.key else key.child_columns
    sql = f"""select {", ".join(f"t.{quote(c)}::text" for c in shown)} from {written}
        where {refers} and not {key.holds("t")}"""
    return [
        refusal(
            "fk-parent-missing",
            f"postgres/{database}/{child.changes.table}",
            f"{key.name}: {key.parent} has no such row in the target",
            key=row,
        )
        for row in fetch(connection, sql)
    ]


def _left_children(connection: Connection, database: str, parent: Staged, key: ForeignKey) -> list[Conflict]:
    """Rows that refer to what the merge removed."""
    refers = ", ".join(f"c.{quote(column)}::text" for column in key.child_columns)
    sql = f"""select {refers}, to_jsonb(c) from {key.child} c
        where exists (select 1 from pg_temp.{_old(parent)} o where {key.join("o", "c")})
            and not {key.holds("c")}"""
    return [
        refusal(
            "fk-child-exists",
            f"postgres/{database}/{parent.changes.table}",
            f"{key.name}: {key.child} refers to it in the target",
            key=row,
            ours=whole,
        )
        for *row, whole in fetch(connection, sql)
    ]


def _written(staged: Staged, key: ForeignKey) -> str:
    """For FROM, as t: the rows to which the merge gave a reference that they had not."""
    columns = enumerate(staged.changes.columns)
    if staged.key is None:
        cells = ", ".join(f"m.c{i} as {quote(column)}" for i, column in columns)
        return f"(select {cells} from {staged.merged} m where m.op = '{INSERT}') t"
    refers = [str(i) for i, column in columns if column in key.child_columns]
    given = f"(m.op = '{INSERT}' or m.changed && array[{', '.join(refers)}]::int[])"
    if len(refers) < len(key.child_columns):
        given = f"m.op <> '{DELETE}'"
    return f"{staged.relation.source} t join {staged.merged} m on {given} and {staged.match_new()}"


def _loses(staged: Staged, columns: Sequence[str]) -> bool:
    """Whether a row may have lost a value that others refer to."""
    at = {staged.index(column) for column in columns if column in staged.changes.columns}
    return any(
        operation == DELETE or (operation in (UPDATE, RECREATE) and not at.isdisjoint(changed(write)))
        for _, operation, write in staged.writes
    )


def _old(staged: Staged) -> str:
    return f"_wye_o{staged.number}"

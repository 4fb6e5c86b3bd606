"""What a merge added must hold what the merge left there, when its undo drops it: else somebody's values would be lost.

In a column that was added, that is what the merge wrote, by row, and for all other rows the value that nobody gave: the
one that rows older than the column show, or its default if that is a constant. So the rows that an application goes on
inserting without knowing the column do not matter. A default that gives each row a value of its own cannot be told from
somebody's: then the column must be as it was. In a table that was added it is the rows that the merge wrote.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from wye.kinds.postgres.changes import Addition, DatabaseChanges, TableChanges
from wye.kinds.postgres.parsing import Unparsable, parse
from wye.kinds.postgres.replay import fingerprint
from wye.kinds.postgres.rows import copy_rows
from wye.kinds.postgres.session import Connection, array, fetch, literal, names, value
from wye.kinds.postgres.tables import Relation, read_table
from wye.merge.conflict import BOTH, Conflict, Decisions, Side
from wye.merge.rows import Row

_COLUMNS = """
select a.attname, format_type(a.atttypid, a.atttypmod), a.atthasmissing, (a.attmissingval::text::text[])[1],
    pg_get_expr(d.adbin, d.adrelid)
from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = {oid} and a.attname = any({columns}) order by a.attnum"""


def additions(
    connection: Connection, old: Mapping[int, Relation], new: Mapping[int, Relation], *, filled: bool
) -> Iterator[Addition]:
    """Of the tables `old` before DDL and `new` after it, by oid; to be asked in the transaction of the DDL. `filled`:
    they may hold values that no list of written rows has, for they have come back."""
    for oid, relation in new.items():
        if relation.root != relation.name:
            continue
        if oid not in old:
            table = Addition(table=relation.name, columns=tuple(relation.stored), is_table=True)
            yield _with_digest(connection, relation, table) if filled else table
            continue
        known = old[oid].numbers.values()
        added = [column for column in relation.stored if relation.numbers[column] not in known]
        if added:
            yield _columns(connection, relation, added, filled=filled)


def _columns(connection: Connection, relation: Relation, added: list[str], *, filled: bool) -> Addition:
    found = fetch(connection, _COLUMNS.format(oid=relation.oid, columns=array(added)))
    columns = tuple(str(column) for column, *_ in found)
    addition = Addition(
        table=relation.name, columns=columns, idle=tuple(tuple(_idle(connection, *each[1:])) for each in found)
    )
    unmoved = all(has_missing or default is None or is_constant(default) for _, _, has_missing, _, default in found)
    return addition if unmoved and not filled else _with_digest(connection, relation, addition)


def _with_digest(connection: Connection, relation: Relation, addition: Addition) -> Addition:
    rows, digest = fingerprint(connection, relation.source, addition.columns, _given(addition))
    return replace(addition, rows=rows, digest=digest)


def changed_since(connection: Connection, undo: DatabaseChanges, place: str, decisions: Decisions) -> bool:
    """Locks what the undo drops and leaves conflicts with `decisions`, where it holds values that are not the merge's.
    To take "theirs" is to drop them all the same; for "ours" the answer is True: the merge's DDL has to stay."""
    stays = False
    for number, addition in enumerate(undo.additions):
        relation = read_table(connection, addition.table)
        if relation is None or not set(addition.columns) <= set(relation.columns):
            continue
        connection.execute(f"lock table {relation.source} in access exclusive mode")
        rows = _count_strange(connection, undo, addition, relation, number)
        now = fingerprint(connection, relation.source, addition.columns, _given(addition))
        if not rows or now == (addition.rows, addition.digest):
            continue
        what = "the table" if addition.is_table else ", ".join(addition.columns)
        conflict = Conflict(
            kind="drop-vs-change",
            place=f"{place}/{addition.table}",
            key=addition.columns,
            ours=rows,
            choices=BOTH,
            detail=f"{what} came with the merge, and {rows} rows were given values there since: theirs drops them,"
            " ours keeps them and all that the merge did to the schema of this database",
        )
        chosen = decisions.of(conflict)
        stays = stays or (chosen is not None and chosen.side is Side.OURS)
    return stays


def _count_strange(
    connection: Connection, undo: DatabaseChanges, addition: Addition, relation: Relation, number: int
) -> int:
    """Rows that hold neither what the merge wrote nor what nobody gave."""
    wrote = next((t for t in undo.redo.tables if t.table == addition.table), None) if undo.redo else None
    shown = [c for c in (wrote.key or wrote.columns if wrote else ()) if c not in addition.columns]
    columns = [*(() if addition.is_table else shown), *addition.columns]
    known = f"pg_temp._wye_a{number}"
    connection.execute(
        f"create temp table _wye_a{number} on commit drop as select {names(columns, 't.')}"
        f" from {relation.source} t limit 0"
    )
    if wrote is not None:
        at = [wrote.columns.index(column) for column in columns]
        copy_rows(connection, known, (tuple(row[i] for i in at) for row in _written(wrote)))
    same = f"row({names(columns, 'a.')})::text = row({names(columns, 't.')})::text"
    sql = f"""select count(*) from {relation.source} t
        where {_given(addition)} and not exists (select 1 from {known} a where {same})"""
    count = int(value(connection, sql))
    connection.execute(f"drop table {known}")  # lest it keeps a type that is to go
    return count


def _given(addition: Addition) -> str:
    """The condition that a row `t` holds a value that somebody gave it."""
    given = [
        f"row(t.{names([column])})::text not in ({', '.join(map(literal, idle))})"
        for column, idle in zip(addition.columns, addition.idle, strict=False)
    ]
    return f"({' or '.join(given)})" if given else "true"


def _written(table: TableChanges) -> Iterator[Row]:
    yield from table.inserts
    for _, row in table.updates:
        yield row


def _idle(connection: Connection, kind: str, has_missing: bool, missing: str | None, default: str | None) -> list[str]:
    """What a column holds where nobody gave it a value, as the server prints a row of it."""
    found = [f"{literal(missing)}::{kind}" if has_missing and missing is not None else f"null::{kind}"]
    if default is not None and is_constant(default):
        found.append(f"({default})::{kind}")
    return sorted({str(value(connection, f"select row({each})::text")) for each in found})


def is_constant(expression: str) -> bool:
    """Whether an expression, as the server prints it, is the same for every row."""
    try:
        parsed = parse(f"select ({expression})")
    except Unparsable:
        return False
    node = parsed.stmts[0].stmt.select_stmt.target_list[0].res_target.val
    waiting = [node]
    while waiting:
        each = waiting.pop()
        kind = each.WhichOneof("node")
        if kind == "type_cast":
            waiting.append(each.type_cast.arg)
        elif kind == "a_array_expr":
            waiting += each.a_array_expr.elements
        elif kind != "a_const":
            return False
    return True

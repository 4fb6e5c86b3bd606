"""What a change of a column's type takes from the values that are there, and that it takes no others in the target.

`alter table item alter price type int` rounds. The fork's author has seen what became of the base's values, and of no
others; but the statement runs on all that the target has by then. So it is measured in the base, just before the
statement runs there, which values do not come back from a cast to the new type and back; and in the target, just before
it runs there, these have to be the same. Of a type that is made by an expression nobody knows what it keeps: then the
column has to be as it was; and so it has where an attribute of a composite type is dropped.

Measured statement by statement, because a type may go there and back, and nothing is left of it in the schema.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import postgast
import psycopg

from wye.kinds.postgres.changes import Content
from wye.kinds.postgres.ddl import BEFORE, Loss, Statement
from wye.kinds.postgres.dialect import Dialect, speaking
from wye.kinds.postgres.parsing import Unparsable, enum_name, parse
from wye.kinds.postgres.replay import fingerprint, run_as, step_back
from wye.kinds.postgres.session import Connection, fetch, literal, quote, value
from wye.kinds.postgres.tables import Relation, read_table, read_tables
from wye.merge.conflict import NONE, THEIRS_ONLY, Conflict, Decisions

_NUMERIC = "N"
_JSON = ("json", "jsonb", "text", "character varying")
_NO_WAY = (psycopg.DataError, psycopg.ProgrammingError, psycopg.IntegrityError, psycopg.NotSupportedError)
"""There is no cast, or there is none for some value."""
_COLUMN = """
select format_type(a.atttypid, a.atttypmod), t.typcategory::text from pg_attribute a
join pg_type t on t.oid = a.atttypid
where a.attrelid = {table}::regclass and a.attname = {column} and not a.attisdropped"""
_NAME = """
select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.oid = {oid} and c.relkind in ('r', 'p')"""
_FILES = """
with recursive heir(oid) as (
    select {table}::regclass::oid union select i.inhrelid from pg_inherits i join heir on i.inhparent = heir.oid)
select array_agg(pg_relation_filepath(oid) order by oid) from heir"""
_USERS = """
with recursive made(oid, of) as (
    select oid, typelem from pg_type union all select oid, typbasetype from pg_type
    union all select c.reltype, a.atttypid from pg_attribute a join pg_class c on c.oid = a.attrelid
        where c.relkind = 'c' and not a.attisdropped),
used(oid) as (select {oid}::oid union select m.oid from made m join used u on u.oid = m.of)
select format('%I.%I', n.nspname, c.relname), a.attname
from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
where a.atttypid in (select oid from used) and c.relkind = 'r' and not a.attisdropped order by 1, 2"""


class Measuring:
    """In the base: `around` each statement that is replayed. `statements` are those, with their losses."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.statements: list[Statement] = []

    @contextlib.contextmanager
    def around(self, statement: Statement) -> Iterator[None]:
        commands = _commands_of(statement)
        if not commands:
            yield
            self.statements.append(statement)
            return
        step_back(self._connection)
        dropping = [
            each for command in commands if command.drops_attribute for each in self._attribute(statement, command)
        ]
        converting = [
            each for command in commands if not command.drops_attribute for each in self._before(statement, command)
        ]
        files = [self._files(each) for each in converting]
        yield
        step_back(self._connection)
        # Where no file was written anew all values are what they were.
        anew = [self._after(each) for each, was in zip(converting, files, strict=True) if self._files(each) != was]
        self.statements.append(replace(statement, losses=(*dropping, *anew)))

    def _attribute(self, statement: Statement, command: _Command) -> list[Loss]:
        oid = _as_statement(self._connection, statement, f"select to_regtype({literal(command.name)})::oid::int8")
        found = fetch(self._connection, _USERS.format(oid=int(oid))) if oid is not None else []
        losses = (self._read(statement, table, column, "", is_whole=True) for table, column in found)
        return [each for each in losses if each is not None]

    def _before(self, statement: Statement, command: _Command) -> list[Loss]:
        oid = _as_statement(self._connection, statement, f"select to_regclass({literal(command.name)})::oid::int8")
        table = fetch(self._connection, _NAME.format(oid=int(oid))) if oid is not None else []
        if not table:
            return []
        now = ""
        if command.cast:
            now = _type_of(self._connection, statement, f"{command.cast} from {table[0][0]} where false")
        loss = self._read(statement, table[0][0], command.column, now, is_whole=not now)
        return [] if loss is None else [loss]

    def _read(self, statement: Statement, table: str, column: str, now: str, *, is_whole: bool) -> Loss | None:
        with speaking(self._connection, statement.dialect):
            return _read_loss(self._connection, table, column, now, None, is_whole=is_whole)

    def _after(self, loss: Loss) -> Loss:
        [(now, _)] = fetch(self._connection, _COLUMN.format(table=literal(loss.table), column=literal(loss.column)))
        return replace(loss, now=now)

    def _files(self, loss: Loss) -> Any:
        return value(self._connection, _FILES.format(table=literal(loss.table)))


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Columns of a table, whose names may have changed on the way here, and what they held."""

    table: int
    columns: Sequence[int]
    rows: int
    digest: str

    def content(self, tables: Mapping[int, Relation]) -> Content | None:
        """With the names in `tables`, by oid; None if that did not have them all."""
        table = tables.get(self.table)
        known = {number: name for name, number in table.numbers.items()} if table is not None else {}
        if table is None or not known.keys() >= set(self.columns):
            return None
        columns = tuple(known[each] for each in self.columns)
        return Content(table=table.name, columns=columns, rows=self.rows, digest=self.digest)


class Guarding:
    """In the target: `around` each statement. What it would take other than in the base is left with `decisions`;
    `given_up` is what it takes all the same."""

    def __init__(self, connection: Connection, place: str, decisions: Decisions) -> None:
        self._connection, self._place, self._decisions = connection, place, decisions
        self.given_up: list[GivenUp] = []

    @contextlib.contextmanager
    def around(self, statement: Statement) -> Iterator[None]:
        if statement.losses:
            step_back(self._connection)
        for loss in statement.losses:
            self._compare(loss, statement.dialect)
        yield

    def _compare(self, was: Loss, dialect: Dialect) -> None:
        with speaking(self._connection, dialect):
            now = _read_loss(self._connection, was.table, was.column, was.now, was.by, is_whole=was.is_whole)
        if now is None or now == was or (not was.is_whole and now.was == was.now):
            return  # the statement fails, takes what it took, or has nothing to do any more
        conflict = Conflict(
            kind="type-vs-change" if was.now else "drop-vs-change",
            place=f"{self._place}/{was.table}",
            key=(was.column,),
            base=was.rows,
            ours=now.rows,
            theirs=was.now or None,
            choices=THEIRS_ONLY if now.was == was.was else NONE,
            detail=_told(was, now),
        )
        if self._decisions.of(conflict) is None:
            return
        [relation] = read_tables(self._connection, [was.table]).values()
        columns = [each for each in (*was.by, was.column) if each in relation.columns]
        rows, digest = fingerprint(self._connection, relation.source, columns)
        self.given_up.append(GivenUp(relation.oid, [relation.numbers[each] for each in columns], rows, digest))


def _told(was: Loss, now: Loss) -> str:
    if now.was != was.was:
        return f"the fork makes it {was.now} of {was.was}, and here it is {now.was} already"
    if not was.now:
        return "an attribute of its type is dropped, and values were written since: theirs drops it all the same"
    if was.is_whole or now.is_whole:
        return (
            f"the fork makes it {was.now} in a way of its own, and values were written since: theirs converts these too"
        )
    return (
        f"the fork makes it {was.now}, which {now.rows} values here do not fit into as they are; in the base it was"
        f" {was.rows}, or others: theirs converts what is here all the same"
    )


def _read_loss(
    connection: Connection, table: str, column: str, now: str, by: Sequence[str] | None, *, is_whole: bool
) -> Loss | None:
    """Locks the table. `by`: None for the columns of its key. None: there is no such column, or it is computed."""
    relation = read_table(connection, table)
    if relation is None or column not in relation.stored:
        return None
    connection.execute(f"lock table {relation.name} in access exclusive mode")
    [(was, category)] = fetch(connection, _COLUMN.format(table=literal(table), column=literal(column)))
    key = relation.key(among=relation.stored)
    wanted = (key.columns if key else ()) if by is None else by
    loss = Loss(table=table, column=column, was=was, now=now, by=tuple(wanted), is_whole=is_whole)
    columns = [*(each for each in loss.by if each in relation.columns), column]
    if not is_whole and value(connection, f"select to_regtype({literal(now)}) is not null"):
        with contextlib.suppress(*_NO_WAY), connection.transaction():
            where = _is_lost(f"t.{quote(column)}", was, now, category)
            return _with(loss, fingerprint(connection, relation.name, columns, where))
    return _with(replace(loss, is_whole=True), fingerprint(connection, relation.name, columns))


def _with(loss: Loss, found: tuple[int, str]) -> Loss:
    return replace(loss, rows=found[0], digest=found[1])


def _is_lost(cell: str, was: str, now: str, category: str) -> str:
    """The condition that a value is not what it was after a cast to `now` and back. Zeros behind the point are nothing
    to a number, nor is space to a document; but of a name that it has twice only one is left."""
    if now == "jsonb" and was.partition("(")[0] in _JSON:
        before, after = (rf"length(regexp_replace({each}::text, '\s', '', 'g'))" for each in (cell, f"{cell}::jsonb"))
        return f"{before} is distinct from {after}"
    again = f"({cell}::{now})::{was}"
    shown = "" if category == _NUMERIC else "::text"
    return f"{again}{shown} is distinct from {cell}{shown}"


# ---------------------------------------------------------------- what a statement does


@dataclass(frozen=True, slots=True)
class _Command:
    """`name`: of the table, or of the composite type, as the statement says it. `cast`: what the new type makes of the
    column; empty if an expression makes it."""

    name: str
    column: str = ""
    cast: str = ""
    drops_attribute: bool = False


def _commands_of(statement: Statement) -> list[_Command]:
    """Those that take something from a column."""
    if statement.stage != BEFORE or "type" not in statement.sql.lower():
        return []
    try:
        stmts = parse(statement.sql).stmts
    except Unparsable:
        return []
    if len(stmts) != 1 or stmts[0].stmt.WhichOneof("node") != "alter_table_stmt":
        return []
    node = stmts[0].stmt.alter_table_stmt
    found = (_command_of(node, each.alter_table_cmd) for each in node.cmds)
    return [each for each in found if each is not None]


def _command_of(node: Any, command: Any) -> _Command | None:
    """None: it takes nothing from any column."""
    act = enum_name("AlterTableType", command.subtype), enum_name("ObjectType", node.objtype)
    name = ".".join(quote(each) for each in (node.relation.schemaname, node.relation.relname) if each)
    if act == ("AT_DropColumn", "OBJECT_TYPE"):
        return _Command(name, drops_attribute=True)
    if act != ("AT_AlterColumnType", "OBJECT_TABLE"):
        return None
    definition = getattr(command, "def").column_def
    cast = _cast(command.name, definition.type_name)
    using = definition.raw_default
    is_plain = using.WhichOneof("node") is None or _selected(using) == cast
    return _Command(name, command.name, cast if is_plain else "")


def _cast(column: str, type_name: Any) -> str:
    tree = parse("select c::int")
    cast = tree.stmts[0].stmt.select_stmt.target_list[0].res_target.val.type_cast
    cast.arg.column_ref.fields[0].string.sval = column
    cast.type_name.CopyFrom(type_name)
    return str(postgast.deparse(tree))


def _selected(expression: Any) -> str:
    tree = parse("select c")
    tree.stmts[0].stmt.select_stmt.target_list[0].res_target.val.CopyFrom(expression)
    return str(postgast.deparse(tree))


def _as_statement(connection: Connection, statement: Statement, sql: str) -> Any:
    """Asks under the statement's role and search path."""
    run_as(connection, statement)
    found = value(connection, sql)
    step_back(connection)
    return found


def _type_of(connection: Connection, statement: Statement, sql: str) -> str:
    """Of the only column that `sql` gives, under the statement's role and search path; empty if it gives none."""
    with contextlib.suppress(*_NO_WAY), connection.transaction():
        run_as(connection, statement)
        result = connection.execute(sql).pgresult
        assert result is not None
        step_back(connection)
        return str(value(connection, f"select format_type({result.ftype(0)}, {result.fmod(0)})"))
    return ""

"""What a merge destroyed, read where it still is: a server on the bytes before the merge.

Definitions are the server's own (`definitions`). Rows of a table that was dropped come as rows to insert. Of a column
that was dropped come the values by the table's key, or, where there is none, by all that is left of the row; of one
that got another type only those that a cast to that type and back does not give again. So an integer that became a
bigint costs nothing here. That the bytes are what was dropped the merge has made sure of: nobody had changed it, or
what it was then is known by a fingerprint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import psycopg

from wye.kinds.postgres.changes import DatabaseChanges, Definition, Fill, Lost, Return, TableChanges
from wye.kinds.postgres.definitions import COLUMNS, LAST, read_definitions
from wye.kinds.postgres.dialect import Dialect, speaking
from wye.kinds.postgres.drops import missing
from wye.kinds.postgres.objects import name_of, parts_of
from wye.kinds.postgres.rows import read_rows
from wye.kinds.postgres.session import Connection, fetch, literal, names, quote
from wye.kinds.postgres.tables import Index, Relation, read_tables
from wye.merge.rows import Row

_COLUMN = """
select format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid), a.attgenerated <> '', a.attidentity <> '',
    case when a.attcollation <> t.typcollation then ' collate ' || a.attcollation::regcollation else '' end,
    a.attinhcount > 0 and not a.attislocal,
    exists (select from pg_inherits i join pg_class c on c.oid = i.inhparent
        where i.inhparent = a.attrelid and c.relkind = 'r')
from pg_attribute a join pg_type t on t.oid = a.atttypid
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = {oid} and a.attname = {column}"""
_FILLED_VIEWS = """select c.oid::regclass::text from pg_class c where c.relkind = 'm' and c.relispopulated"""


class _Inexact(Exception):
    """Says what cannot be brought back, and why."""


def read_lost(connection: Connection, undo: DatabaseChanges) -> DatabaseChanges:
    """An undo with all that it brings back. `connection`: to the same database on the bytes before the merge."""
    if not undo.lost.keys():
        return undo
    gone = undo.lost.gone
    relations = list(read_tables(connection).values())
    by_name = {tuple(parts_of(relation.name)): relation for relation in relations}
    found = read_definitions(connection, gone)
    columns = [each for stage, each in found if COLUMNS <= stage < LAST]
    before: list[Definition] = []
    after: list[Definition] = []
    fills: list[Fill] = []
    trouble = [each for each in (missing(connection, content) for content in undo.lost.given_up) if each is not None]
    dropped = [(each.key, "") for each in columns if each.key.startswith("column ")]
    for key, since in (*dropped, *undo.lost.retyped):
        try:
            made = _Column(connection, by_name[name_of(key)[1:-1]], key, since, undo.lost)
            before += made.before()
            fills += made.fills()
            after += made.after()
        except _Inexact as error:
            trouble.append(str(error))
    last = [each for stage, each in found if stage >= LAST]
    filled = {f"table {name}" for (name,) in fetch(connection, _FILLED_VIEWS)}
    return replace(
        undo,
        lost=Lost(),
        irreversible=(*undo.irreversible, *trouble),
        views=(*undo.views, *(key.partition(" ")[2] for key in gone if key in filled)),
        back=Return(
            first=tuple(each for stage, each in found if stage < COLUMNS),
            tables=tuple(_tables(connection, relations, gone)),
            columns=(*columns, *before),
            fills=tuple(fills),
            last=(*after, *last),
            dialect=undo.lost.dialect,
        ),
    )


def _tables(connection: Connection, relations: Sequence[Relation], gone: Sequence[str]) -> Iterator[TableChanges]:
    """All rows of tables that were dropped."""
    roots = {relation.name: relation for relation in relations}
    for relation in relations:
        if f"table {relation.name}" not in gone or relation.is_partitioned:
            continue
        columns = tuple(roots[relation.root].stored)
        if not columns:
            continue
        rows = tuple(read_rows(connection, f"select {names(columns, 't.')} from {relation.source} t"))
        if rows:
            yield TableChanges(table=relation.root, columns=columns, key=(), inserts=rows)


class _Column:
    """A column that was dropped, or has another type since (`since`)."""

    def __init__(self, connection: Connection, table: Relation, key: str, since: str, lost: Lost) -> None:
        self._connection, self._table, self._key, self._since = connection, table, key, since
        self._dialect = lost.dialect
        self._name = name_of(key)[-1]
        sql = _COLUMN.format(oid=table.oid, column=literal(self._name))
        [(self._type, self._default, generated, identity, self._collation, inherited, has_heirs)] = fetch(
            connection, sql
        )
        self._is_computed = bool(generated)
        self._is_identity = bool(identity)
        if inherited or has_heirs or (since and generated):
            raise _Inexact(f"{key}: it is {'generated' if generated else 'inherited'}")
        self._lost = [name_of(each)[-1] for each in sorted(lost.gone) if name_of(each)[:-1] == name_of(key)[:-1]]
        self._by: Index | None = next(
            (each for each in table.indexes if each.is_key and not set(each.columns) & set(self._lost)), None
        )

    def before(self) -> list[Definition]:
        """A type's default goes with the type."""
        if not self._since:
            return []
        change = f"{self._alter} type {self._type}{self._collation} using {quote(self._name)}::{self._type}"
        drop = [] if self._default is None or self._is_identity else [f"{self._alter} drop default"]
        return [Definition(key=self._key, sql=sql) for sql in (*drop, change)]

    def after(self) -> list[Definition]:
        if not self._since or self._default is None or self._is_identity:
            return []
        return [Definition(key=self._key, sql=f"{self._alter} set default {self._default}")]

    def fills(self) -> list[Fill]:
        if self._is_computed:
            return []
        if self._by is None and not self._since and not self._is_identity:
            return self._by_whole_rows()
        rows = self._values()
        if rows and self._by is None:
            raise _Inexact(f"{self._key}: its table has no key that tells whose the values were")
        if rows and self._since and self._by is not None and self._name in self._by.columns:
            raise _Inexact(f"{self._key}: a key whose values the new type does not hold")
        return [
            Fill(
                key=self._key, table=self._table.name, column=self._name, type=self._type, since=self._since,
                by=self._by.columns if self._by else (), operators=self._by.operators if self._by else (), rows=rows,
            )
        ]  # fmt: skip

    def _by_whole_rows(self) -> list[Fill]:
        """Rows that are equal in all else may change places. Of several columns each tells rows apart for the next."""
        later = self._lost[self._lost.index(self._name) :]
        by = tuple(each for each in self._table.stored if each not in later)
        if not by:
            raise _Inexact(f"{self._key}: nothing is left of its table that tells whose the values were")
        columns = names([*by, self._name], "t.")
        rows = tuple(read_rows(self._connection, f"select {columns} from {self._table.source} t"))
        return [Fill(key=self._key, table=self._table.name, column=self._name, type=self._type, by=by, rows=rows)]

    def _values(self) -> tuple[Row, ...]:
        cell = f"t.{quote(self._name)}"
        if not self._since:
            return self._read("true" if self._default is not None or self._is_identity else f"{cell} is not null")
        again = f"({cell}::{self._since})::{self._type}"
        try:
            with self._connection.transaction():
                return self._read(f"{again}::text is distinct from {cell}::text", self._dialect)
        except (psycopg.DataError, psycopg.ProgrammingError):  # a type that came with the merge, or no way back
            return self._read(f"{cell} is not null")

    def _read(self, where: str, dialect: Dialect = ()) -> tuple[Row, ...]:
        """In a transaction, if `where` is to be understood in a `dialect`; the rows come in the session's own."""
        columns = names([*(self._by.columns if self._by else ()), self._name], "t.")
        if not dialect:
            return tuple(read_rows(self._connection, f"select {columns} from {self._table.source} t where {where}"))
        with speaking(self._connection, dialect):
            chosen = f"select t.tableoid o, t.ctid i from {self._table.source} t where {where}"
            self._connection.execute(f"create temp table _wye_chosen on commit drop as {chosen}")
        those = f"{self._table.source} t join pg_temp._wye_chosen c on t.tableoid = c.o and t.ctid = c.i"
        found = tuple(read_rows(self._connection, f"select {columns} from {those}"))
        self._connection.execute("drop table pg_temp._wye_chosen")
        return found

    @property
    def _alter(self) -> str:
        return f"alter table {self._table.name} alter column {quote(self._name)}"

"""The physical side of a database's tables: where their rows lie, what tells the rows apart, what binds them.

Names are quoted and qualified ('public."Order"'), as they go into statements. Equality of keys is the server's: for
each column of a key and of a foreign key this room knows the operator by its full name, because a type from an
extension has its operators in a schema that an empty search path does not reach.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from wye.kinds.postgres.session import LOG_SCHEMA, Connection, array, fetch, quote

_USER = f"n.nspname not in ('pg_catalog', 'information_schema', '{LOG_SCHEMA}') and n.nspname !~ '^pg_(toast|temp)'"

_NAME = (
    "(select format('%I.%I', ns.nspname, rel.relname) from pg_class rel"
    " join pg_namespace ns on ns.oid = rel.relnamespace where rel.oid = {0})"
)
_ROWS = (
    "(select case rel.relkind when 'p' then '' else 'only ' end || format('%I.%I', ns.nspname, rel.relname)"
    " from pg_class rel join pg_namespace ns on ns.oid = rel.relnamespace where rel.oid = {0})"
)
"""A table for FROM: without the tables that inherit from it, but with the partitions that hold its rows."""
_OPERATOR = (
    "(select format('operator(%I.%s)', ns.nspname, op.oprname) from pg_operator op"
    " join pg_namespace ns on ns.oid = op.oprnamespace where op.oid = {0})"
)

_BTREE = "(select oid from pg_am where amname = 'btree')"
"""A key of periods (WITHOUT OVERLAPS) has another kind of index, whose third operator is no equality: that of a B-tree
of the same type is taken instead."""

_TABLES = f"""
select c.oid::int8, format('%I.%I', n.nspname, c.relname), c.relkind::text, pg_relation_filepath(c.oid),
    case when c.relispartition then {_NAME.format("pg_partition_root(c.oid)")} end,
    coalesce(pg_relation_size(c.oid), 0) / current_setting('block_size')::int
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and c.relpersistence <> 't' and {_USER} and {{chosen}} order by 2"""

_COLUMNS = """
select a.attrelid::int8, a.attname, a.attnum, a.attgenerated <> '', a.attidentity = 'a', a.attmissingval::text
from pg_attribute a where a.attnum > 0 and not a.attisdropped and a.attrelid = any({oids}) order by 1, 3"""

_INDEXES = f"""
select i.indrelid::int8, i.indisprimary, i.indisunique, i.indimmediate,
    i.indpred is null and i.indexprs is null and i.indisvalid
        and (select bool_and(k.attnotnull) from pg_attribute k
             where k.attrelid = i.indrelid and k.attnum = any(i.indkey::int2[])),
    array(select a.attname::text from unnest(i.indkey::int2[]) with ordinality u(k, o)
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k where o <= i.indnkeyatts order by o),
    array(select {_OPERATOR.format("p.amopopr")} from unnest(i.indclass::oid[]) with ordinality u(k, o)
        join pg_opclass y on y.oid = k
        join pg_opclass e on e.opcmethod = {_BTREE} and case y.opcmethod when {_BTREE} then e.oid = y.oid
            else e.opcintype = y.opcintype and e.opcdefault end
        join pg_amop p on p.amopfamily = e.opcfamily and p.amopstrategy = 3
            and p.amoplefttype = e.opcintype and p.amoprighttype = e.opcintype
        where i.indisunique and o <= i.indnkeyatts order by o),
    array(select a.attname::text from pg_attribute a where a.attrelid = i.indrelid and a.attnum > 0
        and (a.attnum = any(i.indkey::int2[]) or exists (select 1 from pg_depend d
            where d.classid = 'pg_class'::regclass and d.objid = i.indexrelid
            and d.refobjid = i.indrelid and d.refobjsubid = a.attnum))),
    format('%I', c.relname), i.indisexclusion, coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::bool, false),
    exists (select 1 from pg_inherits h where h.inhrelid = i.indexrelid)
from pg_index i join pg_class c on c.oid = i.indexrelid
where (i.indisunique or i.indisexclusion) and i.indrelid = any({{oids}})
order by i.indisprimary desc, i.indnkeyatts, c.relname"""

_FOREIGN = f"""
select k.conname, {_NAME.format("k.conrelid")}, {_NAME.format("k.confrelid")},
    array(select attname::text from unnest(k.conkey) with ordinality u(n, o)
        join pg_attribute on attrelid = k.conrelid and attnum = n order by o),
    array(select attname::text from unnest(k.confkey) with ordinality u(n, o)
        join pg_attribute on attrelid = k.confrelid and attnum = n order by o),
    array(select {_OPERATOR.format("u.eq")} from unnest(k.conpfeqop) with ordinality u(eq, o) order by o),
    k.confmatchtype = 'f', coalesce((to_jsonb(k) ->> 'conperiod')::bool, false),
    {_NAME.format("coalesce(pg_partition_root(k.conrelid), k.conrelid)")},
    {_NAME.format("coalesce(pg_partition_root(k.confrelid), k.confrelid)")},
    {_ROWS.format("k.conrelid")}, {_ROWS.format("k.confrelid")}
from pg_constraint k where k.contype = 'f' and k.conparentid = 0 {{chosen}}
    and coalesce((to_jsonb(k) ->> 'conenforced')::bool, true) order by 2, 1"""
"""PostgreSQL 18 brought references to periods, and such that are not enforced."""


@dataclass(frozen=True, slots=True)
class Index:
    """A unique or exclusion index. `operators`: equality per column, for a unique one."""

    name: str
    columns: tuple[str, ...]
    operators: tuple[str, ...]
    unique: bool
    immediate: bool
    is_key: bool
    """Tells every row apart: unique, whole, without NULL, checked at once."""
    excludes: bool = False
    """By other operators than equality; a key of periods too, which is also unique."""
    nulls_are_equal: bool = False
    is_part: bool = False
    """A partition's share of an index that all of the table has."""


@dataclass(slots=True)
class Relation:
    """A table or a partition. `file` and `blocks` are None and 0 for a partitioned table, which holds no rows."""

    oid: int
    name: str
    kind: str
    file: str | None
    root: str
    blocks: int
    columns: list[str] = field(default_factory=list)
    generated: set[str] = field(default_factory=set)
    identity: set[str] = field(default_factory=set)
    """Generated always as identity: never updated, only written with a new row."""
    numbers: dict[str, int] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """By column: the value of rows older than the column."""
    indexes: list[Index] = field(default_factory=list)
    bound: set[str] = field(default_factory=set)
    """Columns that a unique or exclusion index depends on in any way."""
    parts: list[Relation] = field(default_factory=list)
    """Its partitions at any depth, once `read_parts` has read them."""

    def constraints(self) -> Iterator[tuple[Relation, Index]]:
        """Its indexes, and those that only one of its partitions has."""
        yield from ((self, index) for index in self.indexes)
        yield from ((part, index) for part in self.parts for index in part.indexes if not index.is_part)

    @property
    def is_partitioned(self) -> bool:
        return self.kind == "p"

    @property
    def stored(self) -> list[str]:
        """Columns that can be written."""
        return [column for column in self.columns if column not in self.generated]

    @property
    def source(self) -> str:
        """For FROM: this table's own rows, never those of a table that inherits from it."""
        return self.name if self.is_partitioned else f"only {self.name}"

    def key(self, among: Collection[str]) -> Index | None:
        """One of these columns alone."""
        return next((index for index in self.indexes if index.is_key and set(index.columns) <= set(among)), None)

    def key_of(self, columns: tuple[str, ...]) -> Index | None:
        return next((index for index in self.indexes if index.is_key and index.columns == columns), None)


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """`operators`: parent's column = child's column, one per column; for periods, that they overlap. A partition may
    have its own, or be what others refer to: `child_root` and `parent_root` are what it is a partition of."""

    name: str
    child: str
    parent: str
    child_columns: tuple[str, ...]
    parent_columns: tuple[str, ...]
    operators: tuple[str, ...]
    match_full: bool
    has_period: bool
    """The last columns are periods: the parents' together must cover the child's."""
    child_root: str
    parent_root: str
    child_rows: str
    parent_rows: str
    """For FROM: a table that inherits from one has other rows, to which nobody refers and which refer to nothing."""

    def join(self, parent: str, child: str) -> str:
        """The condition that the child's row (alias `child`) refers to the parent's (alias `parent`)."""
        return " and ".join(
            f"{parent}.{quote(p)} {operator} {child}.{quote(c)}"
            for p, operator, c in zip(self.parent_columns, self.operators, self.child_columns, strict=True)
        )

    def holds(self, child: str) -> str:
        """The condition that the child's row (alias `child`) refers to something."""
        if not self.has_period:
            return f"exists (select 1 from {self.parent_rows} q where {self.join('q', child)})"
        covered = f"select pg_catalog.range_agg(q.{quote(self.parent_columns[-1])}) from {self.parent_rows} q"
        period = f"{child}.{quote(self.child_columns[-1])}"
        return f"coalesce({period} operator(pg_catalog.<@) ({covered} where {self.join('q', child)}), false)"


def table_names(connection: Connection) -> list[str]:
    """Tables and partitions of the database, as statements name them."""
    return [row[1] for row in fetch(connection, _TABLES.format(chosen="true"))]


def read_tables(connection: Connection, only: Collection[str] | None = None) -> dict[int, Relation]:
    """Tables and partitions of the database, by oid, in order of name; `only` those named."""
    chosen = "true" if only is None else f"format('%I.%I', n.nspname, c.relname) = any({array(only)})"
    tables = {
        oid: Relation(oid=oid, name=name, kind=kind, file=file, root=root or name, blocks=blocks)
        for oid, name, kind, file, root, blocks in fetch(connection, _TABLES.format(chosen=chosen))
    }
    oids = "array[" + ",".join(map(str, tables)) + "]::int8[]"
    for oid, column, number, generated, identity, missing in fetch(connection, _COLUMNS.format(oids=oids)):
        table = tables.get(oid)
        if table is None:
            continue
        table.columns.append(column)
        table.numbers[column] = number
        if generated:
            table.generated.add(column)
        if identity:
            table.identity.add(column)
        if missing is not None:
            table.missing[column] = missing
    for oid, _primary, unique, immediate, whole, columns, operators, bound, name, *more in fetch(
        connection, _INDEXES.format(oids=oids)
    ):
        table = tables.get(oid)
        if table is None:
            continue
        is_key = bool(unique and immediate and whole and len(columns) == len(operators))
        table.indexes.append(Index(name, tuple(columns), tuple(operators), unique, immediate, is_key, *more))
        table.bound.update(bound)
    return tables


def read_parts(connection: Connection, tables: Collection[Relation]) -> None:
    """Reads the partitions of those that have any. What binds a partition's columns binds the table's."""
    whole = {table.name: table for table in tables if table.is_partitioned}
    if not whole:
        return
    sql = f"""select format('%I.%I', n.nspname, c.relname) from unnest({array(whole)}) o
        join pg_partition_tree(o::regclass) p on p.level > 0
        join pg_class c on c.oid = p.relid join pg_namespace n on n.oid = c.relnamespace"""
    parts = [name for (name,) in fetch(connection, sql)]
    for part in read_tables(connection, parts).values():
        whole[part.root].parts.append(part)
        whole[part.root].bound.update(part.bound)


def read_table(connection: Connection, name: str) -> Relation | None:
    """The table or partition of that name; None if there is none."""
    return next(iter(read_tables(connection, [name]).values()), None)


def read_foreign_keys(connection: Connection, around: Collection[int]) -> list[ForeignKey]:
    """The foreign keys from or to the tables with these oids, or a partition of theirs; one of a partitioned table
    once, at its root."""
    oids = "array[" + ",".join(map(str, around)) + "]::oid[]"
    whole = f"(select unnest({oids}) union select p.relid from unnest({oids}) o, pg_partition_tree(o) p)"
    chosen = f"and (k.conrelid in {whole} or k.confrelid in {whole})"
    return [
        ForeignKey(name, child, parent, tuple(child_columns), tuple(parent_columns), tuple(operators), *rest)
        for name, child, parent, child_columns, parent_columns, operators, *rest in fetch(
            connection, _FOREIGN.format(chosen=chosen)
        )
    ]

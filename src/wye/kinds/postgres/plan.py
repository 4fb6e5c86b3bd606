"""Reads what a fork changed since its base, without stopping the fork and without anything in production.

Each database of the fork is read at one instant: a repeatable-read transaction, opened BEFORE a Postgres checkpoint
and before the pool's snapshot. Whatever such a transaction sees was in the fork's files when the snapshot was taken;
so the blocks that differ from the base's snapshot contain every row that differs. The tables are locked against
TRUNCATE and rewriting meanwhile, not against writing.

The base is started from its snapshot on a throwaway copy and gets the fork's DDL, so that both sides have one schema
and a rename or a new type of a column is no change of rows. Everything that would be lost in silence is refused
by name, all of it at once.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import psycopg

from wye.errors import Unavailable
from wye.host import Host
from wye.interfaces import PathChange
from wye.kinds.postgres.blocks import ChangedBlocks, Ranges, changed_blocks
from wye.kinds.postgres.catalog import (
    CATALOGS,
    changed_catalogs,
    read_paths,
)
from wye.kinds.postgres.changes import DatabaseChanges, Names, TableChanges
from wye.kinds.postgres.cluster import Server
from wye.kinds.postgres.contents import read_contents
from wye.kinds.postgres.exchanged_names import exchanged_columns
from wye.kinds.postgres.fills import column_fills
from wye.kinds.postgres.given import given_columns
from wye.kinds.postgres.guards import UNSEEN_CATALOGS, cluster_changes, database_changes
from wye.kinds.postgres.prepare import MAINTENANCE, TEMPLATE, list_databases, opened, read_mark
from wye.kinds.postgres.replay import expand
from wye.kinds.postgres.rows import Source, count_equal, differing_rows, pair
from wye.kinds.postgres.schemas import give_schema, read_schemas
from wye.kinds.postgres.sequences import Known, moved_sequences
from wye.kinds.postgres.session import Connection, fetch
from wye.kinds.postgres.side import Side
from wye.kinds.postgres.standing import changed_names, read_identities
from wye.kinds.postgres.tables import Relation, read_tables, table_names
from wye.kinds.postgres.watch import former_names
from wye.merge.conflict import Conflict
from wye.merge.refused import Refused
from wye.merge.rows import Row

_LOCK_TIMEOUT = "3s"

_DATABASES = "select datname, oid::int8 from pg_database where datallowconn"
_VIEWS = """
select format('%I.%I', n.nspname, c.relname), pg_relation_filepath(c.oid)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'm' and c.relispopulated order by 1"""


def read_changes(
    host: Host,
    base: Server,
    fork: Server,
    freeze: Callable[[], Iterable[PathChange]],
    data: str,
    *,
    databases: Collection[str] | None = None,
    watched: Callable[[str], bool] | None = None,
    descends: bool = True,
) -> list[DatabaseChanges]:
    """The changes of every database that has any.

    `base`: a throwaway server on a copy of the base snapshot, fenced, used by nobody else. `fork`: the fork's own
    server, running and in use. `freeze` takes a snapshot of the fork when it is called and returns what differs from
    the base's; `data` is the data directory's path in these changes. `databases`: only these. `watched`: says of
    tables (quoted names) whether their whole content is to be fingerprinted, for a policy that allows only one side to
    change them. `descends`: the fork began with the base's bytes, so that a transaction's number means one transaction.

    Raises Refused for what cannot be merged, Unavailable if a table of the fork stays locked.
    """
    with contextlib.ExitStack() as stack:
        executor = stack.enter_context(ThreadPoolExecutor(2))
        views = {MAINTENANCE: stack.enter_context(opened(fork, MAINTENANCE))}
        maintenance = views[MAINTENANCE]
        oids = {name: oid for name, oid in fetch(maintenance, _DATABASES) if databases is None or name in databases}
        for name in sorted(oids.keys() - {TEMPLATE}):
            if name != MAINTENANCE:
                views[name] = stack.enter_context(opened(fork, name))
            _fix_instant(views[name], name)
        blocks = _freeze(host, maintenance, freeze, data)
        if TEMPLATE in oids and blocks.has_database(oids[TEMPLATE]):
            # Hardly anybody ever changes it: it is looked at only if somebody did, and then everything once more.
            views[TEMPLATE] = stack.enter_context(opened(fork, TEMPLATE))
            _fix_instant(views[TEMPLATE], TEMPLATE)
            blocks = _freeze(host, maintenance, freeze, data)
        bases = {MAINTENANCE: stack.enter_context(opened(base, MAINTENANCE))}
        refused = cluster_changes(bases[MAINTENANCE], maintenance, blocks)
        found = []
        for name in sorted(set(list_databases(bases[MAINTENANCE])) & oids.keys()):
            if not blocks.has_database(oids[name]):
                continue
            host.at("postgres:diff:database")
            with contextlib.ExitStack() as own:
                before = bases.get(name) or own.enter_context(opened(base, name))
                side = _with_past(Side(host, executor, name, before, views[name], blocks, descends))
                changes, refusals = _read_database(side, watched or _nobody)
            refused += refusals
            if changes:
                found.append(changes)
    if refused:
        raise Refused(refused)
    return found


def _fix_instant(connection: Connection, database: str) -> None:
    """Begins a transaction that sees one instant, with the tables held against what that would not cover."""
    tables = table_names(connection)
    lock = f"lock table {', '.join(tables)} in access share mode;" if tables else ""
    try:
        # One message; its last statement is what fixes the instant, when the locks are held.
        connection.execute(
            "begin isolation level repeatable read read only;"
            f"set local lock_timeout = '{_LOCK_TIMEOUT}'; {lock} select 1"
        )
    except (psycopg.errors.LockNotAvailable, psycopg.errors.UndefinedTable) as error:
        raise Unavailable(f"the fork's database {database} is being altered: {error}") from error


def _freeze(host: Host, connection: Connection, freeze: Callable[[], Iterable[PathChange]], data: str) -> ChangedBlocks:
    """What differs between base and fork, once all that the fork's server has in memory is in its files."""
    host.at("postgres:diff:checkpoint")
    connection.execute("checkpoint")
    changes = freeze()
    [(block, segment)] = fetch(
        connection,
        "select current_setting('block_size')::int8, setting::int8 from pg_settings where name = 'segment_size'",
    )
    return changed_blocks(changes, data, block_bytes=int(block), segment_blocks=int(segment))


def _with_past(side: Side) -> Side:
    """The fork's bytes may not be those that became of the base's: somebody may have restored others since."""
    before, after = side.both(read_mark)
    one_past = side.descends and before == after
    return replace(side, descends=one_past, is_marked=one_past and before is not None)


def _nobody(_: str) -> bool:
    return False


def _read_database(side: Side, watched: Callable[[str], bool]) -> tuple[DatabaseChanges, list[Conflict]]:
    catalogs = changed_catalogs(*side.both(read_paths), side.blocks, (*CATALOGS, *UNSEEN_CATALOGS))
    refused = database_changes(side.database, side.base, side.fork, catalogs)
    base, theirs, statements, opaque, differing = read_schemas(side, catalogs)
    refused += opaque
    expand(side.host, side.base, statements)
    with side.base.transaction(force_rollback=True):
        old, new = side.both(read_tables)
        altered = base != theirs
        contents = read_contents(side, old, new, watched, altered=altered)
        exchanged = () if altered else exchanged_columns(side, old, new)
        names = read_identities(side.base) if altered else {}
        ddl_first = True
        reached = old
        known = Known.read(side.base) if base != theirs else None
        if base != theirs and not opaque:
            ddl_first, statements, failures = give_schema(side, statements, theirs, differing)
            refused += failures
            reached = read_tables(side.base)
        if refused:
            return DatabaseChanges(database=side.database), refused
        tables = _read_tables(side, old, reached, new, altered=altered)
        return DatabaseChanges(
            database=side.database,
            ddl=tuple(statements) if altered else (),
            ddl_first=ddl_first,
            tables=tuple(tables),
            sequences=tuple(moved_sequences(side, known)),
            views=tuple(_views(side)),
            contents=tuple(contents),
            exchanged=tuple(exchanged),
            names=changed_names(side.base, names) if altered else Names(),
            fills=tuple(column_fills(side, old, reached, new, tables)) if altered else (),
            base=base if altered else {},
            theirs=theirs if altered else {},
        ), []


def _read_tables(
    side: Side, old: dict[int, Relation], reached: dict[int, Relation], new: dict[int, Relation], *, altered: bool
) -> list[TableChanges]:
    """`old`: the base's tables; `reached`: these after the fork's DDL, if it has `altered` any; `new`: the fork's."""
    roots = {table.name: table for table in new.values()}
    origins = _origins(old, new, altered=altered)
    found: dict[str, _Rows] = {}
    for table in new.values():
        if table.is_partitioned:
            continue
        root = roots[table.root]
        origin = origins.get(table.name)
        before = reached.get(origin.oid) if origin is not None else None
        ranges = _ranges(side.blocks, origin, before, table)
        if not ranges:
            continue
        start = origins.get(root.name)
        rows = found.setdefault(table.root, _Rows(_added_columns(root, start) if altered else frozenset(), start))
        given: frozenset[str] = frozenset()
        if origin is not None and before is not None and origin.file != before.file:
            # A column whose value is the same for all rows leaves the table's file as it is.
            if rows.filled is None:
                rows.filled = _filled(side, rows.new, reached.get(start.oid) if start is not None else None)
            given = rows.filled - before.missing.keys()
        rows.given |= given
        was = Source(side.base, f"only {before.name}", root.stored, seed=1 if given else 0) if before else None
        now = Source(side.fork, f"only {table.name}", root.stored)
        told = side.is_marked and _is_told_by_versions(origin, before, table)
        gone, come = differing_rows(side.executor, was, now, ranges, by_version=told)
        rows.removed += gone
        rows.added += come
    changes = (_table_changes(side, roots[name], found[name]) for name in sorted(found))
    return [each for each in changes if each is not None]


@dataclass(slots=True)
class _Rows:
    """Of one table, with its partitions. `new`: columns that came with the fork; `origin`: the table in the base;
    `filled`: those of them that a server
    fills on its own, another way on each side; `given`: those that it has filled, in rows that were there."""

    new: frozenset[str]
    origin: Relation | None = None
    filled: frozenset[str] | None = None
    given: frozenset[str] = frozenset()
    removed: list[Row] = field(default_factory=list)
    added: list[Row] = field(default_factory=list)


def _origins(old: Mapping[int, Relation], new: Mapping[int, Relation], *, altered: bool) -> dict[str, Relation]:
    """What the fork's tables, by name, were in the base. If no schema changed there is no DDL to tell of a table that
    was dropped and made again alike, or that took another's name: then the name is all that counts, in the target
    too."""
    names = {} if altered else {table.name: table for table in old.values()}
    found = ((table.name, names.get(table.name) or old.get(oid)) for oid, table in new.items())
    return {name: origin for name, origin in found if origin is not None}


def _added_columns(root: Relation, origin: Relation | None) -> frozenset[str]:
    if origin is None or origin.columns == root.columns:
        return frozenset()
    known = origin.numbers.values()
    return frozenset(column for column in root.stored if root.numbers[column] not in known)


def _filled(side: Side, new: frozenset[str], root: Relation | None) -> frozenset[str]:
    return given_columns(side.base, root, new) if root is not None and new else frozenset()


def _ranges(blocks: ChangedBlocks, old: Relation | None, reached: Relation | None, new: Relation) -> Ranges:
    """Which blocks may hold a difference. All of them where a file was rewritten, or where the same bytes show
    something else on either side: rows that are older than a column, or columns that have taken each other's names."""
    everything = Ranges(((0, max(reached.blocks if reached else 0, new.blocks)),))
    if old is None or reached is None:
        return everything if new.blocks else Ranges()
    shows_the_same = reached.numbers == new.numbers and reached.missing == new.missing
    if old.file == reached.file == new.file and shows_the_same:
        return blocks.of(new.file).with_tail(old.blocks, new.blocks)
    return everything


def _is_told_by_versions(old: Relation | None, reached: Relation | None, new: Relation) -> bool:
    """Whether a version of a row that both sides have shows the same on both. No longer where the base was given DDL:
    it may have written rows then, in transactions with the numbers of the fork's; and not where a file was rewritten
    or columns have changed their names with each other."""
    if old is None or reached is not old or old.file != new.file:
        return False
    return old.numbers == new.numbers and old.missing == new.missing


def _table_changes(side: Side, root: Relation, rows: _Rows) -> TableChanges | None:
    columns = root.stored
    # What the server has just filled tells no row from another: it may have filled it another way in the target.
    index = root.key(among=set(columns) - rows.new)
    key = index.columns if index else ()
    unknown = [i for i, column in enumerate(columns) if column in rows.given]
    if unknown and not key:
        rows.removed = [_without(row, unknown) for row in rows.removed]
    found = pair(rows.removed, rows.added, [columns.index(column) for column in key] or None)
    if not found:
        return None
    counts: Counter[Row] = Counter()
    if unknown and not key:
        counts = Counter(found.deletes)
    elif not key:
        counts = count_equal(Source(side.base, root.source, columns), found.deletes)
    was, renamed = former_names(root, rows.origin)
    return TableChanges(
        table=root.name,
        was=was,
        renamed=renamed,
        columns=tuple(columns),
        key=tuple(key),
        deletes=tuple(found.deletes),
        inserts=tuple(found.inserts),
        # The fork's value is to be written also where the base happened to be given the same.
        updates=tuple((_without(a, [i for i in unknown if a[i] == b[i]]), b) for a, b in found.updates),
        counts=tuple(counts.items()),
        new=tuple(column for column in columns if column in rows.new),
        given=tuple(column for column in columns if column in rows.given),
    )


def _without(row: Row, cells: Collection[int]) -> Row:
    return tuple(None if i in cells else cell for i, cell in enumerate(row)) if cells else row


def _views(side: Side) -> list[str]:
    """Materialized views that came with the fork or were filled anew."""
    base, fork = side.both(lambda connection: dict(fetch(connection, _VIEWS)))
    return [name for name, file in fork.items() if base.get(name) != file or side.blocks.touched(file)]

"""Writes staged rows with a few set-based statements per table, and says which rows a constraint refuses.

Deletions of all tables come first, then updates, then insertions, so that unique values freed by one row can be taken
by another. The caller has switched triggers, rules and foreign keys off (session_replication_role): their effects are
in the diff already. Unique, exclusion, check and not-null constraints still hold, and each statement must touch
exactly as many rows as were decided. Rows that exchange unique values get a second attempt (`exchanging`).
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from wye.errors import InvariantError
from wye.host import Host
from wye.kinds.postgres.changes import SequenceChange
from wye.kinds.postgres.exchanging import lock_out, recreate_bound
from wye.kinds.postgres.refuse import refusal
from wye.kinds.postgres.sequences import move_ahead
from wye.kinds.postgres.session import LOG_SCHEMA, Connection, array, fetch, literal, names, quote
from wye.kinds.postgres.stage import DELETE, INSERT, RECREATE, UPDATE, Staged, changed
from wye.merge.conflict import Conflict


class Overtaken(Exception):
    """Somebody else has written a row since it was looked at."""


_MAY_COMPRESS = """
select set_config('wal_compression', 'lz4', true) from pg_settings
where name = 'wal_compression' and setting = 'off' and 'lz4' = any(enumvals)
    and current_setting('archive_mode') = 'off'
    and not exists (select from pg_replication_slots where slot_type = 'physical')
    and not exists (select from pg_stat_replication)"""


def write_less_log(connection: Connection) -> None:
    """Has the server compress, in this transaction, the whole pages that it logs: the first change of each since its
    last checkpoint, and so most of what a merge writes. Not where others read that log, whose server may have been
    built without the means to unpack it; and not by the older way, which takes longer than it spares."""
    connection.execute(_MAY_COMPRESS)


def write(host: Host, connection: Connection, tables: Sequence[Staged], exchanging: set[str]) -> bool:
    """Writes all of `tables`, or nothing if a constraint refuses a row: then False. `exchanging`: gets the tables whose
    rows exchange unique values, if that was what was in the way at first."""
    if _write_all(host, connection, tables):
        return True
    again = recreate_bound(connection, tables)
    exchanging.update(staged.changes.table for staged in again)
    return bool(again) and _write_all(host, connection, tables)


def _write_all(host: Host, connection: Connection, tables: Sequence[Staged]) -> bool:
    for staged in tables:
        _keep(connection, staged)
    try:
        with connection.transaction():
            lock_out(connection, [staged.relation for staged in tables if staged.count(RECREATE)])
            for step in (delete_rows, update_rows, insert_rows):
                for staged in tables:
                    host.at(f"postgres:apply:{step.__name__.removesuffix('_rows')}")
                    step(connection, staged)
    except psycopg.errors.IntegrityError:
        return False
    return True


def renumber(connection: Connection, tables: Sequence[Staged], sequences: Sequence[SequenceChange]) -> None:
    """Rows that only the target has get other values where the server has just given them some: the fork's rows bring
    theirs, which may be the same. A column that the target had before stays as it is. `sequences`: the fork's, beyond
    which the target's go for it."""
    numbered = [staged for staged in tables if staged.numbered]
    if numbered:
        move_ahead(connection, sequences)
    for staged in numbered:
        sql = f"""select attname from pg_attribute where attrelid = {staged.relation.oid}
            and attname = any({array(staged.numbered)}) and (atthasdef or attidentity <> '')"""
        cells = ", ".join(f"{quote(column)} = default" for (column,) in fetch(connection, sql))
        others = f"not exists (select 1 from {staged.keys} s where {staged.match_old()})" if staged.key else "true"
        if cells:
            connection.execute(f"update {staged.relation.source} t set {cells} where {others}")


def verify(connection: Connection, database: str, tables: Sequence[Staged]) -> list[Conflict]:
    """Compares every written row with what was decided, and looks for rows written that nobody decided on."""
    found = []
    for staged in tables:
        if staged.key is None or not staged.count(UPDATE, RECREATE, INSERT):
            continue
        columns = staged.changes.columns
        merged = ", ".join(f"m.c{i}" for i in range(len(columns)))
        key = ", ".join(f"m.c{staged.index(c)}::text" for c in staged.key.columns)
        sql = f"""select {key} from {staged.merged} m left join {staged.relation.source} t on {staged.match_new()}
            where m.op <> '{DELETE}' and row({names(columns, "t.")})::text is distinct from row({merged})::text"""
        place = f"postgres/{database}/{staged.changes.table}"
        found += [
            refusal("not-as-merged", place, "the row is not as merged", key=row) for row in fetch(connection, sql)
        ]
    planned = ", ".join(literal(staged.changes.table) + "::regclass" for staged in tables) or "0::regclass"
    sql = f"""select s.relid::regclass::text, n_tup_ins, n_tup_upd, n_tup_del from pg_stat_xact_user_tables s
        join pg_class c on c.oid = s.relid
        where n_tup_ins + n_tup_upd + n_tup_del > 0 and s.schemaname <> '{LOG_SCHEMA}'
            and c.relkind in ('r', 'p') and c.relpersistence <> 't'
            and coalesce(pg_partition_root(s.relid), s.relid) not in ({planned})"""
    found += [
        refusal("unplanned-write", f"postgres/{database}/{table}", f"{ins} inserted, {upd} updated, {gone} deleted")
        for table, ins, upd, gone in fetch(connection, sql)
    ]
    return found


def _keep(connection: Connection, staged: Staged) -> None:
    """Copies the rows that will be recreated, with the columns that the fork does not know."""
    if not staged.count(RECREATE):
        return
    known = {column: i for i, column in enumerate(staged.changes.columns)}
    cells = ", ".join(
        f"case when {known[c]} = any(m.changed) then m.c{known[c]} else t.{quote(c)} end as {quote(c)}"
        if c in known
        else f"t.{quote(c)}"
        for c in staged.relation.stored
    )
    connection.execute(f"drop table if exists pg_temp.{_kept(staged)}")
    connection.execute(
        f"create temp table {_kept(staged)} on commit drop as select m.n as _wye_n, {cells}"
        f" from {staged.relation.source} t, {staged.keys} s, {staged.merged} m"
        f" where m.op = '{RECREATE}' and {staged.match_seen()}"
    )


def _kept(staged: Staged) -> str:
    return f"_wye_r{staged.number}"


def delete_rows(connection: Connection, staged: Staged, only: str = "") -> None:
    source = staged.relation.source
    if staged.key is None:
        rows = staged.count(DELETE)
        if not rows:
            return
        known = [column for column in staged.changes.columns if column not in staged.changes.given]
        mine = f"row({names(known, 't.')})::text"
        theirs = f"row({', '.join(f'm.c{staged.index(column)}' for column in known)})::text"
        sql = f"""delete from {source} t using (
                select place, leaf, row_number() over (partition by cells order by leaf, place) as number, wanted from (
                    select t.ctid as place, t.tableoid as leaf, {mine} as cells, wanted from {source} t join (
                        select {theirs} as cells, count(*) as wanted from {staged.merged} m where m.op = '{DELETE}'
                        group by 1) w on w.cells = {mine}) x) y
            where t.ctid = y.place and t.tableoid = y.leaf and y.number <= y.wanted"""
    else:
        rows = staged.count(DELETE, RECREATE)
        if not rows:
            return
        sql = f"""delete from {source} t using {staged.keys} s, {staged.merged} m
            where m.op in ('{DELETE}', '{RECREATE}') and {staged.match_seen()} {only}"""
    _expect(connection.execute(sql).rowcount, rows, staged)


def update_rows(connection: Connection, staged: Staged, only: str = "") -> None:
    columns = sorted({i for _, operation, write in staged.writes if operation == UPDATE for i in changed(write)})
    if not columns:
        return
    cells = ", ".join(
        f"{quote(c)} = case when {i} = any(m.changed) then m.c{i} else t.{quote(c)} end"
        for i, c in ((i, staged.changes.columns[i]) for i in columns)
    )
    done = connection.execute(
        f"""update {staged.relation.source} t set {cells} from {staged.keys} s, {staged.merged} m
            where m.op = '{UPDATE}' and {staged.match_seen()} {only}"""
    ).rowcount
    if not only:
        _expect(done, staged.count(UPDATE), staged)


def insert_rows(connection: Connection, staged: Staged, only: str = "") -> None:
    name = staged.relation.name
    if staged.count(RECREATE):
        stored = names(staged.relation.stored)
        where = only.replace("m.n", "_wye_n")
        done = connection.execute(
            f"insert into {name} ({stored}) overriding system value select {stored} from pg_temp.{_kept(staged)}"
            f" where true {where}"
        ).rowcount
        if not only:
            _expect(done, staged.count(RECREATE), staged)
    if staged.count(INSERT):
        cells = ", ".join(f"m.c{i}" for i in range(len(staged.changes.columns)))
        into = f"({names(staged.changes.columns)}) overriding system value" if cells else ""
        done = connection.execute(
            f"insert into {name} {into} select {cells} from {staged.merged} m where m.op = '{INSERT}' {only}"
        ).rowcount
        if not only:
            _expect(done, staged.count(INSERT), staged)


def _expect(done: int, planned: int, staged: Staged) -> None:
    if done == planned:
        return
    told = f"{staged.changes.table}: {done} rows were written where {planned} were meant"
    raise InvariantError(told) if staged.is_locked else Overtaken(told)

"""Makes the cluster of a fresh fork ready to be changed and, later, compared.

It runs once per revision, on a fenced server over a clean copy; the snapshot taken afterwards is the base that all
forks of the revision share. Prepared transactions are rolled back and copied replication slots dropped, because
neither belongs to the fork and both would blur what it changed. Event triggers write down every DDL statement with
the role, the search path and the settings that it ran under. Sequences move ahead, so that keys made in the fork and
in production do not meet. A sequence's jump is part of the base, hence not a change. Each database gets a mark, which
says later of bytes whether they came of this preparation.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from wye.errors import Unsupported
from wye.host import Host
from wye.kinds.postgres.cluster import Server
from wye.kinds.postgres.dialect import LOGGED
from wye.kinds.postgres.session import LOG_SCHEMA, Connection, begin_session, fetch, literal, quote

STRIDE = 100_000
"""Steps that a fork's sequences move ahead; less where a sequence has not that much left."""

TRIGGERS = (f"{LOG_SCHEMA}_end", f"{LOG_SCHEMA}_drop")
MAINTENANCE, TEMPLATE = "postgres", "template1"

_AT_ONCE = 4
_CLUSTER = """
select pg_is_in_recovery(),
    coalesce((select json_agg(array[database::text, gid]) from pg_prepared_xacts), '[]'),
    coalesce((select json_agg(datname order by datname) from pg_database where datallowconn), '[]')
"""
_OWN = f"""
select
    coalesce((select json_agg(slot_name) from pg_replication_slots
        where slot_type = 'physical' or database = current_database()), '[]'),
    coalesce((select json_agg(subname) from pg_subscription
        where subdbid = (select oid from pg_database where datname = current_database())), '[]'),
    exists (select from pg_namespace where nspname = '{LOG_SCHEMA}')
        or exists (select from pg_event_trigger where evtname in ('{TRIGGERS[0]}', '{TRIGGERS[1]}'))
"""
_DROP_LOG = f"""
drop event trigger if exists {TRIGGERS[0]};
drop event trigger if exists {TRIGGERS[1]};
drop schema if exists {LOG_SCHEMA} cascade;
"""
"""A fork of a fork has a log already: it starts empty."""

_LOG = f"""
create schema {LOG_SCHEMA};
create function {LOG_SCHEMA}.mark() returns text language sql return '{{mark}}';
create table {LOG_SCHEMA}.ddl(
    id bigserial primary key,
    process int default pg_backend_pid(),
    statement_at timestamptz default statement_timestamp(),
    tag text not null,
    object text,
    extension bool not null default false,
    role text not null default
        case current_setting('role') when 'none' then session_user::text else current_setting('role') end,
    path text not null default current_setting('search_path'),
    settings jsonb not null default {LOGGED},
    query text not null default current_query()
);
create function {LOG_SCHEMA}.note() returns event_trigger language plpgsql security definer as $body$
declare
    item record;
begin
    if tg_event = 'sql_drop' then
        for item in select * from pg_catalog.pg_event_trigger_dropped_objects() where original and not is_temporary loop
            insert into {LOG_SCHEMA}.ddl(tag, object) values (tg_tag, item.object_identity);
        end loop;
    else
        for item in select * from pg_catalog.pg_event_trigger_ddl_commands()
            where coalesce(schema_name, '') <> 'pg_temp' loop
            insert into {LOG_SCHEMA}.ddl(tag, object, extension)
            values (tg_tag, item.object_identity, item.in_extension);
        end loop;
    end if;
end
$body$;
create event trigger {TRIGGERS[0]} on ddl_command_end execute function {LOG_SCHEMA}.note();
create event trigger {TRIGGERS[1]} on sql_drop execute function {LOG_SCHEMA}.note();
"""

_MARK = f"""
select pg_get_functiondef(oid) from pg_proc where pronamespace = to_regnamespace('{LOG_SCHEMA}') and proname = 'mark'
"""

_SHIFT = f"""
select setval(
    format('%I.%I', schemaname, sequencename)::regclass,
    case when increment_by > 0 then at + least({{stride}}, (max_value - at) / increment_by / 10) * increment_by
         else at + least({{stride}}, (min_value - at) / increment_by / 10) * increment_by end::bigint)
from (
    select *, coalesce(last_value, start_value)::numeric as at from pg_sequences
    where schemaname <> '{LOG_SCHEMA}' and not cycle
) s
"""


def prepare(host: Host, server: Server, given: Connection | None = None, *, stride: int = STRIDE) -> None:
    """Prepares every database of the cluster but the template, several at once. Take the base snapshot next.

    `given`: a fresh connection to the maintenance database, to be used for it. No Postgres checkpoint is written: a
    block that this changes and that reaches the disk only after the snapshot counts as changed, and its rows are found
    to be equal. The WAL is written, and on disk if the server syncs, when this returns.

    Raises Unsupported for a standby: it cannot be written to, and its primary's changes are not its own.
    """
    with contextlib.ExitStack() as own:
        connection = own.enter_context(opened(server, MAINTENANCE)) if given is None else begin_session(given)
        (found,) = fetch(connection, _CLUSTER)
        standby, prepared, names = found
        if standby:
            raise Unsupported("the cluster is a standby: fork its primary")
        others = [name for name in names if name not in (MAINTENANCE, TEMPLATE)]
        with ThreadPoolExecutor(_AT_ONCE) as executor:
            done = [executor.submit(_prepare_apart, host, server, name, prepared, stride) for name in others]
            _prepare_database(host, connection, MAINTENANCE, prepared, stride)
            for each in done:
                each.result()
        host.at("postgres:prepare:flush")
        connection.execute("set synchronous_commit = on; select pg_logical_emit_message(true, 'wye', 'prepared')")


def _prepare_apart(host: Host, server: Server, name: str, prepared: list[list[str]], stride: int) -> None:
    with opened(server, name) as connection:
        _prepare_database(host, connection, name, prepared, stride)


def _prepare_database(host: Host, connection: Connection, name: str, prepared: list[list[str]], stride: int) -> None:
    """In few messages: each is a wait for a server that has just begun and has nothing in its caches."""
    connection.execute("set synchronous_commit = off")
    for owner, gid in prepared:
        if owner == name:
            host.at("postgres:prepare:rollback")
            connection.execute(f"rollback prepared {literal(gid)}")
    (found,) = fetch(connection, _OWN)
    slots, subscriptions, has_log = found
    host.at("postgres:prepare:slots")
    for slot in slots:
        connection.execute(f"select pg_drop_replication_slot({literal(slot)})")
    for subscription in subscriptions:  # those of a fork must not reach their publisher
        connection.execute(f"alter subscription {quote(subscription)} disable")
    host.at("postgres:prepare:log")
    log = _LOG.format(mark=uuid.uuid4().hex)
    connection.execute(f"{_DROP_LOG if has_log else ''} {log}")  # one message is one transaction
    if stride:
        host.at("postgres:prepare:sequences")
        connection.execute(_SHIFT.format(stride=stride))


def read_mark(connection: Connection) -> str | None:
    """What `prepare` marked the database with; None: with nothing. Who changes it in a fork only hides from a diff what
    was done there."""
    found = fetch(connection, _MARK)
    return str(found[0][0]) if found else None


def list_databases(connection: Connection) -> list[str]:
    """Every database that takes connections, by name."""
    return [name for (name,) in fetch(connection, "select datname from pg_database where datallowconn order by 1")]


@contextlib.contextmanager
def opened(server: Server, database: str) -> Iterator[Connection]:
    connection = server.connect(database)
    try:
        yield begin_session(connection)
    finally:
        connection.close()

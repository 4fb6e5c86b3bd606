"""What belongs to a cluster and not to a table, compared between base and fork so that it is refused and never
lost.

No event trigger reports roles, databases, server settings or large objects, and none of them is merged (yet). If a
fork changed one, its merge is refused by name. Only catalogs whose files differ are read.
"""

from __future__ import annotations

from collections.abc import Collection

from wye.kinds.postgres.blocks import ChangedBlocks
from wye.kinds.postgres.catalog import changed_catalogs, read_paths
from wye.kinds.postgres.prepare import TRIGGERS
from wye.kinds.postgres.refuse import refusal
from wye.kinds.postgres.session import Connection, fetch
from wye.merge.conflict import Conflict
from wye.merge.foreign import refusals

_SHARED = {
    "roles": (("pg_authid", "pg_auth_members"), """
        select rolname, concat_ws(' ', rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication,
            rolbypassrls, rolconnlimit, rolpassword, rolvaliduntil,
            (select string_agg((to_jsonb(m) - 'oid' - 'member')::text, ',' order by m.roleid, m.grantor)
                from pg_auth_members m where m.member = a.oid))
        from pg_authid a"""),
    "databases": (("pg_database",), """
        select datname, (to_jsonb(d) - 'oid' - 'datname' - 'datfrozenxid' - 'datminmxid' - 'datcollversion'
            - 'dathasloginevt')::text
        from pg_database d"""),
    "parameter-rights": (("pg_parameter_acl",), "select parname, array_to_string(paracl, ',') from pg_parameter_acl"),
    "role-settings": (("pg_db_role_setting",), """
        select concat_ws('/', datname, rolname), array_to_string(setconfig, ';') from pg_db_role_setting
        left join pg_database d on d.oid = setdatabase left join pg_authid r on r.oid = setrole"""),
    "tablespaces": (("pg_tablespace",), "select spcname, (to_jsonb(t) - 'oid')::text from pg_tablespace t"),
    "subscriptions": (("pg_subscription",), "select subname, (to_jsonb(s) - 'oid')::text from pg_subscription s"),
    "security-labels": (
        ("pg_shseclabel",), "select concat_ws('/', objoid, classoid, provider), label from pg_shseclabel"
    ),
    "shared-comments": (
        ("pg_shdescription",), "select concat_ws('/', objoid, classoid), description from pg_shdescription"
    ),
}  # fmt: skip
"""By kind: the catalogs that a query reads, and the query. `dathasloginevt` only says that somebody has to look for
event triggers, which are compared themselves."""
UNSEEN_CATALOGS = ("pg_event_trigger", "pg_largeobject", "pg_largeobject_metadata")
"""Of a database: no event trigger reports a change of them."""
_EVENT_TRIGGERS = """
    select evtname, concat_ws(' ', evtevent, evtfoid::regproc, evtenabled, evttags, evtowner::regrole)
    from pg_event_trigger"""
_LARGE_OBJECTS = """
    select loid::text, md5(string_agg(pageno || ':' || md5(data), ',' order by pageno)) from pg_largeobject group by 1
    union all select 'owner ' || oid, concat_ws(' ', lomowner::regrole, lomacl) from pg_largeobject_metadata"""


def cluster_changes(base: Connection, fork: Connection, blocks: ChangedBlocks) -> list[Conflict]:
    """Refusals for what the fork changed of the cluster as a whole. Any database's connection will do."""
    found = [refusal("server-settings", "postgres", f"{name} was changed in the fork") for name in blocks.configuration]
    if blocks.foreign:
        [(logs,)] = fetch(fork, "select current_setting('log_directory')")
        found += refusals("postgres", (path for path in blocks.foreign if not f"{path}/".startswith(f"{logs}/")))
    shared = [name for names, _ in _SHARED.values() for name in names]
    touched = changed_catalogs(read_paths(base), read_paths(fork), blocks, shared)
    for kind, (catalogs, sql) in _SHARED.items():
        if not touched.keys().isdisjoint(catalogs):
            found += _compare(kind, "postgres", base, fork, sql)
    found += [
        refusal(
            "prepared-transactions", f"postgres/{database}", f"{gid} is prepared in the fork; commit or roll it back"
        )
        for database, gid in fetch(fork, "select database, gid from pg_prepared_xacts")
    ]
    return found


def database_changes(database: str, base: Connection, fork: Connection, touched: Collection[str]) -> list[Conflict]:
    """Refusals for what no event trigger sees in one database. `touched`: its catalogs that may differ."""
    place = f"postgres/{database}"
    found = []
    if "pg_event_trigger" in touched:
        # A base that is no fork, in a diff of two that do not come of each other, has no log.
        found += _compare("event-triggers", place, base, fork, _EVENT_TRIGGERS, may_come=TRIGGERS)
    if not {"pg_largeobject", "pg_largeobject_metadata"}.isdisjoint(touched):
        found += _compare("large-objects", place, base, fork, _LARGE_OBJECTS)
    return found


def _compare(
    kind: str, place: str, base: Connection, fork: Connection, sql: str, may_come: Collection[str] = ()
) -> list[Conflict]:
    """`may_come`: what the fork may have although the base has not."""
    before, after = (dict(fetch(side, sql)) for side in (base, fork))
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return [
        refusal(kind, place, f"{kind} changed in the fork: {name}", key=(name,))
        for name in changed
        if name in before or name not in may_come
    ]

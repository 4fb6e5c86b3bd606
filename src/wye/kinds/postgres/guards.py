"""What belongs to a cluster and not to a table, compared between base and fork so that it is refused and never
lost.

No event trigger reports roles, databases, server settings or large objects, and none of them is merged (yet). If a
fork changed one, its merge is refused by name.
"""

from __future__ import annotations

from wye.kinds.postgres.blocks import ChangedBlocks
from wye.kinds.postgres.refuse import refusal
from wye.kinds.postgres.session import Connection, fetch, value
from wye.merge.conflict import Conflict

_SHARED = {
    "roles": """
        select rolname, concat_ws(' ', rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication,
            rolbypassrls, rolconnlimit, rolpassword, rolvaliduntil,
            (select string_agg(g.rolname || m.admin_option::text, ',' order by g.rolname)
                from pg_auth_members m join pg_authid g on g.oid = m.roleid where m.member = a.oid))
        from pg_authid a""",
    "databases": """
        select datname, (to_jsonb(d) - 'oid' - 'datname' - 'datfrozenxid' - 'datminmxid' - 'datcollversion')::text
        from pg_database d""",
    "role-settings": """
        select concat_ws('/', datname, rolname), array_to_string(setconfig, ';') from pg_db_role_setting
        left join pg_database d on d.oid = setdatabase left join pg_authid r on r.oid = setrole""",
    "tablespaces": "select spcname, (to_jsonb(t) - 'oid')::text from pg_tablespace t",
    "subscriptions": "select subname, (to_jsonb(s) - 'oid')::text from pg_subscription s",
    "security-labels": "select concat_ws('/', objoid, classoid, provider), label from pg_shseclabel",
    "shared-comments": "select concat_ws('/', objoid, classoid), description from pg_shdescription",
}
_EVENT_TRIGGERS = (
    "select evtname, concat_ws(' ', evtevent, evtfoid::regproc, evtenabled, evttags) from pg_event_trigger"
)
_LARGE_OBJECTS = """
    select loid::text, md5(string_agg(pageno || ':' || md5(data), ',' order by pageno)) from pg_largeobject group by 1
    union all select 'owner ' || oid, concat_ws(' ', lomowner::regrole, lomacl) from pg_largeobject_metadata"""


def cluster_changes(base: Connection, fork: Connection, blocks: ChangedBlocks) -> list[Conflict]:
    """Refusals for what the fork changed of the cluster as a whole. Any database's connection will do."""
    found = [refusal("server-settings", "postgres", f"{name} was changed in the fork") for name in blocks.configuration]
    for kind, sql in _SHARED.items():
        found += _compare(kind, "postgres", base, fork, sql)
    found += [
        refusal(
            "prepared-transactions", f"postgres/{database}", f"{gid} is prepared in the fork; commit or roll it back"
        )
        for database, gid in fetch(fork, "select database, gid from pg_prepared_xacts")
    ]
    return found


def database_changes(database: str, base: Connection, fork: Connection, blocks: ChangedBlocks) -> list[Conflict]:
    """Refusals for what no event trigger sees in one database."""
    place = f"postgres/{database}"
    found = _compare("event-triggers", place, base, fork, _EVENT_TRIGGERS)
    files = [
        value(fork, f"select pg_relation_filepath('{name}')") for name in ("pg_largeobject", "pg_largeobject_metadata")
    ]
    if any(blocks.touched(file) for file in files):
        found += _compare("large-objects", place, base, fork, _LARGE_OBJECTS)
    return found


def _compare(kind: str, place: str, base: Connection, fork: Connection, sql: str) -> list[Conflict]:
    before, after = (dict(fetch(side, sql)) for side in (base, fork))
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return [refusal(kind, place, f"{kind} changed in the fork: {name}", key=(name,)) for name in changed]

"""What objects are called: in the base before and after the fork's DDL, and in the target before it.

DDL says names, and means objects. Where the target has given an object another name meanwhile, or has exchanged two,
the same words mean something else: a drop finds nothing, and is taken for done; names that both exchanged are
exchanged back. No part of a schema shows that, for the names are all there. But production has the oids of its forks:
so each object of the base that the fork dropped or gave another name must still be called in the target what it was
called in the base; and where the target is as the fork left it, what the fork calls it.

A target that was built anew has other oids, and then nothing is known: it says so by its cluster and its database.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from wye.kinds.postgres.changes import DatabaseChanges, Named, Names
from wye.kinds.postgres.properties import FROM_CLASS, OURS, free
from wye.kinds.postgres.refuse import refusal
from wye.kinds.postgres.session import Connection, fetch, value
from wye.merge.conflict import Conflict

_CLUSTER = """select (select system_identifier from pg_control_system()) || '/' || oid from pg_database
where datname = current_database()"""
_CLASS = f"{OURS} and {free('pg_class', 'c.oid')}"
_PARTS = (
    # A constraint's index has its name, and a partition's index and columns go with those of the whole.
    f"""select 'pg_class', c.oid::int8, 0, c.relname::text, c.relnamespace::int8, format('%I.%I', n.nspname, c.relname),
        coalesce(i.indrelid, 0)::int8, c.relkind in ('r', 'p', 'f')
    from {FROM_CLASS} left join pg_index i on i.indexrelid = c.oid
    where c.relkind in ('r', 'p', 'f', 'v', 'm', 'S', 'c', 'i', 'I') and c.relpersistence <> 't' and {_CLASS}
        and not (i.indrelid is not null and (c.relispartition or exists (
            select 1 from pg_constraint k where k.conindid = c.oid and k.contype in ('p', 'u', 'x'))))""",
    f"""select 'pg_attribute', c.oid::int8, a.attnum, a.attname, c.oid::int8,
        format('%I.%I.%I', n.nspname, c.relname, a.attname), c.oid::int8, true
    from {FROM_CLASS} join pg_attribute a on a.attrelid = c.oid
    where c.relkind in ('r', 'p', 'f', 'c') and c.relpersistence <> 't' and a.attnum > 0 and not a.attisdropped
        and a.attinhcount = 0 and {_CLASS}""",
    f"""select 'pg_proc', p.oid::int8, 0, format('%s(%s)', p.proname, p.proargtypes), p.pronamespace::int8,
        p.oid::regprocedure::text, 0::int8, false
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace where {OURS} and {free("pg_proc", "p.oid")}""",
    f"""select 'pg_operator', o.oid::int8, 0, format('%s(%s,%s)', o.oprname, o.oprleft, o.oprright),
        o.oprnamespace::int8, o.oid::regoperator::text, 0::int8, false
    from pg_operator o join pg_namespace n on n.oid = o.oprnamespace where {OURS} and {free("pg_operator", "o.oid")}""",
    f"""select 'pg_constraint', k.oid::int8, 0, k.conname, coalesce(c.oid, k.contypid)::int8,
        case when c.oid is null then k.contypid::regtype || format('.%I', k.conname)
            else format('%I.%I.%I', n.nspname, c.relname, k.conname) end, coalesce(c.oid, 0)::int8, false
    from pg_constraint k join pg_namespace n on n.oid = k.connamespace left join pg_class c on c.oid = k.conrelid
    where k.contype in ('c', 'f', 'n', 'p', 'u', 'x') and k.coninhcount = 0 and {OURS}
        and {free("pg_class", "k.conrelid")} and {free("pg_type", "k.contypid")}""",
    *(
        f"""select '{catalog}', o.oid::int8, 0, o.{name}, c.oid::int8,
            format('%I.%I.%I', n.nspname, c.relname, o.{name}), c.oid::int8, false
        from {catalog} o join pg_class c on c.oid = o.{of} join pg_namespace n on n.oid = c.relnamespace
        where {_CLASS} and {counts}"""
        for catalog, name, of, counts in (
            ("pg_trigger", "tgname", "tgrelid", "not o.tgisinternal and o.tgparentid = 0"),
            ("pg_policy", "polname", "polrelid", "true"),
            ("pg_rewrite", "rulename", "ev_class", "o.rulename <> '_RETURN'"),
        )
    ),
    *(
        f"""select '{catalog}', o.oid::int8, 0, o.{name}, n.oid::int8, format('%I.%I', n.nspname, o.{name}), 0::int8,
            false
        from {catalog} o join pg_namespace n on n.oid = o.{schema}
        where {OURS} and {free(catalog, "o.oid")} and {counts}"""
        for catalog, name, schema, counts in (
            ("pg_type", "typname", "typnamespace", "o.typtype in ('e', 'd', 'r')"),
            ("pg_collation", "collname", "collnamespace", "true"),
            ("pg_conversion", "conname", "connamespace", "true"),
            ("pg_statistic_ext", "stxname", "stxnamespace", "true"),
            ("pg_ts_config", "cfgname", "cfgnamespace", "true"),
            ("pg_ts_dict", "dictname", "dictnamespace", "true"),
        )
    ),
    *(
        f"select '{catalog}', n.oid::int8, 0, n.{name}, 0::int8, quote_ident(n.{name}), 0::int8, false"
        f" from {catalog} n where {counts}"
        for catalog, name, counts in (
            ("pg_namespace", "nspname", OURS),
            ("pg_publication", "pubname", "true"),
            ("pg_foreign_server", "srvname", "true"),
        )
    ),
)
_IDENTITIES = " union all ".join(_PARTS)

_Key = tuple[str, int, int]
"""Catalog, oid, and a column's number."""


@dataclass(frozen=True, slots=True)
class _Identity:
    """`own`: its name within what holds it, whose oid is `of`; `text`: all of its name; `table`: oid of the table that
    it goes with; `holds`: values, so that one which was made again is another."""

    own: str
    of: int
    text: str
    table: int
    holds: bool


Identities = Mapping[_Key, _Identity]


def read_identities(connection: Connection) -> Identities:
    """Of all that the database's owner could name, as the connection's transaction sees it."""
    return {(kind, oid, number): _Identity(*rest) for kind, oid, number, *rest in fetch(connection, _IDENTITIES)}


def changed_names(connection: Connection, before: Identities) -> Names:
    """To call in the base, when it has been given the fork's DDL: what was dropped, or has another name than `before`.
    What goes with a table that was dropped is not told."""
    now = read_identities(connection)
    return Names(cluster=str(value(connection, _CLUSTER)), changed=tuple(_changed(before, now)))


def _changed(before: Identities, now: Identities) -> Iterator[Named]:
    made = {(key[0], each.own, each.of) for key, each in now.items()}
    for key, was in before.items():
        after = now.get(key)
        if after is not None and (after.own, after.of) == (was.own, was.of):
            continue
        if after is None and was.table and ("pg_class", was.table, 0) not in now:
            continue
        if after is None and not was.holds and (key[0], was.own, was.of) in made:
            continue  # made again, as the server does with the indexes of a column that gets another type
        catalog, oid, number = key
        text = after.text if after is not None else ""
        yield Named(catalog=catalog, oid=oid, number=number, was=was.text, now=text, holds=was.holds)


def renamed_in_target(connection: Connection, changes: DatabaseChanges, place: str, *, runs: bool) -> list[Conflict]:
    """Refusals for what the target calls otherwise. `runs`: the fork's DDL is going to; otherwise the target has all of
    it already."""
    names = changes.names
    if not names.changed or value(connection, _CLUSTER) != names.cluster:
        return []
    there = read_identities(connection)
    taken = {(key[0], each.text) for key, each in there.items()}
    found = []
    for each in names.changed:
        here = there.get((each.catalog, each.oid, each.number))
        if here is None:
            continue
        is_meant = _is_meant(each, here.text, (each.catalog, each.was) in taken) if runs else _is_done(each, here.text)
        if not is_meant:
            found.append(_refusal(place, each, here.text))
    return found


def _is_meant(each: Named, here: str, is_taken: bool) -> bool:
    """Whether DDL that says the base's name finds this. It finds nothing, and fails, or is content, where the target
    has given it the fork's name and nothing else the base's."""
    return here == each.was or (here == each.now and not is_taken)


def _is_done(each: Named, here: str) -> bool:
    return here == each.now if each.now else here == each.was and not each.holds


def _refusal(place: str, each: Named, here: str) -> Conflict:
    did = f"the fork calls it {each.now}" if each.now else "the fork dropped it"
    do = f"rename it to {each.now} or to {each.was}" if each.now else f"drop it here, or rename it to {each.was}"
    return refusal(
        "renamed-in-target", place, f"{did}, and here it is called {here}: {do}, and merge again",
        key=(each.was,), base=each.was, ours=here, theirs=each.now or None,
    )  # fmt: skip

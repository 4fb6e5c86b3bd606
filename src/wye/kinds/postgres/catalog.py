"""A database's schema as a dictionary from object to definition, which is what three-way merge needs of it.

Definitions come from the server's own pg_get_* functions under an empty search path, so equal text means equal
objects, on every cluster of one version. Oids, statistics and physical layout are not in it. Objects of extensions
are left out (the extension stands for them), and so is the log that wye keeps in a fork.

DDL is replayed from a log, but the log is not trusted: what is right after a merge is decided by `merge_schemas` and
compared with this dictionary. Most forks change no schema at all, and that is known without reading it: from which
rows of the catalog's changed files there are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from wye.kinds.postgres.blocks import EVERYTHING, ChangedBlocks, Ranges
from wye.kinds.postgres.properties import (
    ACL,
    FROM_CLASS,
    OPTIONS,
    OURS,
    PROPERTIES,
    RARE_CATALOGS,
    RELATION_SORT,
    SINCE,
    free,
    rights,
)
from wye.kinds.postgres.session import Connection, fetch

Schema = dict[str, str]
"""From "<kind> <name>" to the definition."""
Paths = Mapping[str, str]
"""From the name of a catalog to its file."""

_CLASS = f"{OURS} and {free('pg_class', 'c.oid')}"

_PARTS: Mapping[str, str] = {
    "schema": f"""
        select n.nspname, concat_ws(' ', n.nspowner::regrole, {rights("n.nspacl", "'n'", "n.nspowner")})
        from pg_namespace n where {OURS} and {free("pg_namespace", "n.oid")}""",
    "table": f"""
        select c.oid::regclass::text, concat_ws(' ', c.relkind, c.relpersistence, c.relrowsecurity,
            c.relforcerowsecurity, c.relreplident, pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid),
            (select string_agg(inhparent::regclass::text, ',' order by inhseqno) from pg_inherits
                where inhrelid = c.oid),
            array_to_string(c.reloptions, ','), c.relowner::regrole, {rights("c.relacl", RELATION_SORT, "c.relowner")},
            obj_description(c.oid, 'pg_class'), nullif(c.reloftype, 0)::regtype)
        from {FROM_CLASS} where c.relkind in ('r', 'p', 'f', 'v', 'm', 'S', 'c') and {_CLASS}""",
    "column": f"""
        select c.oid::regclass::text || '.' || quote_ident(a.attname), concat_ws(' ',
            format_type(a.atttypid, a.atttypmod), case when a.attnotnull then 'not null' end,
            'default ' || pg_get_expr(d.adbin, d.adrelid), nullif(a.attidentity, ''), nullif(a.attgenerated, ''),
            case when a.attcollation <> t.typcollation then a.attcollation::regcollation end,
            a.attstorage, nullif(a.attcompression, ''),
            nullif({ACL.format("a.attacl")}, ''),
            {OPTIONS},
            col_description(c.oid, a.attnum))
        from {FROM_CLASS} join pg_attribute a on a.attrelid = c.oid join pg_type t on t.oid = a.atttypid
            left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
        where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'f', 'c') and {_CLASS}""",
    "constraint": f"""
        select coalesce(nullif(k.conrelid, 0)::regclass::text, k.contypid::regtype::text) || '.'
            || quote_ident(k.conname), pg_get_constraintdef(k.oid)
        from pg_constraint k join pg_namespace n on n.oid = k.connamespace
        where k.contype in ('c', 'f', 'n', 'p', 'u', 'x') and {OURS}
            and {free("pg_class", "k.conrelid")} and {free("pg_type", "k.contypid")}""",
    "index": f"""
        select c.oid::regclass::text, concat_ws(' ', pg_get_indexdef(c.oid), i.indisvalid, i.indisclustered,
            i.indisreplident, obj_description(c.oid, 'pg_class'))
        from {FROM_CLASS} join pg_index i on i.indexrelid = c.oid where {_CLASS}""",
    "view": f"""
        select c.oid::regclass::text, concat(c.relkind, pg_get_viewdef(c.oid))
        from {FROM_CLASS} where c.relkind in ('v', 'm') and {_CLASS}""",
    "function": f"""
        select p.oid::regprocedure::text, concat_ws(' ',
            case when p.prokind = 'a' then (select concat_ws(' ', aggtransfn, aggfinalfn, aggtranstype::regtype,
                agginitval, aggsortop::regoperator) from pg_aggregate where aggfnoid = p.oid)
            else pg_get_functiondef(p.oid) end,
            p.proowner::regrole, {rights("p.proacl", "'f'", "p.proowner")}, obj_description(p.oid, 'pg_proc'))
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace where {OURS} and {free("pg_proc", "p.oid")}""",
    "trigger": f"""
        select c.oid::regclass::text || '.' || quote_ident(g.tgname),
            concat_ws(' ', pg_get_triggerdef(g.oid), g.tgenabled)
        from pg_trigger g join pg_class c on c.oid = g.tgrelid join pg_namespace n on n.oid = c.relnamespace
        where not g.tgisinternal and {_CLASS}""",
    "sequence": f"""
        select c.oid::regclass::text, concat_ws(' ', seqtypid::regtype, seqstart, seqincrement, seqmin, seqmax,
            seqcycle, seqcache, (select string_agg(d.refobjid::regclass || '.' || quote_ident(a.attname), ',')
                from pg_depend d join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
                where d.objid = c.oid and d.classid = 'pg_class'::regclass and d.deptype in ('a', 'i')
                and d.refclassid = 'pg_class'::regclass))
        from {FROM_CLASS} join pg_sequence s on s.seqrelid = c.oid where {_CLASS}""",
    "type": f"""
        select t.oid::regtype::text, concat_ws(' ', t.typtype, t.typowner::regrole,
            {rights("t.typacl", "'T'", "t.typowner")},
            (select string_agg(quote_literal(enumlabel), ',' order by enumsortorder) from pg_enum
                where enumtypid = t.oid),
            case when t.typtype = 'd' then concat_ws(' ', format_type(t.typbasetype, t.typtypmod), t.typnotnull,
                t.typdefault, t.typcollation::regcollation) end,
            (select concat_ws(' ', rngsubtype::regtype, rngcollation::regcollation, rngcanonical, rngsubdiff)
                from pg_range where rngtypid = t.oid),
            obj_description(t.oid, 'pg_type'))
        from pg_type t join pg_namespace n on n.oid = t.typnamespace
        where t.typtype in ('e', 'd', 'r') and {OURS} and {free("pg_type", "t.oid")}""",
    "policy": f"""
        select c.oid::regclass::text || '.' || quote_ident(p.polname), concat_ws(' ', p.polcmd, p.polpermissive,
            (select string_agg(case r when 0 then 'public' else r::regrole::text end, ',' order by r)
                from unnest(p.polroles) r),
            pg_get_expr(p.polqual, p.polrelid), 'check ' || pg_get_expr(p.polwithcheck, p.polrelid))
        from pg_policy p join pg_class c on c.oid = p.polrelid join pg_namespace n on n.oid = c.relnamespace
        where {_CLASS}""",
    "rule": f"""
        select c.oid::regclass::text || '.' || quote_ident(r.rulename),
            concat_ws(' ', pg_get_ruledef(r.oid), r.ev_enabled)
        from pg_rewrite r join pg_class c on c.oid = r.ev_class join pg_namespace n on n.oid = c.relnamespace
        where r.rulename <> '_RETURN' and {_CLASS}""",
    "collation": f"""
        select l.oid::regcollation::text, (to_jsonb(l) - 'oid' - 'collversion' - 'collnamespace')::text
        from pg_collation l join pg_namespace n on n.oid = l.collnamespace
        where {OURS} and {free("pg_collation", "l.oid")}""",
    "operator": f"""
        select o.oid::regoperator::text, concat_ws(' ', o.oprcode, o.oprrest, o.oprjoin, o.oprcanmerge, o.oprcanhash,
            o.oprowner::regrole, o.oprcom::regoperator, o.oprnegate::regoperator)
        from pg_operator o join pg_namespace n on n.oid = o.oprnamespace
        where {OURS} and {free("pg_operator", "o.oid")}""",
    "statistics": f"""
        select quote_ident(n.nspname) || '.' || quote_ident(s.stxname), concat_ws(' ', pg_get_statisticsobjdef(s.oid),
            s.stxowner::regrole, 'statistics ' || nullif(s.stxstattarget, -1))
        from pg_statistic_ext s join pg_namespace n on n.oid = s.stxnamespace where {OURS}""",
    "dictionary": f"""
        select d.oid::regdictionary::text, concat_ws(' ', d.dictowner::regrole, d.dictinitoption,
            (pg_identify_object('pg_ts_template'::regclass, d.dicttemplate, 0)).identity)
        from pg_ts_dict d join pg_namespace n on n.oid = d.dictnamespace
        where {OURS} and {free("pg_ts_dict", "d.oid")}""",
    "configuration": f"""
        select g.oid::regconfig::text, concat_ws(' ', g.cfgowner::regrole,
            (pg_identify_object('pg_ts_parser'::regclass, g.cfgparser, 0)).identity,
            (select string_agg(concat_ws(' ', maptokentype, mapdict::regdictionary), ','
                order by maptokentype, mapseqno) from pg_ts_config_map where mapcfg = g.oid))
        from pg_ts_config g join pg_namespace n on n.oid = g.cfgnamespace
        where {OURS} and {free("pg_ts_config", "g.oid")}""",
    "extension": """
        select extname, concat_ws(' ', extversion, extnamespace::regnamespace, extowner::regrole,
            extconfig::regclass[], extcondition) from pg_extension""",
    "publication": """
        select quote_ident(p.pubname), concat_ws(' ', to_jsonb(p) - 'oid' - 'pubowner', p.pubowner::regrole,
            (select string_agg(to_jsonb(x)::text, ';' order by x.schemaname, x.tablename)
                from pg_publication_tables x where x.pubname = p.pubname and not p.puballtables))
        from pg_publication p""",
    "default-acl": f"""
        select concat_ws(' ', defaclrole::regrole, nullif(defaclnamespace, 0)::regnamespace, defaclobjtype),
            {ACL.format("defaclacl")} from pg_default_acl""",
}


def _query(version: int) -> str:
    """Without "offset 0" the server would ask for the name of each of its own functions first, which takes longer than
    all else, to see whether that is null."""
    parts = {**_PARTS, **{kind: sql for kind, sql in PROPERTIES.items() if SINCE.get(kind, 0) <= version}}
    return " union all ".join(
        f"select '{kind} ' || q.name, q.definition::text from ({sql} offset 0) q(name, definition)"
        " where q.name is not null"
        for kind, sql in parts.items()
    )


CATALOGS = (
    "pg_aggregate", "pg_attrdef", "pg_attribute", "pg_class", "pg_collation", "pg_constraint", "pg_default_acl",
    "pg_depend", "pg_description", "pg_enum", "pg_extension", "pg_index", "pg_inherits", "pg_namespace",
    "pg_operator", "pg_partitioned_table", "pg_policy", "pg_proc", "pg_publication", "pg_publication_rel", "pg_range",
    "pg_rewrite", "pg_seclabel", "pg_sequence", "pg_statistic_ext", "pg_trigger", "pg_ts_config_map", "pg_type",
    *RARE_CATALOGS,
)  # fmt: skip


def read_paths(connection: Connection) -> Paths:
    sql = "select relname, pg_relation_filepath(oid) from pg_class where relkind = 'r' and relnamespace = 11"
    return dict(fetch(connection, sql))


def changed_catalogs(base: Paths, fork: Paths, blocks: ChangedBlocks, catalogs: Collection[str]) -> dict[str, Ranges]:
    """Those of `catalogs` that may differ, each with the blocks that may; none if only a tail was cut off. A file that
    does not differ holds what it held; one that does says only that somebody must look: also hints and statistics are
    written to it."""
    found = {}
    for name in catalogs:
        if base.get(name) != fork.get(name):
            found[name] = EVERYTHING
        elif blocks.touched(fork.get(name)):
            found[name] = blocks.of(fork[name])
    return found


def read_versions(connection: Connection, catalogs: Mapping[str, Ranges]) -> list[tuple[Any, ...]]:
    """Which versions of which rows there are in `catalogs`, from the first block that may differ on. Where base and
    fork agree, no DDL is in effect in the fork, and reading the two schemas can be spared: a fork starts with its
    base's catalog, row by row and address by address."""
    parts = [
        f"select '{name}', count(*), sum(hashtextextended(xmin::text || ctid::text, 0))::text from {name}"
        # A tail that was cut off lies behind every block that is left.
        f" where ctid >= '({blocks.spans[0][0] if blocks else 0},0)'"
        for name, blocks in catalogs.items()
    ]
    return fetch(connection, " union all ".join(parts)) if parts else []


def read_schema(connection: Connection) -> Schema:
    """The schema of the connection's database, as its transaction sees it."""
    return dict(fetch(connection, _query(connection.info.server_version)))


def digest(schema: Mapping[str, str]) -> str:
    """SHA-256 of a schema: equal exactly if the schemas are."""
    return hashlib.sha256(json.dumps(sorted(schema.items())).encode()).hexdigest()


def merge_schemas(base: Schema, ours: Schema, theirs: Schema, values: Collection[str] = ()) -> tuple[Schema, list[str]]:
    """What the target's schema must be after the merge, and the objects that both sides changed differently. `values`:
    of enumerated types, those that the merge adds, quoted; the target may have them ahead of the rest."""
    expected: Schema = {}
    conflicts = []
    for name in sorted(base.keys() | ours.keys() | theirs.keys()):
        was, mine, other = base.get(name), ours.get(name), theirs.get(name)
        if other in (was, mine):
            merged = mine
        elif was == mine or was == _without(mine, values):
            merged = other
        else:
            conflicts.append(name)
            continue
        if merged is not None:
            expected[name] = merged
    return expected, conflicts


def _without(definition: str | None, values: Collection[str]) -> str | None:
    """A type as it was before it got these values."""
    if definition is None or not definition.startswith("e "):
        return definition
    for value in values:
        for text in (f",{value}", f"{value},"):
            if text in definition:
                definition = definition.replace(text, "", 1)
                break
    return definition


def difference(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    """Objects that are in one only or defined differently."""
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))

"""What objects have beside their definition, and objects that few databases have: parts of a schema's dictionary.

Comments, rights on things that are not the user's own, statistics targets, what is switched off or put elsewhere,
casts, families of operators, what is far away. Each part is a query of names and definitions; only what somebody has
set is in it, so a database where nobody did so reads no longer for it. Keys and texts of the main kinds stay as they
are (`catalog`); a setting under a key of its own merges with another change of the same object.

Oids are in none of the texts, except those of roles: roles are shared, and not merged.
"""

from __future__ import annotations

from collections.abc import Mapping

from wye.kinds.postgres.session import LOG_SCHEMA

OURS = f"n.nspname not in ('pg_catalog', 'information_schema', '{LOG_SCHEMA}') and n.nspname !~ '^pg_(toast|temp)'"
_LISTED = "(select string_agg(x::text, ',' order by x::text) from unnest({0}) x)"
ACL = f"coalesce({_LISTED}, '')"


def rights(acl: str, sort: str, owner: str) -> str:
    """Who may what, in order; empty if it is as if nobody had said anything. `sort`: as `acldefault` has it."""
    given, default = _LISTED.format(acl), _LISTED.format(f"acldefault({sort}, {owner})")
    return (
        f"(case when {acl} is null or {given} is not distinct from {default} then ''"
        f" else coalesce({given}, 'nobody') end)"
    )


RELATION_SORT = """(case c.relkind when 'S' then 's' else 'r' end)::"char\""""
# `pg_attver` is stamped by the server with the log position of a column's last DDL: another one on every cluster, so it
# says nothing about the schema. Not every build writes it.
OPTIONS = "(select string_agg(o, ',') from unnest(a.attoptions) o where o !~ '^pg_attver=')"
FROM_CLASS = "pg_class c join pg_namespace n on n.oid = c.relnamespace"
_FIRST = 16384
"""Oids below are of what every cluster begins with."""


def free(catalog: str, oid: str) -> str:
    """A condition: the object belongs to no extension."""
    return (
        f"not exists (select 1 from pg_depend e where e.classid = '{catalog}'::regclass"
        f" and e.objid = {oid} and e.deptype = 'e')"
    )


def _identity(catalog: str, oid: str) -> str:
    """A name with its schema, of an object of any kind."""
    return f"(pg_identify_object('{catalog}'::regclass, {oid}, 0)).identity"


def _made(catalog: str) -> str:
    """A condition: `o` of a catalog was made by somebody, and by no extension."""
    return f"o.oid >= {_FIRST} and {free(catalog, 'o.oid')}"


def _rights(catalog: str, column: str, sort: str, owner: str, where: str) -> str:
    """Rights on what is not the user's own, if they are not those that it came with."""
    came_with = ACL.format(f"coalesce(i.initprivs, acldefault({sort}, o.{owner}))")
    return f"""
        select k.identity || ' ' || k.type, {ACL.format(f"o.{column}")} from {catalog} o
            left join pg_init_privs i on i.classoid = '{catalog}'::regclass and i.objoid = o.oid and i.objsubid = 0
            cross join lateral pg_identify_object('{catalog}'::regclass, o.oid, 0) k
        where o.{column} is not null and i.initprivs is distinct from o.{column}
            and {came_with} <> {ACL.format(f"o.{column}")}
            and (o.oid < {_FIRST} or not {free(catalog, "o.oid")}) and {where}"""


def _as_come(column: str, sort: str, owner: str, schema: str, right: str) -> str:
    """A condition that leaves out the information schema's rights if they are as it came: no catalog has these."""
    given = f"acldefault('{sort}', {owner}) || ('={right}/' || {owner}::regrole)::aclitem"
    return (
        f"({schema} is distinct from to_regnamespace('information_schema')"
        f" or {ACL.format(f'o.{column}')} <> {ACL.format(given)})"
    )


_CLASS = f"{OURS} and {free('pg_class', 'c.oid')}"

PROPERTIES: Mapping[str, str] = {
    "comment": f"""
        select case when i.type in ('trigger', 'table constraint', 'policy', 'rule')
                then (select string_agg(quote_ident(part), '.') from unnest((pg_identify_object_as_address(
                    d.classoid, d.objoid, 0)).object_names) part)
                else i.identity end || ' ' || i.type, d.description
        from pg_description d cross join lateral pg_identify_object(d.classoid, d.objoid, d.objsubid) i
        where (d.objoid >= {_FIRST} or d.classoid = 'pg_largeobject'::regclass
                or d.classoid = 'pg_namespace'::regclass and d.objoid in (select oid from pg_namespace n where {OURS}))
            and d.classoid <> 'pg_proc'::regclass
            and not (d.classoid = 'pg_class'::regclass and (d.objsubid = 0
                or (select relkind from pg_class where oid = d.objoid) in ('r', 'p', 'f', 'c')))
            and not (d.classoid = 'pg_type'::regclass
                and (select typtype from pg_type where oid = d.objoid) in ('e', 'd', 'r'))
            and i.identity !~ '(^| on )(pg_(toast|temp)|{LOG_SCHEMA}[.])'
            and not exists (select 1 from pg_depend e
                where e.classid = d.classoid and e.objid = d.objoid and e.deptype = 'e')""",
    "label": """
        select concat_ws(' ', provider, i.type, i.identity), label
        from pg_seclabel l cross join lateral pg_identify_object(l.classoid, l.objoid, l.objsubid) i""",
    "rights-on-type": f"""
        select o.oid::regtype::text, {ACL.format("o.typacl")}
        from pg_type o join pg_namespace n on n.oid = o.typnamespace
        where o.typacl is not null and o.typtype not in ('e', 'd', 'r') and {OURS} and {free("pg_type", "o.oid")}
            and {rights("o.typacl", "'T'", "o.typowner")} <> ''""",
    "rights-on-column": f"""
        select c.oid::regclass::text || '.' || quote_ident(a.attname), {ACL.format("a.attacl")}
        from {FROM_CLASS} join pg_attribute a on a.attrelid = c.oid
            left join pg_init_privs i
                on i.classoid = 'pg_class'::regclass and i.objoid = c.oid and i.objsubid = a.attnum
        where a.attacl is not null and {ACL.format("i.initprivs")} <> {ACL.format("a.attacl")}
            and (c.relkind in ('v', 'm') or c.oid < {_FIRST} or not {free("pg_class", "c.oid")})
            and n.nspname !~ '^pg_(toast|temp)'""",
    "rights": " union all ".join(
        _rights(*each)
        for each in (
            (
                "pg_class",
                "relacl",
                RELATION_SORT.replace("c.", "o."),
                "relowner",
                _as_come("relacl", "r", "o.relowner", "o.relnamespace", "r"),
            ),
            ("pg_proc", "proacl", "'f'", "proowner", "true"),
            ("pg_type", "typacl", "'T'", "typowner", "true"),
            ("pg_language", "lanacl", "'l'", "lanowner", "true"),
            ("pg_foreign_data_wrapper", "fdwacl", "'F'", "fdwowner", "true"),
            ("pg_foreign_server", "srvacl", "'S'", "srvowner", "true"),
            (
                "pg_namespace",
                "nspacl",
                "'n'",
                "nspowner",
                f"o.nspname <> 'public' and {_as_come('nspacl', 'n', 'o.nspowner', 'o.oid', 'U')}",
            ),
        )
    ),
    "column-setting": f"""
        select c.oid::regclass::text || '.' || quote_ident(a.attname), concat_ws(' ',
            'statistics ' || nullif(a.attstattarget, -1), nullif(array_to_string(a.attfdwoptions, ','), ''))
        from pg_attribute a join {FROM_CLASS} on c.oid = a.attrelid
        where (a.attstattarget <> -1 or a.attfdwoptions is not null) and a.attnum > 0 and not a.attisdropped
            and c.relkind not in ('v', 'm') and {_CLASS}
        union all select c.oid::regclass::text || '.' || quote_ident(a.attname), concat_ws(' ',
            'statistics ' || nullif(a.attstattarget, -1), 'default ' || pg_get_expr(d.adbin, d.adrelid), a.attstorage,
            nullif(a.attcompression, ''), {OPTIONS})
        from {FROM_CLASS} join pg_attribute a on a.attrelid = c.oid
            left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
        where (c.relkind = 'm' or c.relkind = 'v' and a.atthasdef) and a.attnum > 0 and {_CLASS}""",
    "storage": f"""
        select c.oid::regclass::text, concat_ws(' ', a.amname, s.spcname)
        from {FROM_CLASS} left join pg_am a on a.oid = c.relam and c.relkind in ('r', 'm', 'p')
            left join pg_tablespace s on s.oid = c.reltablespace
        where c.relkind in ('r', 'm', 'p', 'i', 'I') and (s.spcname is not null or a.amname <> 'heap') and {_CLASS}""",
    "toast-setting": f"""
        select c.oid::regclass::text, array_to_string(s.reloptions, ',')
        from {FROM_CLASS} join pg_class s on s.oid = c.reltoastrelid where s.reloptions is not null and {_CLASS}""",
    "index-parent": f"""
        select c.oid::regclass::text, h.inhparent::regclass::text
        from {FROM_CLASS} join pg_inherits h on h.inhrelid = c.oid where c.relkind in ('i', 'I') and {_CLASS}""",
    "internal-trigger": f"""
        select c.oid::regclass::text || '.' || quote_ident(k.conname), string_agg(concat_ws(' ', g.tgfoid::regproc,
            g.tgenabled), ',' order by g.tgfoid)
        from pg_trigger g join pg_constraint k on k.oid = g.tgconstraint join {FROM_CLASS} on c.oid = g.tgrelid
        where g.tgisinternal and g.tgenabled <> 'O' and {_CLASS} group by 1""",
    "aggregate": f"""
        select p.oid::regprocedure::text, concat_ws(' ', to_jsonb(g) - array['aggfnoid', 'aggsortop', 'aggtranstype',
            'aggmtranstype'], nullif(g.aggmtranstype, 0)::regtype)
        from pg_aggregate g join pg_proc p on p.oid = g.aggfnoid join pg_namespace n on n.oid = p.pronamespace
        where {OURS} and {free("pg_proc", "p.oid")}""",
    "base-type": f"""
        select t.oid::regtype::text, concat_ws(' ', t.typowner::regrole, to_jsonb(t) - array['oid', 'typnamespace',
            'typowner', 'typrelid', 'typelem', 'typarray', 'typbasetype', 'typcollation', 'typacl', 'typdefaultbin'],
            nullif(t.typelem, 0)::regtype)
        from pg_type t join pg_namespace n on n.oid = t.typnamespace
        where t.typtype in ('b', 'p') and not exists (select 1 from pg_type e where e.typarray = t.oid)
            and {OURS} and {free("pg_type", "t.oid")}""",
    "range": f"""
        select t.oid::regtype::text, concat_ws(' ', r.rngmultitypid::regtype, {_identity("pg_opclass", "r.rngsubopc")})
        from pg_range r join pg_type t on t.oid = r.rngtypid where t.oid >= {_FIRST} and {free("pg_type", "t.oid")}""",
    "operator-class": f"""
        select {_identity("pg_opclass", "o.oid")}, concat_ws(' ', o.opcowner::regrole, o.opcintype::regtype,
            o.opcdefault, nullif(o.opckeytype, 0)::regtype, {_identity("pg_opfamily", "o.opcfamily")})
        from pg_opclass o where {_made("pg_opclass")}""",
    "operator-family": f"""
        select {_identity("pg_opfamily", "o.oid")}, concat_ws(' ', o.opfowner::regrole,
            (select string_agg(concat_ws(' ', amopstrategy, amoppurpose, amopopr::regoperator,
                {_identity("pg_opfamily", "nullif(amopsortfamily, 0)")}), ','
                order by amopstrategy, amopopr::regoperator::text)
                from pg_amop where amopfamily = o.oid),
            (select string_agg(concat_ws(' ', amprocnum, amproclefttype::regtype, amprocrighttype::regtype,
                amproc::oid::regprocedure), ',' order by amprocnum, amproclefttype::regtype::text,
                amprocrighttype::regtype::text) from pg_amproc where amprocfamily = o.oid))
        from pg_opfamily o where {_made("pg_opfamily")}""",
    "cast": f"""
        select {_identity("pg_cast", "o.oid")}, concat_ws(' ', o.castcontext, o.castmethod,
            nullif(o.castfunc, 0)::regprocedure) from pg_cast o where {_made("pg_cast")}""",
    "transform": f"""
        select {_identity("pg_transform", "o.oid")}, concat_ws(' ', o.trffromsql, o.trftosql)
        from pg_transform o where {_made("pg_transform")}""",
    "access-method": f"""
        select quote_ident(o.amname), concat_ws(' ', o.amtype, o.amhandler) from pg_am o where {_made("pg_am")}""",
    "language": f"""
        select quote_ident(o.lanname), concat_ws(' ', o.lanowner::regrole, o.lanpltrusted, o.lanplcallfoid::regproc,
            o.laninline::regproc, o.lanvalidator::regproc, {rights("o.lanacl", "'l'", "o.lanowner")})
        from pg_language o where {_made("pg_language")}""",
    "conversion": f"""
        select {_identity("pg_conversion", "o.oid")}, concat_ws(' ', o.conowner::regrole, o.conforencoding,
            o.contoencoding, o.conproc, o.condefault) from pg_conversion o where {_made("pg_conversion")}""",
    "text-search-parser": f"""
        select {_identity("pg_ts_parser", "o.oid")}, concat_ws(' ', o.prsstart, o.prstoken, o.prsend, o.prsheadline,
            o.prslextype) from pg_ts_parser o where {_made("pg_ts_parser")}""",
    "text-search-template": f"""
        select {_identity("pg_ts_template", "o.oid")}, concat_ws(' ', o.tmplinit, o.tmpllexize)
        from pg_ts_template o where {_made("pg_ts_template")}""",
    "foreign-data-wrapper": f"""
        select quote_ident(o.fdwname), concat_ws(' ', o.fdwowner::regrole, o.fdwhandler::regproc,
            o.fdwvalidator::regproc, {rights("o.fdwacl", "'F'", "o.fdwowner")}, array_to_string(o.fdwoptions, ','))
        from pg_foreign_data_wrapper o where {_made("pg_foreign_data_wrapper")}""",
    "server": f"""
        select quote_ident(o.srvname), concat_ws(' ', o.srvowner::regrole, quote_ident(w.fdwname),
            quote_nullable(o.srvtype), quote_nullable(o.srvversion), {rights("o.srvacl", "'S'", "o.srvowner")},
            array_to_string(o.srvoptions, ','))
        from pg_foreign_server o join pg_foreign_data_wrapper w on w.oid = o.srvfdw
        where {_made("pg_foreign_server")}""",
    # Its options hold passwords: what is kept, shown and stored says only whether they are the same.
    "user-mapping": f"""
        select {_identity("pg_user_mapping", "o.oid")},
            encode(sha256(convert_to(coalesce(o.umoptions::text, ''), 'UTF8')), 'hex')
        from pg_user_mapping o where {_made("pg_user_mapping")}""",
    "foreign-table": f"""
        select c.oid::regclass::text, concat_ws(' ', quote_ident(s.srvname), array_to_string(f.ftoptions, ','))
        from pg_foreign_table f join {FROM_CLASS} on c.oid = f.ftrelid join pg_foreign_server s on s.oid = f.ftserver
        where {_CLASS}""",
    "depends": """
        select concat_ws(' ', i.type, i.identity), string_agg(quote_ident(x.extname), ',' order by x.extname)
        from pg_depend d join pg_extension x on x.oid = d.refobjid
            cross join lateral pg_identify_object(d.classid, d.objid, 0) i
        where d.deptype = 'x' and d.refclassid = 'pg_extension'::regclass group by 1""",
    "publication-schema": """
        select quote_ident(p.pubname), string_agg(x.pnnspid::regnamespace::text, ','
            order by x.pnnspid::regnamespace::text)
        from pg_publication p join pg_publication_namespace x on x.pnpubid = p.oid group by 1""",
}
"""By kind."""

SINCE: Mapping[str, int] = {"publication-schema": 150000}
"""By kind: the version of the server from which on it has the catalog."""

RARE_CATALOGS = (
    "pg_am", "pg_amop", "pg_amproc", "pg_cast", "pg_conversion", "pg_foreign_data_wrapper", "pg_foreign_server",
    "pg_foreign_table", "pg_init_privs", "pg_language", "pg_opclass", "pg_opfamily", "pg_publication_namespace",
    "pg_transform", "pg_ts_config", "pg_ts_dict", "pg_ts_parser", "pg_ts_template", "pg_user_mapping",
)  # fmt: skip

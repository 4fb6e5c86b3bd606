"""What is set on a database's objects: owners, rights, comments, options, targets of statistics, storage, which
triggers and rules fire, parameters of sequences, default privileges.

A merge that sets something reads it before its DDL and after it, from the catalogs and by oid, so that no name and no
statement has to be understood: what differs is what the merge has set, in whichever way (`setting_back`). The names of
all objects are read too, and tell what was made of the rarer sorts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from wye.kinds.postgres.ddl import Statement
from wye.kinds.postgres.parsing import Unparsable, enum_name, parse
from wye.kinds.postgres.session import LOG_SCHEMA, Connection, fetch

STATEMENTS = frozenset({
    "alter_default_privileges_stmt", "alter_owner_stmt", "alter_seq_stmt", "alter_stats_stmt", "comment_stmt",
    "grant_stmt",
})  # fmt: skip
PARTS = frozenset(
    f"AT_{name}"
    for name in (
        "ChangeOwner", "SetRelOptions", "ResetRelOptions", "SetOptions", "ResetOptions", "SetStatistics", "SetStorage",
        "SetCompression", "ReplicaIdentity", "ClusterOn", "DropCluster", "EnableTrig", "EnableAlwaysTrig",
        "EnableReplicaTrig", "DisableTrig", "EnableTrigAll", "DisableTrigAll", "EnableTrigUser", "DisableTrigUser",
        "EnableRule", "EnableAlwaysRule", "EnableReplicaRule", "DisableRule",
    )
)  # fmt: skip
"""Statements, and parts of ALTER TABLE, that set what is read here."""
MAKERS = frozenset({
    "create_cast_stmt", "create_conversion_stmt", "create_op_class_stmt", "create_op_family_stmt",
    "create_publication_stmt", "define_stmt",
})  # fmt: skip
"""Statements that make what is known here by its name alone."""
MADE = frozenset({
    "aggregate", "cast", "collation", "conversion", "operator", "operator class", "operator family", "publication",
    "text search configuration", "text search dictionary", "text search parser", "text search template",
})  # fmt: skip
"""Sorts of what they make."""

Id = tuple[str, str, int, str]
"""Catalog, oid, number of a column or 0, and what is set."""

FIRST = 16384
OWNERS = {
    "pg_class": ("relowner", "relacl"), "pg_proc": ("proowner", "proacl"), "pg_type": ("typowner", "typacl"),
    "pg_namespace": ("nspowner", "nspacl"), "pg_language": ("lanowner", "lanacl"),
    "pg_foreign_data_wrapper": ("fdwowner", "fdwacl"), "pg_foreign_server": ("srvowner", "srvacl"),
    "pg_collation": ("collowner", ""), "pg_operator": ("oprowner", ""), "pg_opclass": ("opcowner", ""),
    "pg_opfamily": ("opfowner", ""), "pg_conversion": ("conowner", ""), "pg_statistic_ext": ("stxowner", ""),
    "pg_ts_dict": ("dictowner", ""), "pg_ts_config": ("cfgowner", ""), "pg_publication": ("pubowner", ""),
}  # fmt: skip
_OTHERS = ("pg_am", "pg_cast", "pg_extension", "pg_ts_parser", "pg_ts_template")
_OWN = {
    "pg_class": f"o.relkind in ('r', 'p', 'v', 'm', 'f', 'c', 'S', 'i', 'I') and o.relnamespace::regnamespace::text"
    f" !~ '^(pg_temp|pg_toast|{LOG_SCHEMA}$)'",
    "pg_type": """(o.typtype in ('e', 'd', 'r', 'b') or exists (select from pg_class c where c.oid = o.typrelid
        and c.relkind = 'c')) and not exists (select from pg_type e where e.typarray = o.oid)""",
}
_OWNS = {
    "pg_class": """o.relkind not in ('i', 'I') and not exists (select from pg_depend d where d.objid = o.oid
        and d.classid = 'pg_class'::regclass and d.deptype in ('a', 'i') and d.refclassid = 'pg_class'::regclass)""",
}
"""An index and a sequence of a column go with the table: of these only the `keeper` is told."""
WORDS = {
    "composite type": "type", "statistics object": "statistics", "foreign-data wrapper": "foreign data wrapper",
    "procedure": "routine", "function": "routine", "aggregate": "routine",
}  # fmt: skip
SORTS = {
    "pg_class": "r", "pg_proc": "f", "pg_type": "T", "pg_namespace": "n", "pg_language": "l",
    "pg_foreign_data_wrapper": "F", "pg_foreign_server": "S",
}  # fmt: skip
RIGHTS = """(select coalesce(jsonb_agg(jsonb_build_array(grantor::regrole,
    case when grantee <> 0 then grantee::regrole end, privilege_type, is_grantable)
    order by grantor::regrole::text, grantee::regrole::text, privilege_type), '[]') from aclexplode({0}))::text"""
_NAMES = " union all ".join((
    *(
        f"select '{catalog}', o.oid::text, k.type, k.identity, '' from {catalog} o,"
        f" lateral pg_identify_object('{catalog}'::regclass, o.oid, 0) k"
        f" where (o.oid >= {FIRST} or '{catalog}' = 'pg_namespace') and {_OWN.get(catalog, 'true')}"
        for catalog in (*OWNERS, *_OTHERS)
    ),
    """select 'pg_trigger', oid::text, 'trigger', quote_ident(tgname), tgrelid::regclass::text
    from pg_trigger where not tgisinternal""",
    "select 'pg_policy', oid::text, 'policy', quote_ident(polname), polrelid::regclass::text from pg_policy",
    f"""select 'pg_rewrite', oid::text, 'rule', quote_ident(rulename), ev_class::regclass::text
    from pg_rewrite where rulename <> '_RETURN' and oid >= {FIRST}""",
    "select 'pg_largeobject', oid::text, 'large object', oid::text, '' from pg_largeobject_metadata",
    f"""select 'pg_constraint', oid::text, 'constraint', quote_ident(conname),
        coalesce(nullif(conrelid, 0)::regclass::text, 'domain ' || contypid::regtype)
    from pg_constraint where oid >= {FIRST}""",
))  # fmt: skip
_VALUES = " union all ".join((
    *(
        f"select '{catalog}', o.oid::text, 0, case when {_OWNS.get(catalog, 'true')} then 'owner' else 'keeper' end,"
        f" o.{owner}::regrole::text from {catalog} o where o.oid >= {FIRST} and {_OWN.get(catalog, 'true')}"
        for catalog, (owner, _) in OWNERS.items()
    ),
    *(
        f"select '{catalog}', o.oid::text, 0, 'rights', {RIGHTS.format(f'o.{acl}')} from {catalog} o"
        f" where o.{acl} is not null"
        for catalog, (_, acl) in OWNERS.items()
        if acl
    ),
    f"""select 'pg_class', attrelid::text, attnum::int, 'rights', {RIGHTS.format('attacl')} from pg_attribute
    where attacl is not null""",
    f"""select 'pg_default_acl', jsonb_build_array(defaclrole::regrole, nullif(defaclnamespace, 0)::regnamespace,
        defaclobjtype)::text, 0, 'rights', {RIGHTS.format("defaclacl")} from pg_default_acl""",
    f"""select classoid::regclass::text, objoid::text, objsubid, 'comment', description from pg_description
    where objoid >= {FIRST} or classoid in ('pg_namespace'::regclass, 'pg_largeobject'::regclass)""",
    """select 'pg_class', oid::text, 0, 'options', to_jsonb(reloptions)::text from pg_class
    where reloptions is not null and relkind <> 't'""",
    """select 'pg_class', c.oid::text, 0, 'toast', to_jsonb(t.reloptions)::text
    from pg_class c join pg_class t on t.oid = c.reltoastrelid where t.reloptions is not null""",
    """select 'pg_class', c.oid::text, 0, 'identity', concat(c.relreplident, ' ', (select quote_ident(x.relname)
        from pg_index i join pg_class x on x.oid = i.indexrelid where i.indrelid = c.oid and i.indisreplident))
    from pg_class c where c.relkind in ('r', 'p') and c.relreplident not in ('d')""",
    """select 'pg_class', i.indrelid::text, 0, 'cluster', quote_ident(x.relname)
    from pg_index i join pg_class x on x.oid = i.indexrelid where i.indisclustered""",
    f"""select 'pg_class', a.attrelid::text, a.attnum::int, x.what, x.value
    from pg_attribute a join pg_type t on t.oid = a.atttypid, lateral (values
        ('column options', (select to_jsonb(array_agg(o))::text from unnest(a.attoptions) o where o !~ '^pg_attver=')),
        ('statistics', nullif(a.attstattarget, -1)::text), ('compression', nullif(a.attcompression, '')::text),
        ('storage', case when a.attstorage <> t.typstorage then a.attstorage::text end)) x(what, value)
    where a.attrelid >= {FIRST} and a.attnum > 0 and not a.attisdropped and x.value is not null""",
    """select 'pg_trigger', oid::text, 0, 'mode', jsonb_build_array(tgenabled, tgrelid::text, tgname)::text
    from pg_trigger where tgenabled <> 'O'""",
    """select 'pg_rewrite', oid::text, 0, 'mode', jsonb_build_array(ev_enabled, ev_class::text, rulename)::text
    from pg_rewrite where ev_enabled <> 'O'""",
    """select 'pg_class', seqrelid::text, 0, 'sequence', concat('as ', seqtypid::regtype, ' increment by ',
        seqincrement, ' minvalue ', seqmin, ' maxvalue ', seqmax, ' start with ', seqstart, ' cache ', seqcache,
        case when seqcycle then ' cycle' else ' no cycle' end,
        (select case d.deptype when 'a' then ' owned by ' || d.refobjid::regclass || '.' || quote_ident(a.attname)
                else '' end
            from pg_depend d join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
            where d.objid = seqrelid and d.classid = 'pg_class'::regclass and d.deptype in ('a', 'i')
                and d.refclassid = 'pg_class'::regclass))
    from pg_sequence""",
    """select 'pg_statistic_ext', oid::text, 0, 'statistics', nullif(stxstattarget, -1)::text from pg_statistic_ext
    where nullif(stxstattarget, -1) is not null""",
))  # fmt: skip
COLUMNS = "select attrelid::text, attnum::int, quote_ident(attname) from pg_attribute where {where}"


@dataclass(frozen=True, slots=True)
class Settings:
    """`names`: by catalog and oid, an object's sort, its name and what it is of."""

    names: Mapping[tuple[str, str], tuple[str, str, str]] = field(default_factory=dict)
    values: Mapping[Id, str] = field(default_factory=dict)
    columns: Mapping[tuple[str, int], str] = field(default_factory=dict)


def sets_something(statements: Iterable[Statement]) -> bool:
    """Whether DDL sets or makes anything of what `read_settings` reads. What cannot be read here may."""
    for statement in statements:
        try:
            parsed = parse(statement.sql).stmts
        except Unparsable:
            return True
        for raw in parsed:
            kind = raw.stmt.WhichOneof("node")
            commands = raw.stmt.alter_table_stmt.cmds if kind == "alter_table_stmt" else ()
            parts = {enum_name("AlterTableType", each.alter_table_cmd.subtype) for each in commands}
            if kind in STATEMENTS | MAKERS or not parts.isdisjoint(PARTS):
                return True
    return False


def read_settings(connection: Connection) -> Settings:
    """As the connection's transaction sees them. It prints names in full."""
    values = {(catalog, oid, part, what): set_to for catalog, oid, part, what, set_to in fetch(connection, _VALUES)}
    names = {(catalog, oid): (sort, name, of) for catalog, oid, sort, name, of in fetch(connection, _NAMES)}
    tables = sorted({oid for catalog, oid in names if catalog == "pg_class"})
    where = f"attnum > 0 and attrelid = any ('{{{','.join(tables)}}}'::oid[])"
    columns = {(oid, number): name for oid, number, name in fetch(connection, COLUMNS.format(where=where))}
    return Settings(names, values, columns)

"""Statements that define lost objects again, as the server that still has them would write them down.

Each statement has the key that the schema's dictionary has for its object, so it can be left out where the object is
there, and an order in which it is likely to succeed (`replay.define` tries again what had to wait). Owners, rights and
comments are in it; whether that was all, the dictionary says afterwards, when the schema is compared.
"""

from __future__ import annotations

from collections.abc import Collection

from wye.kinds.postgres.changes import Definition
from wye.kinds.postgres.session import Connection, array, fetch, literal

FIRST, COLUMNS, LAST = 10, 20, 30
"""Stages: below the first all that rows need, then columns, then all that wants values in place."""

_TABLE = "c.oid::regclass::text"
_COLUMN = f"{_TABLE} || '.' || quote_ident(a.attname)"
_PART = f"case when c.relkind in ('r', 'p', 'c') then 'column ' || {_COLUMN} else 'table ' || {_TABLE} end"
"""The key under which a column is lost: of a view, the view's."""
_OWNER = "c.relowner::regrole"
_SEQUENCE = """concat('start with ', s.seqstart, ' increment by ', s.seqincrement, ' minvalue ', s.seqmin,
    ' maxvalue ', s.seqmax, ' cache ', s.seqcache, case when s.seqcycle then ' cycle' end)"""
_IDENTITY = f"""(select concat(' generated ', case a.attidentity when 'a' then 'always' else 'by default' end,
    ' as identity (sequence name ', s.seqrelid::regclass, ' ', {_SEQUENCE}, ')')
    from pg_depend i join pg_sequence s on s.seqrelid = i.objid where i.classid = 'pg_class'::regclass
    and i.refobjid = a.attrelid and i.refobjsubid = a.attnum and i.deptype = 'i')"""
_CLAUSE = f"""concat(quote_ident(a.attname), ' ', format_type(a.atttypid, a.atttypmod),
    case when a.attcollation <> t.typcollation then ' collate ' || a.attcollation::regcollation end,
    case a.attgenerated when 's' then ' generated always as (' || pg_get_expr(d.adbin, d.adrelid) || ') stored'
        when 'v' then ' generated always as (' || pg_get_expr(d.adbin, d.adrelid) || ') virtual'
        else ' default ' || pg_get_expr(d.adbin, d.adrelid) end,
    {_IDENTITY})"""
_NOT_NULL = """coalesce(
    (select format(' constraint %I not null', k.conname) from pg_constraint k
        where k.conrelid = a.attrelid and k.contype = 'n' and k.conkey = array[a.attnum]),
    case when a.attnotnull then ' not null' end)"""
"""A name it has since PostgreSQL 18."""
_ATTRIBUTES = """pg_attribute a join pg_type t on t.oid = a.atttypid
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum"""
_LIST = f"""(select string_agg(concat({_CLAUSE}, {_NOT_NULL}), ', ' order by a.attnum) from {_ATTRIBUTES}
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)"""
_WITH = "case when c.reloptions is not null then format(' with (%s)', array_to_string(c.reloptions, ', ')) end"
_MODES = "case {0} when 'D' then ' disable' when 'R' then ' enable replica' when 'A' then ' enable always' end"
_ALTER = f"'alter table ' || {_TABLE} || ' alter column ' || quote_ident(a.attname) || ' '"
_LIVE = "a.attnum > 0 and not a.attisdropped"
_EXISTING = f"not ('table ' || {_TABLE} = any({{keys}}))"
"""The column's table is not lost itself."""

_QUERIES = (
    # schemas and types
    f"""select 'schema ' || nspname, {FIRST}, format('create schema %I authorization %s', nspname, nspowner::regrole)
        from pg_namespace""",
    f"""select 'type ' || t.oid::regtype, {FIRST} + 1, concat(case t.typtype
            when 'e' then format('create type %s as enum (%s)', t.oid::regtype,
                (select string_agg(quote_literal(enumlabel), ', ' order by enumsortorder)
                    from pg_enum where enumtypid = t.oid))
            else concat('create domain ', t.oid::regtype, ' as ', format_type(t.typbasetype, t.typtypmod),
                case when t.typcollation <> b.typcollation then ' collate ' || t.typcollation::regcollation end,
                ' default ' || t.typdefault) end,
            format('; alter type %s owner to %s', t.oid::regtype, t.typowner::regrole))
        from pg_type t left join pg_type b on b.oid = t.typbasetype where t.typtype in ('e', 'd')""",
    f"""select 'type ' || t.oid::regtype, {LAST}, format('alter domain %s set not null', t.oid::regtype)
        from pg_type t where t.typtype = 'd' and t.typnotnull
        and not exists (select from pg_constraint k where k.contypid = t.oid and k.contype = 'n')""",
    f"""select 'table ' || {_TABLE}, {FIRST} + 1, format('create type %s as (%s); alter type %s owner to %s', {_TABLE},
            (select string_agg({_CLAUSE}, ', ' order by a.attnum) from {_ATTRIBUTES}
                where a.attrelid = c.oid and {_LIVE}), {_TABLE}, {_OWNER})
        from pg_class c where c.relkind = 'c'""",
    # sequences and functions
    f"""select 'table ' || {_TABLE}, {FIRST} + 2, concat('create ', case c.relpersistence when 'u' then 'unlogged ' end,
            'sequence ', {_TABLE}, ' as ', s.seqtypid::regtype, ' ', {_SEQUENCE},
            format('; alter sequence %s owner to %s', {_TABLE}, {_OWNER}))
        from pg_class c join pg_sequence s on s.seqrelid = c.oid
        where not exists (select from pg_depend where objid = c.oid and classid = 'pg_class'::regclass
            and deptype = 'i' and refclassid = 'pg_class'::regclass)""",
    f"""select 'table ' || {_TABLE}, {LAST} + 8, format('alter sequence %s owned by %s.%I', {_TABLE},
            i.refobjid::regclass, a.attname)
        from pg_class c join pg_depend i on i.objid = c.oid and i.classid = 'pg_class'::regclass and i.deptype = 'a'
            and i.refclassid = 'pg_class'::regclass
        join pg_attribute a on a.attrelid = i.refobjid and a.attnum = i.refobjsubid where c.relkind = 'S'""",
    f"""select 'function ' || p.oid::regprocedure, {FIRST} + 3, concat(pg_get_functiondef(p.oid),
            '; alter routine ', p.oid::regprocedure, ' owner to ', p.proowner::regrole)
        from pg_proc p where p.prokind <> 'a'""",
    # tables and columns
    f"""select 'table ' || {_TABLE}, {FIRST} + case when c.relispartition then 5 else 4 end,
            concat('create ', case c.relpersistence when 'u' then 'unlogged ' end, 'table ', {_TABLE},
                case when c.relispartition then format(' partition of %s %s', i.parents,
                        pg_get_expr(c.relpartbound, c.oid))
                    when c.reloftype <> 0 then ' of ' || c.reloftype::regtype
                    else concat(' (', {_LIST}, ')', ' inherits (' || i.parents || ')') end,
                ' partition by ' || pg_get_partkeydef(c.oid),
                case when c.relkind = 'r' then ' using ' || quote_ident(m.amname) end, {_WITH},
                format('; alter table %s owner to %s', {_TABLE}, {_OWNER}))
        from pg_class c left join pg_am m on m.oid = c.relam,
            lateral (select string_agg(inhparent::regclass::text, ', ' order by inhseqno) from pg_inherits
                where inhrelid = c.oid) i(parents)
        where c.relkind in ('r', 'p')""",
    f"""select 'column ' || {_COLUMN}, {COLUMNS}, format('alter table %s add column %s', {_TABLE}, {_CLAUSE})
        from pg_class c join pg_attribute a on a.attrelid = c.oid join pg_type t on t.oid = a.atttypid
            left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where c.relkind in ('r', 'p') and {_LIVE} and a.attinhcount = 0 and {_EXISTING}""",
    f"""select 'column ' || {_COLUMN}, {LAST}, {_ALTER} || 'set not null'
        from pg_class c join pg_attribute a on a.attrelid = c.oid
        where c.relkind in ('r', 'p') and {_LIVE} and a.attnotnull and a.attinhcount = 0 and a.attidentity = ''
            and {_EXISTING} and not exists (select from pg_constraint k where k.conrelid = c.oid
                and k.contype = 'n' and k.conkey = array[a.attnum])""",
    f"""select {_PART}, {LAST} + case c.relkind when 'm' then 5 else 0 end, {_ALTER} || 'set ' || x.what
        from pg_class c join pg_attribute a on a.attrelid = c.oid join pg_type t on t.oid = a.atttypid,
        lateral (values
            (case when a.attstorage <> t.typstorage then 'storage ' || case a.attstorage when 'p' then 'plain'
                when 'e' then 'external' when 'm' then 'main' else 'extended' end end),
            ('compression ' || case a.attcompression when 'p' then 'pglz' when 'l' then 'lz4' end),
            ('statistics ' || nullif(a.attstattarget, -1)),
            ('(' || (select string_agg(o, ', ') from unnest(a.attoptions) o where o !~ '^pg_attver=') || ')')
        ) x(what)
        where c.relkind in ('r', 'p', 'm') and {_LIVE} and x.what is not null""",
    # what binds rows
    f"""select 'constraint ' || {_TABLE} || '.' || quote_ident(k.conname),
            {LAST} + case k.contype when 'f' then 5 else 1 end,
            format('alter table %s add constraint %I %s', {_TABLE}, k.conname, pg_get_constraintdef(k.oid))
        from pg_constraint k join pg_class c on c.oid = k.conrelid
        where k.contype in ('p', 'u', 'x', 'c', 'f', 'n') and k.conparentid = 0 and k.conislocal
            and (k.contype <> 'n' or {_EXISTING})""",
    f"""select 'constraint ' || k.contypid::regtype || '.' || quote_ident(k.conname), {LAST} + 1,
            format('alter domain %s add constraint %I %s', k.contypid::regtype, k.conname, pg_get_constraintdef(k.oid))
        from pg_constraint k where k.contypid <> 0""",
    f"""select 'index ' || {_TABLE}, {LAST} + 2, x.what
        from pg_index i join pg_class c on c.oid = i.indexrelid, lateral (values
            (case when not c.relispartition and not exists (select from pg_constraint k
                where k.conindid = c.oid and k.contype in ('p', 'u', 'x'))
                then replace(pg_get_indexdef(c.oid), ' ON ONLY ', ' ON ') end),
            (case when i.indisclustered
                then format('alter table %s cluster on %I', i.indrelid::regclass, c.relname) end),
            (case when i.indisreplident
                then format('alter table %s replica identity using index %I', i.indrelid::regclass, c.relname) end)
        ) x(what) where x.what is not null""",
    f"""select format('statistics %I.%I', n.nspname, s.stxname), {LAST} + 3,
            concat(pg_get_statisticsobjdef(s.oid),
                format('; alter statistics %I.%I owner to %s', n.nspname, s.stxname, s.stxowner::regrole),
                format('; alter statistics %I.%I set statistics ', n.nspname, s.stxname)
                    || nullif(s.stxstattarget, -1))
        from pg_statistic_ext s join pg_namespace n on n.oid = s.stxnamespace""",
    # views, and what acts by itself
    f"""select 'table ' || {_TABLE}, {LAST} + 4, concat('create ',
            case c.relkind when 'm' then 'materialized ' end, 'view ', {_TABLE}, {_WITH}, ' as ',
            rtrim(pg_get_viewdef(c.oid), ';'), case c.relkind when 'm' then ' with no data' end,
            format('; alter table %s owner to %s', {_TABLE}, {_OWNER}))
        from pg_class c where c.relkind in ('v', 'm')""",
    f"""select 'table ' || {_TABLE}, {LAST} + 5, {_ALTER} || 'set default ' || pg_get_expr(d.adbin, d.adrelid)
        from pg_class c join pg_attribute a on a.attrelid = c.oid
            join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum where c.relkind = 'v'""",
    f"""select 'trigger ' || {_TABLE} || '.' || quote_ident(g.tgname), {LAST} + 6, concat(pg_get_triggerdef(g.oid),
            '; alter table ' || {_TABLE} || {_MODES.format("g.tgenabled")} || ' trigger ' || quote_ident(g.tgname))
        from pg_trigger g join pg_class c on c.oid = g.tgrelid where not g.tgisinternal and g.tgparentid = 0""",
    f"""select 'rule ' || {_TABLE} || '.' || quote_ident(r.rulename), {LAST} + 6, concat(pg_get_ruledef(r.oid),
            ' alter table ' || {_TABLE} || {_MODES.format("r.ev_enabled")} || ' rule ' || quote_ident(r.rulename))
        from pg_rewrite r join pg_class c on c.oid = r.ev_class where r.rulename <> '_RETURN'""",
    f"""select 'policy ' || {_TABLE} || '.' || quote_ident(p.polname), {LAST} + 6,
            concat(format('create policy %I on %s as %s for %s to %s', p.polname, {_TABLE},
                case when p.polpermissive then 'permissive' else 'restrictive' end,
                case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update'
                    when 'd' then 'delete' else 'all' end,
                (select string_agg(case r when 0 then 'public' else r::regrole::text end, ', ')
                    from unnest(p.polroles) r)),
            ' using (' || pg_get_expr(p.polqual, p.polrelid) || ')',
            ' with check (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')
        from pg_policy p join pg_class c on c.oid = p.polrelid""",
    f"""select 'table ' || {_TABLE}, {LAST} + 7, format('alter table %s %s', {_TABLE}, x.what)
        from pg_class c, lateral (values
            (case when c.relrowsecurity then 'enable row level security' end),
            (case when c.relforcerowsecurity then 'force row level security' end),
            (case c.relreplident when 'f' then 'replica identity full' when 'n' then 'replica identity nothing' end)
        ) x(what) where c.relkind in ('r', 'p') and x.what is not null""",
)  # fmt: skip

_RIGHTS = f"""
select key, {LAST} + 9, concat(format('revoke all on %s from public, %s', what, owner::regrole),
    (select string_agg(format('; grant %s on %s to %s%s', privilege_type, what,
        case grantee when 0 then 'public' else grantee::regrole::text end,
        case when is_grantable then ' with grant option' end), '') from aclexplode(acl)))
from (
    select 'schema ' || nspname, format('schema %I', nspname), nspowner, nspacl from pg_namespace
    union all select 'type ' || t.oid::regtype, 'type ' || t.oid::regtype, typowner, typacl from pg_type t
    union all select 'function ' || p.oid::regprocedure, 'routine ' || p.oid::regprocedure, proowner, proacl
        from pg_proc p
    union all select 'table ' || {_TABLE}, case c.relkind when 'S' then 'sequence ' else 'table ' end || {_TABLE},
        relowner, relacl from pg_class c where relkind <> 'c'
) x(key, what, owner, acl) where acl is not null
union all select {_PART}, {LAST} + 9,
    (select string_agg(format('grant %s (%I) on table %s to %s%s', privilege_type, a.attname, {_TABLE},
        case grantee when 0 then 'public' else grantee::regrole::text end,
        case when is_grantable then ' with grant option' end), '; ') from aclexplode(a.attacl))
from pg_class c join pg_attribute a on a.attrelid = c.oid where a.attacl is not null and {_LIVE}"""
_COMMENTS = f"""
select x.key, {LAST} + 9, format('comment on %s %s is %L', case o.type when 'table column' then 'column'
        when 'view column' then 'column' when 'materialized view column' then 'column'
        when 'composite type' then 'type' when 'table constraint' then 'constraint'
        when 'domain constraint' then 'constraint' when 'statistics object' then 'statistics' else o.type end,
    case o.type when 'domain constraint' then replace(o.identity, ' on ', ' on domain ') else o.identity end,
    y.description)
from (
    select 'schema ' || nspname, 'pg_namespace'::regclass, oid, 0 from pg_namespace
    union all select 'type ' || oid::regtype, 'pg_type'::regclass, oid, 0 from pg_type
    union all select 'function ' || oid::regprocedure, 'pg_proc'::regclass, oid, 0 from pg_proc
    union all select case when c.relkind in ('i', 'I') then 'index ' else 'table ' end || {_TABLE},
        'pg_class'::regclass, oid, 0 from pg_class c
    union all select 'table ' || {_TABLE}, 'pg_type'::regclass, c.reltype, 0 from pg_class c where c.relkind = 'c'
    union all select {_PART}, 'pg_class'::regclass, c.oid, a.attnum
        from pg_class c join pg_attribute a on a.attrelid = c.oid where {_LIVE}
    union all select 'constraint ' || coalesce(nullif(conrelid, 0)::regclass::text, contypid::regtype::text) || '.'
        || quote_ident(conname), 'pg_constraint'::regclass, oid, 0 from pg_constraint
    union all select 'trigger ' || tgrelid::regclass || '.' || quote_ident(tgname), 'pg_trigger'::regclass, oid, 0
        from pg_trigger
    union all select 'policy ' || polrelid::regclass || '.' || quote_ident(polname), 'pg_policy'::regclass, oid, 0
        from pg_policy
    union all select 'rule ' || ev_class::regclass || '.' || quote_ident(rulename), 'pg_rewrite'::regclass, oid, 0
        from pg_rewrite
    union all select format('statistics %s.%I', stxnamespace::regnamespace, stxname), 'pg_statistic_ext'::regclass,
        oid, 0 from pg_statistic_ext
) x(key, class, oid, part)
join pg_description y on y.classoid = x.class and y.objoid = x.oid and y.objsubid = x.part,
lateral pg_identify_object(x.class, x.oid, x.part) o"""
_LOST_SEQUENCES = f"select {_TABLE} from pg_class c where c.relkind = 'S' and 'table ' || {_TABLE} = any({{keys}})"


def read_definitions(connection: Connection, lost: Collection[str]) -> list[tuple[int, Definition]]:
    """With the stage that each is for and beyond, in order. The connection prints names in full."""
    keys = array(lost)
    parts = [f"({sql.replace('{keys}', keys)})" for sql in (*_QUERIES, _RIGHTS, _COMMENTS)]
    sql = f"select key, stage, sql from ({' union all '.join(parts)}) q(key, stage, sql) where key = any({keys})"
    found = [(int(stage), Definition(key=key, sql=text)) for key, stage, text in fetch(connection, sql)]
    for (name,) in fetch(connection, _LOST_SEQUENCES.replace("{keys}", keys)):
        [(at, asked)] = fetch(connection, f"select last_value, is_called from {name}")
        state = f"select pg_catalog.setval({literal(name)}, {at}, {str(asked).lower()})"
        found.append((FIRST + 6, Definition(key=f"table {name}", sql=state)))
    return sorted(found, key=lambda each: (each[0], each[1].key))

"""The net below a schema's dictionary: what DDL changed and the dictionary does not show is refused by name.

It is asked only where catalogs differ and the dictionaries do not. Mostly nothing came of the DDL then: a table was
made and dropped, a right was given that was there. Where something did, the rows of the catalogs tell: whichever
columns the server's version has. They are told apart by what they describe, since an object that was dropped and made
again has another oid; and what a server counts for itself, or numbers by the order of things, says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from wye.kinds.postgres.refuse import refusal
from wye.kinds.postgres.session import LOG_SCHEMA, Connection, array, fetch
from wye.merge.conflict import Conflict

_SHOWN_STATEMENTS = 5
_OF = {
    "pg_attribute": ("pg_class", "attrelid", " || '.' || quote_ident(t.attname)", "not t.attisdropped"),
    "pg_index": ("pg_class", "indexrelid", "", "true"),
    "pg_sequence": ("pg_class", "seqrelid", "", "true"),
    "pg_inherits": ("pg_class", "inhrelid", "", "true"),
    "pg_partitioned_table": ("pg_class", "partrelid", "", "true"),
    "pg_foreign_table": ("pg_class", "ftrelid", "", "true"),
    "pg_aggregate": ("pg_proc", "aggfnoid", "", "true"),
    "pg_range": ("pg_type", "rngtypid", "", "true"),
    "pg_trigger": ("pg_trigger", "oid", "", "not t.tgisinternal"),
}
"""Catalogs whose rows have no oid, or are not all of somebody's making: of what a row tells, under which column, with
what else in its name, and which rows count."""
_NO_OBJECTS = frozenset({"pg_depend", "pg_enum", "pg_init_privs", "pg_ts_config_map"})
"""What they hold is in other rows, or wholly in the dictionary."""
_ABOUT = {"pg_description": "", "pg_seclabel": " || ' ' || t.provider"}
_NOBODYS = re.compile(rf"(?:^|[ .(])(?:pg_(?:temp|toast)(?:_\w+)?|{LOG_SCHEMA})(?:$|[ .\[])")
_COUNTED = (
    "relfilenode", "relpages", "reltuples", "relallvisible", "relallfrozen", "reltoastrelid", "relhasindex",
    "relhasrules", "relhastriggers", "relhassubclass", "relfrozenxid", "relminmxid", "relrewrite", "relnatts",
    "relchecks", "attnum", "attoptions", "attcacheoff", "attmissingval", "atthasmissing", "atthasdef", "attinhcount",
    "attislocal", "adnum", "indcheckxmin", "conindid", "coninhcount", "conislocal", "conparentid", "tgconstrindid",
    "tgparentid", "collversion", "inhseqno",
)  # fmt: skip
_SKIPPED_TYPES = ("pg_node_tree", "aclitem[]", "int2vector", "smallint[]")
"""Expressions, rights, numbers of columns: the dictionary prints them all."""
_OIDS = ("oid", "oid[]", "oidvector", "regproc")
_COLUMNS = f"""
select attrelid::regclass::text,
    array_agg(attname::text) filter (where format_type(atttypid, -1) = any ({array(_SKIPPED_TYPES)})),
    array_agg(attname::text) filter (where format_type(atttypid, -1) = any ({array(_OIDS)}))
from pg_attribute where attrelid::regclass::text = any ({{catalogs}}) and attnum > 0 and not attisdropped group by 1"""

_Rows = dict[tuple[str, str], tuple[int, Mapping[str, Any], Mapping[str, Any]]]
"""By catalog and name: the object's oid, and the columns of its row: those that hold no oids, and those that do."""


def unshown(
    place: str, base: Connection, fork: Connection, catalogs: Mapping[str, int], statements: Sequence[str]
) -> list[Conflict]:
    """Refusals for what differs in `catalogs` (each from a block on) although the dictionaries agree. `statements`:
    what the fork's log holds."""
    if catalogs.keys() <= _NO_OBJECTS:
        return []
    sql = _contents(catalogs)
    # By content, not by place and version: where a catalog was rewritten, these are another row's.
    before, after = ({(name, content): at for name, content, at in fetch(side, sql)} for side in (base, fork))
    gone = [(key[0], before[key]) for key in before.keys() - after.keys()]
    come = [(key[0], after[key]) for key in after.keys() - before.keys()]
    touched = sorted({name for name, _ in (*gone, *come)})
    columns = {name: (skipped or [], oids or []) for name, skipped, oids in _columns(fork, touched)}
    was, now = _read(base, gone, columns), _read(fork, come, columns)
    ran = "; ".join(statements[:_SHOWN_STATEMENTS])
    return [
        refusal(
            "unshown-ddl",
            place,
            f"{catalog} tells something else of {name} ({what}), which no merge compares"
            + (f"; the fork ran: {ran}" if ran else ""),
            key=(name,),
            theirs=list(statements),
        )
        for catalog, name, what in _differences(was, now)
    ]


def _contents(catalogs: Mapping[str, int]) -> str:
    return " union all ".join(
        f"select '{name}', hashtextextended(t::text, 0), ctid::text from {name} t where ctid >= '({block},0)'"
        for name, block in catalogs.items()
        if name not in _NO_OBJECTS
    )


def _columns(connection: Connection, catalogs: Collection[str]) -> list[tuple[Any, ...]]:
    return fetch(connection, _COLUMNS.format(catalogs=array(catalogs)))


def _read(
    connection: Connection,
    rows: Collection[tuple[str, str]],
    columns: Mapping[str, tuple[list[str], list[str]]],
) -> _Rows:
    """These rows, but for what belongs to nobody: temporary objects, TOAST, and wye's own log."""
    queries = [_rows(name, [at for catalog, at in rows if catalog == name], *columns[name]) for name in columns]
    return {
        (catalog, name): (oid, plain, oids)
        for catalog, name, oid, plain, oids in (fetch(connection, " union all ".join(queries)) if queries else ())
        if name is not None and not _NOBODYS.search(name)
    }


def _rows(catalog: str, at: Sequence[str], skipped: list[str], oids: list[str]) -> str:
    of, column, more, where = _OF.get(catalog, (catalog, "oid", "", "true"))
    name, oid = f"(pg_identify_object('{of}'::regclass, t.{column}, 0)).identity{more}", f"t.{column}"
    if catalog in _ABOUT:
        name = f"(pg_identify_object(t.classoid, t.objoid, t.objsubid)).identity{_ABOUT[catalog]}"
        oid = "t.objoid"
    row = "to_jsonb(t)"
    return f"""
        select '{catalog}', {name}, {oid}::int8, {row} - {array([*skipped, *oids, *_COUNTED])},
            (select coalesce(jsonb_object_agg(key, value), '{{}}') from jsonb_each({row} - {array(_COUNTED)})
                where key = any ({array(oids)}))
        from {catalog} t where t.ctid = any ({array(at, "tid")}) and {where}"""


def _differences(was: _Rows, now: _Rows) -> Iterator[tuple[str, str, str]]:
    for key in sorted(was.keys() | now.keys()):
        if key not in was or key not in now:
            yield (*key, "new" if key in now else "gone")
            continue
        (oid, plain, oids), (oid_now, plain_now, oids_now) = was[key], now[key]
        changed = [name for name in plain if plain[name] != plain_now.get(name)]
        if oid == oid_now:  # else it was made again, and what it refers to perhaps too
            changed += [name for name in oids if oids[name] != oids_now.get(name)]
        if changed:
            yield (*key, ", ".join(sorted(changed)))

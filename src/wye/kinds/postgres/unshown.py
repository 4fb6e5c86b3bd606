"""The net below a schema's dictionary: what DDL changed and the dictionary does not show is refused by name.

It is asked where catalogs differ and the dictionaries do not: because nothing came of the DDL (a table was made and
dropped, a right was given that was there), or because the base has had it too by now. Where something is left, the rows
of the catalogs tell: whichever columns the server's version has. They are told apart by what they describe, and so is
what they refer to, since an object that was made again, or made here and there, has another oid; and what a server
counts for itself, or numbers by the order of things, says nothing.

Only rows that may differ are read: those of blocks that differ between the files, and what the base's own transaction
wrote. So it costs as much as the DDL is large, and not the schema.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from wye.kinds.postgres.blocks import EVERYTHING, Ranges
from wye.kinds.postgres.refuse import refusal
from wye.kinds.postgres.session import LOG_SCHEMA, Connection, array, fetch
from wye.merge.conflict import Conflict

_SHOWN_STATEMENTS = 5
_OF = {
    "pg_attribute": ("pg_class", "attrelid", " || '.' || quote_ident(t.attname)", "not t.attisdropped"),
    "pg_index": ("pg_class", "indexrelid", "", "true"),
    "pg_sequence": ("pg_class", "seqrelid", "", "true"),
    "pg_inherits": ("pg_class", "inhrelid", " || ' of ' || t.inhparent::regclass", "true"),
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
select attrelid::regclass::text, array_agg(attname::text),
    array_agg(attname::text) filter (where format_type(atttypid, -1) = any ({array(_SKIPPED_TYPES)})
        or format_type(atttypid, -1) = any ({array(_OIDS)}))
from pg_attribute where attrelid::regclass::text = any ({{catalogs}}) and attnum > 0 and not attisdropped group by 1"""
_REFERENCES = """
select fktable::text, fkcols[1], pktable::text, is_array from pg_get_catalog_foreign_keys()
where fktable::text = any ({catalogs}) and cardinality(fkcols) = 1 and fkcols[1] <> all ({counted})"""
_FILLED = "relispopulated"
"""Of a materialized view. One that the fork has filled is filled by the merge, after its definition."""
_SIZES = """select name, pg_relation_size(name::regclass) / current_setting('block_size')::int
from unnest({catalogs}) u(name)"""
_LAST = EVERYTHING.spans[0][1]
_WRITTEN_HERE = "age(xmin) <= 0"
"""By this transaction, if it has written anything."""

_Row = tuple[int, Mapping[str, Any], Mapping[str, Any]]
"""The object's oid, the row's columns, and the names of what it refers to by oid."""
_Rows = dict[tuple[str, str], _Row]
"""By catalog and name."""


def unshown(
    executor: Executor,
    place: str,
    base: Connection,
    fork: Connection,
    catalogs: Mapping[str, Ranges],
    statements: Sequence[str],
) -> list[Conflict]:
    """Refusals for what differs in `catalogs`, each with the blocks that do, although the dictionaries agree.
    `statements`: what the fork's log holds."""
    looked_at = {name: blocks for name, blocks in catalogs.items() if name not in _NO_OBJECTS}
    if not looked_at:
        return []
    sizes = {name: int(blocks) for name, blocks in fetch(fork, _SIZES.format(catalogs=array(looked_at)))}
    asked = (_contents({n: blocks.with_tail(sizes[n], _LAST) for n, blocks in looked_at.items()}), _contents(looked_at))
    held, now = executor.map(fetch, (base, fork), asked)
    # What the base wrote just now has oids of its own, under which the fork may have something else.
    written = [(name, at) for name, _, at, is_written in held if is_written]
    was, come = _but_for_equals([row for row in held if not row[-1]], now)
    readers = _readers(fork, sorted({name for name, _ in (*was, *written, *come)}))
    of_base, of_fork = executor.map(
        lambda side, rows: _read(side, readers, rows), (base, fork), ([*was, *written], come)
    )  # fmt: skip
    _complete(fork, readers, of_base, of_fork)
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
        for catalog, name, what in _differences(of_base, of_fork)
    ]


def _contents(catalogs: Mapping[str, Ranges]) -> str:
    """The rows in some blocks, and those written here: catalog, hash of the row, place, whether written here. By
    content, not by version: a row may be the same elsewhere, and another one in its place."""
    return " union all ".join(
        f"select '{name}', hashtextextended(t::text, 0), ctid::text, {_WRITTEN_HERE} from {name} t where"
        f" {' or '.join((*_spans(blocks), _WRITTEN_HERE))}"
        for name, blocks in catalogs.items()
    )


def _spans(blocks: Ranges) -> list[str]:
    return [f"ctid >= '({first},0)' and ctid < '({end},0)'" for first, end in blocks.spans]


def _but_for_equals(
    before: Collection[tuple[Any, ...]], after: Collection[tuple[Any, ...]]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Catalog and place of the rows that only one of them has."""
    was, now = ({(name, content): at for name, content, at, _ in rows} for rows in (before, after))
    gone, come = was.keys() - now.keys(), now.keys() - was.keys()
    return [(key[0], was[key]) for key in gone], [(key[0], now[key]) for key in come]


@dataclass(frozen=True, slots=True)
class _Reader:
    """A query of a catalog's rows, and the column with the oid of the object that each describes."""

    sql: str
    oid: str

    def at(self, places: Collection[str]) -> str:
        return f"{self.sql} and t.ctid = any ({array(places, 'tid')})"

    def of(self, oids: Collection[int]) -> str:
        return f"{self.sql} and {self.oid} = any ({array(map(str, oids), 'oid')})"


def _readers(connection: Connection, catalogs: Collection[str]) -> dict[str, _Reader]:
    """By catalog."""
    if not catalogs:
        return {}
    named = array(catalogs)
    references: dict[str, list[tuple[str, str, bool]]] = {}
    for catalog, column, to, is_list in fetch(
        connection, _REFERENCES.format(catalogs=named, counted=array(_COUNTED))
    ):  # fmt: skip
        references.setdefault(catalog, []).append((column, to, is_list))
    return {
        catalog: _reader(catalog, columns, skipped or [], references.get(catalog, []))
        for catalog, columns, skipped in fetch(connection, _COLUMNS.format(catalogs=named))
    }


def _reader(catalog: str, columns: list[str], skipped: list[str], references: list[tuple[str, str, bool]]) -> _Reader:
    of, column, more, where = _OF.get(catalog, (catalog, "oid", "", "true"))
    name, oid = f"(pg_identify_object('{of}'::regclass, t.{column}, 0)).identity{more}", f"t.{column}"
    if catalog in _ABOUT:
        name = f"(pg_identify_object(t.classoid, t.objoid, t.objsubid)).identity{_ABOUT[catalog]}"
        oid = "t.objoid"
    kept = [each for each in columns if each not in (*skipped, *_COUNTED)]
    plain = ", ".join(f"'{each}', t.{each}" for each in kept)
    named = ", ".join(f"'{each}', {_name(each, to, is_list)}" for each, to, is_list in references)
    return _Reader(
        f"""select '{catalog}', {name}, {oid}::int8, jsonb_build_object({plain}), jsonb_build_object({named})
        from {catalog} t where {where}""",
        oid,
    )


def _name(column: str, catalog: str, is_list: bool) -> str:
    """What a column refers to. An oid of nothing, which should not be there, is told by its number."""
    identity = "coalesce((pg_identify_object('{0}'::regclass, {1}, 0)).identity, {1}::text)"
    if not is_list:
        return identity.format(catalog, f"t.{column}")
    return (
        f"(select jsonb_agg({identity.format(catalog, 'u.o')} order by u.n)"
        f" from unnest(t.{column}::oid[]) with ordinality u(o, n))"
    )


def _read(connection: Connection, readers: Mapping[str, _Reader], rows: Collection[tuple[str, str]]) -> _Rows:
    """These rows, by catalog and place."""
    return _run(connection, [
        reader.at([at for catalog, at in rows if catalog == name]) for name, reader in readers.items()
    ])  # fmt: skip


def _complete(fork: Connection, readers: Mapping[str, _Reader], base: _Rows, now: _Rows) -> None:
    """What the base wrote and the fork did not stands in none of the fork's blocks: it is found by its oid."""
    missing = {key: base[key][0] for key in base.keys() - now.keys()}
    found = _run(fork, [
        reader.of([oid for (catalog, _), oid in missing.items() if catalog == name]) for name, reader in readers.items()
    ]) if missing else {}  # fmt: skip
    now.update({key: row for key, row in found.items() if key in missing})


def _run(connection: Connection, queries: Sequence[str]) -> _Rows:
    """Rows, but for what belongs to nobody: temporary objects, TOAST, and wye's own log."""
    return {
        (catalog, name): (oid, plain, named)
        for catalog, name, oid, plain, named in (fetch(connection, " union all ".join(queries)) if queries else ())
        if name is not None and not _NOBODYS.search(name)
    }


def _differences(was: _Rows, now: _Rows) -> Iterator[tuple[str, str, str]]:
    for key in sorted(was.keys() | now.keys()):
        if key not in was or key not in now:
            yield (*key, "new" if key in now else "gone")
            continue
        (_, *before), (_, *after) = was[key], now[key]
        changed = {
            name
            for one, other in zip(before, after, strict=True)
            for name in one.keys() | other.keys()
            if one.get(name) != other.get(name) and not (name == _FILLED and other[name])
        }
        if changed:
            yield (*key, ", ".join(sorted(changed)))

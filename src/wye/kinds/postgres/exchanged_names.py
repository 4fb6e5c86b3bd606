"""Names that columns, or attributes of a composite type, took from each other, where no part of the schema shows it.

No DDL is merged then, and rows say what became of them: each of the fork's has its values exchanged. What the fork has
not seen stays as it is, so the target's values must be the base's. With attributes not even the rows say it: their
bytes are the same, and only read otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from wye.kinds.postgres.changes import Exchanged
from wye.kinds.postgres.refuse import refusal
from wye.kinds.postgres.replay import fingerprint
from wye.kinds.postgres.session import Connection, fetch
from wye.kinds.postgres.side import Side
from wye.kinds.postgres.tables import Relation, read_table
from wye.merge.conflict import Conflict

_ATTRIBUTES = """
select format('%I.%I', n.nspname, c.relname), c.oid::int8, array_agg(a.attname::text order by a.attnum),
    array_agg(a.attnum order by a.attnum)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relkind = 'c' and n.nspname not in ('pg_catalog', 'information_schema') group by 1, 2"""


def exchanged_attributes(side: Side) -> list[Conflict]:
    """Refusals. To call where the two schemas are alike."""
    before, after = side.both(lambda connection: {row[0]: row[1:] for row in fetch(connection, _ATTRIBUTES)})
    found = []
    for name in sorted(before.keys() & after.keys()):
        (was, names, numbers), (now, names_now, numbers_now) = before[name], after[name]
        if names != names_now or (was == now and numbers != numbers_now):
            detail = (
                "its attributes are others by the same names in the fork, or in another order, which no merge replays:"
                " change the type in the target, and take a new fork"
            )
            found.append(refusal("attributes-exchanged", side.place, detail, key=(name,), base=names, theirs=names_now))
    return found


def exchanged_columns(side: Side, old: Mapping[int, Relation], new: Mapping[int, Relation]) -> Iterator[Exchanged]:
    """To call where the two schemas are alike."""
    for oid, table in old.items():
        after = new.get(oid)
        if after is None or after.name != table.name or table.root != table.name or table.numbers == after.numbers:
            continue
        changed = [each for each in table.stored if table.numbers[each] != after.numbers.get(each)]
        if not {after.numbers.get(each) for each in changed} & set(table.numbers.values()):
            continue  # made anew: that is a change of rows like any other
        key = table.key(among=set(table.stored) - set(changed))
        by = key.columns if key is not None else ()
        columns = [*by, *changed]
        (rows, digest), (rows_now, digest_now) = side.both(
            lambda connection, source=table.source, columns=columns: fingerprint(connection, source, columns)  # type: ignore[misc]
        )
        yield Exchanged(
            table=table.name, columns=tuple(changed), by=by, rows=rows, digest=digest,
            rows_now=rows_now, digest_now=digest_now,
        )  # fmt: skip


def written_since(connection: Connection, exchanged: Collection[Exchanged], place: str) -> list[Conflict]:
    """Refusals for columns whose content in the target is neither the base's nor what came of it in the fork. Keeps
    writers of their tables out."""
    found = []
    for each in exchanged:
        relation = read_table(connection, each.table)
        if relation is None or not {*each.by, *each.columns} <= set(relation.columns):
            continue  # which is told of the rows
        connection.execute(f"lock table {relation.source} in share row exclusive mode")
        here = fingerprint(connection, relation.source, [*each.by, *each.columns])
        if here in ((each.rows, each.digest), (each.rows_now, each.digest_now)):
            continue
        detail = (
            f"{', '.join(each.columns)} took each other's names in the fork, and rows were written here since, whose"
            " values would stay under the names that they have: exchange the names here, and take a new fork"
        )
        found.append(refusal("exchange-vs-change", f"{place}/{each.table}", detail, key=each.columns))
    return found

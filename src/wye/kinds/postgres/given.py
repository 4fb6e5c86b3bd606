"""Which columns hold values that a server gave, to each row one of its own: by a sequence, by chance, by the clock.

They come out another way each time the DDL runs, on the base as in the target, so they say nothing about who changed a
row. A column is taken for one of these if its default is no constant. Where DDL dropped that default again, its
values tell: nobody but the DDL has written in the base. A column that is the same in all rows is compared like any
other.
"""

from __future__ import annotations

from collections.abc import Collection

from wye.kinds.postgres.additions import is_constant
from wye.kinds.postgres.session import Connection, array, fetch, quote
from wye.kinds.postgres.tables import Relation

_DEFAULTS = """
select a.attname, a.attidentity <> '', pg_get_expr(d.adbin, d.adrelid)
from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = {oid} and a.attname = any({columns}) order by a.attnum"""


def given_columns(connection: Connection, relation: Relation, new: Collection[str]) -> frozenset[str]:
    """Of the columns `new`, which the fork's DDL has just added to the base's `relation`."""
    found = fetch(connection, _DEFAULTS.format(oid=relation.oid, columns=array(sorted(new))))
    varying = {
        column
        for column, is_identity, default in found
        if is_identity or (default is not None and not is_constant(default))
    }
    quiet = [column for column, *_ in found if column not in varying]
    return frozenset(varying | _with_differing_values(connection, relation, quiet))


def _with_differing_values(connection: Connection, relation: Relation, columns: Collection[str]) -> set[str]:
    """NULL is a value here too: a row of it prints as ()."""
    if not columns:
        return set()
    cells = [f'row(t.{quote(column)})::text collate "C"' for column in columns]
    differ = ", ".join(f"min({cell}) is distinct from max({cell})" for cell in cells)
    [answers] = fetch(connection, f"select {differ} from {relation.source} t")
    return {column for column, differs in zip(columns, answers, strict=True) if differs}

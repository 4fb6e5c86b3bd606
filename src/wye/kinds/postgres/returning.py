"""Brings back what a merge destroyed, in the transaction that takes the merge back.

Tables are there before the rows are written, for theirs are rows like others. Columns come after the rows, which know
nothing of them, and are filled by key: a row that is gone stays gone, one that is new has the default. Where no key
tells rows apart, each group of equal rows gets the values that it had, if none of them is missing. A type goes back
by a cast; a value that the merge's cast had changed is taken from before it, unless somebody has written there since.
A value that the old type does not hold exactly is refused, and nothing is cut off or rounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import psycopg

from wye.host import Host
from wye.kinds.postgres.changes import Definition, Fill, Return
from wye.kinds.postgres.dialect import speaking
from wye.kinds.postgres.refuse import refusal
from wye.kinds.postgres.replay import define
from wye.kinds.postgres.rows import copy_rows, read_rows
from wye.kinds.postgres.session import Connection, fetch, literal, names, quote
from wye.merge.conflict import Conflict

_SHOWN = 20
_TYPE = """select format_type(atttypid, atttypmod) from pg_attribute
where attrelid = to_regclass({table}) and attname = {column} and not attisdropped"""
_OWN_TABLES = """select relname from pg_class
where relnamespace = pg_my_temp_schema() and relkind = 'r' and starts_with(relname, '_wye_')"""


class Returning:
    """Call `begin` after the names are again what they were, `columns` after the rows were written, then `finish`."""

    def __init__(self, host: Host, connection: Connection, place: str, back: Return) -> None:
        self._host, self._connection, self._place, self._back = host, connection, place, back
        self._there: Collection[str] = ()
        self._left: list[Definition] = []

    def begin(self, there: Collection[str]) -> list[Conflict]:
        """`there`: keys of what the target has, which is not defined again. Returns what somebody has made since in the
        place of a table; then nothing more may be done. Raises psycopg.Error."""
        self._there = frozenset(there)
        made = sorted({each.key for each in self._back.first if each.key.startswith("table ")} & self._there)
        wanted = [each for each in self._back.first if each.key not in self._there]
        if not made:
            self._left = define(self._host, self._connection, wanted, patient=True)
        detail = "the merge dropped it, and since then somebody has made another one of that name"
        return [refusal("irreversible", self._place, detail, key=(key,)) for key in made]

    def columns(self) -> list[Conflict]:
        """Returns what cannot be brought back exactly; then nothing more may be done. Raises psycopg.Error."""
        found = self._strange()
        if found:
            return found
        for number, fill in enumerate(self._back.fills):
            if fill.since and fill.rows:
                self._load(number, fill)
        with speaking(self._connection, self._back.dialect):
            found = [each for number, fill in enumerate(self._back.fills) for each in self._unfit(number, fill)]
        found = found or [each for fill in self._back.fills for each in self._missing(fill)]
        if found:
            return found
        retyped = [each for each in self._back.columns if each.key in self._retyped()]
        others = [each for each in self._back.columns if each not in retyped and each.key not in self._there]
        self._left = define(self._host, self._connection, [*self._left, *others], patient=True)
        with speaking(self._connection, self._back.dialect):
            self._left += define(self._host, self._connection, retyped, patient=True)
        self._connection.execute("set local session_replication_role = 'replica'")
        for number, fill in enumerate(self._back.fills):
            if fill.rows:
                if not fill.since:
                    self._load(number, fill)
                self._host.at("postgres:apply:fill")
                self._connection.execute(
                    f"update {self._source(fill)} t set {quote(fill.column)} = m.c from {_values(number)} m"
                    f" where {_match(fill)}"
                    if fill.operators
                    else self._among_equals(number, fill)
                )
        self._connection.execute("set local session_replication_role = 'origin'")
        return []

    def finish(self) -> None:
        """Raises psycopg.Error."""
        retyped = [each for each in self._back.last if each.key in self._retyped()]
        others = [each for each in self._back.last if each not in retyped and each.key not in self._there]
        define(self._host, self._connection, [*retyped, *self._left, *others])
        for (name,) in fetch(self._connection, _OWN_TABLES):  # lest they keep a type that is to go
            self._connection.execute(f"drop table pg_temp.{name}")

    def _retyped(self) -> frozenset[str]:
        return frozenset(fill.key for fill in self._back.fills if fill.since)

    def _strange(self) -> list[Conflict]:
        """Columns that somebody has made or altered since."""
        found = []
        for fill in self._back.fills:
            types = [kind for (kind,) in fetch(self._connection, _TYPE.format(
                table=literal(fill.table), column=literal(fill.column)))]  # fmt: skip
            if types != ([fill.since] if fill.since else []):
                detail = f"the merge {'changed its type' if fill.since else 'dropped it'}, and since then somebody"
                now = types[0] if types else "dropped"
                found.append(self._refusal(fill, f"{detail} has altered it too: it is {now}"))
        return found

    def _missing(self, fill: Fill) -> list[Conflict]:
        """Whether of a table without a key some row that had a value is no longer there, or is another one."""
        beside = [each for each in self._back.fills if each.table == fill.table and each.column in fill.by]
        if fill.operators or not fill.rows or not all(each.since for each in beside):
            return []  # of several columns that come back the first is asked about
        old = {each.column: f"::{each.type}" for each in beside}
        source, cells = self._source(fill), ", ".join(f"t.{quote(each)}{old.get(each, '')}" for each in fill.by)
        self._connection.execute(f"lock table {fill.table} in access exclusive mode")
        there = Counter(read_rows(self._connection, f"select {cells} from {source} t"))
        left = Counter(row[:-1] for row in fill.rows) - there
        if not left:
            return []
        detail = f"no key tells the rows of its table apart, and {left.total()} of them were changed or deleted since"
        return [self._refusal(fill, f"{detail}: whose the values were is not known")]

    def _among_equals(self, number: int, fill: Fill) -> str:
        """Of rows that are equal in all else, each gets one of their values."""
        source = self._source(fill)
        row = f"row({names(fill.by, 't.')})::text"
        old = f"row({', '.join(f'm.k{i}' for i in range(len(fill.by)))})::text"
        return f"""update {source} t set {quote(fill.column)} = m.c from
            (select t.tableoid o, t.ctid i, {row} k, row_number() over (partition by {row}) n from {source} t) s,
            (select m.c, {old} k, row_number() over (partition by {old}) n from {_values(number)} m) m
            where s.k = m.k and s.n = m.n and t.ctid = s.i and t.tableoid = s.o"""

    def _load(self, number: int, fill: Fill) -> None:
        """Puts the old values on the server, by key."""
        key = ", ".join(f"t.{quote(column)} as k{i}" for i, column in enumerate(fill.by))
        self._connection.execute(
            f"create temp table {_values(number).removeprefix('pg_temp.')} on commit drop as"
            f" select {key}, null::{fill.type} as c from {self._source(fill)} t limit 0"
        )
        copy_rows(self._connection, _values(number), fill.rows)
        self._connection.execute(f"analyze {_values(number)}")

    def _unfit(self, number: int, fill: Fill) -> list[Conflict]:
        """Values that the old type does not hold. Those that the merge's cast made, and nobody has changed since, are
        not asked about: what they were is known, and what is kept is that."""
        if not fill.since:
            return []
        cell, known = f"t.{quote(fill.column)}", "false"
        again = f"(({cell}::{fill.type})::{fill.since})::text is not distinct from {cell}::text"
        if fill.rows:
            same = f"(m.c::{fill.since})::text is not distinct from {cell}::text"
            known = f"exists (select 1 from {_values(number)} m where {_match(fill)} and {same})"
            self._connection.execute(
                f"delete from {_values(number)} m where not exists (select 1 from {self._source(fill)} t"
                f" where {_match(fill)} and {same})"
            )
        sql = f"""select {cell}::text, count(*) from {self._source(fill)} t
            where {cell} is not null and case when {known} then false else not ({again}) end
            group by 1 order by 1 limit {_SHOWN}"""
        try:
            with self._connection.transaction():
                found = fetch(self._connection, sql)
        except psycopg.DataError as error:
            return [self._refusal(fill, f"a value that it has now does not fit {fill.type}: {str(error).strip()}")]
        return [
            self._refusal(fill, f"{many} rows were given {value!r} since, which {fill.type} does not hold exactly")
            for value, many in found
        ]

    def _refusal(self, fill: Fill, detail: str) -> Conflict:
        return refusal("irreversible", f"{self._place}/{fill.table}", detail, key=(fill.column,))

    def _source(self, fill: Fill) -> str:
        kinds = fetch(
            self._connection, f"select relkind::text from pg_class where oid = {literal(fill.table)}::regclass"
        )
        return fill.table if kinds == [("p",)] else f"only {fill.table}"


def _values(number: int) -> str:
    return f"pg_temp._wye_f{number}"


def _match(fill: Fill) -> str:
    return " and ".join(
        f"t.{quote(column)} {operator} m.k{i}"
        for i, (column, operator) in enumerate(zip(fill.by, fill.operators, strict=True))
    )

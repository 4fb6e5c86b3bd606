"""The schemas of base and fork, and the DDL between them, which the base gets.

Whether the log explains all that differs is found by running it: what the base has not then was hidden from the log, or
is shown by no part of a schema, and is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping

import psycopg

from wye.kinds.postgres.blocks import Ranges
from wye.kinds.postgres.catalog import CATALOGS, Schema, difference, read_schema, read_versions
from wye.kinds.postgres.ddl import Statement, last_statement, read_statements
from wye.kinds.postgres.exchanged_names import exchanged_attributes
from wye.kinds.postgres.losses import Measuring
from wye.kinds.postgres.refuse import refusal
from wye.kinds.postgres.replay import replay, split
from wye.kinds.postgres.session import Connection
from wye.kinds.postgres.side import Side
from wye.kinds.postgres.tables import read_tables
from wye.kinds.postgres.unshown import unshown
from wye.merge.conflict import Conflict

_ROWS_FIRST = (
    "; a statement does not run on the values that the fork began with: merge their change first, from another fork"
)


def read_schemas(
    side: Side, catalogs: Mapping[str, Ranges]
) -> tuple[Schema, Schema, list[Statement], list[Conflict], dict[str, Ranges]]:
    """Base's schema, the fork's, the statements between them, refusals, and which catalogs do differ. Empty if no
    DDL is in effect. `catalogs` as `changed_catalogs` has them."""
    logged = {name: block for name, block in catalogs.items() if name in CATALOGS}
    before, after = side.both(lambda connection: read_versions(connection, logged))
    if side.descends and before == after:
        return {}, {}, [], [], {}
    names = {name for name, *_ in set(before) ^ set(after)}
    differing = {name: blocks for name, blocks in logged.items() if name in names or not side.descends}
    base, theirs = side.both(read_schema)
    # A base of later than the fork's making has the beginning of the same log.
    statements, refused = read_statements(side.fork, side.database, since=last_statement(side.base))
    if base == theirs and not refused:
        refused += [*_unshown(side, differing, statements), *exchanged_attributes(side)]
    return base, theirs, statements, refused, differing


def give_schema(
    side: Side, statements: list[Statement], theirs: Schema, differing: Mapping[str, Ranges]
) -> tuple[bool, list[Statement], list[Conflict]]:
    """Gives the base the fork's schema. Whether all DDL can run ahead of the rows is found by trying; where it cannot,
    it can without rows, and that tells whether it is all there was. `differing`: catalogs. Returns also the statements,
    with what they took from the base's values."""
    measuring = Measuring(side.base)
    try:
        with side.base.transaction():
            replay(side.host, side.base, split(statements, ddl_first=True)[0], measuring.around)
        return True, measuring.statements, _unexplained(side, statements, theirs, differing)
    except psycopg.Error:
        measuring = Measuring(side.base)
    try:
        with side.base.transaction(force_rollback=True):
            _empty(side.base)
            replay(side.host, side.base, split(statements, ddl_first=True)[0])
            found = _unexplained(side, statements, theirs, differing)
        before, after = split(statements, ddl_first=False)
        replay(side.host, side.base, before, measuring.around)
    except psycopg.Error as error:
        advice = _ROWS_FIRST if isinstance(error, (psycopg.DataError, psycopg.IntegrityError)) else ""
        return False, statements, [refusal("ddl-not-replayable", side.place, f"{str(error).strip()}{advice}")]
    return False, [*measuring.statements, *after], found


def _empty(connection: Connection) -> None:
    filled = [table.name for table in read_tables(connection).values() if table.blocks]
    if filled:
        connection.execute("set local session_replication_role = replica")
        connection.execute(f"truncate {', '.join(filled)} cascade")
        connection.execute("set local session_replication_role = origin")


def _unexplained(
    side: Side, statements: list[Statement], theirs: Schema, differing: Mapping[str, Ranges]
) -> list[Conflict]:
    """What the fork has and the base has not, once it has run the fork's DDL."""
    lost = difference(read_schema(side.base), theirs)
    if lost:
        detail = "not explained by the DDL log: {}"
        return [refusal("schema-log-incomplete", side.place, detail.format(n), key=(n,)) for n in lost]
    return _unshown(side, differing, statements)


def _unshown(side: Side, differing: Mapping[str, Ranges], statements: list[Statement]) -> list[Conflict]:
    ran = [statement.sql for statement in statements]
    return unshown(side.executor, side.place, side.base, side.fork, differing, ran)

"""Whatever a statement sets, reading what is set before it and after it is enough to set it back.

The schema is what it was then. The statements are those of `test_alone`, each rolled back; some of them meet each other
in one transaction.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from tests.host.kinds_postgres.test_alone import CASES, world

from wye.host import Host
from wye.kinds.postgres.catalog import difference, read_schema
from wye.kinds.postgres.ddl import BEFORE, Statement
from wye.kinds.postgres.parsing import enum_name, parse
from wye.kinds.postgres.replay import replay
from wye.kinds.postgres.session import begin_session
from wye.kinds.postgres.setting_back import set_back
from wye.kinds.postgres.settings import MAKERS, PARTS, STATEMENTS, read_settings, sets_something

pytestmark = pytest.mark.host


def only_sets(query: str) -> bool:
    if query.startswith(("create type", "create or replace")):
        return False
    for raw in parse(query).stmts:
        kind = raw.stmt.WhichOneof("node")
        parts = [
            enum_name("AlterTableType", each.alter_table_cmd.subtype)
            for each in (raw.stmt.alter_table_stmt.cmds if kind == "alter_table_stmt" else ())
        ]
        if kind not in STATEMENTS | MAKERS and not (parts and PARTS.issuperset(parts)):
            return False
    return True


NUMBERS = [
    pytest.param(number, id=case.statement)
    for number, case in enumerate(CASES)
    if not case.refused and only_sets(case.statement)
]


@pytest.fixture(scope="module")
def connection(rig: Any) -> Iterator[Any]:
    site = world(rig)
    yield begin_session(site.server.connect("world"))
    site.discard()


def run(connection: Any, query: str) -> None:
    connection.execute("set local search_path = t, public")
    connection.execute(query)
    connection.execute("set local search_path = ''")


def taken_back(connection: Any, queries: list[str]) -> None:
    was, before = read_schema(connection), read_settings(connection)
    for query in queries:
        with contextlib.suppress(psycopg.Error), connection.transaction():
            run(connection, query)
    assert sets_something(Statement(sql=query, stage=BEFORE, role="", path="") for query in queries)
    back = set_back(connection, before, read_settings(connection))
    replay(Host(), connection, back)
    now = read_schema(connection)
    assert {key: (was.get(key), now.get(key)) for key in difference(was, now)} == {}, "\n".join(
        each.sql for each in back
    )


@pytest.mark.parametrize("number", NUMBERS)
def test_set_back(rig: Any, connection: Any, number: int) -> None:
    case = CASES[number]
    if case.since > rig.version:
        pytest.skip(f"PostgreSQL {case.since} has it")
    with connection.transaction(force_rollback=True):
        if case.before:
            run(connection, case.before)
        taken_back(connection, [case.statement])


@pytest.mark.parametrize("seed", range(5))
def test_all_that_was_set(rig: Any, connection: Any, seed: int) -> None:
    """One half is there already, in an order of its own."""
    queries = [CASES[each.values[0]].statement for each in NUMBERS if CASES[each.values[0]].since <= rig.version]
    random.Random(seed).shuffle(queries)
    half = len(queries) // 2
    with connection.transaction(force_rollback=True):
        for query in queries[:half]:
            with contextlib.suppress(psycopg.Error), connection.transaction():
                run(connection, query)
        taken_back(connection, queries[half:])


CHAINS = [
    [
        "grant usage on schema t to clerk", "grant select on item to clerk with grant option",
        "set local role clerk; grant select on item to chief; reset role",
    ],
    ["revoke all on item from current_user", "grant update (stock) on item to clerk", "grant select on item to public"],
    ["alter table item owner to clerk", "grant select on item to chief", "alter table item owner to chief"],
    ["alter default privileges for role clerk grant select on tables to chief",
     "alter default privileges for role clerk in schema t grant usage on sequences to chief with grant option"],
]  # fmt: skip


@pytest.mark.parametrize("first", [False, True], ids=["set", "set back to"])
@pytest.mark.parametrize("queries", CHAINS)
def test_rights_that_hang_on_others(connection: Any, queries: list[str], first: bool) -> None:
    with connection.transaction(force_rollback=True):
        if first:
            for query in queries:
                run(connection, query)
            queries = [
                "revoke all on item from clerk, chief, public cascade", "alter table item owner to postgres",
                "alter default privileges for role clerk revoke all on tables from chief",
                "alter default privileges for role clerk in schema t revoke all on sequences from chief",
            ]  # fmt: skip
        taken_back(connection, queries)

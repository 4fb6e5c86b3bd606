"""Each kind of DDL changes the dictionary that a schema is read as: what it does not show, no merge can compare.

The same statements as in `test_alone`, each rolled back, which is quick enough for every version. And what changes
nothing: what a version's event triggers report of it must refuse no merge.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.host.kinds_postgres.test_alone import CASES, NUMBERS, Apart, one_by_one, world

from wye.kinds.postgres.catalog import read_schema
from wye.kinds.postgres.session import begin_session

pytestmark = pytest.mark.host


@dataclass
class World:
    connection: Any
    unchanged: dict[str, str]

    def after(self, *statements: str) -> dict[str, str]:
        self.connection.execute("set local search_path = t, public")
        for statement in statements:
            self.connection.execute(statement)
        self.connection.execute("set local search_path = ''")
        return read_schema(self.connection)


@pytest.fixture(scope="module")
def some(rig: Any) -> Iterator[World]:
    site = world(rig)
    connection = begin_session(site.server.connect("world"))
    yield World(connection, read_schema(connection))
    connection.close()
    site.discard()


@pytest.mark.parametrize("number", [each for each in NUMBERS if not CASES[each.values[0]].refused])
def test_shown(rig: Any, some: World, number: int) -> None:
    case = CASES[number]
    if case.since > rig.version:
        pytest.skip(f"PostgreSQL {case.since} has it")
    with some.connection.transaction(force_rollback=True):
        before = some.after(case.before) if case.before else some.unchanged
        assert some.after(case.statement) != before


NOTHING = [
    "create table fresh (id int); drop table fresh",
    "create table if not exists item (id int)",
    "alter table item add column if not exists stock int",
    "create temp table passing (id int primary key, v text)",
    "alter table item set (fillfactor = 70); alter table item reset (fillfactor)",
    "comment on trigger noting on item is 'said'; comment on trigger noting on item is null",
    "drop trigger noting on item; create trigger noting after update on item for each row execute function note()",
    "drop view v; create view v as select id, label from item",
    "create or replace function zero() returns int language sql as 'select 0'",
    "alter table item disable trigger all; alter table item enable trigger all",
    "alter table item owner to postgres",
    "reindex table item",
    "reindex table concurrently item",
    "vacuum full item",
    "analyze",
    "refresh materialized view total",
    "truncate purchase restart identity",
    "alter table bush drop column v; alter table bush add column v int",
]
"""Nothing comes of it in the schema, so no DDL is merged, and nothing is refused."""


@pytest.fixture(scope="module")
def apart(rig: Any) -> Iterator[Apart]:
    with one_by_one(rig) as made:
        yield made


@pytest.mark.parametrize("statement", NOTHING)
def test_nothing_came_of_it(apart: Apart, statement: str) -> None:
    assert not any(changes.ddl for changes in apart.read(statement))

"""Each kind of DDL changes the dictionary that a schema is read as: what it does not show, no merge can compare.

The same statements as in `test_alone`, each rolled back, which is quick enough for every version.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.host.kinds_postgres.test_alone import CASES, NUMBERS, world

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

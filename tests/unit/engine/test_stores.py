"""Which paths of a volume are a database's."""

from __future__ import annotations

from typing import Any

import pytest

from wye.engine.servers import Store


@pytest.mark.parametrize(
    ("folder", "path", "expected"),
    [
        ("", "volumes/db/backup.sql", True),
        ("pgdata", "volumes/db/backup.sql", False),
        ("pgdata", "volumes/db/pgdata/base/1/2", True),
        ("pgdata", "volumes/db/pgdata", True),
        ("pgdata", "volumes/db/pgdata2/x", False),
        ("18/docker", "volumes/db/18", True),
        ("18/docker", "volumes/db/18/x", False),
        ("pgdata", "volumes/db/.psql_history", True),
        ("pgdata", "volumes/other/.psql_history", False),
        ("", "volumes/db2/x", False),
    ],
)
def test_what_a_store_holds(folder: str, path: str, expected: bool) -> None:
    nobody: Any = None
    assert Store(nobody, "db", nobody, folder).holds(path) is expected

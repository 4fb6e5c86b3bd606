"""Definitions that go on, and databases that are larger than they look."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest

from wye.kinds.sqlite import cells
from wye.kinds.sqlite.database import DatabaseFailed

pytestmark = pytest.mark.host

Three = Any
"""`conftest.Three`."""


def define(three: Three, kind: str, name: str, sql: str) -> None:
    """As only somebody writes it who edits the file: SQLite itself stores one statement."""
    with closing(sqlite3.connect(three.path("theirs"), isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, 0, ?)", (kind, name, name, sql))


@pytest.mark.parametrize("tail", ["COMMIT", "PRAGMA hard_heap_limit = 100000"])
@pytest.mark.parametrize(
    ("kind", "sql"),
    [
        ("view", "CREATE VIEW v AS SELECT 1"),
        ("trigger", "CREATE TRIGGER v AFTER INSERT ON t BEGIN SELECT 1; END"),
    ],
)
def test_what_comes_after_a_definition_is_not_run(three: Three, kind: str, sql: str, tail: str) -> None:
    """Older versions of SQLite pass over what comes after, and would hand it to us."""
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    three.copy()
    define(three, kind, "v", f"{sql}; DELETE FROM t; {tail}")
    before = three.dump("ours")
    with pytest.raises(DatabaseFailed, match="malformed"):
        three.merge()
    assert three.dump("ours") == before


def test_more_than_is_read_at_once(three: Three, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells.Cells.__init__, "__kwdefaults__", {"limit_bytes": 100_000})
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, a)", "CREATE TABLE u (a)", "INSERT INTO u VALUES (1)")
    three.copy()
    three.run("theirs", "INSERT INTO t VALUES (1, zeroblob(10000))")
    assert three.merge() == []
    for table in ("t (a)", "u (a)"):
        three.run("theirs", f"INSERT INTO {table} VALUES (zeroblob(100000))")
        with pytest.raises(DatabaseFailed, match="at once"):
            three.merge()
        three.run("theirs", f"DELETE FROM {table[0]} WHERE length(a) > 10000")

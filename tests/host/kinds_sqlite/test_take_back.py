"""A merge that was committed and is taken back: the database is as it was, but for what others have written since."""

from __future__ import annotations

import random
from typing import Any

import pytest

from wye.host import Host
from wye.kinds.sqlite.apply import Rules, take_back
from wye.kinds.sqlite.changes import SqliteChanges, from_json, to_json

pytestmark = pytest.mark.host

HOST = Host()
FILE = "volumes/data/app.db"
Three = Any
"""`conftest.Three`."""


def merge(three: Three, **options: Any) -> SqliteChanges:
    """What takes it back, as it is read again from a journal."""
    with three.merged(**options) as application:
        assert application.conflicts == []
        assert not application.is_empty
        application.commit()
        return from_json(to_json(application.inverse))


def undo(three: Three, inverse: SqliteChanges, **options: Any) -> list[str]:
    return take_back(HOST, "db", three.home / "ours", FILE, inverse, **options)


@pytest.mark.parametrize("seed", range(20))
def test_rows_of_all_kinds(three: Three, seed: int) -> None:
    rng = random.Random(seed)
    three.run(
        "base", f"PRAGMA journal_mode = {'wal' if seed % 2 else 'delete'}",
        "CREATE TABLE keyed (id INTEGER PRIMARY KEY, a, b TEXT COLLATE NOCASE UNIQUE)",
        "CREATE TABLE loose (a, b)", "CREATE TABLE nulls (k TEXT PRIMARY KEY, v)",
    )  # fmt: skip

    def write(name: str, low: int, high: int) -> None:
        for _ in range(20):
            key = rng.randrange(low, high)
            three.run(
                name,
                rng.choice(
                    [
                        f"INSERT OR IGNORE INTO keyed VALUES ({key}, 'x', 'B{key}')",
                        f"UPDATE OR IGNORE keyed SET a = {rng.random()}, b = 'b{rng.randrange(low, high)}' WHERE id = {key}",  # noqa: E501
                        f"DELETE FROM keyed WHERE id = {key}",
                        f"INSERT INTO loose VALUES ({key % 3}, {low})",
                        f"DELETE FROM loose WHERE b = {low} AND rowid IN (SELECT rowid FROM loose LIMIT 2)",
                        f"INSERT INTO nulls VALUES (NULL, {key % 3})",
                        f"INSERT OR REPLACE INTO nulls VALUES ('{key}', {key})",
                    ]
                ),
            )

    write("base", 0, 10)
    three.copy()
    write("theirs", 0, 10)
    write("ours", 20, 30)
    with three.merged() as application:
        if application.conflicts:
            return  # both removed some of several equal rows
    before = three.dump("ours")
    inverse = merge(three)
    after = three.dump("ours")
    assert undo(three, inverse) == []
    assert three.dump("ours") == before
    assert undo(three, inverse) == [], "once more is harmless"
    assert three.dump("ours") == before
    merge(three)
    assert three.dump("ours") == after


def test_definitions(three: Three) -> None:
    three.run(
        "base",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a)", "CREATE UNIQUE INDEX u ON t (a)",
        "CREATE VIEW v AS SELECT a FROM t",
        "CREATE TABLE gone (id INTEGER PRIMARY KEY AUTOINCREMENT, a)", "CREATE INDEX g ON gone (a)",
        "CREATE TABLE loose (a)", "INSERT INTO t VALUES (1, 'x'), (2, 'y')", "INSERT INTO gone (a) VALUES (1), (2)",
        "INSERT INTO loose VALUES (1), (1), (NULL)", "PRAGMA user_version = 3",
    )  # fmt: skip
    three.copy()
    three.run(
        "theirs",
        "ALTER TABLE t ADD COLUMN b INTEGER NOT NULL DEFAULT 2",
        'ALTER TABLE t ADD COLUMN "c ""d""" TEXT DEFAULT \'x,y\'',
        "UPDATE t SET b = 5, a = 'z' WHERE id = 2", "DROP INDEX u", "CREATE UNIQUE INDEX u ON t (a, b)",
        "DROP VIEW v", "CREATE VIEW v AS SELECT a, b FROM t", "DROP TABLE gone", "DROP TABLE loose",
        "CREATE TABLE n (a)", "INSERT INTO n VALUES (1)", "PRAGMA user_version = 4",
    )  # fmt: skip
    before = three.dump("ours")
    inverse = merge(three)
    three.run("ours", "INSERT INTO t VALUES (3, 'w', 9, 'new')", "INSERT INTO n VALUES (2)")
    assert undo(three, inverse) == []
    assert three.query("ours", "SELECT * FROM t WHERE id = 3") == [(3, "w")]
    three.run("ours", "DELETE FROM t WHERE id = 3")
    assert three.dump("ours") == before
    assert three.query("ours", "PRAGMA user_version") == [(3,)]


def test_a_row_comes_back_with_columns_that_only_the_target_has(three: Three) -> None:
    three.run(
        "base", "CREATE TABLE t (id INTEGER PRIMARY KEY, a UNIQUE)", "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)"
    )
    three.copy()
    three.run("theirs", "DELETE FROM t WHERE id = 1", "UPDATE t SET a = 9 WHERE id = 2")
    three.run("ours", "ALTER TABLE t ADD COLUMN mine", "UPDATE t SET mine = id * 10")
    inverse = merge(three)
    assert three.query("ours", "SELECT * FROM t") == [(2, 9, 20), (3, 3, 30)]
    assert undo(three, inverse) == []
    assert three.query("ours", "SELECT * FROM t") == [(1, 1, 10), (2, 2, 20), (3, 3, 30)]


def test_what_others_have_written_since_stays(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b, stock)", "CREATE TABLE loose (a)")
    three.run("base", "INSERT INTO t VALUES (1, 1, 1, 10), (2, 1, 1, 10)")
    three.copy()
    three.run("theirs", "UPDATE t SET a = 2, b = 2, stock = stock - 1", "INSERT INTO t VALUES (3, 3, 3, 3)")
    three.run("theirs", "INSERT INTO loose VALUES (1), (1)")
    rules = {"t": Rules(delta=frozenset({"stock"}))}
    inverse = merge(three, rules=rules)
    three.run("ours", "UPDATE t SET a = 7, stock = stock - 4 WHERE id = 1", "UPDATE t SET a = 8 WHERE id = 3")
    three.run("ours", "INSERT INTO loose VALUES (1)")
    assert undo(three, inverse, rules=rules) == []
    assert three.query("ours", "SELECT * FROM t") == [(1, 7, 1, 6), (2, 1, 1, 10), (3, 8, 3, 3)]
    assert three.query("ours", "SELECT * FROM loose") == [(1,)]


def test_what_cannot_be_taken_back_is_said(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, a UNIQUE)", "INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    three.copy()
    three.run("theirs", "DELETE FROM t WHERE id = 1", "UPDATE t SET a = 'z' WHERE id = 2")
    inverse = merge(three)
    three.run("ours", "INSERT INTO t VALUES (9, 'x')")
    (left,) = undo(three, inverse)
    assert left.startswith("db t 1: unique a: a row of the target has this already")
    assert three.query("ours", "SELECT * FROM t") == [(2, "y"), (9, "x")]


def test_columns_that_a_fork_removed(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, a, [b x] TEXT DEFAULT 1)", "CREATE TABLE loose (a, b)")
    three.run("base", "INSERT INTO t VALUES (1, 1, 1), (2, 1, 5), (4, 4, NULL)", "INSERT INTO loose VALUES (1, NULL)")
    three.copy()
    three.run("theirs", "ALTER TABLE t DROP COLUMN [b x]", "ALTER TABLE loose DROP COLUMN b", "UPDATE t SET a = 2")
    three.run("theirs", "DELETE FROM t WHERE id = 4")
    three.run("ours", "INSERT INTO t (id, a) VALUES (3, 3)")
    before = three.dump("ours")
    inverse = merge(three)
    assert three.query("ours", "SELECT * FROM t") == [(1, 2), (2, 2), (3, 3)]
    three.run("ours", "INSERT INTO t VALUES (5, 5)")
    assert undo(three, inverse) == []
    assert three.query("ours", "SELECT * FROM t WHERE id = 5") == [(5, 5, "1")]
    three.run("ours", "DELETE FROM t WHERE id = 5")
    assert three.dump("ours") == before
    three.run("ours", "UPDATE t SET [b x] = 6 WHERE id = 3")
    assert [(kind, key) for kind, _, key in three.merge()] == [("drop-vs-change", ("t",))]


def test_columns_that_could_not_come_back_are_not_removed(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)", "CREATE TABLE loose (a, b)")
    three.run("base", "INSERT INTO loose VALUES (1, 1)")
    three.copy()
    three.run("theirs", "ALTER TABLE t DROP COLUMN a", "ALTER TABLE loose DROP COLUMN b")
    before = three.dump("ours")
    assert sorted((kind, key) for kind, _, key in three.merge()) == [("schema", ("loose",)), ("schema", ("t",))]
    assert three.dump("ours") == before

"""A unique index that the fork made, and rows of the target that it does not hold for."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from contextlib import closing
from typing import Any

import pytest

from wye.host import Host
from wye.kinds.sqlite.apply import take_back
from wye.kinds.sqlite.schema import Indexed, indexed
from wye.merge.conflict import Decisions, Resolution
from wye.merge.conflict import Side as Choice

pytestmark = pytest.mark.host

HOST = Host()
FILE = "volumes/data/app.db"
OURS = Resolution(side=Choice.OURS)
Three = Any
"""`conftest.Three`."""


def value(given: Any) -> Resolution:
    return Resolution(side=Choice.VALUE, value=given)


def indexes(three: Three) -> list[str]:
    return [sql for (sql,) in three.query("ours", "SELECT sql FROM sqlite_schema WHERE type = 'index' AND sql <> ''")]


def test_rows_that_only_the_target_has(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b)", "INSERT INTO t VALUES (1, 'x', 1)")
    three.copy()
    three.run("ours", "INSERT INTO t VALUES (5, 'Y', 1), (6, 'y', 2), (7, NULL, 1), (8, NULL, 1), (9, 'z', 1)")
    three.run("theirs", "CREATE UNIQUE INDEX once ON t (a COLLATE NOCASE DESC)", "UPDATE t SET b = 2")
    (found,) = three.conflicts()
    assert (found.kind, found.place, found.key, found.choices) == ("unique-index", "db t", ("once",), {Choice.OURS})
    assert (found.column, [row["id"] for row in found.ours]) == ("a", ["5", "6"])
    assert "2 rows of the target are equal" in found.detail
    before = three.dump("ours")
    with three.merged(Decisions({found.id: OURS})) as application:
        assert application.conflicts == []
        inverse = application.inverse
        application.commit()
    assert indexes(three) == []
    assert three.query("ours", "SELECT b FROM t WHERE id = 1") == [(2,)]
    assert take_back(HOST, "db", three.home / "ours", FILE, inverse) == []
    assert three.dump("ours") == before
    three.run("ours", "DELETE FROM t WHERE id = 6")
    assert three.merge() == []
    assert len(indexes(three)) == 1


def test_rows_of_both(three: Three) -> None:
    """Just as with an index that was there before."""
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)", "CREATE TABLE loose (a, b)")
    three.run("base", "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 1), (3, 'c', 1)")
    three.copy()
    three.run("ours", "INSERT INTO t VALUES (10, 'new', 1)", "UPDATE t SET a = 'moved' WHERE id = 1")
    three.run("ours", "INSERT INTO loose VALUES (1, 'ours')")
    three.run(
        "theirs",
        "INSERT INTO t VALUES (20, 'new', 2), (21, 'free', 1)", "UPDATE t SET a = 'moved', b = 9 WHERE id = 2",
        "UPDATE t SET b = 9 WHERE id = 1", "INSERT INTO loose VALUES (1, 'theirs')",
        "CREATE UNIQUE INDEX once ON t (a)", "CREATE UNIQUE INDEX alone ON loose (a) WHERE b IS NOT NULL",
    )  # fmt: skip
    found = {c.key: c for c in three.conflicts()}
    assert found.keys() == {("20",), ("2",), ("1", "'theirs'")}
    assert all((c.kind, c.column) == ("unique", "a") for c in found.values())
    assert all(c.choices == {Choice.OURS, Choice.VALUE} for c in found.values())
    assert found["20",].ours == {"id": "10", "a": "'new'", "b": "1"}
    decided = {found["20",].id: value("other"), found["2",].id: OURS, found["1", "'theirs'"].id: value(2)}
    assert three.merge(Decisions(decided)) == []
    assert three.query("ours", "SELECT * FROM t ORDER BY id") == [
        (1, "moved", 9), (2, "b", 9), (3, "c", 1), (10, "new", 1), (20, "other", 2), (21, "free", 1),
    ]  # fmt: skip
    assert three.query("ours", "SELECT * FROM loose ORDER BY a") == [(1, "ours"), (2, "theirs")]
    assert len(indexes(three)) == 2


def test_an_index_that_takes_the_place_of_another(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)", "CREATE UNIQUE INDEX i ON t (a, b)")
    three.copy()
    three.run("ours", "INSERT INTO t VALUES (1, 1, 1), (2, 1, 2)")
    three.run("theirs", "DROP INDEX i", "CREATE UNIQUE INDEX i ON t (a)")
    (found,) = three.conflicts()
    assert (found.base, found.theirs) == ("CREATE UNIQUE INDEX i ON t (a, b)", "CREATE UNIQUE INDEX i ON t (a)")
    before = three.dump("ours")
    assert three.merge(Decisions({found.id: OURS})) == []
    assert three.dump("ours") == before


def test_what_hangs_on_something_undecided_is_told_afterwards(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)", "INSERT INTO t VALUES (1, 'x', 1), (2, 'x', 1)")
    three.copy()
    three.run("theirs", "DELETE FROM t WHERE id = 2", "CREATE UNIQUE INDEX once ON t (a)")
    three.run("ours", "UPDATE t SET b = 5 WHERE id = 2")
    (deleted,) = three.conflicts()
    assert deleted.kind == "delete/update"
    (found,) = three.conflicts({deleted.id: OURS})
    assert (found.kind, [row["id"] for row in found.ours]) == ("unique-index", ["1", "2"])
    assert three.merge(Decisions({deleted.id: Resolution(side=Choice.THEIRS)})) == []
    assert len(indexes(three)) == 1


def test_a_merge_that_is_taken_back_leaves_an_index_out_that_holds_no_more(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, a)", "CREATE UNIQUE INDEX once ON t (a)")
    three.copy()
    three.run("theirs", "DROP INDEX once", "INSERT INTO t VALUES (1, 1)")
    with three.merged() as application:
        inverse = application.inverse
        application.commit()
    three.run("ours", "INSERT INTO t VALUES (2, 2), (3, 2)")
    (left,) = take_back(HOST, "db", three.home / "ours", FILE, inverse)
    assert left.startswith("db t once: unique-index a: ")
    assert three.query("ours", "SELECT * FROM t") == [(2, 2), (3, 2)]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("CREATE UNIQUE INDEX i ON t(a)", Indexed("t", ("a",), "")),
        (
            """CREATE UNIQUE INDEX "i (" ON "t ""(" ("b ) c" /* ( */ desc, 'd', lower(e || ',)') COLLATE NOCASE ASC)
            where f > (1)""",
            Indexed('t "(', ('"b ) c"', '"d"', "lower(e || ',)') COLLATE NOCASE"), " f > (1)"),
        ),
    ],
)
def test_the_text_of_an_index(sql: str, said: Indexed) -> None:
    assert indexed(sql) == said


@pytest.mark.parametrize(
    "index",
    ["a", "b COLLATE NOCASE", "a, b", "a + 1, lower(b)", "[a] WHERE n > 1", "n % 2 WHERE a = 1 OR a = 2", "'a'"],
)
def test_rounds_against_sqlite_itself(three: Three, index: str) -> None:
    """Refused exactly where SQLite does not make the index, and what "ours" settles, it makes or leaves out."""
    seen: Counter[str] = Counter()
    on, _, where = index.partition(" WHERE ")
    sql = f"CREATE UNIQUE INDEX i ON t ({on}){f' WHERE {where}' if where else ''}"
    for seed in range(25):
        rng = random.Random(f"{index}{seed}")
        again = type(three)(three.home / str(seed))
        again.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, a INT, b TEXT, n)")

        def write(name: str, times: int, fork: Three = again, rng: random.Random = rng) -> None:
            statements = []
            for _ in range(times):
                key, cell, n = rng.randrange(7), rng.choice(["NULL", "1", "2", "3"]), rng.randrange(4)
                text = rng.choice(["NULL", "'a'", "'A'", "'b'", "'c'"])
                insert = f"INSERT OR IGNORE INTO t VALUES ({key}, {cell}, {text}, {n})"
                change = rng.choice([f"a = {cell}", f"b = {text}", f"n = {n}"])
                update = f"UPDATE OR IGNORE t SET {change} WHERE id = {key}"
                statements.append(rng.choice([insert, insert, update, f"DELETE FROM t WHERE id = {key}"]))
            fork.run(name, *statements)

        write("base", 4)
        again.copy()
        write("ours", rng.randrange(1, 7))
        write("theirs", 2)
        try:
            again.run("theirs", sql)
        except sqlite3.IntegrityError:
            continue
        write("theirs", rng.randrange(4))
        decided: dict[str, Resolution] = {}
        while found := again.conflicts(decided):
            seen.update(each.kind for each in found)
            assert all(each.id not in decided and Choice.OURS in each.choices for each in found), (seed, found)
            decided |= {each.id: OURS for each in found}
        kinds = {key for key in seen if key.startswith("unique")}
        assert again.merge(Decisions(decided)) == []
        seen["clean"] += not decided
        assert again.query("ours", "PRAGMA integrity_check") == [("ok",)]
        if not indexes(again):
            assert "unique-index" in kinds
            with closing(sqlite3.connect(again.path("ours"))) as connection, pytest.raises(sqlite3.IntegrityError):
                connection.execute(sql)
    assert seen["clean"], seen
    assert seen["unique"] or seen["unique-index"], seen

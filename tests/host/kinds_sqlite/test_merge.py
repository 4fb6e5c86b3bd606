"""Databases merged by rows: against an oracle, by every kind of table, with an application that writes meanwhile."""

from __future__ import annotations

import os
import random
import select
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from wye.host import Host
from wye.interfaces import PathChange
from wye.kinds.files.tree import Side
from wye.kinds.sqlite.apply import Rules, take_back
from wye.kinds.sqlite.changes import page, stat, to_json
from wye.kinds.sqlite.database import DatabaseBusy, DatabaseFailed, opened
from wye.kinds.sqlite.recognise import split
from wye.merge.conflict import Decisions, Resolution
from wye.merge.conflict import Side as Choice
from wye.merge.refused import Refused
from wye.merge.rows import Grain

pytestmark = pytest.mark.host

HOST = Host()
FILE = "volumes/data/app.db"
Three = Any
"""`conftest.Three`."""

VALUES = ["NULL", "1", "1.0", "'1'", "''", "'a'", "'A'", "X'00ff'", "'it''s'", "-3", "1e300", "CAST(X'61FF00' AS TEXT)"]
SCHEMA = [
    "CREATE TABLE keyed (id INTEGER PRIMARY KEY, a, b TEXT COLLATE NOCASE, c REAL)",
    "CREATE TABLE pair (x TEXT, y BLOB, a, b, c, PRIMARY KEY (x, y)) WITHOUT ROWID",
    "CREATE TABLE loose (a, b)",
]


def mutate(three: Three, name: str, rng: random.Random, steps: int) -> None:
    def value() -> str:
        return rng.choice(VALUES)

    statements = []
    for _ in range(steps):
        key = rng.randrange(8)
        pair = f"x = '{key % 3}' AND y = X'0{key % 2}'"
        statements.append(
            rng.choice(
                [
                    f"INSERT OR IGNORE INTO keyed VALUES ({key}, {value()}, {value()}, {value()})",
                    f"UPDATE keyed SET {rng.choice('abc')} = {value()} WHERE id = {key}",
                    f"DELETE FROM keyed WHERE id = {key}",
                    f"INSERT OR IGNORE INTO pair VALUES ('{key % 3}', X'0{key % 2}', {value()}, {value()}, {value()})",
                    f"UPDATE pair SET {rng.choice('abc')} = {value()} WHERE {pair}",
                    f"DELETE FROM pair WHERE {pair}",
                    f"INSERT INTO loose VALUES ({value()}, {rng.choice(['1', '2'])})",
                    "DELETE FROM loose WHERE rowid IN (SELECT rowid FROM loose LIMIT 1)",
                ]
            )
        )
    three.run(name, *statements)


def tables(three: Three, name: str) -> tuple[dict[Any, Any], Counter[Any]]:
    """Keyed rows by (table, key), each a mapping of columns; keyless rows counted. Cells as (type, bytes)."""
    keyed: dict[Any, Any] = {}
    with closing(sqlite3.connect(three.path(name))) as connection:
        connection.text_factory = lambda raw: ("text", raw)

        def cells(row: Any) -> Any:
            return tuple((type(cell).__name__, cell) for cell in row)

        for row in connection.execute("SELECT id, a, b, c FROM keyed"):
            keyed["keyed", cells(row)[:1]] = dict(zip("abc", cells(row)[1:], strict=True))
        for row in connection.execute("SELECT x, y, a, b, c FROM pair"):
            keyed["pair", cells(row)[:2]] = dict(zip("abc", cells(row)[2:], strict=True))
        return keyed, Counter(cells(row) for row in connection.execute("SELECT a, b FROM loose"))


def oracle(three: Three) -> tuple[dict[Any, Any], Counter[Any]] | None:
    (base, base_loose), (ours, ours_loose), (theirs, theirs_loose) = (
        tables(three, name) for name in ("base", "ours", "theirs")
    )
    result = dict(ours)
    for key in base.keys() | theirs.keys():
        b, o, t = base.get(key), ours.get(key), theirs.get(key)
        if t in (b, o):
            continue
        if b == o:
            merged = t
        elif b is None or o is None or t is None:
            return None
        else:
            merged = {}
            for column in b:
                if t[column] in (b[column], o[column]):
                    merged[column] = o[column]
                elif b[column] == o[column]:
                    merged[column] = t[column]
                else:
                    return None
        if merged is None:
            del result[key]
        else:
            result[key] = merged
    loose = Counter(ours_loose)
    for row in base_loose.keys() | theirs_loose.keys():
        change = theirs_loose[row] - base_loose[row]
        if change < 0 and ours_loose[row] != base_loose[row]:
            return None
        loose[row] += change
    return result, +loose


@pytest.mark.parametrize("seed", range(60))
def test_random_rounds_merge_as_the_oracle_says(three: Three, seed: int) -> None:
    rng = random.Random(seed)
    encoding = ["PRAGMA encoding = 'UTF-16le'"] if seed % 5 == 0 else []
    three.run("base", *encoding, f"PRAGMA journal_mode = {'wal' if seed % 2 else 'delete'}", *SCHEMA)
    mutate(three, "base", rng, 25)
    three.copy()
    mutate(three, "ours", rng, rng.randrange(1, 6))
    mutate(three, "theirs", rng, rng.randrange(1, 10))
    expected, before = oracle(three), three.dump("ours")
    with three.merged() as application:
        assert bool(application.conflicts) == (expected is None), application.conflicts
    assert three.dump("ours") == before
    conflicts = three.merge()
    if expected is None:
        assert conflicts
        assert three.dump("ours") == before
    else:
        assert tables(three, "ours") == expected
        assert three.query("ours", "PRAGMA integrity_check") == [("ok",)]


def test_changes_that_collations_and_affinities_hide_are_seen(three: Three) -> None:
    three.run(
        "base",
        "CREATE TABLE t (k TEXT COLLATE NOCASE PRIMARY KEY, v TEXT COLLATE NOCASE, w)",
        "INSERT INTO t VALUES ('a', 'abc', 1), ('b', 'abc', 1), ('c', 'abc', NULL)",
    )
    three.copy()
    three.run("theirs", "UPDATE t SET v = 'ABC' WHERE k = 'a'", "UPDATE t SET w = 1.0 WHERE k = 'b'")
    three.run("theirs", "UPDATE t SET k = 'C' WHERE k = 'c'")
    assert three.merge() == []
    assert sorted(three.query("ours", "SELECT k, v, typeof(w) FROM t")) == [
        ("C", "abc", "null"), ("a", "ABC", "integer"), ("b", "abc", "real"),
    ]  # fmt: skip


def test_cells_conflicts_and_resolutions(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b, n)")
    three.run("base", "INSERT INTO t VALUES (1, 1, 1, 10), (2, 1, 1, 1)")
    three.copy()
    three.run("ours", "UPDATE t SET a = 'ours', b = 2, n = n + 5 WHERE id = 1", "DELETE FROM t WHERE id = 2")
    three.run("theirs", "UPDATE t SET a = 'theirs', n = n + 7 WHERE id = 1", "UPDATE t SET a = 2 WHERE id = 2")
    rules = {"t": Rules(delta=frozenset({"n"}))}
    with three.merged(None, rules) as application:
        first, second = application.conflicts
        with pytest.raises(Refused):
            application.commit()
    assert (first.kind, first.column, first.base, first.ours, first.theirs) == (
        "update/update", "a", "1", "'ours'", "'theirs'",
    )  # fmt: skip
    assert (second.kind, second.key, second.ours) == ("update/delete", ("2",), None)
    decisions = Decisions(
        {first.id: Resolution(side=Choice.VALUE, value="both's"), second.id: Resolution(side=Choice.THEIRS)}
    )
    assert three.merge(decisions, rules) == []
    assert three.query("ours", "SELECT * FROM t") == [(1, "both's", 2, 22), (2, 2, 1, 1)]
    assert three.merge(None, {"t": Rules(grain=Grain.ROW)})


def test_unique_values_can_be_exchanged_and_rowids_stay(three: Three) -> None:
    three.run("base", "CREATE TABLE t (name TEXT PRIMARY KEY, email UNIQUE)")
    three.run("base", "INSERT INTO t (rowid, name, email) VALUES (10, 'a', 1), (20, 'b', 2)")
    three.copy()
    three.run("ours", "ALTER TABLE t ADD COLUMN extra DEFAULT 5", "UPDATE t SET extra = 7 WHERE name = 'a'")
    three.run("theirs", "UPDATE t SET email = 3 WHERE name = 'a'", "UPDATE t SET email = 1 WHERE name = 'b'")
    three.run("theirs", "UPDATE t SET email = 2 WHERE name = 'a'")
    assert three.merge() == []
    assert three.query("ours", "SELECT rowid, * FROM t") == [(10, "a", 2, 7), (20, "b", 1, 5)]


def test_constraints_are_conflicts_whatever_the_schema_says(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, email UNIQUE ON CONFLICT REPLACE, n CHECK (n < 10))")
    three.copy()
    three.run("ours", "INSERT INTO t VALUES (1, 'x', 1)")
    three.run("theirs", "INSERT INTO t VALUES (2, 'x', 1)")
    before = three.dump("ours")
    assert three.merge() == [("unique", "db t", ("2",))]
    assert three.dump("ours") == before


def test_what_a_constraint_refuses_can_be_settled(three: Three) -> None:
    three.run(
        "base",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, email UNIQUE, n CHECK (n < 10), city, phone, UNIQUE (city, phone))",
        "INSERT INTO t VALUES (1, 'a', 1, 'x', 1), (2, 'b', 1, 'x', 2), (3, 'c', 1, 'x', 3)",
        "CREATE TABLE loose (k UNIQUE, v)",
    )
    three.copy()
    three.run(
        "theirs",
        "INSERT INTO t VALUES (10, 'same', 1, 'f', 1), (11, 'too', 1, 'y', 9)",
        "UPDATE t SET email = 'other', n = 5 WHERE id = 3", "INSERT INTO loose VALUES ('k', 'f'), ('l', 'f')",
    )  # fmt: skip
    three.run(
        "ours",
        "INSERT INTO t VALUES (20, 'same', 1, 'p', 1), (21, 'else', 1, 'y', 9), (22, 'other', 1, 'z', 0)",
        "INSERT INTO loose VALUES ('k', 'p')",
    )
    before = three.dump("ours")
    with three.merged() as application:
        told = {(c.key, c.column): c for c in application.conflicts}
    assert told.keys() == {
        (("10",), "email"), (("11",), "city, phone"), (("3",), "email"), (("'k'", "'f'"), "k"),
    }  # fmt: skip
    assert told[("10",), "email"].ours["id"] == "20"
    assert all(c.choices == {Choice.OURS, Choice.VALUE} for c in told.values())
    assert three.dump("ours") == before
    decided = {c.id: Resolution(side=Choice.OURS) for c in told.values()}
    taken = decided | {told[("10",), "email"].id: Resolution(side=Choice.VALUE, value="a")}
    with three.merged(Decisions(taken)) as application:
        (again,) = application.conflicts
    assert "refused too" in again.detail
    decided[told[("10",), "email"].id] = Resolution(side=Choice.VALUE, value="free")
    decided[told[("11",), "city, phone"].id] = Resolution(side=Choice.VALUE, value={"phone": 8})
    with three.merged(Decisions(decided)) as application:
        assert application.conflicts == []
        inverse = application.inverse
        application.commit()
    assert three.query("ours", "SELECT id, email, n, phone FROM t WHERE id >= 3 ORDER BY id") == [
        (3, "c", 5, 3), (10, "free", 1, 1), (11, "too", 1, 8),
        (20, "same", 1, 1), (21, "else", 1, 9), (22, "other", 1, 0),
    ]  # fmt: skip
    assert three.query("ours", "SELECT k, v FROM loose ORDER BY k") == [("k", "p"), ("l", "f")]
    assert take_back(HOST, "db", three.home / "ours", FILE, inverse) == []
    assert three.dump("ours") == before


def test_a_chain_of_rows_that_each_take_what_the_one_before_had(three: Three) -> None:
    """The first link is taken in the target, so none of them can move; they are asked about one after the other."""
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, u UNIQUE, v UNIQUE, n)")
    three.run("base", "INSERT INTO t VALUES (1, 1, 1, 0), (2, 2, 2, 0), (3, 3, 3, 0), (5, 5, 5, 0)")
    three.copy()
    three.run("theirs", "UPDATE t SET u = 9 WHERE id = 2", "UPDATE t SET u = 2, v = 22, n = 1 WHERE id = 1")
    three.run("theirs", "UPDATE t SET u = 1, n = 1 WHERE id = 3")
    three.run("ours", "UPDATE t SET u = 9 WHERE id = 5")
    decided: dict[str, Resolution] = {}
    for key in ("2", "1", "3"):
        with three.merged(Decisions(decided)) as application:
            assert [conflict.key for conflict in application.conflicts] == [(key,)]
            decided |= {conflict.id: Resolution(side=Choice.OURS) for conflict in application.conflicts}
    assert three.merge(Decisions(decided)) == []
    assert three.query("ours", "SELECT * FROM t") == [(1, 1, 22, 1), (2, 2, 2, 0), (3, 3, 3, 1), (5, 9, 5, 0)]


def test_triggers_do_not_fire_and_are_merged(three: Three) -> None:
    three.run(
        "base",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v)", "CREATE TABLE log (id INTEGER PRIMARY KEY AUTOINCREMENT, what)",
        "CREATE TRIGGER audit AFTER UPDATE ON t BEGIN INSERT INTO log (what) VALUES (new.v); END",
        "INSERT INTO t VALUES (1, 1)",
    )  # fmt: skip
    three.copy()
    three.run("theirs", "UPDATE t SET v = 2", "DROP TRIGGER audit", "INSERT INTO log VALUES (100, 'x')")
    three.run("theirs", "CREATE TRIGGER audit AFTER UPDATE ON t BEGIN INSERT INTO log (what) VALUES ('new'); END")
    three.run("theirs", "DELETE FROM log WHERE id = 100")
    assert three.merge() == []
    assert three.query("ours", "SELECT what FROM log") == [(2,)]
    three.run("ours", "UPDATE t SET v = 3")
    assert three.query("ours", "SELECT id, what FROM log") == [(1, 2), (101, "new")]


def test_new_definitions_and_columns_come_first(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, a)", "CREATE TABLE old (a)")
    three.run("base", "INSERT INTO old VALUES (1)")
    three.run("base", "INSERT INTO t VALUES (1, 'x'), (2, 'x')", "CREATE VIEW v AS SELECT a FROM t")
    three.copy()
    three.run(
        "theirs",
        "ALTER TABLE t ADD COLUMN b INTEGER NOT NULL DEFAULT 2", "ALTER TABLE t ADD COLUMN c TEXT DEFAULT 'x,y'",
        "UPDATE t SET b = 5, a = 'y' WHERE id = 2", "DELETE FROM t WHERE id = 1", "CREATE UNIQUE INDEX u ON t (a)",
        "DROP TABLE old", "DROP VIEW v", "CREATE VIEW v AS SELECT a, b FROM t",
        'CREATE TABLE "new ""one""" (k PRIMARY KEY, v) WITHOUT ROWID', 'INSERT INTO "new ""one""" VALUES (1, 2)',
        "CREATE TABLE gen (a, g AS (a * 2) STORED, h AS (a + 1))", "INSERT INTO gen (a) VALUES (4)",
        "PRAGMA user_version = 7",
    )  # fmt: skip
    three.run("ours", "INSERT INTO t VALUES (3, 'z')")
    found = three.changes()
    assert {(t["table"], t["inserted"], t["deleted"], t["updated"]) for t in stat(found)["tables"]} == {
        ("t", 0, 1, 1), ('new "one"', 1, 0, 0), ("gen", 1, 0, 0),
    }  # fmt: skip
    table = next(table for table in found.tables if table.table == "t")
    cells = {"a": ["'x'", "'y'"], "b": ["2", "5"]}
    assert page(table, 0, 10)[0] == {"change": "update", "key": {"id": "2"}, "cells": cells}
    assert three.merge() == []
    assert three.query("ours", "SELECT * FROM t") == [(2, "y", 5, "x,y"), (3, "z", 2, "x,y")]
    assert three.query("ours", "SELECT * FROM gen") == [(4, 8, 5)]
    assert three.query("ours", "PRAGMA user_version") == [(7,)]
    definitions = "SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2"
    assert three.query("ours", definitions) == three.query("theirs", definitions)


def test_definitions_that_cannot_be_taken_over_are_refused_by_name(three: Three) -> None:
    three.run("base", "CREATE TABLE renamed (a, b)", "CREATE TABLE both (a)", "CREATE TABLE dropped (a)")
    three.run("base", "CREATE VIRTUAL TABLE search USING fts5 (text)")
    three.copy()
    three.run("theirs", "ALTER TABLE renamed RENAME COLUMN b TO c", "ALTER TABLE both ADD COLUMN x")
    three.run("theirs", "DROP TABLE dropped")
    three.run("theirs", "INSERT INTO search VALUES ('word')", "CREATE VIRTUAL TABLE more USING fts5 (text)")
    three.run("ours", "ALTER TABLE both ADD COLUMN y", "INSERT INTO dropped VALUES (1)")
    before = three.dump("ours")
    conflicts = three.merge()
    assert {(kind, key[0]) for kind, _, key in conflicts} >= {
        ("schema", "renamed"), ("schema", "both"), ("drop-vs-change", "dropped"), ("virtual-table", "more"),
        ("virtual-table", "search"),
    }  # fmt: skip
    assert three.dump("ours") == before


def test_rows_with_null_in_their_key_are_counted(three: Three) -> None:
    three.run("base", "CREATE TABLE t (k TEXT PRIMARY KEY, v)", "INSERT INTO t VALUES (NULL, 1), (NULL, 1), (NULL, 2)")
    three.copy()
    three.run("theirs", "DELETE FROM t WHERE rowid = 1", "INSERT INTO t VALUES (NULL, 3)")
    three.run("ours", "INSERT INTO t VALUES ('k', 9)")
    assert three.merge() == []
    assert sorted(three.query("ours", "SELECT * FROM t"), key=repr) == [("k", 9), (None, 1), (None, 2), (None, 3)]


def test_later_writes_survive_a_revert(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)", "INSERT INTO t VALUES (1, 1, 1), (2, 1, 1)")
    three.copy()
    three.run("theirs", "UPDATE t SET a = 2", "DELETE FROM t WHERE id = 2", "CREATE TABLE n (a)")
    three.run("theirs", "INSERT INTO n VALUES (1)")
    HOST.run("test:copy", ["cp", "-a", str(three.home / "ours"), str(three.home / "before")])
    assert three.merge() == []
    HOST.run("test:copy", ["cp", "-a", str(three.home / "ours"), str(three.home / "after")])
    three.run("ours", "UPDATE t SET b = 5 WHERE id = 1", "INSERT INTO t VALUES (3, 3, 3)")
    for name in ("base", "theirs"):
        (three.home / name).rename(three.home / f"first-{name}")
    (three.home / "after").rename(three.home / "base")
    (three.home / "before").rename(three.home / "theirs")
    assert three.merge() == []
    assert three.query("ours", "SELECT * FROM t") == [(1, 1, 5), (2, 1, 1), (3, 3, 3)]
    assert three.query("ours", "SELECT count(*) FROM sqlite_schema WHERE name = 'n'") == [(0,)]


# ---------------------------------------------------------------- an application that goes on


APPLICATION = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
if sys.argv[2] == "hold":
    connection.execute("BEGIN IMMEDIATE")
    print("held", flush=True)
    sys.stdin.readline()
    sys.exit()
count = 0
connection.execute("PRAGMA synchronous = OFF")
while True:
    connection.execute("UPDATE t SET mine = mine + 1 WHERE id = ?", (count % 2000 + 1,))
    count += 1
    print(count, flush=True)
    if sys.stdin.readline() != "go on\\n":
        break
"""
"""In a process of its own, as a service is: locks of one process do not keep out that process."""


@contextmanager
def application(three: Three, what: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", APPLICATION, str(three.path("ours")), what], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_writers_go_on_during_the_merge_and_lose_nothing(three: Three, mode: str) -> None:
    three.run("base", f"PRAGMA journal_mode = {mode}", "CREATE TABLE t (id INTEGER PRIMARY KEY, mine, yours)")
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000)"
    three.run("base", f"INSERT INTO t {numbers} SELECT i, 0, 0 FROM n")
    three.copy()
    three.run("theirs", "UPDATE t SET yours = 1")
    counts, started, merged_at = [0], threading.Event(), threading.Event()
    with application(three, "write") as process:
        assert process.stdin
        assert process.stdout

        def drive() -> None:
            after = 0
            while after < 20:
                counts[0] = int(process.stdout.readline())
                started.set()
                after += merged_at.is_set()
                process.stdin.write("go on\n" if after < 20 else "stop\n")
                process.stdin.flush()

        driver = threading.Thread(target=drive)
        driver.start()
        assert started.wait(30)
        conflicts = three.merge(busy_s=60)
        merged_at.set()
        driver.join()
        process.wait()
    assert conflicts == []
    assert three.query("ours", "SELECT sum(mine), sum(yours) FROM t") == [(counts[0], 2000)]
    assert counts[0] > 20


def test_a_locked_database_is_left_alone(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    three.copy()
    three.run("theirs", "INSERT INTO t VALUES (1)")
    with application(three, "hold") as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        with pytest.raises(DatabaseBusy):
            three.merge(busy_s=0.1)
    assert three.merge() == []


def test_an_open_merge_keeps_the_application_out(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, mine)", "INSERT INTO t VALUES (1, 1)")
    three.copy()
    three.run("theirs", "INSERT INTO t VALUES (2, 2)")
    with application(three, "write") as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "1\n"
        with three.merged() as merge:
            process.stdin.write("go on\n")
            process.stdin.flush()
            assert not select.select([process.stdout], [], [], 0.3)[0]
            merge.commit()
        assert process.stdout.readline() == "2\n"


KILLED = """
import os, sys
from pathlib import Path
from wye.host import Host
from wye.kinds.sqlite.apply import merged
from wye.kinds.sqlite.changes import from_json
found = from_json(sys.stdin.buffer.read())
with merged(Host(), "db", Path(sys.argv[1]), sys.argv[2], found) as application:
    application._connection.cache_flush()
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_kill_before_the_commit_leaves_nothing(three: Three, mode: str) -> None:
    three.run("base", f"PRAGMA journal_mode = {mode}", "CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
    three.run("base", "INSERT INTO t VALUES (1, 1)")
    three.copy()
    three.run("theirs", "UPDATE t SET a = 2", "CREATE TABLE n (a)")
    before = three.dump("ours")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(three.home / "ours"), FILE], input=to_json(three.changes()), check=False
    )
    assert done.returncode == -9
    assert three.dump("ours") == before
    assert three.merge() == []


# ---------------------------------------------------------------- copies, and what hostile hands do


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_snapshot_of_a_database_in_use_is_recovered_in_the_copy(three: Three, mode: str) -> None:
    three.run("base", f"PRAGMA journal_mode = {mode}", "CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
    three.copy()
    with closing(sqlite3.connect(three.path("theirs"), isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("INSERT INTO t VALUES (1, 1)")
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN")
        numbers = "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n LIMIT 900)"
        connection.execute(f"INSERT INTO t {numbers} SELECT i, randomblob(900) FROM n")
        assert (three.path("theirs").parent / f"app.db-{'wal' if mode == 'wal' else 'journal'}").exists()
        HOST.run("test:copy", ["cp", "-a", str(three.home / "theirs"), str(three.home / "cut")])
        connection.execute("ROLLBACK")
    found = three.changes(theirs="cut")
    assert [(table.table, table.keyed) for table in found.tables] == [("t", ((None, ("1", "1")),))]
    assert (three.home / "cut" / FILE).stat().st_size > 0


def test_links_in_the_way_are_not_followed(three: Three, tmp_path: Path) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    three.copy()
    three.run("theirs", "INSERT INTO t VALUES (1)")
    found = three.changes()
    assert found.tables
    secret = tmp_path / "secret"
    secret.write_bytes(b"precious")
    live = three.path("ours")
    for ending in ("-journal", "-wal"):
        os.symlink(secret, f"{live}{ending}")
        with pytest.raises(DatabaseFailed):
            three.merge()
        assert secret.read_bytes() == b"precious"
        os.unlink(f"{live}{ending}")
    live.rename(live.with_name("real.db"))
    live.symlink_to("real.db")
    with pytest.raises(DatabaseFailed):
        three.merge()


def test_a_journal_cannot_make_us_delete_another_file(three: Three, tmp_path: Path) -> None:
    """A hot journal of a transaction over two databases names the file that decides, and SQLite deletes it."""
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000)"
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
    three.run("base", f"INSERT INTO t {numbers} SELECT i, randomblob(200) FROM n")
    three.copy()
    victim = tmp_path / "victim-mj3C4A5B9D7"
    victim.write_bytes(b"precious")
    live = three.path("theirs")
    with closing(sqlite3.connect(live, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN")
        connection.execute("UPDATE t SET a = randomblob(300)")
        journal, pages = Path(f"{live}-journal").read_bytes(), live.read_bytes()
        connection.execute("ROLLBACK")
    name = os.fsencode(victim)
    numbers_of_name = len(name).to_bytes(4, "big") + sum(name).to_bytes(4, "big")
    tail = (0x40000000 // 4096 + 1).to_bytes(4, "big") + name + numbers_of_name + journal[:8]
    live.write_bytes(pages)
    Path(f"{live}-journal").write_bytes(journal + tail)
    with pytest.raises(DatabaseFailed):
        three.changes()
    assert victim.read_bytes() == b"precious"
    three.run("theirs", "SELECT * FROM t")
    assert not victim.exists(), "the attack is real: SQLite by itself falls for it"


def test_damaged_files_and_hostile_definitions_are_refused(three: Three, tmp_path: Path) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    three.copy()
    path = three.path("theirs")
    good = path.read_bytes()
    rng = random.Random(1)
    for _ in range(30):
        damaged = bytearray(good)
        for _ in range(20):
            damaged[rng.randrange(16, len(good))] = rng.randrange(256)
        path.write_bytes(bytes(damaged))
        try:
            three.changes()
        except DatabaseFailed:
            continue
    path.write_bytes(good)
    target = tmp_path / "made"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "INSERT INTO sqlite_schema VALUES ('table', 'evil', 'evil', 0, ?)",
            (f"CREATE TABLE evil (a); ATTACH '{target}' AS x; CREATE TABLE x.y (a)",),
        )
    with pytest.raises(DatabaseFailed):
        three.changes()
    assert not target.exists()


def test_collations_of_the_application_are_refused_by_name(three: Three) -> None:
    three.path("base").parent.mkdir(parents=True)
    with closing(sqlite3.connect(three.path("base"), isolation_level=None)) as connection:
        connection.create_collation("house", lambda a, b: (a > b) - (a < b))
        connection.execute("CREATE TABLE t (k TEXT COLLATE house PRIMARY KEY)")
        connection.execute("INSERT INTO t VALUES ('a')")
        three.copy()
    with pytest.raises(DatabaseFailed, match="house"):
        three.changes()


def test_databases_are_told_from_files(three: Three) -> None:
    three.run("base", "CREATE TABLE t (a)")
    (three.path("base").parent / "notes").write_text("SQLite format 3, my notes")
    three.copy()
    names = ("app.db", "app.db-wal", "notes", "x-wal", "gone.db")
    listed = [PathChange(path=f"volumes/data/{name}", kind="modified") for name in names]
    with Side(HOST, three.home / "base") as base, Side(HOST, three.home / "theirs") as theirs:
        paths, rest = split(listed, base, theirs)
    assert paths == [FILE]
    assert [change.path for change in rest] == ["volumes/data/notes", "volumes/data/x-wal", "volumes/data/gone.db"]


def test_names_outside_of_the_database_do_not_exist(three: Three) -> None:
    three.run("base", "CREATE TABLE t (a)")
    with opened(HOST, {"main": (three.home / "base", FILE)}) as connection, pytest.raises(apsw.AuthError):
        connection.execute("ATTACH '/etc/passwd' AS x")


def test_what_sqlite_makes_beside_the_database_belongs_to_its_owner(three: Three) -> None:
    three.run("base", "PRAGMA journal_mode = wal", "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    three.copy()
    three.run("theirs", "INSERT INTO t VALUES (1)")
    os.chown(three.path("ours"), 200_999, 200_998)
    three.path("ours").chmod(0o660)
    with three.merged() as application:
        made = [Path(f"{three.path('ours')}{ending}").stat() for ending in ("-wal", "-shm")]
        application.commit()
    assert [(s.st_uid, s.st_gid, s.st_mode & 0o777) for s in made] == [(200_999, 200_998, 0o660)] * 2

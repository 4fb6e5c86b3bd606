"""What is rare in databases and allowed: values, names, keys and tables of all kinds, and who reads meanwhile."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from wye.kinds.sqlite.database import DatabaseBusy
from wye.merge.conflict import Decisions, Resolution
from wye.merge.conflict import Side as Choice

pytestmark = pytest.mark.host

OURS = Resolution(side=Choice.OURS)
Three = Any
"""`conftest.Three`."""


def exact(three: Three, name: str, statement: str) -> list[str]:
    """Cells with their types and bytes."""
    with closing(sqlite3.connect(three.path(name))) as connection:
        connection.text_factory = lambda raw: ("text", raw)
        return [repr(row) for row in connection.execute(statement)]


# ---------------------------------------------------------------- values and keys


ODD = [
    "9223372036854775807", "-9223372036854775808", "9223372036854775808.0", "9007199254740993", "5e-324",
    "1.7976931348623157e308", "9e999", "-9e999", "9e999 - 9e999", "0.1 + 0.2", "1e15", "123456789012345678.0",
    "CAST(X'610062' AS TEXT)", "CAST(X'00' AS TEXT)", "CAST(X'' AS TEXT)", "X''", "zeroblob(3)", "X'31'", "'1'", "1",
    "1.0", "CAST(X'FFFE' AS TEXT)", "''''", "char(1114111)", "'CAST(X''00'' AS TEXT)'", "'X''00'''",
]  # fmt: skip


@pytest.mark.parametrize("column", ["v", "v INT", "v TEXT", "v REAL", "v NUMERIC", "v BLOB"])
def test_extreme_values_arrive_as_they_are(three: Three, column: str) -> None:
    three.run("base", f"CREATE TABLE t (id INTEGER PRIMARY KEY, {column})", f"CREATE TABLE loose ({column})")
    three.run("base", "INSERT INTO t VALUES (0, 'x'), (1, 'x')")
    three.copy()
    three.run("ours", "INSERT INTO t VALUES (-1, 'ours')")
    for n, value in enumerate(ODD, 10):
        three.run("theirs", f"INSERT INTO t VALUES ({n}, {value})", f"INSERT INTO loose VALUES ({value})")
    three.run("theirs", "UPDATE t SET v = -9223372036854775808 WHERE id = 0")
    three.run("theirs", "INSERT INTO t VALUES (-9223372036854775808, 1), (9223372036854775807, 2)")
    assert three.merge() == []
    for query in ("SELECT * FROM t WHERE id <> -1 ORDER BY id", "SELECT * FROM loose ORDER BY rowid"):
        assert sorted(exact(three, "ours", query)) == sorted(exact(three, "theirs", query))
    assert three.merge() == [], "a second time there is nothing to do"


def test_zero_has_one_sign(three: Three) -> None:
    """To SQLite 0.0 and -0.0 are one value: a column of type REAL does not even keep them apart."""
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, v, w)", "INSERT INTO t VALUES (1, 0.0, 1)")
    three.copy()
    three.run("theirs", "UPDATE t SET v = -0.0")
    assert not three.changes()
    three.run("theirs", "UPDATE t SET w = 2")
    three.run("ours", "INSERT INTO t VALUES (2, -0.0, 1)")
    assert three.merge() == []
    assert three.query("ours", "SELECT v, w FROM t") == [(0.0, 2), (0.0, 1)]


def test_keys_that_are_nearly_equal(three: Three) -> None:
    three.run(
        "base",
        "CREATE TABLE typed (k PRIMARY KEY, v)", "INSERT INTO typed VALUES (1, 0), ('1', 0), (X'31', 0)",
        "CREATE TABLE nul (k TEXT PRIMARY KEY, v)",
        "INSERT INTO nul VALUES (CAST(X'610062' AS TEXT), 0), ('a', 0), (CAST(X'6100' AS TEXT), 0)",
        "CREATE TABLE folded (k TEXT COLLATE NOCASE PRIMARY KEY, v)", "INSERT INTO folded VALUES ('a', 0), ('b', 0)",
        "CREATE TABLE padded (k TEXT COLLATE RTRIM PRIMARY KEY, v) WITHOUT ROWID", "INSERT INTO padded VALUES ('a', 0)",
    )  # fmt: skip
    three.copy()
    three.run("ours", "UPDATE folded SET k = 'A' WHERE k = 'a'", "UPDATE padded SET k = 'a  '")
    three.run(
        "theirs",
        "UPDATE typed SET v = 1 WHERE typeof(k) = 'text'", "UPDATE typed SET v = 2 WHERE typeof(k) = 'blob'",
        "UPDATE typed SET k = 1.0 WHERE typeof(k) = 'integer'", "UPDATE nul SET v = 1 WHERE hex(k) = '610062'",
        "DELETE FROM nul WHERE hex(k) = '6100'", "UPDATE folded SET v = 1", "UPDATE padded SET v = 1",
    )  # fmt: skip
    assert three.merge() == []
    assert exact(three, "ours", "SELECT * FROM typed ORDER BY typeof(k)") == [
        "(b'1', 2)", "(1.0, 0)", "(('text', b'1'), 1)",
    ]  # fmt: skip
    assert three.query("ours", "SELECT hex(k), v FROM nul ORDER BY 1") == [("61", 0), ("610062", 1)]
    assert three.query("ours", "SELECT * FROM folded ORDER BY 1") == [("A", 1), ("b", 1)]
    assert three.query("ours", "SELECT * FROM padded") == [("a  ", 1)]
    three.run("theirs", "INSERT INTO folded VALUES ('C', 1)")
    three.run("ours", "INSERT INTO folded VALUES ('c', 2)")
    assert [(c.kind, c.key) for c in three.conflicts()] == [("insert/insert", ("'C'",))]


def test_rowids_say_nothing(three: Three) -> None:
    three.run("base", "CREATE TABLE loose (a)", "INSERT INTO loose VALUES (1), (2), (3)")
    three.run("base", "CREATE TABLE hidden (rowid, _rowid_, oid)", "INSERT INTO hidden VALUES (1, 1, 1), (1, 1, 1)")
    three.copy()
    three.run("ours", "DELETE FROM loose WHERE a = 3", "INSERT INTO loose VALUES ('ours')")
    three.run("theirs", "DELETE FROM loose WHERE a = 2", "INSERT INTO loose VALUES ('theirs')")
    three.run("theirs", "INSERT INTO hidden VALUES (2, 2, 2)")
    assert three.merge() == []
    assert three.query("ours", "SELECT a FROM loose ORDER BY 1") == [(1,), ("ours",), ("theirs",)]
    assert three.query("ours", "SELECT count(*) FROM hidden") == [(3,)]


def test_keys_that_are_given_out_again(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES (1, 1), (2, 2)")
    three.run("base", "CREATE TABLE hidden (rowid, _rowid_, oid)", "INSERT INTO hidden VALUES (1, 1, 1), (1, 1, 1)")
    three.copy()
    for name in ("ours", "theirs"):
        three.run(name, "DELETE FROM t WHERE id = 2", f"INSERT INTO t VALUES (2, '{name}')")
    assert [(c.kind, c.key, c.column) for c in three.conflicts()] == [("update/update", ("2",), "v")]
    three.run("theirs", "UPDATE t SET v = 2 WHERE id = 2", "DELETE FROM hidden")
    assert {c.key for c in three.conflicts() if "hide the rowid" in c.detail} == {("1", "1", "1")}


# ---------------------------------------------------------------- tables


def test_strict_tables(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, i INT, r REAL, x TEXT, b BLOB, a ANY) STRICT")
    three.run("base", "INSERT INTO t VALUES (1, 1, 1, '1', X'31', '1')")
    three.copy()
    three.run("ours", "UPDATE t SET i = 5")
    three.run(
        "theirs", "UPDATE t SET r = 3, x = '04', b = X'', a = '05'", "INSERT INTO t VALUES (2, 2, 2, '2', X'', 1.0)"
    )
    assert three.merge() == []
    assert exact(three, "ours", "SELECT * FROM t") == [
        "(1, 5, 3.0, ('text', b'04'), b'', ('text', b'05'))", "(2, 2, 2.0, ('text', b'2'), b'', 1.0)",
    ]  # fmt: skip
    three.run("theirs", "UPDATE t SET i = 6 WHERE id = 1")
    (found,) = three.conflicts()
    refused = three.conflicts({found.id: Resolution(side=Choice.VALUE, value="many")})
    assert [(c.key, c.choices) for c in refused] == [(("1",), {Choice.OURS, Choice.VALUE})]


def test_generated_columns(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, a, g AS (a * 2) STORED UNIQUE, h AS (a || 'x'))")
    three.run("base", "INSERT INTO t (id, a) VALUES (1, 1), (2, 2)")
    three.copy()
    three.run("ours", "INSERT INTO t (id, a) VALUES (7, 9)")
    three.run("theirs", "UPDATE t SET a = 3 WHERE id = 1", "UPDATE t SET a = 1 WHERE id = 2")
    three.run("theirs", "UPDATE t SET a = 2 WHERE id = 1")
    assert three.merge() == [], "values that are computed can be exchanged too"
    assert three.query("ours", "SELECT * FROM t") == [(1, 2, 4, "2x"), (2, 1, 2, "1x"), (7, 9, 18, "9x")]
    three.run("theirs", "INSERT INTO t (id, a) VALUES (8, 9)")
    (found,) = three.conflicts()
    assert (found.kind, found.key) == ("unique", ("8",))
    assert three.merge(Decisions({found.id: Resolution(side=Choice.VALUE, value={"a": 10})})) == []


def test_triggers_of_the_target_stay_silent(three: Three) -> None:
    """Whether they forbid, ignore or add to what the merge writes."""
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, v)", "CREATE TABLE log (what)")
    three.run("base", "INSERT INTO t VALUES (1, 1), (2, 2)")
    three.copy()
    three.run(
        "ours",
        "CREATE TRIGGER no BEFORE INSERT ON t BEGIN SELECT RAISE(IGNORE); END",
        "CREATE TRIGGER stop BEFORE UPDATE ON t BEGIN SELECT RAISE(ABORT, 'never'); END",
        "CREATE TRIGGER more AFTER DELETE ON t BEGIN INSERT INTO log VALUES (old.id); DELETE FROM t; END",
    )
    three.run("theirs", "INSERT INTO t VALUES (3, 3)", "UPDATE t SET v = 9 WHERE id = 2", "DELETE FROM t WHERE id = 1")
    assert three.merge() == []
    assert three.query("ours", "SELECT * FROM t") == [(2, 9), (3, 3)]
    assert three.query("ours", "SELECT count(*) FROM log") == [(0,)]
    assert three.query("ours", "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'") == [(3,)]


def test_triggers_of_views_outlive_a_change_of_the_view(three: Three) -> None:
    three.run(
        "base",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v)", "CREATE VIEW w AS SELECT * FROM t",
        "CREATE TRIGGER put INSTEAD OF INSERT ON w BEGIN INSERT INTO t VALUES (new.id, new.v); END",
        "CREATE TRIGGER cut INSTEAD OF DELETE ON w BEGIN DELETE FROM t WHERE id = old.id; END",
        "CREATE VIEW gone AS SELECT 1 AS a",
    )  # fmt: skip
    three.copy()
    put = "CREATE TRIGGER put INSTEAD OF INSERT ON w BEGIN INSERT INTO t VALUES (new.id, new.v"
    three.run("theirs", "DROP VIEW w", "CREATE VIEW w AS SELECT id, v FROM t", f"{put} + 1); END", "DROP VIEW gone")
    three.run("theirs", "CREATE TRIGGER cut INSTEAD OF DELETE ON w BEGIN DELETE FROM t WHERE id = old.id; END")
    three.run("ours", "CREATE TRIGGER set_ INSTEAD OF UPDATE ON w BEGIN UPDATE t SET v = new.v WHERE id = old.id; END")
    assert three.merge() == []
    three.run("ours", "INSERT INTO w VALUES (1, 1), (2, 2)", "DELETE FROM w WHERE id = 2", "UPDATE w SET v = v + 10")
    assert three.query("ours", "SELECT * FROM t") == [(1, 12)]
    assert three.query("ours", "SELECT name FROM sqlite_schema WHERE name = 'gone'") == []


def test_what_the_target_made_for_something_that_the_fork_dropped(three: Three) -> None:
    three.run("base", "CREATE TABLE old (a)", "CREATE VIEW seen AS SELECT * FROM old")
    three.copy()
    three.run("theirs", "DROP VIEW seen", "DROP TABLE old")
    three.run("ours", "CREATE INDEX i ON old (a)")
    three.run("ours", "CREATE TRIGGER v INSTEAD OF INSERT ON seen BEGIN INSERT INTO old VALUES (new.a); END")
    found = {c.key: c for c in three.conflicts()}
    assert {(c.kind, *c.key, *c.choices) for c in found.values()} == {
        ("drop-vs-change", "old", "ours"), ("drop-vs-change", "seen", "ours"),
    }  # fmt: skip
    assert "made i for it" in found["old",].detail
    before = three.dump("ours")
    assert three.merge(Decisions({each.id: OURS for each in found.values()})) == []
    assert three.dump("ours") == before
    three.run("ours", "DROP INDEX i", "DROP TRIGGER v")
    assert three.merge() == []
    assert three.query("ours", "SELECT count(*) FROM sqlite_schema") == [(0,)]


def test_virtual_tables_stay_or_are_made_by_hand(three: Three) -> None:
    search = "CREATE VIRTUAL TABLE search USING fts5 (v, content = 't', content_rowid = 'id')"
    three.run(
        "base",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v)", search, "CREATE TABLE search_history (what)",
        "CREATE TRIGGER a AFTER INSERT ON t BEGIN INSERT INTO search (rowid, v) VALUES (new.id, new.v); END",
    )  # fmt: skip
    three.copy()
    three.run("ours", "INSERT INTO t VALUES (1, 'one')")
    three.run("theirs", "INSERT INTO search_history VALUES ('only named like it')")
    assert three.merge() == []
    assert three.query("ours", "SELECT count(*) FROM search_history") == [(1,)]
    three.run("theirs", "INSERT INTO t VALUES (2, 'two')")
    (found,) = three.conflicts()
    assert (found.kind, found.key, found.choices) == ("virtual-table", ("search",), {Choice.OURS})
    assert "rebuild it" in found.detail
    assert three.merge(Decisions({found.id: OURS})) == []
    assert three.query("ours", "SELECT rowid FROM search WHERE search MATCH 'two'") == []
    three.run("ours", "INSERT INTO search (search) VALUES ('rebuild')")
    assert three.query("ours", "SELECT rowid FROM search WHERE search MATCH 'one OR two'") == [(1,), (2,)]
    near = "CREATE VIRTUAL TABLE near USING rtree (id, low, high)"
    three.run("theirs", near, "CREATE TRIGGER b AFTER DELETE ON t BEGIN DELETE FROM near WHERE id = old.id; END")
    refused = {c.key: c for c in three.conflicts()}
    assert refused["near",].choices == frozenset(), "what the fork defined besides rests on it"
    three.run("ours", near)
    again = {c.key: c.id for c in three.conflicts()}
    assert again.keys() == {("search",), ("near",)}
    assert three.merge(Decisions(dict.fromkeys(again.values(), OURS))) == []
    three.run("ours", "DELETE FROM t WHERE id = 2")


@pytest.mark.parametrize(
    "name", ['a "b".c', "main", "temp", "theirs", "sqlite", "", "select", "_wye_gone0", "t'; --", "é"]
)
def test_names_that_need_quotes(three: Three, name: str) -> None:
    table = '"' + name.replace('"', '""') + '"'
    three.run(
        "base",
        f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, {table} REFERENCES {table}, x UNIQUE)",
        f"INSERT INTO {table} VALUES (1, NULL, 1), (2, NULL, 2), (3, 3, 3)",
        f"CREATE TABLE other (k REFERENCES {table})",
    )
    three.copy()
    three.run("ours", f"INSERT INTO {table} VALUES (7, 1, 7)")
    three.run(
        "theirs",
        f"UPDATE {table} SET {table} = 1, x = 9 WHERE id = 2", f"DELETE FROM {table} WHERE id = 3",
        f"INSERT INTO {table} VALUES (8, 2, 8)", f'CREATE UNIQUE INDEX "i {name.replace(chr(34), "")}" ON {table} (x)',
    )  # fmt: skip
    assert three.merge() == []
    rows = [(1, None, 1), (2, 1, 9), (7, 1, 7), (8, 2, 8)]
    assert three.query("ours", f"SELECT * FROM {table}") == rows
    three.run("ours", "INSERT INTO other VALUES (7)")
    three.run("theirs", f"DROP TABLE {table}")
    while found := three.conflicts():
        assert {c.kind for c in found} <= {"drop-vs-change", "fk-child-exists"}
        if three.merge(Decisions({c.id: OURS for c in found})) == []:
            break
    assert three.query("ours", f"SELECT * FROM {table}") == rows


# ---------------------------------------------------------------- a reader


READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
for _ in range(2):
    print(connection.execute("SELECT count(*) FROM t").fetchone()[0], flush=True)
    sys.stdin.readline()
connection.execute("COMMIT")
print(connection.execute("SELECT count(*) FROM t").fetchone()[0], flush=True)
"""


@contextmanager
def reader(three: Three) -> Iterator[subprocess.Popen[str]]:
    """In the middle of a transaction, in a process of its own, as a service is."""
    command = [sys.executable, "-c", READER, str(three.path("ours"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "1\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_somebody_reads(three: Three, mode: str) -> None:
    """With a log beside the file the merge does not wait for readers, and they go on to see what they saw."""
    three.run("base", f"PRAGMA journal_mode = {mode}", "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    three.run("base", "INSERT INTO t VALUES (1)")
    three.copy()
    three.run("theirs", "INSERT INTO t VALUES (2)")
    with reader(three) as process:
        assert process.stdin
        assert process.stdout
        if mode == "wal":
            assert three.merge() == []
        else:
            with pytest.raises(DatabaseBusy):
                three.merge(busy_s=0.1)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "1\n"
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == ("2\n" if mode == "wal" else "1\n")
    assert three.merge() == []
    assert three.query("ours", "SELECT count(*) FROM t") == [(2,)]

"""What the fork dropped and the target still needs: told exactly, and kept where that is chosen."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from wye.host import Host
from wye.kinds.sqlite.apply import take_back
from wye.merge.conflict import Decisions, Resolution
from wye.merge.conflict import Side as Choice

pytestmark = pytest.mark.host

HOST = Host()
FILE = "volumes/data/app.db"
OURS = Resolution(side=Choice.OURS)
Three = Any
"""`conftest.Three`."""


FAMILY = [
    "CREATE TABLE old (id INTEGER PRIMARY KEY, code TEXT COLLATE NOCASE UNIQUE)",
    "INSERT INTO old VALUES (1, 'one'), (2, 'two')",
    "CREATE INDEX by_code ON old (code)", "CREATE TRIGGER told AFTER UPDATE ON old BEGIN SELECT 1; END",
    "CREATE TABLE child (id INTEGER PRIMARY KEY, o REFERENCES old, c REFERENCES old (code), n)",
]  # fmt: skip


def test_a_parent_table(three: Three) -> None:
    three.run("base", *FAMILY, "INSERT INTO child VALUES (3, NULL, NULL, 1)")
    three.copy()
    three.run("ours", "INSERT INTO child VALUES (1, 1, 'TWO', 1), (2, 9, NULL, 1)")
    three.run("theirs", "DROP TABLE old", "UPDATE child SET n = 2 WHERE id = 3", "CREATE TABLE other (a)")
    found = {c.column: c for c in three.conflicts()}
    assert found.keys() == {"child.o", "child.c"}
    for each in found.values():
        assert (each.kind, each.place, each.key, each.choices) == ("fk-child-exists", "db old", (), {Choice.OURS})
        assert each.ours == [{"id": "1", "o": "1", "c": "'TWO'", "n": "1"}]
        assert "1 rows do in the target" in each.detail
    assert [c.column for c in three.conflicts({found["child.o"].id: OURS})] == ["child.c"]
    decided = Decisions({each.id: OURS for each in found.values()})
    before = three.dump("ours")
    with three.merged(decided) as application:
        assert application.conflicts == []
        inverse = application.inverse
        application.commit()
    assert decided.settled == {each.id for each in found.values()}
    kept = "SELECT type, name FROM sqlite_schema WHERE tbl_name = 'old' AND sql IS NOT NULL ORDER BY 1"
    assert three.query("ours", kept) == [("index", "by_code"), ("table", "old"), ("trigger", "told")]
    assert three.query("ours", "SELECT * FROM old") == [(1, "one"), (2, "two")]
    assert three.query("ours", "SELECT n FROM child WHERE id = 3") == [(2,)]
    assert three.query("ours", "SELECT count(*) FROM other") == [(0,)]
    assert take_back(HOST, "db", three.home / "ours", FILE, inverse) == []
    assert three.dump("ours") == before


def test_a_parent_table_whose_children_are_gone_too(three: Three) -> None:
    """The fork's own work on them counts, and what referred to nothing before is nobody's concern."""
    three.run("base", *FAMILY, "INSERT INTO child VALUES (1, 1, NULL, 1), (2, 2, NULL, 1), (3, 77, NULL, 1)")
    three.copy()
    three.run("theirs", "DELETE FROM child WHERE id = 1", "UPDATE child SET o = NULL WHERE id = 2", "DROP TABLE old")
    three.run("ours", "UPDATE child SET n = 5 WHERE id IN (2, 3)")
    assert three.merge() == []
    assert three.query("ours", "SELECT * FROM child") == [(2, None, None, 5), (3, 77, None, 5)]


def test_a_row_of_the_fork_that_refers_to_what_it_dropped(three: Three) -> None:
    three.run("base", *FAMILY)
    three.copy()
    three.run("theirs", "DROP TABLE old", "INSERT INTO child VALUES (2, 1, NULL, 1), (3, NULL, NULL, 1)")
    (orphan,) = three.conflicts()
    assert (orphan.kind, orphan.place, orphan.key) == ("fk-parent-missing", "db child", ("2",))
    three.run("ours", "INSERT INTO child VALUES (9, 1, NULL, 1)")
    (parent,) = three.conflicts()
    assert (parent.kind, parent.place) == ("fk-child-exists", "db old"), "the fork's row hangs on it"
    assert three.merge(Decisions({parent.id: OURS})) == []
    assert three.query("ours", "SELECT id, o FROM child") == [(2, 1), (3, None), (9, 1)]
    assert three.query("ours", "PRAGMA foreign_key_check") == []


def test_tables_that_hang_on_each_other(three: Three) -> None:
    three.run(
        "base",
        "CREATE TABLE a (id INTEGER PRIMARY KEY)", "CREATE TABLE b (id INTEGER PRIMARY KEY, a REFERENCES a)",
        "CREATE TABLE c (id INTEGER PRIMARY KEY, b REFERENCES b)", "INSERT INTO a VALUES (1)",
        "INSERT INTO b VALUES (1, 1)",
    )  # fmt: skip
    three.copy()
    three.run("ours", "INSERT INTO c VALUES (1, 1)")
    three.run("theirs", "DROP TABLE a", "DROP TABLE b")
    decided: dict[str, Resolution] = {}
    places = []
    while found := three.conflicts(decided):
        places += [each.place for each in found]
        decided |= {each.id: OURS for each in found}
    assert sorted(places) == ["db a", "db b"]
    assert three.merge(Decisions(decided)) == []
    assert three.query("ours", "PRAGMA foreign_key_check") == []
    assert three.query("ours", "SELECT * FROM a, b, c") == [(1, 1, 1, 1, 1)]


def test_a_table_dropped_for_one_of_nearly_its_name(three: Three) -> None:
    """Its children refer to the new one: SQLite does not tell capitals in names."""
    three.run("base", *FAMILY)
    three.copy()
    three.run("ours", "INSERT INTO child VALUES (1, 1, NULL, 1)")
    three.run("theirs", "DROP TABLE old", "CREATE TABLE Old (id INTEGER PRIMARY KEY, code TEXT UNIQUE)")
    assert [(c.kind, c.key, c.choices) for c in three.conflicts()] == [("foreign-key", ("child",), frozenset())]
    three.run("theirs", "INSERT INTO Old VALUES (1, 'new')")
    assert three.merge() == []
    assert three.query("ours", "SELECT * FROM old") == [(1, "new")]


def test_a_merge_that_is_taken_back_keeps_a_table_that_is_in_use(three: Three) -> None:
    three.run("base", "CREATE TABLE child (id INTEGER PRIMARY KEY)")
    three.copy()
    three.run("theirs", "CREATE TABLE made (id INTEGER PRIMARY KEY)", "INSERT INTO made VALUES (1)")
    with three.merged() as application:
        inverse = application.inverse
        application.commit()
    three.run("ours", "CREATE TABLE late (m REFERENCES made)", "INSERT INTO late VALUES (1)")
    (left,) = take_back(HOST, "db", three.home / "ours", FILE, inverse)
    assert left.startswith("db made : fk-child-exists late.m: ")
    assert three.query("ours", "SELECT id FROM made") == [(1,)]


def test_what_the_target_changed_can_be_kept(three: Three) -> None:
    three.run(
        "base",
        "CREATE TABLE log (a)", "CREATE INDEX logged ON log (a)", "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)",
        "INSERT INTO t VALUES (1, 1, 1)", "CREATE VIEW v AS SELECT * FROM log",
    )  # fmt: skip
    three.copy()
    three.run("ours", "INSERT INTO log VALUES (1)", "UPDATE t SET b = 7")
    three.run("theirs", "DROP VIEW v", "DROP TABLE log", "UPDATE t SET a = 2", "ALTER TABLE t DROP COLUMN b")
    three.run("theirs", "INSERT INTO t VALUES (2, 2)")
    found = {c.key: c for c in three.conflicts()}
    assert found.keys() == {("log",), ("t",)}
    assert all((c.kind, c.place, c.choices) == ("drop-vs-change", "db", {Choice.OURS}) for c in found.values())
    before = three.dump("ours")
    with three.merged(Decisions({each.id: OURS for each in found.values()})) as application:
        assert application.conflicts == []
        inverse = application.inverse
        application.commit()
    assert three.query("ours", "SELECT * FROM t") == [(1, 2, 7), (2, 2, None)]
    assert three.query("ours", "SELECT name FROM sqlite_schema ORDER BY 1") == [("log",), ("logged",), ("t",)]
    assert take_back(HOST, "db", three.home / "ours", FILE, inverse) == []
    assert three.dump("ours") == before


def test_a_table_that_the_target_renamed(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, a)", "CREATE TABLE alike (id INTEGER PRIMARY KEY, a)")
    three.run("base", "INSERT INTO t VALUES (1, 1)")
    three.copy()
    three.run("ours", "ALTER TABLE t RENAME TO u")
    three.run("theirs", "DROP TABLE t")
    (conflict,) = three.conflicts()
    assert (conflict.kind, conflict.key, conflict.choices) == ("drop-vs-change", ("t",), {Choice.OURS})
    with three.merged(Decisions({conflict.id: OURS})) as application:
        assert application.conflicts == []
        application.commit()
    assert three.query("ours", "SELECT * FROM u") == [(1, 1)]


def test_a_table_that_both_dropped(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, a)", "CREATE TABLE alike (id INTEGER PRIMARY KEY, a)")
    three.run("base", "INSERT INTO t VALUES (1, 1)", "INSERT INTO alike VALUES (1, 2)")
    three.copy()
    three.run("ours", "DROP TABLE t")
    three.run("theirs", "DROP TABLE t")
    assert three.conflicts() == []


def test_rounds(three: Three) -> None:
    """After any drop, and whatever is decided, nothing refers to nothing that did not before."""
    seen: Counter[str] = Counter()
    for seed in range(40):
        rng = random.Random(seed)
        again = type(three)(three.home / str(seed))
        again.run("base", *FAMILY, "CREATE TABLE leaf (id INTEGER PRIMARY KEY, k REFERENCES child)")

        def write(name: str, fork: Three = again, rng: random.Random = rng) -> None:
            statements = []
            for _ in range(rng.randrange(1, 5)):
                key, other = rng.randrange(1, 5), rng.choice(["1", "2", "NULL"])
                statements.append(
                    rng.choice(
                        [
                            f"INSERT OR IGNORE INTO child VALUES ({key}, {other}, NULL, {rng.randrange(3)})",
                            f"UPDATE child SET o = {other} WHERE id = {key}",
                            f"DELETE FROM child WHERE id = {key} AND id NOT IN (SELECT k FROM leaf WHERE k NOT NULL)",
                            f"INSERT OR IGNORE INTO leaf SELECT {key}, max(id) FROM child",
                            f"DELETE FROM leaf WHERE id = {key}",
                        ]
                    )
                )
            fork.run(name, "PRAGMA foreign_keys = ON", *statements)

        write("base")
        again.copy()
        write("ours")
        write("theirs")
        again.run("theirs", *(["DROP TABLE leaf", "DELETE FROM child"] if rng.random() < 0.3 else []))
        again.run("theirs", "UPDATE child SET o = NULL, c = NULL", "DROP TABLE old")
        decided: dict[str, Resolution] = {}
        while found := again.conflicts(decided):
            seen.update(each.kind for each in found)
            assert all(each.id not in decided and Choice.OURS in each.choices for each in found), (seed, found)
            decided |= {each.id: OURS for each in found}
        assert again.merge(Decisions(decided)) == []
        seen["clean"] += not decided
        assert again.query("ours", "PRAGMA foreign_key_check") == [], seed
        assert again.query("ours", "PRAGMA integrity_check") == [("ok",)]
    assert all(seen[kind] for kind in ("clean", "fk-child-exists", "drop-vs-change")), seen

"""What only both sides together break: told completely and exactly, settled, and judged by SQLite's own checks."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from contextlib import closing
from typing import Any

import pytest

from wye.errors import BadRequest
from wye.host import Host
from wye.kinds.sqlite.apply import Rules, take_back
from wye.merge.conflict import Decisions, Resolution
from wye.merge.conflict import Side as Choice
from wye.merge.rows import Grain

pytestmark = pytest.mark.host

HOST = Host()
FILE = "volumes/data/app.db"
OURS = Resolution(side=Choice.OURS)
REPAIRS = {Choice.OURS, Choice.VALUE}
Three = Any
"""`conftest.Three`."""


def value(given: Any) -> Resolution:
    return Resolution(side=Choice.VALUE, value=given)


FAMILY = [
    "CREATE TABLE parent (id INTEGER PRIMARY KEY, code TEXT COLLATE NOCASE UNIQUE)",
    "CREATE TABLE child (id INTEGER PRIMARY KEY, p INT REFERENCES parent, c TEXT REFERENCES parent (code))",
    "INSERT INTO parent VALUES (1, 'one'), (2, 'two'), (3, 'three')",
    "INSERT INTO child VALUES (1, 3, NULL)",
]


def test_a_child_of_a_parent_that_the_target_deleted(three: Three) -> None:
    three.run("base", *FAMILY)
    three.copy()
    three.run("ours", "DELETE FROM parent WHERE id = 1")
    three.run("theirs", "INSERT INTO child VALUES (7, 1, NULL), (8, 2, NULL)", "UPDATE child SET p = 1 WHERE id = 1")
    found = {c.key: c for c in three.conflicts()}
    assert found.keys() == {("7",), ("1",)}
    inserted, changed = found["7",], found["1",]
    for each in found.values():
        assert (each.kind, each.place, each.column) == ("fk-parent-missing", "db child", "p")
        assert each.choices == REPAIRS
    assert (inserted.ours, inserted.theirs) == (None, "1")
    assert (changed.ours, changed.theirs) == ("3", "1")
    decided = {inserted.id: OURS, changed.id: value(9)}
    (again,) = three.conflicts(decided)
    assert again.id == changed.id
    assert "refused too" in again.detail
    assert three.merge(Decisions({inserted.id: value(None), changed.id: value("2")})) == []
    assert three.query("ours", "SELECT id, p FROM child") == [(1, 2), (7, None), (8, 2)]
    assert three.query("ours", "PRAGMA foreign_key_check") == []


def test_a_parent_that_the_fork_deleted_has_a_child_in_the_target(three: Three) -> None:
    three.run("base", *FAMILY)
    three.copy()
    three.run("ours", "INSERT INTO child VALUES (7, 1, NULL), (8, 1, NULL), (9, NULL, 'TWO')")
    three.run("theirs", "DELETE FROM parent WHERE id = 1", "UPDATE parent SET code = 'deux' WHERE id = 2")
    found = {c.key: c for c in three.conflicts()}
    deleted, changed = found["1",], found["2",]
    assert len(found) == 2
    assert (deleted.kind, deleted.place, deleted.column) == ("fk-child-exists", "db parent", "child.p")
    assert (deleted.base, deleted.theirs) == ({"id": "1", "code": "'one'"}, None)
    assert [row["id"] for row in deleted.ours] == ["7", "8"]
    assert (changed.column, changed.theirs) == ("child.c", {"id": "2", "code": "'deux'"})
    assert [row["c"] for row in changed.ours] == ["'TWO'"]
    assert deleted.choices == changed.choices == {Choice.OURS}
    with three.merged(Decisions({deleted.id: OURS, changed.id: OURS})) as application:
        assert application.conflicts == []
        application.commit()
    assert three.query("ours", "SELECT code FROM parent ORDER BY id") == [("one",), ("two",), ("three",)]
    assert three.query("ours", "PRAGMA foreign_key_check") == []


def test_keys_of_several_columns_of_a_table_itself_and_deferred_ones(three: Three) -> None:
    three.run(
        "base",
        "CREATE TABLE place (x, y, up INT REFERENCES place (n), n INT UNIQUE, PRIMARY KEY (x, y)) WITHOUT ROWID",
        "CREATE TABLE visit (id INTEGER PRIMARY KEY, px, py, FOREIGN KEY (px, py) REFERENCES place"
        " DEFERRABLE INITIALLY DEFERRED)",
        "INSERT INTO place VALUES (1, 1, NULL, 11), (1, 2, 11, 12), (2, 2, NULL, 22)",
    )  # fmt: skip
    three.copy()
    three.run("ours", "DELETE FROM place WHERE n = 22", "INSERT INTO place VALUES (9, 9, 12, 99)")
    three.run("theirs", "INSERT INTO visit VALUES (1, 2, 2), (2, 2, NULL), (3, 1, 1)")
    three.run("theirs", "DELETE FROM place WHERE n = 12")
    found = {(c.kind, c.key): c for c in three.conflicts()}
    assert found.keys() == {("fk-parent-missing", ("1",)), ("fk-child-exists", ("1", "2"))}
    visit, place = found["fk-parent-missing", ("1",)], found["fk-child-exists", ("1", "2")]
    assert (visit.column, visit.theirs) == ("px, py", {"px": "2", "py": "2"})
    assert (place.column, [row["n"] for row in place.ours]) == ("place.up", ["99"])
    with pytest.raises(BadRequest, match="must name columns"):
        three.conflicts({visit.id: value(5), place.id: OURS})
    assert three.merge(Decisions({visit.id: value({"px": 9, "py": 9}), place.id: OURS})) == []
    assert three.query("ours", "SELECT * FROM visit") == [(1, 9, 9), (2, 2, None), (3, 1, 1)]
    assert three.query("ours", "PRAGMA foreign_key_check") == []


def test_what_led_nowhere_before_and_what_the_merge_brings_itself(three: Three) -> None:
    """SQLite checks keys where an application asks for it: one that never did is not held up by what it has."""
    three.run("base", *FAMILY, "INSERT INTO child VALUES (50, 77, NULL), (51, 78, NULL)")
    three.copy()
    three.run("ours", "UPDATE child SET c = 'one' WHERE id = 50")
    three.run(
        "theirs",
        "INSERT INTO parent VALUES (4, 'four')", "INSERT INTO child VALUES (4, 4, 'FOUR')",
        "UPDATE child SET c = 'two' WHERE id = 51",
        "CREATE TABLE tag (name TEXT)", "CREATE TABLE mark (id INTEGER PRIMARY KEY, t REFERENCES tag (name))",
        "INSERT INTO tag VALUES ('a')", "INSERT INTO mark VALUES (1, 'a')", "CREATE UNIQUE INDEX names ON tag (name)",
    )  # fmt: skip
    assert three.merge() == []
    assert three.query("ours", "SELECT id, c FROM child WHERE id > 1") == [(4, "FOUR"), (50, "one"), (51, "two")]


def test_a_reference_is_compared_as_sqlite_does_it(three: Three) -> None:
    three.run("base", "CREATE TABLE parent (id INTEGER PRIMARY KEY, k INT UNIQUE)", "INSERT INTO parent VALUES (1, 5)")
    three.run("base", "CREATE TABLE child (id INTEGER PRIMARY KEY, k TEXT REFERENCES parent (k))")
    three.copy()
    three.run("theirs", "INSERT INTO child VALUES (1, '05')")
    assert three.merge() == []
    assert three.query("ours", "PRAGMA foreign_key_check") == []
    three.run("theirs", "DELETE FROM child", "DELETE FROM parent")
    for name in ("ours", "theirs", "base"):
        three.run(name, "PRAGMA user_version = 1")
    found = three.conflicts()
    assert [(c.kind, c.key, c.ours) for c in found] == [("fk-child-exists", ("1",), [{"id": "1", "k": "'05'"}])]


def test_what_depends_on_something_undecided_is_told_afterwards(three: Three) -> None:
    three.run("base", *FAMILY)
    three.copy()
    three.run("ours", "INSERT INTO parent VALUES (10, 'new')")
    three.run("theirs", "INSERT INTO parent VALUES (20, 'NEW')", "INSERT INTO child VALUES (5, 20, NULL)")
    (unique,) = three.conflicts()
    assert (unique.kind, unique.key, unique.column) == ("unique", ("20",), "code")
    assert unique.ours == {"id": "10", "code": "'new'"}
    assert three.conflicts({unique.id: value("other")}) == []
    (orphan,) = three.conflicts({unique.id: OURS})
    assert (orphan.kind, orphan.key) == ("fk-parent-missing", ("5",))
    assert three.merge(Decisions({unique.id: OURS, orphan.id: value(10)})) == []
    assert three.query("ours", "SELECT p FROM child WHERE id = 5") == [(10,)]


def test_what_hangs_on_a_table_that_is_refused_is_not_told(three: Three) -> None:
    three.run("base", *FAMILY, "ALTER TABLE parent ADD COLUMN gone")
    three.copy()
    three.run("ours", "ALTER TABLE parent DROP COLUMN gone")
    three.run("theirs", "INSERT INTO parent VALUES (20, 'new', 1)", "INSERT INTO child VALUES (5, 20, NULL)")
    assert [(found.kind, found.key) for found in three.conflicts()] == [("schema", ("parent",))]


def test_every_unique_key_that_a_row_runs_into_is_told_at_once(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, a UNIQUE, b TEXT, c, UNIQUE (b COLLATE NOCASE, c))")
    three.run("base", "CREATE UNIQUE INDEX odd ON t (c + 1) WHERE c > 100")
    three.copy()
    three.run("ours", "INSERT INTO t VALUES (1, 'a', 'x', 1), (2, 'z', 'B', 7), (3, 'y', 'y', 200)")
    three.run("theirs", "INSERT INTO t VALUES (10, 'a', 'b', 7), (11, 'f', 'f', 200)")
    found = {(c.key, c.column): c for c in three.conflicts()}
    assert found.keys() == {(("10",), "a"), (("10",), "b, c"), (("11",), "index 'odd'")}
    assert all((c.kind, c.choices) == ("unique", REPAIRS) for c in found.values())
    assert found[("10",), "b, c"].ours["id"] == "2"
    decided = {found[("10",), "a"].id: value("free"), found[("10",), "b, c"].id: value({"c": 8})}
    assert three.merge(Decisions(decided | {found[("11",), "index 'odd'"].id: value({"c": 201})})) == []
    assert three.query("ours", "SELECT * FROM t WHERE id > 9") == [(10, "free", "b", 8), (11, "f", "f", 201)]


def test_an_index_over_some_rows_refuses_what_comes_to_be_among_them(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, seat, taken)")
    three.run("base", "CREATE UNIQUE INDEX once ON t (seat) WHERE taken", "INSERT INTO t VALUES (1, 7, 0), (2, 7, 0)")
    three.copy()
    three.run("ours", "UPDATE t SET taken = 1 WHERE id = 1")
    three.run("theirs", "UPDATE t SET taken = 1 WHERE id = 2")
    (found,) = three.conflicts()
    assert (found.kind, found.key, found.column, found.choices) == ("unique", ("2",), "seat", REPAIRS)
    assert found.ours == {"id": "2", "seat": "7", "taken": "0"}
    assert three.merge(Decisions({found.id: value({"seat": 8})})) == []
    assert three.query("ours", "SELECT * FROM t") == [(1, 7, 1), (2, 8, 1)]


def test_checks_nulls_and_types(three: Three) -> None:
    """Each half of a row is fine by itself; only the row that both make of it is not."""
    three.run(
        "base",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, low INT, high INT, CONSTRAINT ordered CHECK (low < high),"
        " CHECK (low <> 13))",
        "INSERT INTO t VALUES (1, 10, 20), (2, 10, 20)",
        "CREATE TABLE need (id INTEGER PRIMARY KEY, v)", "INSERT INTO need VALUES (1, 1)",
    )  # fmt: skip
    three.copy()
    three.run("ours", "UPDATE t SET low = 18 WHERE id = 1", "UPDATE need SET v = 2")
    three.run("theirs", "UPDATE t SET high = 15 WHERE id = 1", "UPDATE t SET low = 11 WHERE id = 2")
    (check,) = three.conflicts()
    assert (check.kind, check.key, check.column, check.choices) == ("check", ("1",), "ordered", REPAIRS)
    assert (check.ours, check.theirs) == (
        {"id": "1", "low": "18", "high": "20"}, {"id": "1", "low": "18", "high": "15"},
    )  # fmt: skip
    (other,) = three.conflicts({check.id: value({"low": 13})})
    assert (other.kind, other.column, other.id != check.id) == ("check", "low <> 13", True)
    assert three.merge(Decisions({check.id: value({"low": 14})})) == []
    assert three.query("ours", "SELECT low, high FROM t") == [(14, 15), (11, 20)]


def test_a_null_that_a_person_gave_where_there_can_be_none(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY, a INT NOT NULL)", "INSERT INTO t VALUES (1, 1)")
    three.copy()
    three.run("ours", "UPDATE t SET a = 2")
    three.run("theirs", "UPDATE t SET a = 3")
    (cell,) = three.conflicts()
    decided = {cell.id: value(None)}
    (null,) = three.conflicts(decided)
    assert (null.kind, null.column, null.ours, null.theirs, null.choices) == (
        "not-null", "a", {"id": "1", "a": "2"}, {"id": "1", "a": None}, REPAIRS,
    )  # fmt: skip
    assert three.merge(Decisions(decided | {null.id: value(4)})) == []
    assert three.query("ours", "SELECT a FROM t") == [(4,)]


def test_a_row_that_comes_back_keeps_its_rowid(three: Three) -> None:
    """A new row must not be given the rowid of one that is only out for a change of its unique value."""
    three.run("base", "CREATE TABLE t (name TEXT PRIMARY KEY, email UNIQUE)")
    three.run("base", "INSERT INTO t VALUES ('b', 1), ('c', 2)")
    three.copy()
    three.run("theirs", "UPDATE t SET email = 9 WHERE name = 'c'", "INSERT INTO t VALUES ('a', 5)", "VACUUM")
    assert three.merge() == []
    assert three.query("ours", "SELECT name, email FROM t ORDER BY 1") == [("a", 5), ("b", 1), ("c", 9)]


def test_a_parent_table_that_only_one_side_may_change(three: Three) -> None:
    three.run("base", *FAMILY)
    three.copy()
    three.run("ours", "INSERT INTO parent VALUES (10, 'ours')")
    three.run("theirs", "INSERT INTO parent VALUES (20, 'theirs')", "INSERT INTO child VALUES (5, 20, NULL)")
    rules = {"parent": Rules(grain=Grain.TABLE)}
    (whole,) = three.conflicts(None, rules)
    assert whole.kind == "table/table"
    (orphan,) = three.conflicts({whole.id: OURS}, rules)
    assert (orphan.kind, orphan.key) == ("fk-parent-missing", ("5",))
    assert three.merge(Decisions({whole.id: Resolution(side=Choice.THEIRS)}), rules) == []
    assert three.query("ours", "PRAGMA foreign_key_check") == []


def test_a_merge_that_is_taken_back_leaves_parents_that_are_in_use(three: Three) -> None:
    three.run("base", *FAMILY)
    three.copy()
    three.run("theirs", "INSERT INTO parent VALUES (20, 'theirs')", "UPDATE parent SET code = 'x' WHERE id = 3")
    with three.merged() as application:
        inverse = application.inverse
        application.commit()
    three.run("ours", "INSERT INTO child VALUES (5, 20, NULL)")
    (left,) = take_back(HOST, "db", three.home / "ours", FILE, inverse)
    assert left.startswith("db parent 20: fk-child-exists child.p: ")
    assert three.query("ours", "SELECT id, code FROM parent WHERE id >= 3") == [(3, "three"), (20, "theirs")]
    assert three.query("ours", "PRAGMA foreign_key_check") == []


def test_references_that_only_the_target_has(three: Three) -> None:
    """The fork's rows say nothing of such columns, so a table is counted as a whole, and there is nothing to choose."""
    three.run("base", *FAMILY)
    three.copy()
    three.run(
        "ours",
        "ALTER TABLE parent ADD COLUMN mine", "UPDATE parent SET mine = id * 10",
        "CREATE UNIQUE INDEX own ON parent (mine)",
        "CREATE TABLE late (id INTEGER PRIMARY KEY, m REFERENCES parent (mine))", "INSERT INTO late VALUES (1, 10)",
    )  # fmt: skip
    three.run("theirs", "DELETE FROM parent WHERE id = 1")
    (found,) = three.conflicts()
    assert (found.kind, found.place, found.key, found.choices) == ("foreign-key", "db", ("late",), frozenset())
    three.run("ours", "DELETE FROM late")
    assert three.merge() == []


# ---------------------------------------------------------------- against SQLite itself


SCHEMA = [
    "CREATE TABLE parent (id INTEGER PRIMARY KEY, code TEXT COLLATE NOCASE UNIQUE, n INT, m INT CHECK (n + m < 6))",
    """CREATE TABLE child (id INTEGER PRIMARY KEY, p INT REFERENCES parent DEFERRABLE INITIALLY DEFERRED,
        c TEXT REFERENCES parent (code), s INT, UNIQUE (p, s))""",
]
COLUMNS = {"parent": ("code", "n", "m"), "child": ("p", "c", "s")}
Rows = dict[tuple[str, int], dict[str, Any]]


def mutate(three: Three, name: str, rng: random.Random, steps: int) -> None:
    """As an application that has its keys checked, which SQLite sees to."""
    with closing(sqlite3.connect(three.path(name), isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        while connection.total_changes < steps:
            key, other, small = rng.randrange(6), rng.randrange(6), rng.randrange(7)
            code = rng.choice(["NULL", "'a'", "'A'", "'b'", "'B'", "'c'"])
            statement = rng.choice(
                [
                    f"INSERT INTO parent VALUES ({key}, {code}, {small}, {other})",
                    f"UPDATE parent SET n = {small} WHERE id = {key}",
                    f"UPDATE parent SET m = {small} WHERE id = {key}",
                    f"UPDATE parent SET code = {code} WHERE id = {key}",
                    f"DELETE FROM parent WHERE id = {key}",
                    f"INSERT INTO child VALUES ({key}, {rng.choice([other, other, 'NULL'])}, {code}, {small % 3})",
                    f"UPDATE child SET p = {other} WHERE id = {key}",
                    f"UPDATE child SET c = {code} WHERE id = {key}",
                    f"UPDATE child SET s = {small % 3} WHERE id = {key}",
                    f"DELETE FROM child WHERE id = {key}",
                ]
            )
            try:
                connection.execute(statement)
            except sqlite3.IntegrityError:
                continue


def rows_of(three: Three, name: str) -> Rows:
    found: Rows = {}
    for table, columns in COLUMNS.items():
        for key, *cells in three.query(name, f"SELECT id, {', '.join(columns)} FROM {table}"):
            found[table, key] = dict(zip(columns, cells, strict=True))
    return found


def three_ways(base: Rows, ours: Rows, theirs: Rows) -> Rows | None:
    """Cell by cell, whatever constraints say; None: both sides changed the same."""
    result = dict(ours)
    for key in base.keys() | theirs.keys():
        b, o, t = base.get(key), ours.get(key), theirs.get(key)
        if t in (b, o):
            continue
        if b == o:
            if t is None:
                del result[key]
            else:
                result[key] = t
        elif b is None or o is None or t is None:
            return None
        else:
            if any(t[c] not in (b[c], o[c]) and b[c] != o[c] for c in b):
                return None
            result[key] = {c: t[c] if b[c] == o[c] else o[c] for c in b}
    return result


def holds(rows: Rows) -> bool:
    """Whether SQLite takes these rows with all its checks on."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for statement in ("PRAGMA foreign_keys = ON", *SCHEMA, "BEGIN", "PRAGMA defer_foreign_keys = ON"):
            connection.execute(statement)
        try:
            for (table, key), row in rows.items():
                connection.execute(f"INSERT INTO {table} VALUES (?, ?, ?, ?)", (key, *row.values()))
            connection.execute("COMMIT")
        except sqlite3.IntegrityError:
            return False
        return True


def test_rounds_against_sqlite_itself(three: Three) -> None:
    """Refused exactly where SQLite refuses the merged rows; and what "ours" settles, it takes."""
    seen: Counter[str] = Counter()
    for seed in range(70):
        rng = random.Random(seed)
        again = type(three)(three.home / str(seed))
        again.run("base", *SCHEMA)
        mutate(again, "base", rng, 40)
        again.copy()
        mutate(again, "ours", rng, rng.randrange(1, 8))
        mutate(again, "theirs", rng, rng.randrange(1, 8))
        base, ours, theirs = (rows_of(again, name) for name in ("base", "ours", "theirs"))
        expected = three_ways(base, ours, theirs)
        decided: dict[str, Resolution] = {}
        found = again.conflicts()
        assert bool(found) == (expected is None or not holds(expected)), (seed, found)
        assert all(Choice.OURS in each.choices for each in found), (seed, found)
        seen.update({each.kind for each in found} or {"clean"})
        while found:
            assert all(each.id not in decided for each in found), (seed, found)
            decided |= {each.id: OURS for each in found}
            found = again.conflicts(decided)
        assert again.merge(Decisions(decided)) == []
        after = rows_of(again, "ours")
        assert holds(after), seed
        if not decided:
            assert after == expected, seed
        for key in ours.keys() | after.keys():
            untouched = theirs.get(key) in (base.get(key), ours.get(key))
            assert not untouched or after.get(key) == ours.get(key), (seed, key)
        assert again.query("ours", "PRAGMA integrity_check") == [("ok",)]
    assert all(seen[kind] for kind in ("clean", "unique", "check", "fk-parent-missing", "fk-child-exists")), seen


@pytest.mark.parametrize("kept", ["STORED", "VIRTUAL"])
def test_a_computed_value_that_others_refer_to(three: Three, kept: str) -> None:
    three.run("base", f"CREATE TABLE p (id INTEGER PRIMARY KEY, a INT, g INT AS (a * 2) {kept})")
    three.run(
        "base", "CREATE UNIQUE INDEX by_g ON p (g)", "CREATE TABLE c (id INTEGER PRIMARY KEY, g REFERENCES p (g))"
    )
    three.run("base", "INSERT INTO p (id, a) VALUES (1, 1), (2, 2), (3, 3)")
    three.copy()
    three.run("ours", "INSERT INTO c VALUES (1, 2)")
    three.run("theirs", "UPDATE p SET a = 50 WHERE id = 1")
    (left,) = three.conflicts()
    assert left.kind == "foreign-key"
    three.run("theirs", "UPDATE p SET a = 1 WHERE id = 1", "UPDATE p SET a = 50 WHERE id = 2")
    assert three.merge() == []
    assert three.query("ours", "SELECT g FROM p ORDER BY id") == [(2,), (100,), (6,)]


def test_a_reference_to_a_computed_value_that_went(three: Three) -> None:
    three.run("base", "CREATE TABLE p (id INTEGER PRIMARY KEY, a INT, g INT AS (a * 2) STORED UNIQUE)")
    three.run(
        "base", "CREATE TABLE c (id INTEGER PRIMARY KEY, g REFERENCES p (g))", "INSERT INTO p (a) VALUES (1), (2)"
    )
    three.copy()
    three.run("ours", "DELETE FROM p WHERE a = 2")
    three.run("theirs", "INSERT INTO c VALUES (1, 2), (2, 4)")
    (missing,) = three.conflicts()
    assert (missing.kind, missing.key) == ("fk-parent-missing", ("2",))
    assert three.merge(Decisions({missing.id: OURS})) == []
    assert three.query("ours", "SELECT id FROM c") == [(1,)]

"""The numbers of AUTOINCREMENT: forward, back, and back again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from wye.host import Host
from wye.kinds.sqlite.apply import Rules, merged, take_back
from wye.kinds.sqlite.changes import SqliteChanges, from_json, to_json
from wye.merge.conflict import BOTH, Decisions, Resolution
from wye.merge.conflict import Side as Choice
from wye.merge.rows import Grain

pytestmark = pytest.mark.host

HOST = Host()
FILE = "volumes/data/app.db"
TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, a)"
TEN = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10) INSERT INTO t (a) SELECT i FROM n"
ANEW = ("DELETE FROM t", "DELETE FROM sqlite_sequence WHERE name = 't'")
ADDED = "INSERT INTO t (a) VALUES ('new')"
THREE_ADDED = (ADDED, ADDED, ADDED)
Three = Any
"""`conftest.Three`."""


def back(number: int) -> tuple[str, ...]:
    return (f"UPDATE sqlite_sequence SET seq = {number} WHERE name = 't'",)


def counter(three: Three, name: str = "ours") -> int | None:
    found = three.query(name, "SELECT seq FROM sqlite_sequence WHERE name = 't'")
    assert len(found) <= 1
    return found[0][0] if found else None


def commit(three: Three, decisions: Decisions | None = None, **options: Any) -> SqliteChanges:
    """Merges. What takes it back, as it is read again from a journal."""
    with three.merged(decisions, **options) as application:
        assert application.conflicts == []
        application.commit()
        return from_json(to_json(application.inverse))


def undo(three: Three, inverse: SqliteChanges) -> list[str]:
    return take_back(HOST, "db", three.home / "ours", FILE, inverse)


@pytest.fixture
def ten(three: Three) -> Three:
    three.run("base", TABLE, TEN)
    three.copy()
    return three


@pytest.mark.parametrize(
    ("ours", "theirs", "result"),
    [
        ((), (ADDED,), 11),
        ((), ANEW, None),
        ((), (*ANEW, ADDED), 1),
        ((), back(3), 3),
        ((), back(0), 0),
        ((), ("INSERT INTO t VALUES (50, 'x')", *back(4)), 4),
        (("DELETE FROM t WHERE id = 10",), back(3), 3),
        (("UPDATE t SET a = 'x'",), back(3), 3),
        (("INSERT INTO t VALUES (50, 'x')", "DELETE FROM t WHERE id = 50"), (ADDED, "DELETE FROM t WHERE id > 10"), 50),
        (back(20), back(30), 30),
        (back(30), back(20), 30),
        (back(3), (), 3),
        (back(3), back(3), 3),
        (ANEW, ANEW, None),
        (ANEW[1:], back(0), None),
        (ANEW[1:], ("UPDATE t SET a = 'x' WHERE id = 1",), None),
    ],
)
def test_without_a_conflict(ten: Three, ours: tuple[str, ...], theirs: tuple[str, ...], result: int | None) -> None:
    ten.run("ours", *ours)
    ten.run("theirs", *theirs)
    before = ten.dump("ours")
    was = counter(ten)
    inverse = commit(ten)
    assert counter(ten) == result
    after = ten.dump("ours")
    assert undo(ten, inverse) == []
    assert undo(ten, inverse) == [], "once more is harmless"
    assert (counter(ten) or 0) == max(was or 0, result or 0), "what was given out is not given out again"
    if (result or 0) <= (was or 0):
        assert ten.dump("ours") == before
    commit(ten)
    assert ten.dump("ours") == after
    with ten.merged() as application:
        assert application.is_empty
    ten.run("ours", ADDED)
    assert ten.query("ours", "SELECT count(*) = count(DISTINCT id) FROM t") == [(1,)]


@pytest.mark.parametrize(
    ("ours", "theirs", "numbers", "kept"),
    [
        ((ADDED, "DELETE FROM t WHERE id = 11"), ANEW[1:], (10, 11, None), 11),
        ((ADDED,), back(3), (10, 11, 3), 11),
        (THREE_ADDED, ANEW, (10, 13, None), 13),
        (back(3), back(20), (10, 3, 20), 3),
        (ANEW, (ADDED, "DELETE FROM t WHERE id = 11"), (10, None, 11), None),
        (back(3), (ADDED,), (10, 3, 11), 11),  # where the fork's row is, whose number is not given out again
        (back(3), back(5), (10, 3, 5), 3),
        (back(5), back(3), (10, 5, 3), 5),
    ],
)
def test_both_ways(
    ten: Three, ours: tuple[str, ...], theirs: tuple[str, ...], numbers: tuple[Any, ...], kept: int | None
) -> None:
    ten.run("ours", *ours)
    ten.run("theirs", *theirs)
    (conflict,) = ten.conflicts()
    assert (conflict.kind, conflict.place, conflict.key) == ("sequence-set-back", "db", ("t",))
    assert (conflict.base, conflict.ours, conflict.theirs) == numbers
    assert conflict.choices == BOTH
    before, files = ten.dump("ours"), ten.path("ours").read_bytes()
    for side, result in ((Choice.OURS, kept), (Choice.THEIRS, numbers[2])):
        decided = Decisions({conflict.id: Resolution(side=side)})
        inverse = commit(ten, decided)
        assert decided.settled == {conflict.id}
        assert counter(ten) == result
        assert undo(ten, inverse) == []
        if (result or 0) <= (numbers[1] or 0):
            assert ten.dump("ours") == before
        ten.path("ours").write_bytes(files)


def test_what_the_idiom_leads_to(ten: Three) -> None:
    """Rows and their numbers anew: the target goes on from there, above what it has itself."""
    ten.run("theirs", *ANEW, *THREE_ADDED)
    ten.run("ours", "INSERT INTO t VALUES (-1, 'mine')")
    commit(ten)
    ten.run("ours", ADDED)
    assert ten.query("ours", "SELECT id, a FROM t") == [(-1, "mine"), *((n, "new") for n in (1, 2, 3, 4))]
    ten.run("ours", "UPDATE t SET id = 60 WHERE id = -1", ADDED)  # by hand, and SQLite has not counted it
    assert ten.query("ours", "SELECT max(id) FROM t") == [(61,)]


def test_one_that_has_moved_since_is_not_set_back(ten: Three) -> None:
    ten.run("theirs", *ANEW)
    inverse = commit(ten)
    ten.run("ours", "INSERT INTO t VALUES (40, 'x')")
    assert undo(ten, inverse) == []
    assert counter(ten) == 40
    assert ten.query("ours", "SELECT count(*) FROM t") == [(11,)]


def test_one_that_was_set_back_since_is_a_conflict_of_a_revert_and_stays_in_an_undo(ten: Three) -> None:
    ten.run("theirs", *back(5))
    inverse = commit(ten)
    ten.run("ours", *back(2))
    with merged(HOST, "db", ten.home / "ours", FILE, inverse) as application:
        (conflict,) = application.conflicts
    assert (conflict.kind, conflict.base, conflict.ours, conflict.theirs) == ("sequence-set-back", 5, 2, 10)
    assert undo(ten, inverse) == []
    assert counter(ten) == 2


def test_a_diff_tells_of_it(ten: Three) -> None:
    assert ten.changes().counters.told() == {"sequences": {}, "sequences_set_back": {}}
    ten.run("theirs", *back(4))
    assert ten.changes().counters.told() == {"sequences": {"t": 4}, "sequences_set_back": {"t": 10}}
    ten.run("theirs", *ANEW[1:])
    found = ten.changes()
    assert found
    assert found.counters.told() == {"sequences": {"t": None}, "sequences_set_back": {"t": 10}}
    ten.run("theirs", ADDED)
    assert ten.changes().counters.told() == {"sequences": {"t": 11}, "sequences_set_back": {}}


def test_one_that_was_set_anew_is_no_change(three: Three) -> None:
    three.run("base", TABLE)
    three.copy()
    three.run("theirs", "INSERT INTO t (a) SELECT 1 WHERE FALSE")
    assert three.query("theirs", "SELECT * FROM sqlite_sequence") == [("t", 0)]
    assert not three.changes()


@pytest.mark.parametrize("number", ["'7'", "7.9", "X'37'"])
def test_they_are_read_as_sqlite_reads_them(ten: Three, number: str) -> None:
    ten.run("theirs", f"UPDATE sqlite_sequence SET seq = {number}", "INSERT INTO sqlite_sequence VALUES ('t', 99)")
    ten.run("theirs", "INSERT INTO sqlite_sequence VALUES ('nobody', 5), (NULL, 5), (x'ff', NULL)")
    assert ten.changes().sequences == {"t": 7}
    commit(ten)
    assert ten.query("ours", "SELECT * FROM sqlite_sequence") == [("t", 7)]


def test_tables_that_come_and_go(three: Three) -> None:
    three.run("base", TABLE, TEN, "CREATE TABLE gone (id INTEGER PRIMARY KEY AUTOINCREMENT)", "CREATE TABLE u (a)")
    three.run("base", "INSERT INTO gone VALUES (5)", "CREATE TABLE lost (id INTEGER PRIMARY KEY AUTOINCREMENT)")
    three.run("base", "INSERT INTO lost VALUES (6)")
    three.copy()
    three.run("theirs", "DROP TABLE gone", "CREATE TABLE made (id INTEGER PRIMARY KEY AUTOINCREMENT)")
    three.run("theirs", "INSERT INTO made VALUES (8)", "DELETE FROM made", "INSERT INTO lost VALUES (9)")
    three.run("theirs", "DELETE FROM lost WHERE id = 9", "UPDATE sqlite_sequence SET seq = 2 WHERE name = 't'")
    three.run("ours", "DROP TABLE lost", "CREATE TABLE mine (id INTEGER PRIMARY KEY AUTOINCREMENT)")
    three.run("ours", "INSERT INTO mine VALUES (3)")
    before = three.dump("ours")
    inverse = commit(three)
    numbers = "SELECT name, seq FROM sqlite_sequence ORDER BY 1"
    assert three.query("ours", numbers) == [("made", 8), ("mine", 3), ("t", 2)]
    assert undo(three, inverse) == []
    assert three.query("ours", numbers) == [("gone", 5), ("mine", 3), ("t", 10)]
    assert three.dump("ours") == before


def test_a_target_that_counts_nothing(three: Three) -> None:
    three.run("base", "CREATE TABLE u (a)")
    three.copy()
    three.run("theirs", TABLE, TEN)
    inverse = commit(three)
    assert counter(three) == 10
    assert undo(three, inverse) == []
    three.run("ours", "CREATE TABLE t (id INTEGER PRIMARY KEY, a)", TEN)
    three.run("base", TABLE, TEN)
    three.run("theirs", *back(3))
    commit(three)
    assert three.query("ours", "SELECT * FROM sqlite_sequence") == []


def test_a_table_that_only_one_side_may_change(ten: Three) -> None:
    ten.run("ours", ADDED)
    ten.run("theirs", *ANEW)
    rules = {"t": Rules(grain=Grain.TABLE)}
    (conflict,) = ten.conflicts(None, rules)
    assert conflict.kind == "table/table"
    for side, left in ((Choice.OURS, [(11, 11)]), (Choice.THEIRS, [(None, 1)])):
        files = ten.path("ours").read_bytes()
        with ten.merged(Decisions({conflict.id: Resolution(side=side)}), rules) as application:
            assert application.conflicts == []
            application.commit()
        assert [(counter(ten), ten.query("ours", "SELECT count(*) FROM t")[0][0])] == left
        ten.path("ours").write_bytes(files)


def test_changes_of_before_are_still_read(ten: Three) -> None:
    """Those that were kept with the number alone move it forward, as they did."""
    told = msgspec.json.decode(to_json(SqliteChanges(sequences={"t": 12})))
    del told["sequences_before"]
    found = from_json(msgspec.json.encode(told))
    assert undo(ten, found) == []
    assert counter(ten) == 12
    ten.run("ours", *back(20))
    assert undo(ten, found) == []
    assert counter(ten) == 20

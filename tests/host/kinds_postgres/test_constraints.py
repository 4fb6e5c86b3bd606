"""What only both sides together break, a unique key, a foreign key, a check: told completely, and settled by people."""

# ruff: noqa: E501 - SQL reads better on long lines than cut into pieces
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from wye.errors import BadRequest
from wye.merge.conflict import Resolution, Side
from wye.merge.refused import Refused

pytestmark = pytest.mark.host

SETUP = [
    "create schema t",
    "create table t.person (id int primary key, mail text unique, phone text, city text, age int, unique (phone, city))",
    "insert into t.person select n, 'p' || n, n, 'x', 30 from generate_series(1, 20) n",
    "create table t.purchase (id int primary key, person int references t.person, note text)",
    "insert into t.purchase select n, n, 'old' from generate_series(1, 10) n",
    "create table t.loose (person int references t.person, note text)",
    "create table t.code (code text unique, what text)",
    "insert into t.code values ('a', 'one'), ('b', 'two')",
    "create table t.use (id int primary key, code text references t.code (code))",
]
OURS = Resolution(side=Side.OURS)
THEIRS = Resolution(side=Side.THEIRS)


def value(given: Any) -> Resolution:
    return Resolution(side=Side.VALUE, value=given)


@pytest.fixture(scope="module")
def pair(rig: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Production, a fork, and what gives each test databases of its own in both."""
    production = rig.create()
    names = [f"case_{number}" for number in range(30)]
    production.run("postgres", "create database model")
    production.run("model", SETUP)
    for name in names:
        production.run("postgres", f"create database {name} template model")
    fork = rig.fork(production)
    yield production, fork, iter(names)
    fork.discard()
    production.discard()
    rig.sweep()


class Case:
    """One database: `merge` with resolutions, answers what is refused by (kind, key, column)."""

    def __init__(self, rig: Any, pair: tuple[Any, Any, Any], theirs: list[str], ours: list[str]) -> None:
        self.rig, (self.production, self.fork, names) = rig, pair
        self.name = next(names)
        self.production.run(self.name, ours)
        self.fork.run(self.name, theirs)
        (self.changes,) = rig.diff(self.fork, databases=[self.name])

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self.production.query(self.name, sql)
        return rows

    def merge(self, **resolutions: Resolution) -> dict[tuple[str, tuple[str, ...], str], Any]:
        before = self.rig.servers.dump(self.production.server, self.name)
        refused = []
        try:
            self.rig.apply(self.production, self.changes, None, resolutions)
        except Refused as error:
            refused = error.conflicts
        assert not refused or self.rig.servers.dump(self.production.server, self.name) == before
        assert len({each.id for each in refused}) == len(refused)
        return {(each.kind, each.key, each.column): each for each in refused}


@pytest.fixture
def case(rig: Any, pair: tuple[Any, Any, Any]) -> Callable[[list[str], list[str]], Case]:
    return lambda theirs, ours: Case(rig, pair, theirs, ours)


MAIL = ("unique", ("100",), "mail")


def test_one_unique_value_on_both_sides(case: Any) -> None:
    found = case(
        ["insert into person values (100, 'same', 100, 'f', 1), (101, 'mine', 101, 'f', 1)"],
        ["insert into person values (200, 'same', 200, 'p', 2)"],
    )
    (conflict,) = found.merge().values()
    assert (conflict.kind, conflict.key, conflict.column) == MAIL
    assert (conflict.ours["id"], conflict.theirs["id"], conflict.base) == ("200", "100", None)
    assert conflict.choices == {Side.OURS, Side.VALUE}
    assert "theirs would lose the target's row" in conflict.detail
    assert found.merge(**{conflict.id: THEIRS}).keys() == {MAIL}, "what cannot be chosen settles nothing"
    with pytest.raises(BadRequest, match="must name columns"):
        found.merge(**{conflict.id: value({"nothing": 1})})
    again = found.merge(**{conflict.id: value("p3")})
    assert again.keys() == {MAIL}
    assert "the value that was given is refused too" in again[MAIL].detail
    assert again[MAIL].ours["id"] == "3"
    assert not found.merge(**{conflict.id: value("other")})
    assert found.query("select id, mail from t.person where id >= 100 order by 1") == [
        (100, "other"),
        (101, "mine"),
        (200, "same"),
    ]


def test_ours_leaves_a_new_row_out(case: Any) -> None:
    found = case(
        ["insert into person values (100, 'same', 100, 'f', 1), (101, 'mine', 101, 'f', 1)"],
        ["insert into person values (200, 'same', 200, 'p', 2)"],
    )
    (conflict,) = found.merge().values()
    assert not found.merge(**{conflict.id: OURS})
    assert found.query("select id from t.person where id >= 100 order by 1") == [(101,), (200,)]


def test_ours_takes_of_a_changed_row_only_the_value_back(case: Any) -> None:
    found = case(
        ["update person set mail = 'same', age = 99 where id = 1", "update person set mail = 'p1' where id = 2"],
        ["update person set mail = 'same' where id = 5"],
    )
    (conflict,) = found.merge().values()
    assert (conflict.key, conflict.column, conflict.ours["id"]) == (("1",), "mail", "5")
    (second,) = found.merge(**{conflict.id: OURS}).values()
    assert (second.key, second.ours["id"]) == (("2",), "1"), "what the fork had freed is not free then"
    assert not found.merge(**{conflict.id: OURS, second.id: OURS})
    assert found.query("select id, mail, age from t.person where id in (1, 2, 5) order by 1") == [
        (1, "p1", 99),
        (2, "p2", 30),
        (5, "same", 30),
    ]


def test_a_chain_of_rows_that_each_take_what_the_one_before_had(case: Any) -> None:
    """The first link is taken in the target, so none of them can move."""
    found = case(
        ["update person set mail = 'same' where id = 12", "update person set mail = 'p12', phone = '0' where id = 11",
         "update person set mail = 'p11', phone = '00' where id = 13"],
        ["update person set mail = 'same' where id = 5"],
    )  # fmt: skip
    decided: dict[str, Resolution] = {}
    for _ in range(3):
        told = found.merge(**decided)
        assert len(told) == 1
        decided |= {each.id: OURS for each in told.values()}
    assert not found.merge(**decided)
    assert found.query("select id, mail, phone from t.person where id in (5, 11, 12, 13) order by 1") == [
        (5, "same", "5"),
        (11, "p11", "0"),
        (12, "p12", "12"),
        (13, "p13", "00"),
    ]


def test_every_constraint_of_every_row_at_once(case: Any) -> None:
    """And the cells that both changed, and the references, in one list."""
    found = case(
        ["insert into person values (100, 'too2', '9', 'x2', 1), (102, 'too', '7', 'x2', 1)",
         "insert into purchase values (100, 15, 'f'), (101, 14, 'f')", "update person set age = 40, mail = 'same' where id = 3",
         "delete from purchase where id = 9", "delete from person where id = 16"],
        ["insert into person values (200, 'same', '9', 'x3', 1), (201, 'too2', '9', 'x2', 1), (202, 'too', '7', 'x2', 1)",
         "delete from person where id = 15", "insert into purchase values (300, 16, 'p'), (301, 16, 'p')",
         "update person set age = 41 where id = 3", "update purchase set note = 'p' where id = 9"],
    )  # fmt: skip
    told = found.merge()
    assert told.keys() == {
        ("update/update", ("3",), "age"),
        ("unique", ("3",), "mail"),
        ("delete/update", ("9",), ""),
        ("unique", ("100",), "mail"),
        ("unique", ("100",), "phone, city"),
        ("unique", ("102",), "mail"),
        ("unique", ("102",), "phone, city"),
        ("fk-parent-missing", ("100",), "person"),
        ("fk-child-exists", ("16",), "t.purchase.person"),
    }
    left = told["fk-child-exists", ("16",), "t.purchase.person"]
    assert sorted(child["id"] for child in left.ours) == [300, 301]
    assert left.choices == {Side.OURS}
    assert told["fk-parent-missing", ("100",), "person"].theirs == "15"
    every = {each.id: OURS for each in told.values()}
    some = {
        told["unique", ("102",), "mail"].id: value("free"),
        told["unique", ("102",), "phone, city"].id: value({"city": "x9"}),
        told["fk-parent-missing", ("100",), "person"].id: value(14),
    }
    assert not found.merge(**{**every, **some})
    assert found.query(
        "select id, mail, phone, city from t.person where id >= 16 and id not in (17, 18, 19, 20) order by 1"
    ) == [
        (16, "p16", "16", "x"),
        (102, "free", "7", "x9"),
        (200, "same", "9", "x3"),
        (201, "too2", "9", "x2"),
        (202, "too", "7", "x2"),
    ]
    assert found.query("select id, person from t.purchase where id >= 9 order by 1") == [
        (9, 9), (10, 10), (100, 14), (101, 14), (300, 16), (301, 16),
    ]  # fmt: skip


def test_a_parent_that_is_left_out_and_its_children(case: Any) -> None:
    found = case(
        ["insert into person values (100, 'same', 100, 'f', 1)", "insert into purchase values (100, 100, 'f')",
         "insert into loose values (100, 'a'), (100, 'a')"],
        ["insert into person values (200, 'same', 200, 'p', 2)"],
    )  # fmt: skip
    (first,) = found.merge().values()
    assert (first.kind, first.key) == ("unique", ("100",)), "what hangs on it is not asked about yet"
    told = found.merge(**{first.id: OURS})
    assert told.keys() == {("fk-parent-missing", ("100",), "person")}
    by_place = {each.place.rpartition(".")[2] for each in told.values()}
    assert by_place <= {"purchase", "loose"}
    decided = {first.id: OURS}
    for _ in range(3):
        decided |= {each.id: value(200) if each.place.endswith("purchase") else OURS for each in told.values()}
        told = found.merge(**decided)
        if not told:
            break
    assert not told
    assert found.query("select id, person from t.purchase where id = 100") == [(100, 200)]
    assert found.query("select count(*) from t.loose") == [(0,)]


def test_a_reference_that_changed_and_one_to_null(case: Any) -> None:
    found = case(
        ["update purchase set person = 15, note = 'f' where id in (1, 2, 3)"],
        ["delete from person where id = 15"],
    )
    told = found.merge()
    assert told.keys() == {("fk-parent-missing", (n,), "person") for n in "123"}
    one, two, three = (told["fk-parent-missing", (n,), "person"] for n in "123")
    assert (one.ours, one.theirs) == ("1", "15")
    assert not found.merge(**{one.id: OURS, two.id: value(None), three.id: value("14")})
    assert found.query("select id, person, note from t.purchase where id < 4 order by 1") == [
        (1, 1, "f"),
        (2, None, "f"),
        (3, 14, "f"),
    ]


def test_a_parent_without_a_key_is_proven_too(case: Any) -> None:
    found = case(["delete from code where code = 'a'"], ["insert into use values (1, 'a')"])
    (conflict,) = found.merge().values()
    assert (conflict.kind, conflict.column) == ("fk-child-exists", "t.use.code")
    assert not found.merge(**{conflict.id: OURS})
    assert found.query("select code from t.code order by 1") == [("a",), ("b",)]


def test_a_parent_that_got_another_key(case: Any) -> None:
    found = case(["update person set id = 115, age = 50 where id = 15"], ["insert into purchase values (300, 15, 'p')"])
    told = found.merge()
    assert [each.kind for each in told.values()] == ["fk-child-exists"]
    kept = {each.id: OURS for each in told.values()}
    told = found.merge(**kept)
    assert {each.kind for each in told.values()} == {"unique"}, "the row under its new key has what the kept one has"
    assert not found.merge(**kept, **{each.id: OURS for each in told.values()})
    assert found.query("select id, age from t.person where id in (15, 115)") == [(15, 30)]


def test_checks_and_not_null(case: Any) -> None:
    found = case(
        ["update person set age = 5, city = 'f' where id = 1", "update person set phone = null, age = 31 where id = 2",
         "insert into person values (100, 'm', '0', 'f', 4)"],
        ["alter table person add constraint adult check (age > 17 or mail is null)", "alter table person alter phone set not null"],
    )  # fmt: skip
    told = found.merge()
    assert told.keys() == {
        ("check", ("1",), "adult"),
        ("not-null", ("2",), "phone"),
        ("check", ("100",), "adult"),
    }
    decided = {
        told["check", ("1",), "adult"].id: OURS,
        told["not-null", ("2",), "phone"].id: OURS,
        told["check", ("100",), "adult"].id: value({"age": 44}),
    }
    assert not found.merge(**decided)
    assert found.query("select id, age, city, phone from t.person where id in (1, 2, 100) order by 1") == [
        (1, 30, "x", "1"),
        (2, 31, "x", "2"),
        (100, 44, "f", "0"),
    ]


def test_what_was_settled_is_taken_back_exactly(case: Any) -> None:
    found = case(
        ["insert into person values (100, 'same', 100, 'f', 1)", "update purchase set person = 15 where id = 1"],
        ["insert into person values (200, 'same', 200, 'p', 2)", "delete from person where id = 15"],
    )
    before = found.rig.servers.dump(found.production.server, found.name)
    decided = {each.id: value("free") if each.kind == "unique" else OURS for each in found.merge().values()}
    undo = found.rig.apply(found.production, found.changes, None, decided).undo
    assert found.query("select mail from t.person where id = 100") == [("free",)]
    found.rig.apply(found.production, undo)
    assert sorted(found.rig.servers.dump(found.production.server, found.name).splitlines()) == sorted(
        before.splitlines()
    )

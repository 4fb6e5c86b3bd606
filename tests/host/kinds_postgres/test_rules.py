"""The project's own rules (`x-wye: merge`): by row, and changes that add up; also where a fork has renamed what they
name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.host.kinds_postgres.test_losses import changes_of

from wye.interfaces import Terms
from wye.kinds.postgres.apply import Options
from wye.kinds.postgres.changes import from_json, to_json
from wye.kinds.postgres.kind import _options
from wye.merge.conflict import Resolution, Side
from wye.merge.refused import Refused
from wye.merge.rows import Grain

pytestmark = pytest.mark.host

APP = "postgres"
SETUP = [
    "create schema t",
    "create table t.k (id int primary key, v text, w text)",
    "insert into t.k select n, 'v' || n, 'w' from generate_series(1, 9) n",
    "create table t.d (id int primary key, n numeric, f float8, r real)",
    "insert into t.d values (1, 1, 0.1, 0.1), (2, 1, 1e20, 1)",
]
BY_ROW = Options(grain={"t.k": Grain.ROW})


@pytest.fixture
def production(rig: Any) -> Iterator[Any]:
    site = rig.create()
    site.run(APP, SETUP)
    yield site
    site.discard()
    rig.sweep()


def refused(rig: Any, production: Any, changes: Any, options: Options, resolutions: Any = None) -> Any:
    with pytest.raises(Refused) as error:
        rig.apply(production, changes, options, resolutions)
    return error.value.conflicts


BY = {
    "renamed": (["alter table k rename to k9", "update k9 set v = 'F' where id = 1"], "t.k9"),
    "moved": (["create schema u", "alter table k set schema u", "update u.k set v = 'F' where id = 1"], "u.k"),
    "a column renamed": (["alter table k rename v to x", "update k set x = 'F' where id = 1"], "t.k"),
}


@pytest.mark.parametrize("name", ["base", "fork"])
@pytest.mark.parametrize(("statements", "now"), BY.values(), ids=BY)
def test_by_row(rig: Any, production: Any, statements: list[str], now: str, name: str) -> None:
    changes = changes_of(rig, production, statements, ["update k set w = 'L' where id = 1"])
    options = Options(grain={"t.k" if name == "base" else now: Grain.ROW})
    assert [each.kind for each in refused(rig, production, changes, options)] == ["update/update"]
    rig.apply(production, changes)
    assert production.query(APP, f"select w from {now} where id = 1") == [("L",)]


def test_by_row_a_column_that_the_fork_has_not(rig: Any, production: Any) -> None:
    since = ["alter table k add n int default 4", "update k set n = 5 where id = 1"]
    changes = changes_of(rig, production, ["update k set v = 'F' where id in (1, 2)"], since)
    (conflict,) = refused(rig, production, changes, BY_ROW)
    assert (conflict.kind, conflict.key) == ("update/update", ("1",))
    query = "select v, n from t.k where id < 3 order by id"
    ours, theirs = ({conflict.id: Resolution(side=side)} for side in (Side.OURS, Side.THEIRS))
    rig.apply(production, changes, Options(grain={"t.k": Grain.ROW}, dry_run=True), theirs)
    rig.apply(production, changes, BY_ROW, ours)
    assert production.query(APP, query) == [("v1", 5), ("F", 4)]
    rig.apply(production, changes, BY_ROW, theirs)
    assert production.query(APP, query) == [("F", 5), ("F", 4)]


def test_by_row_one_conflict_for_a_row(rig: Any, production: Any) -> None:
    since = ["alter table k add n int", "update k set n = 5, w = 'L' where id = 1"]
    changes = changes_of(rig, production, ["update k set v = 'F' where id = 1"], since)
    (conflict,) = refused(rig, production, changes, BY_ROW)
    rig.apply(production, changes, BY_ROW, {conflict.id: Resolution(side=Side.THEIRS)})
    assert production.query(APP, "select v, w, n from t.k where id = 1") == [("F", "w", 5)]


SUMS = {
    "a column renamed": (["alter table d rename n to m", "update d set m = m + 1 where id = 1"], "m", "t.d"),
    "the table renamed": (["alter table d rename to e", "update e set n = n + 1 where id = 1"], "n", "t.e"),
    "both": (
        ["alter table d rename n to m", "alter table d rename to e", "update e set m = m + 1 where id = 1"],
        "m", "t.e",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("statements", "column", "table"), SUMS.values(), ids=SUMS)
def test_added_up(rig: Any, production: Any, statements: list[str], column: str, table: str) -> None:
    """And taken back, with what others have added since."""
    changes = changes_of(rig, production, statements, ["update d set n = n + 1 where id = 1"])
    options = Options(delta={"t.d": frozenset({"n"})})
    undo = from_json(to_json(rig.apply(production, changes, options).undo))
    assert production.query(APP, f"select {column}::text from {table} where id = 1") == [("3",)]
    production.run(APP, f"update {table} set {column} = {column} + 5")
    rig.apply(production, undo, options)
    assert production.query(APP, "select n::text from t.d where id = 1") == [("7",)]


@pytest.mark.parametrize("name", ["t.d.n", "t.e.m", "t.d.m"])
def test_rules_as_they_are_written(rig: Any, production: Any, name: str) -> None:
    changes = changes_of(rig, production, SUMS["both"][0], ["update d set n = n + 1 where id = 1"])
    rig.apply(production, changes, _options(Terms(settings={"delta": [name]}), changes))
    assert production.query(APP, "select m::text from t.e where id = 1") == [("3",)]


@pytest.mark.parametrize(("column", "more"), [("f", 0.2), ("r", 0.2)])
def test_sums_that_the_server_rounds_are_taken_back(rig: Any, production: Any, column: str, more: float) -> None:
    options = Options(delta={"t.d": frozenset({"f", "r"})})
    query = "select f::text, r::text from t.d order by id"
    changes = changes_of(
        rig, production, [f"update d set {column} = {column} + {more}"], [f"update d set {column} = {column} + 0.7"]
    )
    before = production.query(APP, query)
    undo = rig.apply(production, changes, options).undo
    assert production.query(APP, query) != before
    rig.apply(production, from_json(to_json(undo)), options)
    assert production.query(APP, query) == before

"""What is not read because its file does not differ: each case here would be lost if the wrong file were trusted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.host.kinds_postgres.conftest import DATA

from wye.kinds.postgres import rows
from wye.kinds.postgres.cluster import THROWAWAY
from wye.kinds.postgres.plan import read_changes
from wye.kinds.postgres.prepare import prepare
from wye.merge.refused import Refused

pytestmark = pytest.mark.host

APP = "postgres"
SETUP = [
    "create table plain (id int primary key, v text)",
    "insert into plain select n, 'v' || n from generate_series(1, 500) n",
    "create role worker",
    "select lo_create(4711)",
]


@pytest.fixture
def fork(rig: Any) -> Iterator[Any]:
    """Of a base that was cut short: what it holds is in its log, and not yet in its files."""
    production = rig.create()
    production.run(APP, SETUP, "public")
    start = rig.start(rig.snapshot(production), dict(THROWAWAY))
    prepare(rig.host, start.server)
    late = ["insert into plain values (1000, 'in the log')", "delete from plain where id = 7"]
    start.run(APP, ["set synchronous_commit = on", *late], "public")
    base = rig.snapshot(start)
    start.discard()
    production.discard()
    site = rig.start(base)
    yield site
    site.discard()
    rig.sweep()


def refused(rig: Any, fork: Any) -> set[str]:
    try:
        assert rig.diff(fork) == []
    except Refused as error:
        return {conflict.kind for conflict in error.conflicts}
    return set()


def test_a_fork_that_changed_nothing(rig: Any, fork: Any) -> None:
    assert rig.diff(fork) == []
    fork.run(APP, "vacuum")
    assert rig.diff(fork) == []


@pytest.mark.parametrize(
    ("change", "back", "kind"),
    [
        ("create role other", "drop role other", "roles"),
        ("grant pg_monitor to worker", "revoke pg_monitor from worker", "roles"),
        ("alter role worker set work_mem = '1MB'", "alter role worker reset work_mem", "role-settings"),
        ("alter database postgres connection limit 5", "alter database postgres connection limit -1", "databases"),
        ("comment on role worker is 'x'", "comment on role worker is null", "shared-comments"),
        ("alter event trigger _wye_end disable", "alter event trigger _wye_end enable", "event-triggers"),
        ("select lo_put(4711, 0, 'x')", "select lo_unlink(4711), lo_create(4711)", "large-objects"),
        ("select lo_create(5)", "select lo_unlink(5)", "large-objects"),
    ],
)
def test_one_catalog_alone(rig: Any, fork: Any, change: str, back: str, kind: str) -> None:
    fork.run(APP, change)
    assert refused(rig, fork) == {kind}
    fork.run(APP, back)
    assert refused(rig, fork) == set()


def test_catalogs_that_were_rewritten(rig: Any, fork: Any) -> None:
    for name in ("pg_class", "pg_attribute", "pg_proc", "pg_depend", "pg_authid", "pg_database"):
        fork.run(APP, f"vacuum full {name}")
    fork.run(APP, "create role other")
    assert refused(rig, fork) == {"roles"}
    fork.run(APP, "drop role other")
    assert rig.diff(fork) == []
    fork.run(APP, "alter table plain add column w int", "public")
    (found,) = rig.diff(fork)
    assert [statement.sql for statement in found.ddl] == ["alter table plain add column w int"]


def test_rows_that_only_the_log_of_the_base_holds(rig: Any, fork: Any) -> None:
    fork.run(
        APP,
        ["delete from plain where id = 1000", "insert into plain values (7, 'v7')", "vacuum plain"],
        "public",
    )
    (found,) = rig.diff(fork)
    (table,) = found.tables
    assert (table.deletes, table.inserts, table.updates) == ((("1000", "in the log"),), (("7", "v7"),), ())


def test_a_fork_that_crashed(rig: Any, fork: Any) -> None:
    fork.run(APP, "update plain set v = 'changed' where id = 3", "public")
    fork.server.stop()
    fork.server = rig.servers.start(rig.pool.environment_path(fork.id) / "volumes/db/data")
    (found,) = rig.diff(fork)
    assert found.tables[0].updates == ((("3", "v3"), ("3", "changed")),)


def test_rows_put_elsewhere_are_the_same_rows(rig: Any, fork: Any) -> None:
    fork.run(APP, "vacuum full plain", "public")
    fork.run(APP, "update plain set v = 'changed' where id = 3", "public")
    (found,) = rig.diff(fork)
    assert found.tables[0].updates == ((("3", "v3"), ("3", "changed")),)
    assert not found.tables[0].deletes
    assert not found.tables[0].inserts


SWAP = [f"alter table wide rename {old} to {new}" for old, new in (("a", "c"), ("b", "a"), ("c", "b"))]
ANEW = ["alter table wide drop n", "alter table wide add n int"]


@pytest.mark.parametrize("also", [[], ["update wide set a = 'changed' where id = 3"]], ids=["alone", "and a row"])
@pytest.mark.parametrize("change", [SWAP, ANEW], ids=["names exchanged", "made anew"])
def test_columns_that_others_have_taken_the_names_of(rig: Any, change: list[str], also: list[str]) -> None:
    """No block of theirs differs, and neither does the schema: yet every row shows something else."""
    production = rig.create()
    wide = "create table wide (id int primary key, a text, b text, n int)"
    filled = "insert into wide select n, 'a' || n || repeat('x', 200), 'b' || n, n from generate_series(1, 600) n"
    production.run(APP, [wide, filled], "public")
    fork = rig.fork(production)
    fork.run(APP, [*change, *also], "public")
    shown = "select id, a, b, n from public.wide order by id"
    try:
        (found,) = rig.diff(fork)
        assert (found.ddl, len(found.tables[0].updates)) == ((), 600)
        rig.apply(production, found)
        assert production.query(APP, shown) == fork.query(APP, shown)
    finally:
        for site in (fork, production):
            site.discard()
        rig.sweep()


@pytest.mark.parametrize("few", [rows.FEW, 1])
def test_rows_that_are_what_they_were(rig: Any, fork: Any, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their versions are others. `few`: how many are fetched, and not hashed."""
    monkeypatch.setattr(rows, "FEW", few)
    fork.run(
        APP, ["update plain set v = v || '!' where id < 9", "update plain set v = 'v' || id where id < 9"], "public"
    )
    assert rig.diff(fork) == []
    fork.run(APP, ["vacuum plain", "delete from plain where id = 11", "insert into plain values (11, 'v11')"], "public")
    assert rig.diff(fork) == []
    fork.run(APP, ["update plain set v = v", "update plain set v = 'changed' where id = 3"], "public")
    (found,) = rig.diff(fork)
    assert found.tables[0].updates == ((("3", "v3"), ("3", "changed")),)
    assert not found.tables[0].deletes
    assert not found.tables[0].inserts


def test_equal_rows_of_which_some_moved(rig: Any) -> None:
    production = rig.create()
    production.run(
        APP, ["create table bag (v text)", "insert into bag select 'same' from generate_series(1, 9)"], "public"
    )
    fork = rig.fork(production)
    try:
        fork.run(APP, ["update bag set v = v where ctid < '(0,4)'", "delete from bag where ctid > '(0,10)'"], "public")
        (found,) = rig.diff(fork)
        assert found.tables[0].deletes == (("same",), ("same",))
        assert found.tables[0].counts == ((("same",), 9),)
        assert not found.tables[0].inserts
    finally:
        for site in (fork, production):
            site.discard()
        rig.sweep()


def test_columns_that_exchange_their_names(rig: Any) -> None:
    """No row has another version, and no column another type."""
    production = rig.create()
    production.run(
        APP, ["create table pair (id int primary key, a int, b int)", "insert into pair values (1, 2, 3)"], "public"
    )
    mine = rig.fork(production)
    try:
        renamed = [f"alter table pair rename {a} to {b}" for a, b in (("a", "c"), ("b", "a"), ("c", "b"))]
        mine.run(APP, [*renamed, "update pair set id = 1"], "public")
        (found,) = rig.diff(mine)
        assert found.tables[0].columns == ("id", "b", "a")
        assert found.tables[0].updates == ((("1", "3", "2"), ("1", "2", "3")),)
    finally:
        for site in (mine, production):
            site.discard()
        rig.sweep()


def test_the_template_and_what_happens_next_to_it(rig: Any, fork: Any) -> None:
    fork.run(APP, "update plain set v = 'changed' where id = 3", "public")
    fork.run("template1", "create table sneaked (a int)", "public")
    with pytest.raises(Refused) as error:
        rig.diff(fork)
    assert {conflict.place for conflict in error.value.conflicts} == {"postgres/template1"}


def against(rig: Any, fork: Any, other: Any, *, descends: bool = False) -> list[Any]:
    """What `fork` differs in from `other` as it is now."""
    now = rig.snapshot(other)
    base = rig.start(now, dict(THROWAWAY))

    def freeze() -> list[Any]:
        sides = [rig.snapshot(fork), rig.snapshot(base)]
        return [change for side in sides for change in rig.pool.changes(now, side)]

    try:
        return read_changes(rig.host, base.server, fork.server, freeze, DATA, descends=descends)
    finally:
        base.discard()


def test_against_what_it_does_not_come_of(rig: Any) -> None:
    """Both have written since they parted, and one of them nothing but its log."""
    production = rig.create()
    production.run(APP, [*SETUP, "create table wide as select n, 'v' || n v from generate_series(1, 5000) n"], "public")
    production.run(APP, ["alter table wide add primary key (n)", "vacuum wide", "checkpoint"], "public")
    fork = rig.fork(production)
    fork.run(APP, "update wide set v = 'fork' where n = 4000", "public")
    production.run(APP, "update wide set v = 'production' where n = 10", "public")
    try:
        (found,) = against(rig, fork, production)
        assert sorted(found.tables[0].updates) == [
            (("10", "production"), ("10", "v10")),
            (("4000", "v4000"), ("4000", "fork")),
        ]
    finally:
        for site in (fork, production):
            site.discard()
        rig.sweep()


def test_a_sibling_that_numbered_its_transactions_alike(rig: Any) -> None:
    """Both add a column in the first transaction since they parted: rows of the catalogs have equal versions."""
    production = rig.create()
    production.run(APP, SETUP, "public")
    fork, sibling = rig.fork(production), rig.fork(production)
    fork.run(APP, "alter table plain add fork int", "public")
    sibling.run(APP, "alter table plain add same int", "public")
    try:
        with pytest.raises(Refused) as error:
            against(rig, fork, sibling)
        assert {conflict.kind for conflict in error.value.conflicts} == {"schema-log-incomplete"}
    finally:
        for site in (fork, sibling, production):
            site.discard()
        rig.sweep()


def test_bytes_that_only_seem_to_come_of_the_base(rig: Any) -> None:
    """As after a restore of what was before: the same numbers stand for other transactions, at the same addresses."""
    production = rig.create()
    production.run(APP, SETUP, "public")
    fork, sibling = rig.fork(production), rig.fork(production)
    for site, value in ((fork, "fork"), (sibling, "sibling")):
        site.run(APP, f"insert into plain values (1000, '{value}')", "public")
    try:
        where = "select xmin, ctid from public.plain where id = 1000"
        assert fork.query(APP, where) == sibling.query(APP, where)
        (found,) = against(rig, fork, sibling, descends=True)
        assert found.tables[0].updates == ((("1000", "sibling"), ("1000", "fork")),)
    finally:
        for site in (fork, sibling, production):
            site.discard()
        rig.sweep()

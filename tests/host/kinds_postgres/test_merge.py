"""Merging as a person meets it: resolutions, policies, checks, other clients at work, and being cut short anywhere."""

# ruff: noqa: E501 - SQL reads better on long lines than cut into pieces
from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from wye.errors import BadRequest
from wye.host import Host, OperationFailed
from wye.kinds.postgres.apply import Options, apply
from wye.kinds.postgres.changes import page, stat
from wye.kinds.postgres.session import begin_session, value
from wye.kinds.postgres.violations import explain
from wye.kinds.postgres.write import write_less_log
from wye.merge.conflict import Resolution, Side
from wye.merge.refused import Refused
from wye.merge.rows import Grain
from wye.testing.faulty_host import FaultyHost

pytestmark = pytest.mark.host

APP = "postgres"
SETUP = [
    "create schema t",
    "create table t.item (id serial primary key, stock int, label text, code text unique)",
    "insert into t.item (stock, label, code) select n, 'label ' || n, 'code ' || n from generate_series(1, 50) n",
    "create table t.purchase (id int primary key, item int references t.item, note text)",
    "insert into t.purchase select n, n, 'old' from generate_series(1, 20) n",
]
STOCK = "select stock from t.item where id = 1"


@pytest.fixture
def production(rig: Any) -> Iterator[Any]:
    site = rig.create()
    site.run(APP, SETUP)
    yield site
    site.discard()
    rig.sweep()


@pytest.fixture
def fork(rig: Any, production: Any) -> Iterator[Any]:
    site = rig.fork(production)
    yield site
    site.discard()


def changes_of(rig: Any, fork: Any, **options: Any) -> Any:
    (changes,) = rig.diff(fork, **options)
    return changes


def refused(rig: Any, production: Any, changes: Any, *arguments: Any) -> list[Any]:
    before = rig.servers.dump(production.server, APP)
    with pytest.raises(Refused) as error:
        rig.apply(production, changes, *arguments)
    assert rig.servers.dump(production.server, APP) == before
    return error.value.conflicts


def kinds(conflicts: list[Any]) -> list[str]:
    return [conflict.kind for conflict in conflicts]


# ---------------------------------------------------------------- resolutions and policies


@pytest.mark.parametrize(
    ("resolution", "stock"),
    [
        (Resolution(side=Side.OURS), 200),
        (Resolution(side=Side.THEIRS), 100),
        (Resolution(side=Side.VALUE, value="7"), 7),
    ],
)
def test_a_cell_resolved(rig: Any, production: Any, fork: Any, resolution: Resolution, stock: int) -> None:
    fork.run(APP, ["update item set stock = 100 where id = 1", "update item set stock = 5 where id = 2"])
    production.run(APP, "update item set stock = 200 where id = 1")
    changes = changes_of(rig, fork)
    (conflict,) = refused(rig, production, changes)
    assert (conflict.column, conflict.base, conflict.ours, conflict.theirs) == ("stock", "1", "200", "100")
    resolutions = {conflict.id: resolution}
    rig.apply(production, changes, None, resolutions)
    assert production.query(APP, "select stock from t.item where id < 3 order by id") == [(stock,), (5,)]


ROWS = {
    "deleted, updated live": ("delete from item where id = 40", "update item set stock = 0 where id = 40", None, 0),
    "updated, deleted live": ("update item set stock = 0 where id = 40", "delete from item where id = 40", 0, None),
    "inserted twice": ("insert into item values (40, 1)", "insert into item values (40, 2)", 1, 2),
}


@pytest.mark.parametrize(("theirs", "ours", "theirs_stock", "ours_stock"), ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("side", [Side.OURS, Side.THEIRS])
def test_a_row_resolved(
    rig: Any, production: Any, theirs: str, ours: str, theirs_stock: Any, ours_stock: Any, side: Side
) -> None:
    if "insert" in theirs:
        production.run(APP, "delete from item where id = 40")
    fork = rig.fork(production)
    fork.run(APP, theirs)
    production.run(APP, ours)
    changes = changes_of(rig, fork)
    fork.discard()
    (conflict,) = refused(rig, production, changes)
    rig.apply(production, changes, None, {conflict.id: Resolution(side=side)})
    expected = theirs_stock if side is Side.THEIRS else ours_stock
    found = production.query(APP, "select stock from t.item where id = 40")
    assert found == ([] if expected is None else [(expected,)])


def test_a_given_row(rig: Any, production: Any, fork: Any) -> None:
    fork.run(APP, "update item set stock = 0 where id = 40")
    production.run(APP, "delete from item where id = 40")
    changes = changes_of(rig, fork)
    (conflict,) = refused(rig, production, changes)
    row = {"id": "40", "stock": "12", "label": None, "code": "new"}
    rig.apply(production, changes, None, {conflict.id: Resolution(side=Side.VALUE, value=row)})
    assert production.query(APP, "select * from t.item where id = 40") == [(40, 12, None, "new")]


VALUES = {
    "text": ("label", "it's a \\ test", "it's a \\ test"),
    "null": ("label", None, None),
    "integer": ("stock", 7, 7),
    "bytes": ("raw", "\\x00ff", b"\x00\xff"),
    "json": ("doc", {"a": [1, None], "b": "c"}, {"a": [1, None], "b": "c"}),
    "json as text": ("doc", '{"z": 1}', {"z": 1}),
    "json null": ("doc", "null", None),
    "array": ("tags", '{x,NULL,"y z"}', ["x", None, "y z"]),
    "boolean": ("yes", True, True),
    "numeric": ("price", 1.5, Decimal("1.50")),
}
WRONG = {
    "no number": ("stock", "abc", "integer"),
    "too large": ("stock", 2**40, "out of range"),
    "no json": ("doc", "{", "json"),
    "a list for an array": ("tags", ["x"], "array literal"),
    "no bytes": ("raw", "\\xzz", "hexadecimal"),
    "no character": ("label", "a\0b", "U\\+0000"),
}


@pytest.fixture(scope="module")
def typed(rig: Any) -> Iterator[Any]:
    """Everything that can be in conflict in a row of many types."""
    production = rig.create()
    table = (
        "id int primary key, stock int, label text, raw bytea, doc jsonb, tags text[], yes bool, price numeric(8, 2)"
    )
    production.run(APP, ["create schema t", f"create table t.wide ({table})", "insert into t.wide values (1)"])
    fork = rig.fork(production)
    change = "update wide set stock = {0}, label = '{0}', raw = '{0}', doc = '{0}', tags = '{{{0}}}', yes = {0} = 1, price = {0}"
    fork.run(APP, change.format(1))
    production.run(APP, change.format(2))
    changes = changes_of(rig, fork)
    fork.discard()
    yield production, changes
    production.discard()
    rig.sweep()


@pytest.mark.parametrize(("column", "given", "stored"), VALUES.values(), ids=VALUES)
def test_a_value_of_any_type(rig: Any, typed: Any, column: str, given: Any, stored: Any) -> None:
    production, changes = typed
    conflicts = refused(rig, production, changes)
    assert len(conflicts) == 7
    decided = {each.id: Resolution(side=Side.OURS) for each in conflicts}
    (one,) = (each for each in conflicts if each.column == column)
    before = production.query(APP, "select * from t.wide")
    undo = rig.apply(production, changes, None, {**decided, one.id: Resolution(side=Side.VALUE, value=given)}).undo
    assert production.query(APP, f"select {column} from t.wide") == [(stored,)]
    rig.apply(production, undo)
    assert production.query(APP, "select * from t.wide") == before


@pytest.mark.parametrize(("column", "given", "said"), WRONG.values(), ids=WRONG)
def test_a_value_of_the_wrong_type_is_named(rig: Any, typed: Any, column: str, given: Any, said: str) -> None:
    production, changes = typed
    conflicts = refused(rig, production, changes)
    decided = {each.id: Resolution(side=Side.OURS) for each in conflicts}
    (one,) = (each for each in conflicts if each.column == column)
    with pytest.raises(BadRequest, match=said) as error:
        rig.apply(production, changes, None, {**decided, one.id: Resolution(side=Side.VALUE, value=given)})
    assert one.id in error.value.message or column in error.value.message


def test_row_grain(rig: Any, production: Any, fork: Any) -> None:
    fork.run(APP, "update item set stock = 100 where id = 1")
    production.run(APP, "update item set label = 'live' where id = 1")
    changes = changes_of(rig, fork)
    (conflict,) = refused(rig, production, changes, Options(grain={"t.item": Grain.ROW}))
    assert (conflict.kind, conflict.column) == ("update/update", "")


TABLE_GRAIN = Options(grain={"t.item": Grain.TABLE})


def is_item(table: str) -> bool:
    return table == "t.item"


def test_table_grain(rig: Any, production: Any, fork: Any) -> None:
    fork.run(APP, ["update item set stock = 100 where id = 1", "update purchase set note = 'f' where id = 1"])
    changes = changes_of(rig, fork, watched=is_item)
    rig.apply(production, changes, Options(grain={"t.item": Grain.TABLE}, dry_run=True))
    production.run(APP, "update item set label = 'live' where id = 2")
    production.run(APP, "update purchase set note = 'p' where id = 2")
    (conflict,) = refused(rig, production, changes, TABLE_GRAIN)
    assert (conflict.kind, conflict.place, conflict.key) == ("table/table", "postgres/postgres/t.item", ())
    assert conflict.theirs == {"inserted": 0, "updated": 1, "deleted": 0}
    rig.apply(production, changes, TABLE_GRAIN, {conflict.id: Resolution(side=Side.OURS)})
    assert production.query(APP, "select stock, label from t.item where id < 3 order by id") == [
        (1, "label 1"),
        (2, "live"),
    ]
    assert production.query(APP, "select note from t.purchase where id < 3 order by id") == [("f",), ("p",)]


def test_table_grain_for_the_fork(rig: Any, production: Any, fork: Any) -> None:
    """Also where the fork has given the table another name, and a column."""
    fork.run(APP, ["update item set stock = 100 where id in (1, 3)", "alter table item rename to thing",
                   "alter table thing add column z int default 3"])  # fmt: skip
    production.run(APP, "update item set stock = 7, label = 'live' where id in (2, 3)")
    changes = changes_of(rig, fork, watched=is_item)
    (conflict,) = refused(rig, production, changes, TABLE_GRAIN)
    undo = rig.apply(production, changes, TABLE_GRAIN, {conflict.id: Resolution(side=Side.THEIRS)}).undo
    found = "select stock, label from t.{} where id < 4 order by id"
    assert production.query(APP, found.format("thing")) == [(100, "label 1"), (7, "live"), (100, "label 3")]
    rig.apply(production, undo, TABLE_GRAIN)
    assert production.query(APP, found.format("item")) == [(1, "label 1"), (7, "live"), (7, "live")]


@pytest.mark.parametrize(
    "statement",
    ["alter table item add column x int", "insert into item (label) values ('x')", "delete from item where id = 50"],
)
def test_what_counts_as_a_change_of_the_table(rig: Any, production: Any, fork: Any, statement: str) -> None:
    fork.run(APP, "update item set stock = 100 where id = 1")
    production.run(APP, statement)
    assert kinds(refused(rig, production, changes_of(rig, fork, watched=is_item), TABLE_GRAIN)) == ["table/table"]


def test_delta_adds_both_changes(rig: Any, production: Any, fork: Any) -> None:
    fork.run(APP, "update item set stock = stock + 10 where id in (1, 2)")
    production.run(APP, "update item set stock = stock - 3 where id = 1")
    rig.apply(production, changes_of(rig, fork), Options(delta={"t.item": frozenset({"stock"})}))
    assert production.query(APP, "select stock from t.item where id < 3 order by id") == [(8,), (12,)]


def test_checks(rig: Any, production: Any, fork: Any) -> None:
    """Write skew: each side alone keeps the rule, both together do not."""
    rule = "select id from item where stock = 0 and id < 3 group by id having (select count(*) from item where stock = 0 and id < 3) > 1"
    production.run("postgres", "alter database postgres set search_path = t")
    forked = rig.fork(production)
    forked.run(APP, "update item set stock = 0 where id = 1")
    production.run(APP, "update item set stock = 0 where id = 2")
    changes = changes_of(rig, forked)
    forked.discard()
    assert kinds(refused(rig, production, changes, Options(checks=["select 1 where false", rule]))) == ["check-failed"]
    assert kinds(refused(rig, production, changes, Options(checks=["delete from item"]))) == ["check-failed"]
    assert kinds(refused(rig, production, changes, Options(checks=["select pg_sleep(9)"], check_timeout_s=0.1))) == [
        "check-failed"
    ]
    rig.apply(production, changes, Options(checks=["select 1 where false"]))


# ---------------------------------------------------------------- again and again


def test_merging_again_changes_nothing(rig: Any, production: Any, fork: Any) -> None:
    fork.run(APP, [
        "alter table item add column z int default 3", "update item set z = 4 where id = 1", "delete from item where id = 41",
        "insert into item (label) values ('new')", "create index on item (z)",
    ])  # fmt: skip
    changes = changes_of(rig, fork)
    rig.apply(production, changes)
    before = rig.servers.dump(production.server, APP)
    assert rig.apply(production, changes).rows == 0
    assert rig.servers.dump(production.server, APP) == before


def test_dry_run_changes_nothing(rig: Any, production: Any, fork: Any) -> None:
    fork.run(APP, ["alter table item add column z int", "update item set z = 4"])
    before = rig.servers.dump(production.server, APP)
    applied = rig.apply(production, changes_of(rig, fork), Options(dry_run=True))
    assert applied.rows == 50
    assert rig.servers.dump(production.server, APP) == before


def test_the_schema_must_be_the_rehearsal_s(rig: Any, production: Any, fork: Any) -> None:
    fork.run(APP, "alter table item add column z int")
    changes = changes_of(rig, fork)
    rehearsed = rig.apply(production, changes, Options(dry_run=True))
    production.run(APP, "create index on item (stock)")
    assert kinds(refused(rig, production, changes, Options(schema=rehearsed.schema))) == ["target-schema-moved"]
    rig.apply(production, changes)


def test_two_forks_of_one_base_one_after_the_other(rig: Any, production: Any) -> None:
    base = rig.base(production)
    one, two = rig.start(base), rig.start(base)
    one.run(APP, ["alter table item add column one int", "update item set one = 1, stock = 100 where id = 1"])
    two.run(APP, ["alter table item add column two int", "update item set two = 2, label = 'two' where id = 1"])
    for site in (one, two):
        rig.apply(production, changes_of(rig, site))
        site.discard()
    assert production.query(APP, "select stock, label, one, two from t.item where id = 1") == [(100, "two", 1, 2)]


def test_after_a_merge_both_sides_hand_out_numbers_of_their_own(rig: Any, production: Any, fork: Any) -> None:
    """In a table that both have, and in one that came with the merge."""
    fork.run(APP, ["create sequence short maxvalue 50", "create sequence down increment -2", "create sequence around maxvalue 9 cycle",
                   "create table part (id serial primary key)"])  # fmt: skip
    for _ in range(2):
        fork.run(APP, ["insert into item (label) values ('fork')", "insert into part default values",
                       "select nextval('short'), nextval('down'), nextval('around')"])  # fmt: skip
        rig.apply(production, changes_of(rig, fork))
        production.run(APP, ["insert into item (label) values ('order')", "insert into part default values"])
    assert production.query(APP, "select label, count(*) from t.item where label ~ '^[fo]' group by 1 order by 1") == [
        ("fork", 2),
        ("order", 2),
    ]
    assert production.query(APP, "select count(*) from t.part") == [(4,)]
    assert production.query(APP, "select nextval('t.short'), nextval('t.down'), nextval('t.around')") == [
        (7, -200003, 3)
    ]


def test_a_merge_is_taken_back_and_later_writes_stay(rig: Any, production: Any) -> None:
    production.run(APP, ["create table log (what text)", "insert into log values ('a'), ('a'), ('b')"])
    before = (
        production.query(APP, "select * from t.item order by id"),
        production.query(APP, "select * from t.log order by 1"),
    )
    fork = rig.fork(production)
    fork.run(APP, [
        "update item set stock = 100, code = 'x' where id = 1", "delete from item where id = 41",
        "insert into item (id, label) values (900, 'new')", "insert into log values ('a'), ('c')", "delete from log where what = 'b'",
    ])  # fmt: skip
    undo = rig.apply(production, changes_of(rig, fork)).undo
    fork.discard()
    assert production.query(APP, STOCK) == [(100,)]
    production.run(APP, "update item set label = 'later' where id in (1, 2)")
    redo = rig.apply(production, undo).undo
    production.run(APP, "update item set label = 'label ' || id where id in (1, 2)")
    after = (
        production.query(APP, "select * from t.item order by id"),
        production.query(APP, "select * from t.log order by 1"),
    )
    assert after == before
    rig.apply(production, redo)
    assert production.query(APP, STOCK) == [(100,)]


def test_taking_back_what_was_changed_since_is_a_conflict(rig: Any, production: Any, fork: Any) -> None:
    fork.run(APP, "update item set stock = 100 where id = 1")
    undo = rig.apply(production, changes_of(rig, fork)).undo
    production.run(APP, "update item set stock = 101 where id = 1")
    assert kinds(refused(rig, production, undo)) == ["update/update"]


def test_a_fork_of_a_fork(rig: Any, production: Any, fork: Any) -> None:
    fork.run(APP, ["alter table item add column z int", "update item set stock = 100 where id = 1"])
    inner = rig.fork(fork)
    inner.run(APP, ["update item set z = 5 where id = 1", "create index on item (z)"])
    rig.apply(fork, changes_of(rig, inner))
    inner.discard()
    rig.apply(production, changes_of(rig, fork))
    assert production.query(APP, "select stock, z from t.item where id = 1") == [(100, 5)]


# ---------------------------------------------------------------- reading a fork in use


def test_what_is_not_committed_in_the_fork_is_not_read(rig: Any, fork: Any) -> None:
    with fork.server.connect(APP) as writer:
        writer.execute("begin")
        writer.execute("update t.item set stock = 99 where id = 1")
        writer.execute("insert into t.item (label) values ('open')")
        assert changes_of(rig, fork).tables == ()
        writer.execute("commit")
    assert stat(changes_of(rig, fork))["tables"][0]["updated"] == 1


def test_reading_while_the_fork_is_written(rig: Any, production: Any, fork: Any) -> None:
    """Every diff is one instant: a transfer is in it with both its halves or not at all."""
    stop = threading.Event()

    def transfer() -> None:
        with fork.server.connect(APP) as writer:
            while not stop.is_set():
                with writer.transaction():
                    writer.execute("update t.item set stock = stock + 1 where id = 1")
                    writer.execute("update t.item set stock = stock - 1 where id = 2")

    worker = threading.Thread(target=transfer)
    worker.start()
    try:
        for _ in range(5):
            for changes in rig.diff(fork):
                moved = sum(int(new[1]) - int(old[1]) for old, new in changes.tables[0].updates)
                assert (moved, len(changes.tables[0].updates)) == (0, 2)
    finally:
        stop.set()
        worker.join()


def test_pages(rig: Any, fork: Any) -> None:
    fork.run(APP, [
        "delete from purchase where id = 1", "update purchase set note = 'new' where id in (2, 3)",
        "insert into purchase values (99, 1, null)",
    ])  # fmt: skip
    changes = changes_of(rig, fork).table("t.purchase")
    rows = page(changes, 0, 100)
    assert [row["change"] for row in rows] == ["delete", "update", "update", "insert"]
    assert sorted(row["key"]["id"] for row in rows[1:3]) == ["2", "3"]
    assert rows[1]["cells"] == {"note": ["old", "new"]}
    assert [row for start in range(0, 5, 2) for row in page(changes, start, 2)] == rows


# ---------------------------------------------------------------- other clients of the target


def test_a_locked_row_is_a_conflict_not_a_wait(rig: Any, production: Any, fork: Any) -> None:
    fork.run(APP, "update item set stock = 100 where id = 1")
    changes = changes_of(rig, fork)
    with production.server.connect(APP) as other:
        other.execute("begin")
        other.execute("update t.item set stock = 5 where id = 1")
        assert kinds(refused(rig, production, changes, Options(lock_timeout_s=0.2))) == ["lock-timeout"]
        other.execute("rollback")
    rig.apply(production, changes)


HELD = {
    "parent deleted": ("insert into purchase values (100, 45, 'n')", "delete from t.item where id = 45"),
    "child inserted": ("delete from item where id = 45", "insert into t.purchase values (100, 45, 'n')"),
    "same key inserted": ("insert into item values (900, 1)", "insert into t.item values (900, 2)"),
}


@pytest.mark.parametrize(("theirs", "ours"), HELD.values(), ids=HELD)
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_an_open_transaction_is_waited_for(rig: Any, production: Any, theirs: str, ours: str, end: str) -> None:
    fork = rig.fork(production)
    fork.run(APP, theirs)
    changes = changes_of(rig, fork)
    fork.discard()
    with production.server.connect(APP) as other:
        other.execute("begin")
        other.execute(ours)
        timer = threading.Timer(0.3, lambda: other.execute(end))
        timer.start()
        try:
            if end == "rollback":
                rig.apply(production, changes)
            else:
                with pytest.raises(Refused):
                    rig.apply(production, changes)
        finally:
            timer.join()
    counts = production.query(
        APP, "select (select count(*) from t.purchase p left join t.item i on i.id = p.item where i.id is null)"
    )
    assert counts == [(0,)]


class Beside(Host):
    """Runs statements in the target once, when a label is reached: each commits."""

    def __init__(self, site: Any, label: str, *statements: str) -> None:
        self.reached = 0
        self._site, self._label, self._statements = site, label, statements

    def at(self, label: str) -> None:
        if label == self._label:
            self.reached += 1
            if self.reached == 1:
                self._site.run(APP, list(self._statements))


def test_who_is_quicker_between_reading_and_writing(rig: Any, production: Any, fork: Any) -> None:
    """The row is read again, under lock; a change of another cell stays, and one of the same is a conflict."""
    fork.run(APP, ["update t.item set stock = 500 where id = 1", "update t.item set code = 'new' where id = 2"])
    changes = changes_of(rig, fork)
    other = "update t.item set label = 'mine' where id in (1, 2)"
    beside = Beside(production, "postgres:apply:delete", other, "vacuum t.item")
    apply(beside, production.server.connect(APP), changes)
    assert beside.reached == 2
    assert production.query(APP, "select stock, label, code from t.item where id < 3 order by id") == [
        (500, "mine", "code 1"),
        (2, "mine", "new"),
    ]


def test_who_is_quicker_with_the_same_cell(rig: Any, production: Any, fork: Any) -> None:
    fork.run(APP, "update t.item set stock = 500 where id = 1")
    quicker = Beside(production, "postgres:apply:update", "update t.item set stock = 7 where id = 1")
    with pytest.raises(Refused) as error:
        apply(quicker, production.server.connect(APP), changes_of(rig, fork))
    assert {conflict.kind for conflict in error.value.conflicts} == {"update/update"}
    assert production.query(APP, STOCK) == [(7,)]


def test_a_row_that_changes_before_it_is_deleted(rig: Any, production: Any, fork: Any) -> None:
    fork.run(APP, "delete from t.item where id = 50")
    beside = Beside(production, "postgres:apply:delete", "update t.item set stock = 7 where id = 50")
    with pytest.raises(Refused) as error:
        apply(beside, production.server.connect(APP), changes_of(rig, fork))
    assert {conflict.kind for conflict in error.value.conflicts} == {"delete/update"}
    assert production.query(APP, "select stock from t.item where id = 50") == [(7,)]


class Waiting(Host):
    """Somebody writes in a transaction of his own just ahead of the first attempt to, which waits for him."""

    def __init__(self, busy: Any, statement: str) -> None:
        super().__init__()
        self.reached = 0
        self._busy, self._statement = busy, statement

    def at(self, label: str) -> None:
        if label == "postgres:apply:update":
            self.reached += 1
            if self.reached == 1:
                self._busy.execute(self._statement)
                threading.Timer(0.2, self._busy.commit).start()


def test_one_who_is_quicker_and_still_at_it(rig: Any, production: Any, fork: Any) -> None:
    """The write waits for him, and then does not overwrite what he has written."""
    fork.run(APP, "update t.item set stock = 500 where id = 1")
    changes = changes_of(rig, fork)
    busy = production.server.connect(APP)
    busy.autocommit = False

    waiting = Waiting(busy, "update t.item set label = 'mine' where id = 1")
    apply(waiting, production.server.connect(APP), changes)
    assert waiting.reached == 2
    assert production.query(APP, "select stock, label from t.item where id = 1") == [(500, "mine")]
    busy.close()


def test_one_who_moves_the_row_to_another_partition(rig: Any, production: Any) -> None:
    production.run(APP, [
        "create table parted (id int, at int, note text, primary key (id, at)) partition by range (at)",
        "create table first partition of parted for values from (0) to (10)",
        "create table second partition of parted for values from (10) to (20)",
        "insert into parted values (1, 1, 'old'), (2, 2, 'old')",
    ])  # fmt: skip
    fork = rig.fork(production)
    fork.run(APP, "update parted set note = 'new'")
    changes = changes_of(rig, fork)
    fork.discard()
    busy = production.server.connect(APP)
    busy.autocommit = False

    waiting = Waiting(busy, "update t.parted set at = 15 where id = 1")
    with pytest.raises(Refused) as error:
        apply(waiting, production.server.connect(APP), changes)
    assert [(each.kind, each.key) for each in error.value.conflicts] == [("update/delete", ("1", "1"))]
    assert waiting.reached == 2
    rows = "select * from t.parted order by id"
    assert production.query(APP, rows) == [(1, 15, "old"), (2, 2, "old")]
    rig.apply(production, changes, None, {error.value.conflicts[0].id: Resolution(side=Side.OURS)})
    assert production.query(APP, rows) == [(1, 15, "old"), (2, 2, "new")]
    busy.close()


def test_one_who_gives_the_same_value_where_nothing_waits_for_him(rig: Any, production: Any) -> None:
    """The server checks a deferrable constraint only for what it can see: both would come in."""
    production.run(APP, "create table line (id int primary key, pos int unique deferrable)")
    fork = rig.fork(production)
    fork.run(APP, "insert into line values (1, 5)")
    changes = changes_of(rig, fork)
    fork.discard()
    busy = production.server.connect(APP)
    busy.autocommit = False
    busy.execute("insert into t.line values (2, 5)")
    threading.Timer(0.3, busy.commit).start()
    with pytest.raises(Refused) as error:
        rig.apply(production, changes)
    assert [each.kind for each in error.value.conflicts] == ["unique"]
    assert production.query(APP, "select * from t.line") == [(2, 5)]
    busy.close()


def test_what_was_in_the_way_and_is_gone(rig: Any, production: Any, fork: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A constraint refuses the rows together; when they are tried one by one, none of them any more."""
    fork.run(APP, "update t.item set code = 'taken' where id = 1")
    changes = changes_of(rig, fork)

    def late(*arguments: Any) -> Any:
        production.run(APP, "delete from t.item where code = 'taken'")
        return explain(*arguments)

    monkeypatch.setattr("wye.kinds.postgres.apply.explain", late)
    beside = Beside(production, "postgres:apply:update", "insert into t.item (code) values ('taken')")
    apply(beside, production.server.connect(APP), changes)
    assert production.query(APP, "select id from t.item where code = 'taken'") == [(1,)]


def test_the_log_of_a_merge_is_compressed_where_nobody_else_reads_it(rig: Any, production: Any) -> None:
    connection = begin_session(production.server.connect(APP))
    asked = "show wal_compression"
    with connection.transaction(force_rollback=True):
        write_less_log(connection)
        assert value(connection, asked) == ("lz4" if rig.version >= 15 else "off")
    assert value(connection, asked) == "off"
    connection.execute("select pg_create_physical_replication_slot('standby')")
    with connection.transaction(force_rollback=True):
        write_less_log(connection)
        assert value(connection, asked) == "off"
    connection.close()


def test_writers_go_on(rig: Any, production: Any, fork: Any) -> None:
    """Concurrent increments of the rows being merged are neither lost nor doubled."""
    fork.run(APP, ["update item set stock = stock + 1000 where id <= 5", "alter table item add column z int default 1"])
    changes = changes_of(rig, fork)
    stop, done = threading.Event(), [0]

    def increment() -> None:
        with production.server.connect(APP) as writer:
            while not stop.is_set():
                writer.execute(f"update t.item set stock = stock + 1 where id = {done[0] % 5 + 1}")
                done[0] += 1

    before = production.query(APP, "select sum(stock) from t.item")[0][0]
    worker = threading.Thread(target=increment)
    worker.start()
    try:
        rig.apply(production, changes, Options(delta={"t.item": frozenset({"stock"})}))
    finally:
        stop.set()
        worker.join()
    assert production.query(APP, "select sum(stock) from t.item") == [(before + 5000 + done[0],)]


# ---------------------------------------------------------------- cut short


def everything(fork: Any) -> None:
    fork.run(APP, [
        "alter table item add column z int default 3", "update item set z = 4, code = 'x' where id = 1",
        "delete from item where id = 41", "insert into item (label) values ('new')", "create type t.size as enum ('s')",
        "create unique index on item (label)",
    ])  # fmt: skip


def test_a_failure_anywhere_leaves_all_or_nothing(rig: Any, production: Any, fork: Any) -> None:
    everything(fork)
    changes = changes_of(rig, fork)
    recorder = FaultyHost(record=True)
    with production.server.connect(APP) as connection:
        apply(recorder, connection, changes, Options(dry_run=True))
    before = rig.servers.dump(production.server, APP)
    assert "postgres:apply:commit" in recorder.labels
    for label in sorted(set(recorder.labels) - {"postgres:apply:done"}):
        with production.server.connect(APP) as connection, pytest.raises(OperationFailed):
            apply(FaultyHost(fail_at=label), connection, changes)
        assert rig.servers.dump(production.server, APP) == before, label


def test_killed_anywhere_leaves_all_or_nothing(rig: Any, production: Any, fork: Any) -> None:
    everything(fork)
    changes = changes_of(rig, fork)
    before = rig.servers.dump(production.server, APP)
    for label in ("postgres:ddl:replay", "postgres:apply:lock", "postgres:apply:update", "postgres:apply:commit"):
        child = os.fork()
        if child == 0:
            apply(FaultyHost(kill_at=label), production.server.connect(APP), changes)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL, label
        others = (
            "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
        )
        while production.query(APP, others) != [(0,)]:
            rig.host.sleep(0.01)
        assert rig.servers.dump(production.server, APP) == before, label
    rig.apply(production, changes)
    assert production.query(APP, "select z, code from t.item where id = 1") == [(4, "x")]


def test_a_merge_with_ddl_gives_way_to_writers(rig: Any, production: Any, fork: Any) -> None:
    """A purchase locks its own table, then the item's. No writer is ever ended by a deadlock, whatever the merge does."""
    fork.run(APP, ["alter table item add column z int", "update item set z = 1", "create index on purchase (note)",
                   "alter table purchase add column paid bool default false"])  # fmt: skip
    (changes,) = rig.diff(fork)
    stop, failures, bought = threading.Event(), list[str](), 0

    def buy(first: int) -> None:
        nonlocal bought
        with production.server.connect(APP) as writer:
            for number in range(first, first + 100_000):
                try:
                    with writer.transaction():
                        writer.execute(f"insert into t.purchase (id) values ({number})")
                        writer.execute(f"update t.purchase set item = 1 + {number} % 50 where id = {number}")
                except psycopg.Error as error:
                    failures.append(str(error))
                bought += 1
                if stop.is_set():
                    return

    workers = [threading.Thread(target=buy, args=(n * 100_000,)) for n in (1, 2, 3)]
    for worker in workers:
        worker.start()
    try:
        for _ in range(5):
            done = rig.apply(production, changes)
            rig.apply(production, done.undo)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert not failures
    assert production.query(APP, "select count(*) from t.purchase where id > 1000") == [(bought,)]

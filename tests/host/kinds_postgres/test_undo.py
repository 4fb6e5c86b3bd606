"""Merges with DDL taken back on a real server: exactly what they wrote, while others go on; and brought back again."""

# ruff: noqa: E501 - SQL reads better on long lines than cut into pieces

from __future__ import annotations

from typing import Any

import pytest

from wye.kinds.postgres.apply import Options
from wye.kinds.postgres.changes import from_json, to_json
from wye.merge.conflict import Resolution, Side
from wye.merge.refused import Refused

pytestmark = pytest.mark.host

APP = "postgres"
SETUP = [
    "create role shop login",
    "create schema t authorization shop",
    "set role shop",
    "create type t.mood as enum ('sad')",
    "create table t.item (id serial primary key, stock int default 1 + 1, label text, code text)",
    "insert into t.item (stock, label, code) select n, 'label ' || n, 'code ' || n from generate_series(1, 50) n",
    "create table t.log (what text)",
    "insert into t.log values ('a'), ('a'), ('b')",
    "create table t.tag (name text)",
    "insert into t.tag values ('x'), ('y')",
    "create table t.pin (at int constraint pinned not null)",
    "create index by_label on t.item (label)",
    "alter table t.item add constraint positive check (stock >= 0)",
    "create view t.labels as select id, label from t.item",
    "create function t.twice(n int) returns int language sql as 'select 2 * n'",
]


def merged(rig: Any, production: Any, *statements: str) -> Any:
    """Merges a fork that ran `statements`; what takes it back, as it was stored."""
    fork = rig.fork(production)
    try:
        fork.run(APP, list(statements))
        (changes,) = rig.diff(fork)
    finally:
        fork.discard()
    return taken_back(rig, production, changes)


def taken_back(rig: Any, production: Any, changes: Any, resolutions: Any = None) -> Any:
    """Applies `changes`; returns what takes that back, as it was stored, with what only the bytes before it have."""
    before = rig.snapshot(production)
    undo = rig.apply(production, changes, None, resolutions).undo
    return rig.with_lost(from_json(to_json(undo)), before)


def everything(rig: Any, production: Any) -> str:
    """But for sequences, which are never set back."""
    lines = rig.servers.dump(production.server, APP).splitlines()
    return "\n".join(sorted(line for line in lines if "pg_catalog.setval" not in line))


def refused(rig: Any, production: Any, changes: Any) -> list[Any]:
    before = everything(rig, production)
    with pytest.raises(Refused) as error:
        rig.apply(production, changes)
    assert everything(rig, production) == before
    return error.value.conflicts


MERGES = {
    "a column, filled": ["alter table item add column note text", "update item set note = 'hi' where id < 20"],
    "a column with a default": [
        "alter table item add column size int not null default 5", "update item set size = 6 where id = 3",
        "insert into item (label, size) values ('new', 7)",
    ],
    "numbers for rows with a key and without one": [
        "alter table item add no serial", "alter table tag add id serial primary key", "alter table log add id uuid default gen_random_uuid()",
        "update tag set name = 'z' where name = 'x'", "delete from log where what = 'b'", "update item set stock = 7 where no = 3",
    ],
    "a table": [
        "create table part (id serial primary key, item int references item, kind mood default 'sad')",
        "insert into part (item) select id from item where id < 5", "create index on part (item)",
        "comment on table part is 'parts'", "grant select on part to shop",
    ],
    "everything else that is made": [
        "create schema more", "create type size as enum ('s', 'm')", "create domain grams as int check (value > 0)",
        "create sequence numbers", "create view small as select * from item where stock < 5",
        "create materialized view sums as select sum(stock) as stock from item",
        "create function f(a int, b text default 'x') returns text language sql as 'select b'",
        "create function noted() returns trigger language plpgsql as 'begin return new; end'",
        "create trigger noted before insert on item for each row execute function noted()",
        "create policy mine on item using (true)", "alter table item enable row level security",
        "create unique index codes on item (code)", "create index on item (stock)", "alter table item add check (id > 0)",
        "alter table item add constraint short check (length(label) < 100)",
        "create statistics st on stock, label from item",
    ],
    "constraints loosened, with rows that need it": [
        "alter table item drop constraint positive", "update item set stock = -1 where id = 1",
        "alter table item alter code set not null", "alter table item alter id drop default", "drop index by_label",
    ],
    "constraints tightened, with rows for it": [
        "update item set label = 'x' || id where label is null", "alter table item alter label set not null",
        "update item set stock = stock + 100", "alter table item add constraint many check (stock > 100) not valid",
        "alter table item validate constraint many",
    ],
    "defaults": [
        "alter table item alter stock set default 9", "alter table item alter label set default 'none'",
        "alter table item alter id drop default",
    ],
    "renames": [
        "alter table item rename column label to name", "alter table item rename to thing",
        "update thing set name = 'first' where id = 1", "insert into thing (name) values ('new')",
        "delete from thing where id = 50", "alter index by_label rename to by_name", "alter type mood rename to feeling",
        "alter table thing rename constraint positive to not_negative", "alter view labels rename to names",
        "alter table thing add column note text", "update thing set note = name", "alter table thing rename note to remark",
    ],
    "a view redefined over a new column": [
        "alter table item add column note text", "create or replace view labels as select id, label, note from item",
        "create or replace function twice(n int) returns int language sql as 'select n + n'",
    ],
    "a key for a table without one": [
        "alter table log add column id serial primary key", "insert into log (what) values ('c')",
        "delete from log where what = 'b'", "update log set what = 'A' where id = 1",
    ],
    "a primary key on columns that could be null": [
        "alter table tag rename name to word",
        "alter table tag add primary key (word)",
        "insert into tag values ('z')",
    ],
    "a value that may be null, since": ["alter table pin alter at drop not null", "insert into pin values (null)"],
    "a value that may not be null, by a name": [
        "alter table tag add column at int constraint present not null default 1", "update tag set at = 2 where name = 'x'",
    ],
    "values of an enumerated type": ["alter type mood rename value 'sad' to 'glum'"],
    "made and dropped": ["create table x (i int)", "alter table x add j int", "drop table x", "update item set stock = 3"],
    "partitions": [
        "create table p (id int, at int, primary key (id, at)) partition by range (at)",
        "create table p1 partition of p for values from (0) to (10)", "insert into p values (1, 1)",
    ],
}  # fmt: skip


@pytest.mark.parametrize("statements", MERGES.values(), ids=MERGES)
def test_back_and_forth(rig: Any, production: Any, statements: list[str]) -> None:
    """Taken back, everything is as before the merge; the undo taken back, as after it; and so once more."""
    before = everything(rig, production)
    undo = merged(rig, production, *statements)
    after = everything(rig, production)
    assert after != before
    rig.apply(production, undo, Options(dry_run=True))
    assert everything(rig, production) == after
    redo = taken_back(rig, production, undo)
    assert everything(rig, production) == before
    undo = taken_back(rig, production, redo)
    assert everything(rig, production) == after
    rig.apply(production, undo)
    assert everything(rig, production) == before


NOTE = ["alter table item add column note text", "update item set note = 'hi' where id < 20"]


def test_what_others_wrote_stays(rig: Any, production: Any) -> None:
    undo = merged(rig, production, *NOTE, "update item set stock = 7 where id in (1, 2)")
    production.run(APP, [
        "insert into item (label) values ('order')", "update item set label = 'later' where id = 1",
        "delete from item where id = 19", "insert into log values ('a')",
    ])  # fmt: skip
    rig.apply(production, undo)
    assert production.query(APP, "select stock, label from t.item where id < 3 order by id") == [
        (1, "later"),
        (2, "label 2"),
    ]
    assert production.query(APP, "select count(*), count(*) filter (where label = 'order') from t.item") == [(50, 1)]
    assert production.query(APP, "select count(*) from t.log") == [(4,)]


def test_applying_it_where_nothing_came_of_the_merge_changes_nothing(rig: Any, production: Any) -> None:
    fork = rig.fork(production)
    fork.run(APP, [*NOTE, "delete from item where id = 50"])
    (changes,) = rig.diff(fork)
    fork.discard()
    kept: list[Any] = []

    class Cut(Exception):
        pass

    def keep(undo: Any, transaction: str) -> None:
        kept.append(undo)
        raise Cut

    before = everything(rig, production)
    connection = production.server.connect(APP)
    with pytest.raises(Cut):
        rig.apply_over(connection, changes, keep)
    connection.close()
    assert everything(rig, production) == before
    rig.apply(production, kept[0])
    assert everything(rig, production) == before


CHANGED_SINCE = {
    "a row that the merge filled": "update item set note = 'more' where id = 1",
    "another row": "update item set note = 'more' where id = 40",
    "a new row": "insert into item (note) values ('more')",
    "a row that the merge filled, emptied and moved": "update item set id = 1000 where id = 1",
}


@pytest.mark.parametrize("statement", CHANGED_SINCE.values(), ids=CHANGED_SINCE)
def test_a_column_that_somebody_filled_since_is_not_dropped(rig: Any, production: Any, statement: str) -> None:
    undo = merged(rig, production, *NOTE)
    production.run(APP, statement)
    (conflict,) = refused(rig, production, undo)
    assert (conflict.kind, conflict.place, conflict.key, conflict.ours) == (
        "drop-vs-change",
        "postgres/postgres/t.item",
        ("note",),
        1,
    )
    kept = Resolution(side=Side.OURS)
    rig.apply(production, undo, Options(dry_run=True), {conflict.id: kept})
    rig.apply(production, undo, None, {conflict.id: Resolution(side=Side.THEIRS)})
    columns = "select string_agg(attname, ' ' order by attnum) from pg_attribute where attnum > 0 and not attisdropped"
    assert production.query(APP, f"{columns} and attrelid = 't.item'::regclass") == [("id stock label code",)]


IDLE = {
    "a constant": "5",
    "text with a cast": "'a''b, \"c\" '",
    "an array": "array['a b', null]::text[]",
    "json": "'{\"a\": [1]}'::jsonb",
    "the time of the merge": "'2020-01-01'::timestamptz",
    "true": "true",
}


@pytest.mark.parametrize("default", IDLE.values(), ids=IDLE)
def test_rows_that_got_a_default_since_do_not_matter(rig: Any, production: Any, default: str) -> None:
    kind = production.query(APP, f"select pg_typeof({default})")[0][0]
    kind = "text" if kind == "unknown" else kind
    undo = merged(
        rig, production, f"alter table item add column note {kind} default {default}", "delete from item where id = 4"
    )
    production.run(APP, ["insert into item (label) values ('order')", "update item set label = 'x' where id = 9"])
    rig.apply(production, undo)
    assert production.query(APP, "select count(*) from t.item") == [(51,)]


def test_a_default_that_moves_on_is_a_value(rig: Any, production: Any) -> None:
    undo = merged(rig, production, "alter table item add column at timestamptz default now()")
    rig.apply(production, undo, Options(dry_run=True))
    production.run(APP, "insert into item (label) values ('order')")
    assert [c.kind for c in refused(rig, production, undo)] == ["drop-vs-change"]


def test_a_table_that_somebody_uses_since_is_not_dropped(rig: Any, production: Any) -> None:
    undo = merged(
        rig, production, "create table part (id int primary key, note text)", "insert into part values (1, 'x')"
    )
    production.run(APP, "update part set note = 'y'")
    assert [(c.kind, c.place) for c in refused(rig, production, undo)] == [
        ("drop-vs-change", "postgres/postgres/t.part")
    ]
    production.run(APP, "update part set note = 'x'")
    production.run(APP, "create view others as select * from part")
    assert [c.kind for c in refused(rig, production, undo)] == ["ddl-failed"]
    production.run(APP, "drop view others")
    rig.apply(production, undo)


def test_a_column_that_somebody_dropped_since_is_not_missed(rig: Any, production: Any) -> None:
    undo = merged(rig, production, *NOTE, "update item set stock = 7 where id = 1")
    production.run(APP, "alter table item drop column note")
    rig.apply(production, undo)
    assert production.query(APP, "select stock from t.item where id = 1") == [(1,)]


def test_new_values_of_an_enumerated_type_stay(rig: Any, production: Any) -> None:
    undo = merged(rig, production, "alter type mood add value 'glad'", "alter table item add column mood mood default 'sad'",
                  "update item set mood = 'glad' where id = 1")  # fmt: skip
    rig.apply(production, undo)
    assert production.query(APP, "select enum_range(null::t.mood)::text") == [("{sad,glad}",)]


def test_what_the_target_had_already_is_not_dropped(rig: Any, production: Any) -> None:
    """Both sides added the same column; the merge added nothing."""
    fork = rig.fork(production)
    fork.run(
        APP,
        ["alter table item add column note text", "update item set note = 'hi' where id = 1", "create table x (i int)"],
    )
    (changes,) = rig.diff(fork)
    fork.discard()
    production.run(APP, "alter table item add column note text")
    undo = rig.apply(production, changes).undo
    rig.apply(production, undo)
    assert production.query(APP, "select count(*), count(note) from t.item") == [(50, 0)]
    assert production.query(APP, "select to_regclass('t.x')") == [(None,)]


def test_a_row_that_was_kept_is_not_written_by_the_redo(rig: Any, production: Any) -> None:
    undo = merged(rig, production, *NOTE, "update item set stock = 7 where id in (1, 2)")
    production.run(APP, "update item set stock = 8 where id = 1")
    (conflict,) = refused(rig, production, undo)
    redo = rig.apply(production, undo, None, {conflict.id: Resolution(side=Side.OURS)}).undo
    assert production.query(APP, "select stock from t.item where id < 3 order by id") == [(8,), (2,)]
    rig.apply(production, redo)
    assert production.query(APP, "select stock, note from t.item where id < 3 order by id") == [(8, "hi"), (7, "hi")]


def test_a_column_that_somebody_filled_since_is_kept(rig: Any, production: Any) -> None:
    """With it all of the merge's DDL stays; its rows are taken back, and can be brought back."""
    undo = merged(rig, production, *NOTE, "update item set stock = 7 where id = 2", "create table part (i int)")
    production.run(APP, "update item set note = 'more' where id = 1")
    (conflict,) = refused(rig, production, undo)
    redo = rig.apply(production, undo, None, {conflict.id: Resolution(side=Side.OURS)}).undo
    found = "select stock, note from t.item where id < 3 order by id"
    assert production.query(APP, found) == [(1, "more"), (2, "hi")]
    rig.apply(production, redo)
    assert production.query(APP, found) == [(1, "more"), (7, "hi")]

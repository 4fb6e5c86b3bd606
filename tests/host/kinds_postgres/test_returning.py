"""What a merge destroyed comes back when it is taken back: tables, columns, types and all else that was dropped, exactly
as it was, while what others have written since stays."""

# ruff: noqa: E501 - SQL reads better on long lines than cut into pieces

from __future__ import annotations

from typing import Any

import pytest
from tests.host.kinds_postgres.test_undo import merged, taken_back

from wye.kinds.postgres.apply import Options
from wye.kinds.postgres.catalog import read_schema
from wye.kinds.postgres.session import begin_session
from wye.merge.conflict import Resolution, Side
from wye.merge.refused import Refused

pytestmark = pytest.mark.host

APP = "postgres"
SETUP = [
    "create role shop login",
    "create role reader",
    "create schema t authorization shop",
    "grant usage on schema t to reader",
    "create schema spare authorization shop",
    "create schema rare authorization shop",
    "comment on schema spare is 'for later'",
    "set role shop",
    "create type t.mood as enum ('sad', 'so so')",
    "create domain t.grams as numeric(8, 2) default 1 not null check (value > 0)",
    "create type t.pair as (a int, b text)",
    "create sequence t.numbers as int increment 5 start 10 maxvalue 1000 cycle",
    "select nextval('t.numbers'), nextval('t.numbers')",
    "create function t.twice(n int) returns int language sql immutable as 'select 2 * n'",
    "create function t.twice(n text) returns text language sql immutable as 'select n || n'",
    "revoke all on function t.twice(int) from public; grant execute on function t.twice(int) to reader",
    "comment on function t.twice(text) is 'of text'",
    "create function t.noted() returns trigger language plpgsql as 'begin return new; end'",
    "create table t.item (id serial primary key, stock int not null default 1 + 1, label varchar(20), code text not null, weight numeric(6, 2), at timestamptz default '2020-01-01 10:00+00', size smallint)",
    "insert into t.item (stock, label, code, weight, at, size) select n, 'label ' || n, 'code ' || n, n + 0.25, '2024-01-01 01:00+00'::timestamptz + n * interval '1 hour', n from generate_series(1, 50) n",
    "alter table t.item add constraint positive check (stock >= 0), add unique (code)",
    "comment on column t.item.code is 'as printed'",
    "grant select (code), update (code) on t.item to reader",
    "create index by_label on t.item (lower(label)) where stock > 3",
    "comment on index t.by_label is 'for the search'",
    "create table t.log (id bigint generated always as identity (start 7 increment 3) primary key, item int references t.item on delete cascade, parent bigint references t.log, what text not null default 'x', much t.grams, kind t.mood default 'sad', both_of t.pair, facts jsonb, size int generated always as (length(what)) stored) with (fillfactor = 70)",
    "insert into t.log (item, parent, what, much, both_of, facts) select n, case when n > 1 then 7 end, 'what ' || n, n, row(n, 'b')::t.pair, '{\"a\": [1, null]}' from generate_series(1, 20) n",
    "create index on t.log (item) include (what)",
    "create index on t.log using gin (facts)",
    "comment on table t.log is 'what''s \"up\"'",
    "alter table t.log enable row level security",
    "create policy mine on t.log for select to reader, shop using (item > 0)",
    "create trigger noted before insert on t.log for each row execute function t.noted()",
    "alter table t.log disable trigger noted",
    "create rule nothing as on delete to t.log where old.item = 0 do instead nothing",
    "create statistics t.st on item, what from t.log",
    "grant select on t.log to reader with grant option; grant insert, update (what) on t.log to reader",
    "grant usage on sequence t.log_id_seq to reader",
    "alter table t.log alter what set statistics 40, alter what set storage external",
    "comment on policy mine on t.log is 'theirs'; comment on trigger noted on t.log is 'nothing yet'; comment on rule nothing on t.log is 'zero'",
    "comment on constraint log_item_fkey on t.log is 'of an item'; comment on statistics t.st is 'both'; comment on sequence t.numbers is 'by five'",
    "comment on type t.mood is 'how'; comment on domain t.grams is 'weight'; comment on constraint grams_check on domain t.grams is 'some'",
    "create view t.whats with (security_barrier) as select l.id, l.what, i.label from t.log l join t.item i on i.id = l.item",
    "create materialized view t.sums as select item, count(*) as many from t.log group by item",
    "create unique index on t.sums (item)",
    "create view t.plain as select id, stock from t.item",
    "grant select on t.plain to reader",
    "alter view t.plain alter stock set default 7; comment on column t.plain.id is 'its number'; comment on view t.plain is 'no more'",
    "alter materialized view t.sums alter many set statistics 20; comment on materialized view t.sums is 'by item'; grant select (many) on t.sums to reader",
    "create table t.p (id int, at int, note text, primary key (id, at)) partition by range (at)",
    "create table t.p1 partition of t.p for values from (0) to (10)",
    "create table t.p2 partition of t.p for values from (10) to (20)",
    "create index on t.p (note)",
    "insert into t.p select n, n, 'note ' || n from generate_series(1, 19) n",
    "create table t.two (id int primary key, what text)",
    "insert into t.two values (1, 'x'), (2, 'y')",
    "create table t.bare (what text, more text)",
    "insert into t.bare values ('a', 'A'), ('a', 'B')",
    "create table t.many (what text, a int, b float8, c text default 'c', d int)",
    "insert into t.many select nullif('w' || n % 3, 'w2'), n, n / 7.0, case when n % 2 = 0 then 'd' || n end, n % 5 from generate_series(1, 40) n",
    "create table t.roll (id int generated by default as identity, what text)",
    "insert into t.roll (what) values ('a'), ('a')",
    "create aggregate rare.largest(int) (sfunc = int4larger, stype = int)",
    "create table t.alone (what text)",
    "insert into t.alone values ('a'), ('b')",
]  # fmt: skip


def state(production: Any) -> dict[str, Any]:
    """Everything but the order of columns and of rows. Sequences of tables that stayed move on; others do not."""
    connection = begin_session(production.server.connect(APP))
    try:
        found: dict[str, Any] = dict(read_schema(connection))
        tables = "select c.oid::regclass::text from pg_class c where relkind in ('r', 'm') and relnamespace = to_regnamespace('t')"
        for (table,) in connection.execute(tables).fetchall():
            found[f"rows {table}"] = connection.execute(
                f"select to_jsonb(x)::text from only {table} x order by 1"
            ).fetchall()
        for name in ("t.numbers", "t.log_id_seq"):
            if connection.execute(f"select to_regclass('{name}') is not null").fetchone() == (True,):
                found[f"at {name}"] = connection.execute(f"select last_value, is_called from {name}").fetchone()
        return found
    finally:
        connection.close()


def differing(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    return {key: (a.get(key), b.get(key)) for key in a.keys() | b.keys() if a.get(key) != b.get(key)}


def refused(rig: Any, production: Any, changes: Any) -> list[Any]:
    before = rig.servers.dump(production.server, APP)
    with pytest.raises(Refused) as error:
        rig.apply(production, changes)
    assert rig.servers.dump(production.server, APP) == before, "a refusal leaves the target as it was"
    return error.value.conflicts


MERGES = {
    "a table that others refer to": ["drop table item cascade"],
    "two tables": ["drop table log, item cascade"],
    "a partitioned table": ["drop table p"],
    "a partition": ["drop table p1"],
    "a table without a key": ["drop table bare", "update item set stock = 7 where id = 1"],
    "a table, and another one under its name": ["drop table bare", "create table bare (id int primary key)", "insert into bare values (1)"],
    "a table, renamed first": ["alter table bare rename to naked", "alter table naked rename what to that", "drop table naked"],
    "a column": ["alter table item drop column weight"],
    "a column with all that hangs on it": ["alter table item drop column code"],
    "a column in the middle of rows that change": [
        "update item set stock = stock + 100 where id < 5", "delete from item where id = 50", "insert into item (code, weight) values ('new', 3)",
        "alter table item drop column weight",
    ],
    "a column with a default": ["alter table item drop column at", "update item set label = 'x' where id = 2"],
    "a column with a view over it": ["drop view plain", "alter table item drop column stock", "create view plain as select id from item"],
    "a column of partitions": ["alter table p drop column note"],
    "a generated column": ["alter table log drop column size"],
    "a column under its name": ["alter table item drop column size", "alter table item add column size text default 'm'"],
    "a wider type": ["drop view plain", "alter table item alter stock type bigint", "create view plain as select id, stock from item"],
    "a narrower type": ["alter table item alter weight type int", "update item set weight = 99 where id = 3", "delete from item where id = 50"],
    "a type without length": ["drop view whats", "alter table item alter label type text using label::text", "update item set label = repeat('x', 10) where id = 1"],
    "a type of the merge": [
        "create type kind as enum ('x', 'y')", "alter table two alter what type kind using what::kind", "update two set what = 'y' where id = 1",
    ],
    "the type of a key": ["drop view plain, whats", "alter table item alter id type bigint", "update item set stock = 7 where id = 1"],
    "a day instead of a time": ["alter table item alter at type date", "update item set at = '2020-02-02' where id = 4"],
    "views": ["drop view plain", "drop materialized view sums"],
    "functions of one name": ["drop function twice(int), twice(text)"],
    "a function, and another one": ["drop function twice(int)", "create function twice(n int) returns text language sql as 'select 1'"],
    "a trigger and its function": ["drop trigger noted on log", "drop function noted()"],
    "a policy and a rule": ["drop policy mine on log", "drop rule nothing on log", "alter table log disable row level security"],
    "constraints": ["alter table item drop constraint positive", "alter table item drop constraint item_code_key", "update item set stock = -1 where id = 1"],
    "a foreign key": ["alter table log drop constraint log_item_fkey"],
    "a primary key": ["alter table item drop constraint item_pkey cascade"],
    "an index, statistics, a sequence, a schema": [
        "drop index by_label", "drop statistics st", "drop sequence numbers", "drop schema spare",
    ],
    "types": ["alter table log drop column kind, drop column both_of, drop column much", "drop type mood", "drop type pair", "drop domain grams"],
    "a schema with what is in it": ["create table spare.x (i int)", "drop schema spare cascade"],
    "nearly all of it": ["drop schema t cascade"],
    "a column of rows that no key tells apart": ["alter table bare drop column more"],
    "a column and a type of such rows": ["alter table many drop column b, drop column c, alter a type numeric(9, 1)"],
    "columns of rows that no key tells apart": [
        "update many set d = 7 where a = 3", "insert into many (what, a, b) values ('w1', 900, 0.5)", "delete from many where a = 9",
        "alter table many drop column a, drop column b, drop column c", "alter table many rename column what to that",
        "insert into many values ('w0', 1)",
    ],
    "what is set": [
        "grant select on two to reader", "grant update (what), select (id) on two to public", "revoke all on log from reader",
        "revoke grant option for select on log from reader", "alter table two owner to reader", "comment on table log is 'other'",
        "alter table item set (fillfactor = 50, autovacuum_enabled = false)", "alter table log reset (fillfactor)",
        "alter table item alter stock set (n_distinct = 5)", "alter table item alter label set statistics 7, alter label set storage external",
        "alter table item disable trigger all", "alter table log enable trigger noted", "alter table log disable rule nothing",
        "alter table log replica identity full", "alter table log cluster on log_pkey", "alter function twice(text) owner to reader",
        "alter sequence numbers increment 7 no cycle", "alter default privileges for role shop in schema t grant select on tables to reader",
        "grant create on schema t to reader", "alter index by_label set (fillfactor = 60)", "alter function twice(int) cost 7",
        "comment on type mood is null", "revoke execute on function twice(text) from public", "alter view plain set (security_barrier)",
        "alter schema spare owner to reader", "alter statistics st set statistics 9", "alter materialized view sums alter many set statistics -1",
    ],
    "what is set, of what has another name, or is new, or goes": [
        "alter table two rename column what to that", "alter table two rename to three", "alter table three owner to reader",
        "grant select (that) on three to reader", "alter table three alter that set (n_distinct = 3)", "comment on column three.that is 'said'",
        "create table four (id serial primary key)", "alter table four owner to reader", "grant all on four to public",
        "alter trigger noted on log rename to marked", "alter table log enable always trigger marked", "comment on trigger marked on log is 'other'",
        "grant all on bare to reader", "drop table bare", "alter sequence numbers rename to counts", "alter sequence counts owner to reader",
    ],
    "rare things": [
        "create aggregate most(int) (sfunc = int4larger, stype = int)", "create type spans as range (subtype = float8)",
        "create operator === (leftarg = int, rightarg = int, function = int4eq)", "create collation plain (locale = 'C')",
        "create text search configuration search (copy = simple)", "create publication news for table item", "create cast (mood as text) with inout",
        "alter table two add column span spans",
    ],
    "an extension, and what is made of it": [
        "create extension citext schema public", "alter table two add column who citext default 'x'", "update two set who = 'Me' where id = 1",
    ],
    "several at once": [
        "drop table log cascade", "alter table item drop column weight", "alter table item alter size type bigint",
        "alter table item rename label to name", "update item set name = 'x', stock = 3 where id = 7", "create table other (i int)",
    ],
}  # fmt: skip


@pytest.mark.parametrize("statements", MERGES.values(), ids=MERGES)
def test_there_and_back(rig: Any, production: Any, statements: list[str]) -> None:
    needs_citext = any("citext" in each for each in statements)
    if needs_citext and not production.query(APP, "select from pg_available_extensions where name = 'citext'"):
        pytest.skip("this server has no citext")
    before = state(production)
    undo = merged(rig, production, *statements)
    assert not undo.irreversible
    after = state(production)
    assert after != before
    tried = rig.apply(production, undo, Options(dry_run=True))
    assert tried.rows + tried.others > 0
    assert not differing(state(production), after)
    redo = taken_back(rig, production, undo)
    assert not differing(state(production), before)
    again = taken_back(rig, production, redo)
    assert not differing(state(production), after)
    rig.apply(production, again)
    assert not differing(state(production), before)


ROWS = "select string_agg(concat_ws(' ', id, {0}), ', ' order by id) from t.item where id in (1, 2, 3, 50) or id > 50"


def test_what_others_wrote_stays_beside_a_column_that_comes_back(rig: Any, production: Any) -> None:
    undo = merged(
        rig, production, "alter table item drop column weight, drop column at", "update item set stock = 9 where id = 3"
    )
    production.run(APP, [
        "insert into item (id, code) values (1000, 'new')", "delete from item where id = 2",
        "update item set label = 'later' where id = 1", "update item set id = 1001 where id = 50",
    ])  # fmt: skip
    rig.apply(production, undo)
    assert production.query(APP, ROWS.format("stock, weight, label")) == [
        ("1 1 1.25 later, 3 3 3.25 label 3, 1000 2, 1001 50 label 50",)
    ]
    assert production.query(APP, "select id, at::text from t.item where id in (1, 1000) order by id") == [
        (1, "2024-01-01 02:00:00+00"), (1000, "2020-01-01 10:00:00+00"),
    ]  # fmt: skip


def test_what_others_wrote_is_cast_to_the_old_type(rig: Any, production: Any) -> None:
    undo = merged(rig, production, "alter table item alter weight type int", "alter table item alter size type bigint",
                  "update item set weight = 70 where id = 3")  # fmt: skip
    production.run(
        APP,
        [
            "insert into item (id, code, weight, size) values (1000, 'new', 8, 9)",
            "update item set weight = 5, size = 6 where id = 1",
        ],
    )
    rig.apply(production, undo)
    assert production.query(APP, ROWS.format("weight, size")) == [
        ("1 5.00 6, 2 2.25 2, 3 3.25 3, 50 50.25 50, 1000 8.00 9",)
    ]


UNFIT = {
    "too long": (["drop view whats", "alter table item alter label type text"], "update item set label = repeat('x', 21) where id = 1", ("label",)),
    "too large": (["alter table item alter size type bigint"], "update item set size = 40000 where id = 1", ("size",)),
    "no number": (["alter table item alter size type text"], "update item set size = 'many' where id = 1", ("size",)),
    "rounded": (["alter table item alter size type numeric"], "update item set size = 1.5 where id = 1", ("size",)),
    "altered by somebody": (["alter table item alter size type bigint"], "alter table item alter size type int", None),
    "a column made again": (["alter table item drop column weight", "create table three (i int)"], "alter table item add column weight numeric(6, 2)", ("weight",)),
    "a table made again": (["drop table two", "create table three (i int)"],
                           ["set role shop", "create table two (what text, id int primary key)"], ("table t.two",)),
    "another table of its name": (["drop table two"], "create table two (i int)", None),
    "a new row without a value": (["alter table item drop column code"], "insert into item (id) values (1000)", ()),
    "a key taken twice": (["alter table item drop constraint item_code_key"], "update item set code = 'code 2' where id = 1", ()),
    "a parent gone": (["drop table log cascade"], "delete from item where id = 1", ()),
}  # fmt: skip


@pytest.mark.parametrize(("statements", "later", "key"), UNFIT.values(), ids=UNFIT)
def test_what_does_not_fit_is_refused(
    rig: Any, production: Any, statements: list[str], later: str | list[str], key: Any
) -> None:
    undo = merged(rig, production, *statements, "update bare set more = 'C'")
    production.run(APP, later)
    conflict, *others = refused(rig, production, undo)
    assert key is None or not others
    kind = {None: "schema", (): "ddl-failed"}.get(key, "irreversible")
    assert (conflict.kind, conflict.choices) == (kind, frozenset()), conflict
    assert not key or conflict.key == key


def test_new_rows_beside_rows_that_no_key_tells_apart(rig: Any, production: Any) -> None:
    undo = merged(rig, production, "alter table many drop column a, drop column c")
    production.run(
        APP, ["insert into many values ('new', 1, 1), ('new', 1, 1)", "insert into many select * from many limit 1"]
    )
    before = "select what, count(*), count(a), sum(a), count(distinct a), string_agg(c, ',' order by c) filter (where c <> 'c') from t.many where what is distinct from 'new' group by 1 order by 1"
    rig.apply(production, undo)
    found = production.query(APP, before)
    assert sum(row[2] for row in found) == 40
    assert sum(row[3] for row in found) == 820
    assert production.query(APP, "select a, c from t.many where what = 'new'") == [(None, "c"), (None, "c")]
    pairs = (
        "select count(*) from t.many where a is not null and c is distinct from case when a % 2 = 0 then 'd' || a end"
    )
    assert production.query(APP, pairs) == [(0,)], "values of one row are in one row again"


@pytest.mark.parametrize("later", ["delete from many where d = 4", "update many set d = 9 where d = 4"])
def test_rows_that_no_key_tells_apart_and_somebody_changed(rig: Any, production: Any, later: str) -> None:
    undo = merged(rig, production, "alter table many drop column a, drop column b")
    production.run(APP, later)
    (conflict,) = refused(rig, production, undo)
    assert (conflict.kind, conflict.place, conflict.key) == ("irreversible", "postgres/postgres/t.many", ("a",))


BESIDE = {
    "a column of that name in another table": ["alter table two drop column what", "alter table bare drop column more"],
    "another type of what tells them apart": [
        "alter table bare alter what type varchar(9)",
        "alter table bare drop column more",
    ],
}


@pytest.mark.parametrize("statements", BESIDE.values(), ids=BESIDE)
def test_rows_that_somebody_changed_and_more_that_comes_back(rig: Any, production: Any, statements: list[str]) -> None:
    undo = merged(rig, production, *statements)
    production.run(APP, "update bare set what = 'changed' where ctid = (select min(ctid) from bare)")
    (conflict,) = refused(rig, production, undo)
    assert (conflict.kind, conflict.place, conflict.key) == ("irreversible", "postgres/postgres/t.bare", ("more",))


IRREVERSIBLE = {
    "the number of rows that no key tells apart": ["alter table roll drop column id"],
    "all of a table": ["alter table alone drop column what", "alter table alone add column that int"],
    "a key": ["alter table log drop column id cascade"],
    "an expression": ["alter table item alter size type int using size * 2"],
    "a type of two": ["alter table item alter size type int", "alter table item alter size type text"],
    "an aggregate": ["drop aggregate rare.largest(int)"],
    "a type of ranges": [
        "create type spans as range (subtype = int)",
        "drop type spans",
        "alter domain grams drop not null",
    ],
}


@pytest.mark.parametrize("statements", IRREVERSIBLE.values(), ids=IRREVERSIBLE)
def test_what_cannot_be_exact_is_refused_by_name(rig: Any, production: Any, statements: list[str]) -> None:
    undo = merged(rig, production, *statements, "update item set label = 'x'")
    conflicts = refused(rig, production, undo)
    assert conflicts
    assert {(each.kind, each.choices) for each in conflicts} == {("irreversible", frozenset())}


def test_a_refusal_without_the_bytes_before(rig: Any, production: Any) -> None:
    fork = rig.fork(production)
    fork.run(APP, ["drop table two"])
    (changes,) = rig.diff(fork)
    fork.discard()
    undo = rig.apply(production, changes).undo
    assert {each.kind for each in refused(rig, production, undo)} == {"irreversible"}


def test_a_merge_taken_back_is_merged_again(rig: Any, production: Any) -> None:
    fork = rig.fork(production)
    fork.run(APP, MERGES["several at once"])
    (changes,) = rig.diff(fork)
    fork.discard()
    before = state(production)
    undo = taken_back(rig, production, changes)
    after = state(production)
    rig.apply(production, undo)
    assert not differing(state(production), before)
    rig.apply(production, changes)
    assert not differing(state(production), after)


def test_a_column_that_came_back_and_is_used_since_is_asked_about(rig: Any, production: Any) -> None:
    undo = merged(rig, production, "alter table item drop column weight")
    redo = taken_back(rig, production, undo)
    production.run(
        APP, ["insert into item (id, code) values (1000, 'without')", "update item set label = 'x' where id = 2"]
    )
    rig.apply(production, redo, Options(dry_run=True))
    production.run(APP, "insert into item (id, code, weight) values (1001, 'with', 5)")
    before = rig.servers.dump(production.server, APP)
    with pytest.raises(Refused) as error:
        rig.apply(production, redo)
    assert rig.servers.dump(production.server, APP) == before
    (conflict,) = error.value.conflicts
    assert (conflict.kind, conflict.key, conflict.choices) == (
        "drop-vs-change",
        ("weight",),
        frozenset({Side.OURS, Side.THEIRS}),
    )
    rig.apply(production, redo, None, {conflict.id: Resolution(side=Side.THEIRS)})
    assert "column t.item.weight" not in state(production)

"""Which statements of a DDL log are replayed, where, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from wye.kinds.postgres.ddl import AFTER, BEFORE, EXPAND, plan_statements

SETTINGS = {"TimeZone": "Asia/Tokyo", "standard_conforming_strings": "on"}


def log(*queries: str) -> list[tuple[Any, ...]]:
    terms = ("app", "t, public")
    return [(7, f"12:00:{n:02}", "TAG", "t.thing", False, *terms, q, SETTINGS, "5") for n, q in enumerate(queries)]


def planned(*queries: str) -> list[tuple[str, str]]:
    statements, refused = plan_statements(log(*queries), "postgres/app")
    assert refused == []
    return [(statement.sql, statement.stage) for statement in statements]


REPLAYED = {
    "create table t (i int)": [("create table t (i int)", BEFORE)],
    "insert into t values (1); drop view v; select f()": [("drop view v", BEFORE)],
    "create index concurrently on t (i)": [("CREATE INDEX ON t USING btree (i)", AFTER)],
    "drop index concurrently x": [("DROP INDEX x", BEFORE)],
    "create table c as select 1 as n": [("CREATE TABLE c AS SELECT 1 AS n  WITH NO DATA", BEFORE)],
    "alter type e add value 'x'": [("ALTER TYPE e ADD VALUE IF NOT EXISTS 'x'", EXPAND)],
    "alter type e rename value 'x' to 'y'": [("alter type e rename value 'x' to 'y'", BEFORE)],
    "alter table t add column a int, alter b set not null, add check (a > 0)": [
        ("ALTER TABLE t ADD COLUMN a int", BEFORE),
        ("ALTER TABLE t ALTER COLUMN b SET NOT NULL", AFTER),
        ("ALTER TABLE t ADD CHECK (a > 0)", AFTER),
    ],
    "alter table t alter a type int using b, alter b type int using a": [
        ("alter table t alter a type int using b, alter b type int using a", BEFORE)
    ],
    "alter table t add c int, alter a type int, alter b set default 1, alter a drop default, alter b type bigint": [
        ("ALTER TABLE t ALTER COLUMN a DROP DEFAULT", BEFORE),
        ("ALTER TABLE t ALTER COLUMN a TYPE int, ALTER COLUMN b TYPE bigint", BEFORE),
        ("ALTER TABLE t ADD COLUMN c int", BEFORE),
        ("ALTER TABLE t ALTER COLUMN b SET DEFAULT 1", BEFORE),
    ],
    "alter table t alter a type int using b, drop constraint c, drop b, add b int": [
        ("ALTER TABLE t DROP CONSTRAINT c", BEFORE),
        ("ALTER TABLE t DROP b, ALTER COLUMN a TYPE int USING b", BEFORE),
        ("ALTER TABLE t ADD COLUMN b int", BEFORE),
    ],
    "refresh materialized view v": [],
    "alter sequence s restart with 5; alter table t alter id restart": [],
    "alter sequence s restart with 5 increment 3": [("ALTER SEQUENCE s INCREMENT 3", BEFORE)],
    "alter table t alter id set increment 4 restart": [("ALTER TABLE t ALTER id SET INCREMENT 4", BEFORE)],
    "alter table t alter id restart, add b int": [("ALTER TABLE t ADD COLUMN b int", BEFORE)],
    "create temp table x (i int); create temp table y as select 1": [],
    "comment on table t is 'ü'; grant select on t to app": [
        ("comment on table t is 'ü'", BEFORE),
        ("grant select on t to app", BEFORE),
    ],
}


@pytest.mark.parametrize(("query", "statements"), REPLAYED.items(), ids=REPLAYED)
def test_replayed(query: str, statements: list[tuple[str, str]]) -> None:
    assert planned(query) == statements


REFUSED = [
    "do $$begin execute 'create table x ()'; end$$",
    "call migrate()",
    "select make_tables()",
    "select 1 as i into t",
    "create role x; create table t (i int)",
    "alter system set work_mem = '1MB'",
    "create tablespace x location '/tmp'",
    "this is no SQL",
    "refresh materialized view v with no data",
    "create subscription s connection 'host=x' publication p",
]


@pytest.mark.parametrize("query", REFUSED)
def test_refused(query: str) -> None:
    statements, (conflict,) = plan_statements(log(query), "postgres/app")
    assert statements == []
    assert (conflict.kind, conflict.place, conflict.theirs) == ("opaque-ddl", "postgres/app", query)


def test_a_message_is_planned_once() -> None:
    query = "create table a (i int); create table b (i int)"
    twice = [log(query)[0], (*log(query)[0][:3], "t.other", *log(query)[0][4:])]
    assert len(plan_statements(twice, "p")[0]) == 2


def test_what_an_extension_makes_is_not_replayed() -> None:
    row = log("create extension citext")[0]
    statements, refused = plan_statements([(*row[:4], True, *row[5:]), row], "p")
    assert ([s.sql for s in statements], refused) == (["create extension citext"], [])


def test_what_an_extension_drops_it_drops_under_its_own_path() -> None:
    row = log("create extension hstore")[0]
    drop = (*row[:2], "DROP OPERATOR", "@", False, "app", "public, pg_temp", *row[7:])
    (statement,), refused = plan_statements([drop, (*row[:4], True, *row[5:]), row], "p")
    assert (statement.sql, statement.path, refused) == ("create extension hstore", "t, public", [])


def test_what_leaves_the_schema_as_it_was_is_not_replayed() -> None:
    row = log("select rebuild_all()")[0]
    assert plan_statements([(*row[:2], "REINDEX", *row[3:])], "p") == ([], [])


def test_role_path_and_settings_are_kept() -> None:
    (statement,) = plan_statements(log("create table t (i int)"), "p")[0]
    assert (statement.role, statement.path, statement.dialect) == ("app", "t, public", (("TimeZone", "Asia/Tokyo"),))


@pytest.mark.parametrize("settings", [None, 7, [], {}, {"search_path": "x", "work_mem": "1"}, {"TimeZone": 7}])
def test_a_log_without_settings_or_with_forged_ones(settings: Any) -> None:
    (statement,) = plan_statements([(*log("create table t (i int)")[0][:8], settings, "5")], "p")[0]
    assert statement.dialect == ()


def test_what_others_log_between_two_entries_of_a_message() -> None:
    ours = log("create table a (i int); create table b (i int)")[0]
    others = (8, *log("create table c (i int)")[0][1:])
    statements, refused = plan_statements([ours, others, ours], "p")
    assert ([each.sql for each in statements], refused) == (
        ["create table a (i int)", "create table b (i int)", "create table c (i int)"], []
    )  # fmt: skip


A, B = "alter table a add i int", "alter table b add i int"
WHOLE = {
    f"begin; {A}; {B}; commit": ["5"],
    f"begin; savepoint s; {A}; release s; {B}; commit": ["5", "6"],
    f"rollback; begin; {A}; {B}; commit": ["5"],
    f"begin; {A}; commit; begin; {B}; commit": ["5", "6"],
    f"begin; insert into a values (1); commit; {A}; {B}": ["5"],
}
IN_PART = {
    f"begin; {A}; rollback; {B}": ["5"],
    f"begin; savepoint s; {A}; rollback to s; {B}; commit": ["5"],
    f"{A}; abort": ["5"],
    f"begin; {A}; commit; begin; {B}; commit": ["5"],
    f"{A}; commit; {B}": ["5"],
}


@pytest.mark.parametrize(("query", "transactions"), WHOLE.items(), ids=WHOLE)
def test_a_message_of_several_transactions(query: str, transactions: list[str]) -> None:
    statements, refused = plan_statements([(*log(query)[0][:9], each) for each in transactions], "p")
    assert ([each.sql for each in statements], refused) == ([A, B], [])


@pytest.mark.parametrize(("query", "transactions"), IN_PART.items(), ids=IN_PART)
def test_a_message_that_was_not_all_carried_out(query: str, transactions: list[str]) -> None:
    statements, (conflict,) = plan_statements([(*log(query)[0][:9], each) for each in transactions], "p")
    assert (statements, conflict.kind) == ([], "opaque-ddl")
    assert "send them one by one" in conflict.detail


def test_settings_that_change_within_a_message() -> None:
    row = log(f"{A}; set timezone = 'UTC'; {B}")[0]
    statements, (conflict,) = plan_statements([row, (*row[:8], SETTINGS | {"TimeZone": "UTC"}, "5")], "p")
    assert (statements, conflict.kind) == ([], "opaque-ddl")


def test_strings_in_which_a_backslash_is_none() -> None:
    off = SETTINGS | {"standard_conforming_strings": "off"}
    refused = [
        plan_statements([(*log(query)[0][:8], off, "5")], "p")[1]
        for query in (A, r"comment on table a is 'it\'s'", r"comment on table a is 'a\b'")
    ]
    assert [len(each) for each in refused] == [0, 1, 1]


def test_values_of_a_new_type_are_folded_into_it() -> None:
    assert planned(
        "create type e as enum ('m')", "alter type e add value 'l'; alter type e add value 's' before 'm'"
    ) == [("CREATE TYPE e AS ENUM ('s', 'm', 'l')", BEFORE)]
    renamed = planned(
        "create type e as enum ('m')", "alter type e rename value 'm' to 'n'", "alter type e add value 'o'"
    )
    assert [stage for _, stage in renamed] == [BEFORE, BEFORE, EXPAND]

"""Which statements of a DDL log are replayed, where, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from wye.kinds.postgres.ddl import AFTER, BEFORE, EXPAND, plan_statements


def log(*queries: str) -> list[tuple[Any, ...]]:
    return [(7, f"12:00:{n:02}", "TAG", "t.thing", False, "app", "t, public", query) for n, query in enumerate(queries)]


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


def test_what_leaves_the_schema_as_it_was_is_not_replayed() -> None:
    row = log("select rebuild_all()")[0]
    assert plan_statements([(*row[:2], "REINDEX", *row[3:])], "p") == ([], [])


def test_role_and_path_are_kept() -> None:
    (statement,) = plan_statements(log("create table t (i int)"), "p")[0]
    assert (statement.role, statement.path) == ("app", "t, public")


def test_values_of_a_new_type_are_folded_into_it() -> None:
    assert planned(
        "create type e as enum ('m')", "alter type e add value 'l'; alter type e add value 's' before 'm'"
    ) == [("CREATE TYPE e AS ENUM ('s', 'm', 'l')", BEFORE)]
    renamed = planned(
        "create type e as enum ('m')", "alter type e rename value 'm' to 'n'", "alter type e add value 'o'"
    )
    assert [stage for _, stage in renamed] == [BEFORE, BEFORE, EXPAND]

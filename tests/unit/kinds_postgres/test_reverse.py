"""The inverse of DDL: what each statement's is, in which order they run, and what has none."""

# ruff: noqa: E501 - SQL reads better on long lines than cut into pieces
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from wye.kinds.postgres.ddl import AFTER, BEFORE, plan_statements
from wye.kinds.postgres.reverse import Reversed, reverse
from wye.kinds.postgres.reverse_table import default_of

SCHEMA = {
    "schema public": "postgres ",
    "schema t": "app ",
    "table t.item": "r p f f d app ",
    "column t.item.id": "integer not null p",
    "column t.item.label": "text default 'a b'::text x",
    "column t.item.stock": "integer not null default 0 p",
    "constraint t.item.item_pkey": "PRIMARY KEY (id)",
    "constraint t.item.positive": "CHECK ((stock >= 0))",
    "index t.item_pkey": "CREATE UNIQUE INDEX item_pkey ON t.item USING btree (id) t f f",
    "index t.by_label": "CREATE INDEX by_label ON t.item USING btree (label) t f f by hand",
    "table t.stocked": "v p f f n security_barrier=true app ",
    "view t.stocked": "v SELECT item.id\n   FROM t.item;",
    "function t.f(integer)": "CREATE OR REPLACE FUNCTION t.f(integer)\n AS $function$old$function$\n app ",
    "comment t.item.noted trigger": "it's old",
    "column-setting t.item.label": "statistics 300",
    "trigger t.item.noted": "CREATE TRIGGER noted AFTER INSERT ON t.item EXECUTE FUNCTION t.g() O",
    "type t.mood": "e app  'sad'",
    "extension plpgsql": "1.0 pg_catalog",
}


STOCKED = [
    "* create view t.stocked with (security_barrier=true) as  SELECT item.id\n   FROM t.item;",
    "* alter view t.stocked owner to app",
]


def entry(number: int, query: str, zone: str = "UTC") -> tuple[Any, ...]:
    terms = ("app", '"$user", t, public')
    return (7, str(number), "TAG", "thing", False, *terms, query, {"TimeZone": zone}, "5")


def reversed_(queries: Iterable[str], after: dict[str, str]) -> Reversed:
    log = [entry(n, query) for n, query in enumerate(queries)]
    statements, refused = plan_statements(log, "postgres/app")
    assert not refused
    found = reverse(statements, SCHEMA, after)
    assert not found.irreversible, found.irreversible
    return found


def undone(*queries: str, after: dict[str, str] | None = None) -> list[str]:
    """The inverse's statements; those that come after the rows begin with an asterisk."""
    found = reversed_(queries, {**SCHEMA, **(after or {})})
    assert [s.stage for s in found.statements] == sorted((s.stage for s in found.statements), key=[BEFORE, AFTER].index)
    return [("* " if s.stage == AFTER else "") + s.sql for s in found.statements]


INVERSES = {
    "create table new (i int)": ['drop table "t"."new"'],
    "create table public.new (i int)": ['drop table "public"."new"'],
    "create table if not exists item (i int)": [],
    "create table new as select 1 as i": ['drop table "t"."new"'],
    "create materialized view m as select 1 as i": ['drop materialized view "t"."m"'],
    "create view v as select 1 as i": ['drop view "t"."v"'],
    "create or replace view stocked as select 1 as id": [
        'drop view "t"."stocked"',
        *STOCKED,
    ],
    "create sequence s": ['drop sequence "t"."s"'],
    "create schema more": ['drop schema "more"'],
    "create type size as enum ('s')": ['drop type "t"."size"'],
    "create type pair as (a int, b int)": ['drop type "t"."pair"'],
    "create domain d as int": ['drop domain "t"."d"'],
    "create index concurrently fast on item (stock)": ['drop index "t"."fast"'],
    "alter table item add column note text": ['alter table "t"."item" drop column "note"'],
    'alter table item add column "No te" text': ['alter table "t"."item" drop column "No te"'],
    "alter table item add column if not exists label text": [],
    "alter table item add constraint few check (stock < 9)": [
        'alter table "t"."item" drop constraint if exists "few"'
    ],
    "alter table item alter label set not null": ['alter table "t"."item" alter column "label" drop not null'],
    "alter table item alter stock set not null": [],
    "alter table item alter stock drop not null": ['* alter table "t"."item" alter column "stock" set not null'],
    "alter table item alter stock set default 5": [
        'alter table "t"."item" alter column "stock" drop default',
        '* alter table "t"."item" alter column "stock" set default 0',
    ],
    "alter table item alter id set default 5": ['alter table "t"."item" alter column "id" drop default'],
    "alter table item alter label drop default": [
        'alter table "t"."item" alter column "label" drop default',
        "* alter table \"t\".\"item\" alter column \"label\" set default 'a b'::text",
    ],
    "alter table item rename to thing": ['alter table "t"."thing" rename to "item"'],
    "alter table item rename label to name": ['alter table "t"."item" rename column "name" to "label"'],
    "alter table item rename constraint positive to p": ['alter table "t"."item" rename constraint "p" to "positive"'],
    "alter type mood rename to feeling": ['alter type "t"."feeling" rename to "mood"'],
    "alter type mood rename value 'sad' to 'glum'": ["alter type \"t\".\"mood\" rename value 'glum' to 'sad'"],
    "alter type mood add value 'glad'": [],
    "alter schema t rename to u": ['alter schema "u" rename to "t"'],
    "alter table item enable row level security": ['alter table "t"."item" disable row level security'],
    "create trigger more after insert on item execute function g()": ['drop trigger "more" on "t"."item"'],
    "drop table if exists nothing": [],
    **{
        query: []  # set back by values
        for query in (
            "grant select on item to app", "alter table item set (fillfactor = 50)", "alter table item owner to app",
            "comment on trigger noted on item is 'x'", "alter table item disable trigger all",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize(("query", "inverse"), INVERSES.items(), ids=INVERSES)
def test_inverse(query: str, inverse: list[str]) -> None:
    assert undone(query) == inverse


IRREVERSIBLE = [
    "alter table item alter id type bigint using id * 2",
    "alter table item alter id type bigint using id::int",
    "alter table item alter id type bigint using stock::bigint",
    "drop extension plpgsql",
    "drop aggregate a (int)",
    "create type made",
]


@pytest.mark.parametrize("query", IRREVERSIBLE)
def test_no_inverse(query: str) -> None:
    log = [entry(n, q) for n, q in enumerate(["create table x (i int)", query])]
    found = reverse(plan_statements(log, "postgres/app")[0], SCHEMA, SCHEMA)
    assert found.irreversible == (query,)


NETS = {
    "made and dropped": (["create table x (i int)", "alter table x add column j int", "drop table x"], []),
    "a column made and dropped": (["alter table item add column j int", "alter table item drop column j"], []),
    "made and changed": (
        [
            "create table x (i int)", "alter table x alter i type bigint", "alter table x drop column i",
            "create index on x (i)", "grant select on x to app", "comment on table x is 'x'",
            "alter table x rename to y",
        ],
        ['alter table "t"."y" rename to "x"', 'drop table "t"."x"'],
    ),
    "a made column changed": (
        ["alter table item add column j int", "alter table item alter j set not null", "alter table item alter j type bigint"],
        ['alter table "t"."item" drop column "j"'],
    ),
    "renamed, then made under the old name": (
        ["alter table item rename label to old", "alter table item add column label int"],
        ['alter table "t"."item" drop column "label"', 'alter table "t"."item" rename column "old" to "label"'],
    ),
    "late definitions have the old names": (
        ["alter table item rename to thing", "alter table thing rename stock to amount", "alter table thing drop constraint positive",
         "alter table thing alter amount drop not null"],
        [
            'alter table "t"."thing" rename column "amount" to "stock"', 'alter table "t"."thing" rename to "item"',
            '* alter table "t"."item" alter column "stock" set not null',
        ],
    ),
    "a view over a new column": (
        ["alter table item add column j int", "drop view stocked", "create view stocked as select id, j from item"],
        [
            'drop view "t"."stocked"', 'alter table "t"."item" drop column "j"',
        ],
    ),
    "renamed, then dropped": (["alter table item rename to thing", "alter table thing rename stock to amount", "drop table thing"], []),
}  # fmt: skip


@pytest.mark.parametrize(("queries", "inverse"), NETS.values(), ids=NETS)
def test_several(queries: list[str], inverse: list[str]) -> None:
    assert undone(*queries) == inverse


def test_names_that_the_server_chose() -> None:
    after = {
        "constraint t.item.item_check": "CHECK ((id < 9))",
        "constraint t.item.item_label_key": "UNIQUE (label)",
        "index t.item_label_key": "CREATE UNIQUE INDEX item_label_key ON t.item USING btree (label) t f f",
        "index t.item_stock_idx": "CREATE INDEX item_stock_idx ON t.item USING btree (stock) t f f",
    }
    queries = [
        "alter table item add check (id < 9)",
        "alter table item add unique (label)",
        "create index on item (stock)",
    ]
    assert undone(*queries, after=after) == [
        'drop index if exists "t"."item_stock_idx"',
        'alter table "t"."item" drop constraint if exists "item_label_key"',
        'alter table "t"."item" drop constraint if exists "item_check"',
    ]


def test_functions() -> None:
    new = {"function t.g(integer,text)": "new", "function t.f(integer)": "replaced"}
    queries = ["create function g(a int, b text, out c int) language sql as 'select 1'",
               "create or replace function f(int) returns int language sql as 'select 2'"]  # fmt: skip
    assert undone(*queries, after=new) == [
        "drop routine if exists t.g(integer,text)",
        "* CREATE OR REPLACE FUNCTION t.f(integer)\n AS $function$old$function$",
    ]


def test_a_function_dropped_and_made_anew() -> None:
    queries = ["drop function f(int)", "create function f(int) returns text language sql as 'select 1'"]
    found = reversed_(queries, {**SCHEMA, "function t.f(integer)": "another"})
    assert [each.sql for each in found.statements] == ["drop routine if exists t.f(integer)"]
    assert found.lost == ("function t.f(integer)",)


@pytest.mark.parametrize(
    ("definition", "default"),
    [
        ("text default 'a b'::text x", "'a b'::text"),
        ("integer not null default nextval('t.s'::regclass) p", "nextval('t.s'::regclass)"),
        ("jsonb default '{}'::jsonb x pglz {app=r/app} n_distinct=5 a comment", "'{}'::jsonb"),
        ("text default ' default '::text x", "' default '::text"),
        ("timestamp with time zone default (now() - '1 day'::interval) p", "(now() - '1 day'::interval)"),
        ("integer p", None),
    ],
)
def test_a_default_is_found_in_a_definition(definition: str, default: str | None) -> None:
    assert default_of(definition) == default


OF_ITEM = {
    key
    for key in SCHEMA
    if key.startswith(("table t.item", "column t.item.", "constraint t.item.", "index t.", "trigger t.item."))
}
LOST = {
    "drop table item": OF_ITEM,
    "drop table item cascade": {*OF_ITEM, "table t.stocked"},
    "alter table item drop column label": {"column t.item.label", "index t.by_label"},
    "alter table item drop constraint positive": {"constraint t.item.positive"},
    "drop index by_label": {"index t.by_label"},
    "drop view stocked": {"table t.stocked"},
    "drop trigger noted on item": {"trigger t.item.noted"},
    "drop function f": {"function t.f(integer)"},
    "drop type mood": {"type t.mood"},
    "drop schema t cascade": {
        key for key in SCHEMA if key.partition(" ")[0] not in ("view", "extension", "comment", "column-setting")
    }
    - {"schema public"},
}


@pytest.mark.parametrize(("query", "lost"), LOST.items(), ids=LOST)
def test_what_is_lost_is_named(query: str, lost: set[str]) -> None:
    found = reversed_([query], {key: text for key, text in SCHEMA.items() if key not in lost})
    assert (set(found.lost), found.statements) == (lost, ())


def test_what_is_renamed_is_not_lost() -> None:
    names = {"table t.item": "table t.thing", "t.item.": "t.thing.", "label": "name"}
    after = {}
    for key, text in SCHEMA.items():
        for old, new in names.items():
            key = key.replace(old, new)
        after[key] = text
    queries = [
        "alter table item rename to thing",
        "alter table thing rename label to name",
        "alter index by_label rename to by_name",
    ]
    assert reversed_(queries, after).lost == ()


TYPES = [
    "bigint",
    "bigint using stock",
    "bigint using stock::bigint",
    "varchar(3) using stock::varchar(3)",
    "int[] using stock::int[]",
]


@pytest.mark.parametrize("wanted", TYPES)
def test_a_type_is_cast_back(wanted: str) -> None:
    after = {key.replace("stock", "amount"): text for key, text in SCHEMA.items()}
    found = reversed_([f"alter table item alter stock type {wanted}", "alter table item rename stock to amount"], after)
    assert found.retyped == (("column t.item.stock", ("column", "t", "item", "amount")),)


def test_types_that_were_changed_under_other_settings() -> None:
    """Values come back under those that they went by."""
    one, other = "alter table item alter stock type bigint", "alter table item alter label type varchar"
    same = plan_statements([entry(0, one, "Asia/Tokyo"), entry(1, other, "Asia/Tokyo")], "p")[0]
    assert reverse(same, SCHEMA, SCHEMA).dialect == (("TimeZone", "Asia/Tokyo"),)
    others = plan_statements([entry(0, one, "Asia/Tokyo"), entry(1, other)], "p")[0]
    assert reverse(others, SCHEMA, SCHEMA).irreversible == (other,)

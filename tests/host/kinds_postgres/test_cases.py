"""Hard cases of merging a fork's database into one that moved on: what each side did, and what has to come of it.

`merged`: queries with their rows in the target afterwards. `refused`: the kinds of conflict that may be reported, and at least
one must be; the target is then as it was. Every case is a database of its own with the schema `t` on the search path.
SQL is sent statement by statement; a list is sent message by message. All share one production cluster and one fork.
"""

# ruff: noqa: E501 - SQL reads better on long lines than cut into pieces
from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import postgast
import pytest

from wye.merge.refused import Refused

pytestmark = pytest.mark.host

AT_ONCE = 30
"""Databases that are read together."""
SHOP = """
create table item (id serial primary key, stock int, label text, code text unique);
insert into item (stock, label, code) select n, 'label ' || n, 'code ' || n from generate_series(1, 50) n;
"""


def orders(rule: str = "") -> str:
    return (
        SHOP
        + f"""
        create table purchase (id int primary key, item int references item {rule}, note text);
        insert into purchase select n, n, 'old' from generate_series(1, 20) n;
        """
    )


KEYLESS = (
    SHOP
    + """
create table visit (page int, who text);
insert into visit select 1, 'ann' from generate_series(1, 3); insert into visit values (2, 'bob');
"""
)
AUDIT = (
    SHOP
    + """
create table audit (id bigserial primary key, what text);
create function note() returns trigger language plpgsql as
    $$begin insert into t.audit (what) values (new.label); return new; end$$;
create trigger noted after update on item for each row execute function note();
"""
)
PARTED = """
create table reading (id int, zone int, v text, primary key (id, zone)) partition by list (zone);
create table reading_1 partition of reading for values in (1);
"""
WIDE = "create table item (id int primary key, stock int, label text); insert into item select n, n, repeat('z', 100) from generate_series(1, 5000) n;"
BY_CODE = (
    SHOP
    + """
create table alias (id int primary key, code text references item (code) on update cascade);
insert into alias values (1, 'code 1');
"""
)


@dataclass(frozen=True)
class Case:
    name: str
    setup: str
    fork: str | list[str]
    target: str = ""
    merged: tuple[tuple[str, list[tuple[Any, ...]]], ...] = ()
    refused: frozenset[str] = frozenset()
    since: int = 0
    """The first version that has what the case is about."""
    changed: int | None = None
    """Rows of one table that the diff shows at most."""

    def missing(self, site: Any) -> str | None:
        """What the case needs and the site's server has not."""
        if site.rig.version < self.since:
            return f"PostgreSQL {self.since}"
        there = {name for (name,) in site.query("postgres", "select name from pg_available_extensions")}
        if site.query("postgres", "select 1 from pg_collation where collname = 'de-x-icu'"):
            there.add("icu")
        needed = re.findall(r"create extension (\w+)|provider = (icu)", f"{self.setup} {self.fork}")
        return next((name for name in map("".join, needed) if name not in there), None)


def ok(
    name: str,
    setup: str,
    fork: str | list[str],
    target: str,
    *merged: tuple[str, list[tuple[Any, ...]]],
    changed: int | None = None,
) -> Case:
    return Case(name, setup, fork, target, merged=merged, changed=changed)


def no(name: str, setup: str, fork: str | list[str], target: str, *kinds: str) -> Case:
    return Case(name, setup, fork, target, refused=frozenset(kinds))


FIRST_TWO = "select id, stock from t.item where id < 3 order by id"

ROWS = [
    ok("other rows", SHOP, "update item set stock = 100 where id = 1", "update item set stock = 200 where id = 2",
       (FIRST_TWO, [(1, 100), (2, 200)])),
    ok("other columns of one row", SHOP, "update item set stock = 100 where id = 1",
       "update item set label = 'live' where id = 1", ("select stock, label from t.item where id = 1", [(100, "live")])),
    no("one cell, two values", SHOP, "update item set stock = 100 where id = 1; update item set stock = 1 where id = 9",
       "update item set stock = 200 where id = 1", "update/update"),
    ok("one cell, one value", SHOP, "update item set stock = 100 where id = 1", "update item set stock = 100 where id = 1",
       ("select stock from t.item where id = 1", [(100,)])),
    no("updated, deleted live", SHOP, "update item set stock = 100 where id = 1", "delete from item where id = 1",
       "update/delete"),
    no("deleted, updated live", SHOP, "delete from item where id = 1", "update item set label = 'new' where id = 1",
       "delete/update"),
    ok("deleted by both", SHOP, "delete from item where id = 1", "delete from item where id = 1",
       ("select count(*) from t.item", [(49,)])),
    no("one key inserted twice", SHOP, "insert into item values (900, 1, 'f', 'f')",
       "insert into item values (900, 2, 'l', 'l')", "insert/insert"),
    ok("one row inserted twice", SHOP, "insert into item values (900, 1, 'f', 'f')",
       "insert into item values (900, 1, 'f', 'f')", ("select count(*) from t.item", [(51,)])),
    no("one unique value taken twice", SHOP, "insert into item values (900, 1, 'f', 'dup'), (902, 1, 'f', 'dup2')",
       "insert into item values (901, 2, 'l', 'dup'), (903, 2, 'l', 'dup2')", "unique"),
    ok("serial keys of both sides keep apart", SHOP, "insert into item (label) values ('F')",
       "insert into item (label) values ('L')",
       ("select count(*), min(id) filter (where label = 'L') from t.item where label in ('F', 'L')", [(2, 51)]),
       ("select nextval('t.item_id_seq') > 100050", [(True,)])),
    ok("two rows exchange unique values", SHOP, "update item set code = 'x' where id = 1;"
       "update item set code = 'code 1' where id = 2; update item set code = 'code 2' where id = 1",
       "update item set stock = 7 where id = 1",
       ("select id, stock, code from t.item where id < 3 order by id", [(1, 7, "code 2"), (2, 2, "code 1")])),
    ok("a unique value freed and taken again", SHOP,
       "delete from item where id = 1; insert into item values (900, 0, 'n', 'code 1')", "",
       ("select id from t.item where code = 'code 1'", [(900,)])),
    ok("keys changed", SHOP, "update item set id = id + 1000 where id < 4", "update item set stock = 5 where id = 10",
       ("select id from t.item where stock < 4 order by id", [(1001,), (1002,), (1003,)])),
    no("key changed, old row updated live", SHOP, "update item set id = 1001 where id = 1",
       "update item set stock = 5 where id = 1", "delete/update"),
    ok("truncated; what came live stays", SHOP, "truncate item", "insert into item values (900, 1, 'l', 'l')",
       ("select id from t.item", [(900,)])),
    no("truncated; a row updated live", SHOP, "truncate item", "update item set stock = 0 where id = 3", "delete/update"),
    ok("no net change", SHOP, "update item set stock = 0; update item set stock = id; delete from item where id = 3;"
       "insert into item values (3, 3, 'label 3', 'code 3')", "update item set stock = 5 where id = 3",
       ("select stock from t.item where id = 3", [(5,)])),
    no("null against the empty string", SHOP, "update item set label = null where id = 1; update item set label = '' where id = 2",
       "update item set label = '' where id = 1", "update/update"),
    ok("odd text", SHOP, "update item set label = null where id = 1; update item set label = '' where id = 2;"
       r"update item set label = 'NULL' where id = 3; update item set label = E'tab\tnl\n\\N \\.\r \\b' where id = 4", "",
       ("select label from t.item where id < 5 order by id", [(None,), ("",), ("NULL",), ("tab\tnl\n\\N \\.\r \\b",)])),
    ok("what was rolled back leaves no trace", SHOP, "begin; update item set stock = 0; create table never (i int); rollback;"
       "update item set stock = 55 where id = 5", "",
       ("select stock from t.item where id in (4, 5) order by id", [(4,), (55,)]),
       ("select to_regclass('t.never')::text", [(None,)])),
    ok("temporary tables stay in the fork", SHOP, "create temp table scratch as select 1; update item set stock = 3 where id = 9",
       "", ("select stock from t.item where id = 9", [(3,)])),
    ok("table rewritten in the fork", SHOP, "vacuum full item; update item set stock = 1000 where id = 1",
       "update item set stock = 7 where id = 2", (FIRST_TWO, [(1, 1000), (2, 7)])),
    ok("tail deleted and cut off by vacuum", WIDE, "delete from item where id > 2500; vacuum item;"
       "update item set stock = 0 where id = 1", "update item set stock = -1 where id = 2",
       ("select count(*), min(stock) from t.item", [(2500, -1)])),
    no("tail cut off, a row of it updated live", WIDE, "delete from item where id > 2500; vacuum item",
       "update item set stock = -1 where id = 4000", "delete/update"),
]  # fmt: skip

KINDS_OF_TABLES = [
    ok("rows without a key are counted", KEYLESS,
       "delete from visit where ctid = (select min(ctid) from visit where page = 1); insert into visit values (5, 'fay')",
       "insert into visit values (6, 'lee')",
       ("select page, count(*) from t.visit group by 1 order by 1", [(1, 2), (2, 1), (5, 1), (6, 1)])),
    no("rows without a key, the same value touched live", KEYLESS,
       "delete from visit where ctid = (select min(ctid) from visit where page = 1)", "insert into visit values (1, 'ann')",
       "keyless-row-count"),
    ok("large values", "create table doc (id int primary key, body text, n int); alter table doc alter body set storage external;"
       "insert into doc select n, repeat(md5(n::text), 2000), 0 from generate_series(1, 10) n;",
       "update doc set n = 1 where id = 1; update doc set body = body || 'F' where id = 2",
       "update doc set body = body || 'L' where id = 1; update doc set n = 5 where id = 2",
       ("select id, n, length(body), right(body, 1) from t.doc where id < 3 order by id", [(1, 1, 64001, "L"), (2, 5, 64001, "F")])),
    ok("types whose equality is not their text", "create table v (id int primary key, j json, f float8, ts timestamptz,"
       "ar text[], by bytea, p point, n numeric, iv interval); insert into v values (1, '{\"a\": 1}', 0.1, now(),"
       "'{a,NULL,\"NULL\"}', '\\x00ff', '(1,2)', '1.0', '1 mon');",
       "update v set f = 0.1::float8 + 0.2::float8, n = '1.00', p = '(0.1,0.2)' where id = 1;"
       "insert into v values (2, '{\"b\":  [1]}', '-0', '2020-01-01 00:00+05', '{}', '\\x', '(1e300,-0)', 'NaN', '-1 day 3 h')",
       "update v set iv = '2 mon' where id = 1",
       ("select f = 0.1::float8 + 0.2::float8, n::text, iv::text from t.v where id = 1", [(True, "1.00", "2 mons")]),
       ("select j::text, f::text, n::text from t.v where id = 2", [('{"b":  [1]}', "-0", "NaN")])),
    ok("unlogged", "create unlogged table cache (id int primary key, v int); insert into cache values (1, 1), (2, 2);",
       "insert into cache values (3, 3)", "insert into cache values (4, 4)",
       ("select id from t.cache order by 1", [(1,), (2,), (3,), (4,)])),
    ok("names that need quotes", 'create schema "S 2"; create table "S 2"."We""ird %" ("Id %s" int primary key, "sel ect" text);'
       "insert into \"S 2\".\"We\"\"ird %\" values (1, 'a');",
       "update \"S 2\".\"We\"\"ird %\" set \"sel ect\" = 'b' where \"Id %s\" = 1; insert into \"S 2\".\"We\"\"ird %\" values (2, '%s')", "",
       ('select "sel ect" from "S 2"."We""ird %" order by 1', [("%s",), ("b",)])),
    no("key of text and date", "create table day (who text, at date, v int, primary key (who, at));"
       "insert into day values ('ü', '2020-01-01', 1), ('', '2020-01-01', 2), ('NULL', '2020-01-02', 3);",
       "update day set v = v + 10; delete from day where who = ''", "update day set at = '2021-01-01' where who = 'NULL'",
       "update/delete"),
    no("values equal under the collation only", "create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
       "create table word (id int primary key, v text collate ci); insert into word values (1, 'abc');",
       "update word set v = 'ABC'", "update word set v = 'Abc'", "update/update"),
    ok("a row moves to another partition", PARTED + "create table reading_2 partition of reading for values in (2);"
       "insert into reading values (1, 1, 'a'), (2, 1, 'b');",
       "update reading set zone = 2 where id = 1; update reading set v = 'F' where id = 2", "insert into reading values (3, 2, 'l')",
       ("select tableoid::regclass::text, id, v from t.reading order by id",
        [("t.reading_2", 1, "a"), ("t.reading_1", 2, "F"), ("t.reading_2", 3, "l")])),
    ok("partition added live", PARTED, "insert into reading values (1, 1)",
       "create table reading_2 partition of reading for values in (2); insert into reading values (2, 2)",
       ("select count(*) from t.reading", [(2,)])),
    ok("partition with rows attached in the fork", PARTED, "create table reading_2 (id int not null, zone int not null, v text);"
       "insert into reading_2 values (5, 2); alter table reading attach partition reading_2 for values in (2)",
       "insert into reading values (1, 1)", ("select id from t.reading order by 1", [(1,), (5,)])),
    ok("generated columns and identities", "create table g (id int generated always as identity primary key, a int,"
       "k int generated always as identity, twice int generated always as (a * 2) stored); insert into g (a) values (1), (2);",
       "insert into g (a) values (5); update g set a = 9 where id = 1; update g set k = default where id = 2",
       "update g set a = 20 where id = 2", ("select a, twice from t.g order by a", [(5, 10), (9, 18), (20, 40)])),
    ok("inheritance: each table has its own rows", "create table plant (id int primary key, v int); create table tree (h int) inherits (plant);"
       "insert into plant values (1, 1); insert into tree values (1, 1, 1), (2, 2, 2);",
       "update only plant set v = 10 where id = 1; update tree set h = 20 where id = 2; delete from tree where id = 1",
       "insert into tree values (3, 3, 3)",
       ("select id, v, tableoid::regclass::text from t.plant order by 1", [(1, 10, "t.plant"), (2, 2, "t.tree"), (3, 3, "t.tree")]),
       ("select h from t.tree where id = 2", [(20,)])),
    ok("a key of a type from an extension", "create extension citext schema public; create table tag (name citext primary key, n int);"
       "insert into tag values ('Red', 1), ('Blue', 1);", "update tag set n = 2 where name = 'red'; update tag set name = 'BLUE' where name = 'blue'",
       "insert into tag values ('Green', 1)", ("select name::text, n from t.tag order by n, name", [("BLUE", 1), ("Green", 1), ("Red", 2)])),
]  # fmt: skip

CONSTRAINTS = [
    no("parent deleted live", orders(), "insert into purchase values (100, 45, 'n')", "delete from item where id = 45",
       "fk-parent-missing"),
    no("parent deleted, child added live", orders(), "delete from item where id = 45", "insert into purchase values (100, 45, 'n')",
       "fk-child-exists"),
    no("a cascade must not eat live rows", orders("on delete cascade"), "delete from item where id = 5",
       "insert into purchase values (100, 5, 'precious')", "fk-child-exists"),
    ok("a cascade inside the fork", orders("on delete cascade"), "delete from item where id = 5",
       "insert into purchase values (100, 6, 'fine')",
       ("select count(*) from t.purchase", [(20,)]), ("select count(*) from t.item", [(49,)])),
    ok("references in a circle", SHOP + "create table p (id int primary key, q int); create table q (id int primary key,"
       "p int references p deferrable); alter table p add foreign key (q) references q;",
       "insert into p values (1, null); insert into q values (1, 1); update p set q = 1", "",
       ("select p.q, q.p from t.p, t.q", [(1, 1)])),
    no("exclusion", SHOP + "create table booking (id int primary key, span int4range, exclude using gist (span with &&));",
       "insert into booking values (1, '[1,5)')", "insert into booking values (2, '[4,8)')", "exclusion"),
    ok("a tree, and a deferrable unique constraint", SHOP + "create table tree (id int primary key, parent int references tree,"
       "pos int unique deferrable initially deferred); insert into tree values (1, null, 1), (2, 1, 2), (3, 1, 3);",
       "begin; update tree set pos = pos % 3 + 1; commit; insert into tree values (10, 11, 99), (11, 1, 100)", "",
       ("select id, pos from t.tree order by id", [(1, 2), (2, 3), (3, 1), (10, 99), (11, 100)])),
    no("a deferrable unique constraint broken", SHOP + "create table line (id int primary key, pos int unique deferrable initially deferred);"
       "insert into line values (1, 1);", "insert into line values (2, 2)", "insert into line values (3, 2)", "unique"),
    no("key updated with its children, child added live", BY_CODE, "update item set code = 'new' where id = 1",
       "insert into alias values (2, 'code 1')", "fk-child-exists"),
    ok("key updated with its children", BY_CODE, "update item set code = 'new' where id = 1", "insert into alias values (2, 'code 2')",
       ("select code from t.alias order by id", [("new",), ("code 2",)])),
    ok("parent updated live", orders(), "insert into purchase values (100, 44, 'n')", "update item set stock = 9 where id = 44",
       ("select count(*) from t.purchase where item = 44", [(1,)])),
    no("a foreign key that is not validated still binds new rows", SHOP + "create table loose (id int primary key, item int);"
       "insert into loose values (1, 999), (2, 1); alter table loose add foreign key (item) references item not valid;",
       "insert into loose values (3, 45)", "delete from item where id = 45", "fk-parent-missing"),
    ok("a foreign key that is not validated does not bind old rows", SHOP + "create table loose (id int primary key, item int, note text);"
       "insert into loose values (1, 999), (2, 1); alter table loose add foreign key (item) references item not valid;",
       "update loose set note = 'F' where id = 1", "", ("select note from t.loose where id = 1", [("F",)])),
    no("a value that no longer fits", SHOP, "insert into item values (900, 40000, 'f', 'f')", "alter table item alter stock type smallint",
       "not-applicable"),
    no("parent of a new table deleted live", SHOP, "create table extra (id int primary key, item int references item);"
       "insert into extra values (1, 44)", "delete from item where id = 44", "fk-parent-missing"),
    ok("a trigger's effect happens once", AUDIT, "update item set label = 'F' where id = 1", "update item set label = 'L' where id = 2",
       ("select what from t.audit order by what", [("F",), ("L",)])),
    no("a trigger that always fires", AUDIT + "alter table item enable always trigger noted;", "update item set label = 'F' where id = 1",
       "", "always-trigger"),
    ok("a rule's effect happens once", SHOP + "create table log (id int); create rule logged as on update to item do also insert into t.log values (new.id);",
       "update item set stock = 0 where id = 1", "", ("select count(*) from t.log", [(1,)])),
]  # fmt: skip

COLUMNS = [
    ok("column added and filled", SHOP, "alter table item add column z int not null default 7; update item set z = 8 where id <= 2",
       "insert into item values (900, 1, 'l', 'l')", ("select z, count(*) from t.item group by 1 order by 1", [(7, 49), (8, 2)])),
    no("backfilled, then not null; a live row has no value", SHOP,
       "alter table item add column z int; update item set z = stock; alter table item alter z set not null",
       "insert into item values (900, 1, 'l', 'l')", "ddl-failed"),
    ok("backfilled, then not null", SHOP, "alter table item add column z int; update item set z = stock; alter table item alter z set not null",
       "update item set label = 'L' where id = 1", ("select count(*) from t.item where z = stock", [(50,)]),
       ("select attnotnull from pg_attribute where attrelid = 't.item'::regclass and attname = 'z'", [(True,)])),
    ok("column renamed", SHOP, "alter table item rename stock to amount; update item set amount = 1000 where id = 1",
       "update item set stock = 2000 where id = 2", ("select id, amount from t.item where id < 3 order by id", [(1, 1000), (2, 2000)])),
    ok("type changed", SHOP, "alter table item alter stock type numeric(12,2); update item set stock = 1.25 where id = 1",
       "insert into item values (900, 3, 'l', 'l')",
       ("select stock::text from t.item where id in (1, 2, 900) order by id", [("1.25",), ("2.00",), ("3.00",)])),
    no("column dropped that changed live", SHOP, "alter table item drop column label", "update item set label = 'precious' where id = 3",
       "drop-vs-change"),
    ok("column dropped", SHOP, "alter table item drop column label", "update item set stock = 9 where id = 3",
       ("select stock from t.item where id = 3", [(9,)])),
    no("table dropped that grew live", orders(), "drop table purchase", "insert into purchase values (100, 1, 'n')", "drop-vs-change"),
    no("one column added twice, two types", SHOP, "alter table item add z int", "alter table item add z text", "schema"),
    ok("two columns added", SHOP, "alter table item add z int; update item set z = 1 where id = 1",
       "alter table item add w text default 'w'", ("select z, w from t.item where id = 1", [(1, "w")])),
    ok("one column added twice alike", SHOP, "alter table item add z int; update item set z = 1 where id = 1",
       "alter table item add z int; update item set z = 2 where id = 2",
       ("select z from t.item where id < 4 order by id", [(1,), (2,), (None,)])),
    no("one column added twice alike, one cell in it set to two values", SHOP, "alter table item add z int; update item set z = 1 where id = 1",
       "alter table item add z int; update item set z = 2 where id = 1", "update/update"),
    no("deleted, while live set a column that the fork does not have", SHOP, "delete from item where id in (40, 41)",
       "alter table item add w text default 'w'; update item set w = 'precious' where id = 41", "delete/update"),
    ok("deleted, while live added columns with values", SHOP, "delete from item where id in (40, 41)",
       "alter table item add a int[] default '{1,2}', add b text[] default '{NULL,\"a b\"}', add c bool default true, add d box default '(1,1),(0,0)', add e char(4) default 'x', add f json default '{}'",
       ("select count(*) from t.item where a = '{1,2}'", [(48,)])),
    no("deleted, while live gave it an array", SHOP, "delete from item where id in (40, 41)",
       "alter table item add a int[] default '{1,2}'; update item set a = '{1}' where id = 41", "delete/update"),
    ok("deleted, while live added a column", SHOP, "delete from item where id in (40, 41)", "alter table item add w text default 'w'",
       ("select count(*) from t.item where w = 'w'", [(48,)])),
    ok("type of a column changed by both alike", SHOP, "alter table item alter stock type bigint; update item set stock = 5 where id = 1",
       "alter table item alter stock type bigint; update item set label = 'L' where id = 1",
       ("select stock, label from t.item where id = 1", [(5, "L")])),
    no("live renamed a column that the fork wrote", SHOP, "update item set stock = 1000 where id = 1",
       "alter table item rename stock to amount", "column-missing"),
    no("live dropped the table that the fork wrote", SHOP, "update item set stock = 1000 where id = 1", "drop table item", "table-missing"),
    ok("serial column added", SHOP, "alter table item add column s serial", "update item set label = 'L' where id = 1",
       ("select count(distinct s) from t.item", [(50,)])),
    ok("volatile default: the fork's values, and live rows' own", SHOP, "alter table item add u uuid default gen_random_uuid() unique",
       "insert into item values (900, 1, 'l', 'l')", ("select count(distinct u), count(u) from t.item", [(51, 51)])),
    ok("volatile default, and a row deleted", SHOP, "alter table item add u uuid default gen_random_uuid(); delete from item where id = 3",
       "", ("select count(u) from t.item", [(49,)])),
    ok("default of the moment", SHOP, "alter table item add at timestamptz default now()", "",
       ("select count(distinct at) from t.item", [(1,)])),
    no("not null broken live", SHOP, "alter table item alter stock set not null", "update item set stock = null where id = 7", "ddl-failed"),
    ok("default changed", SHOP, "alter table item alter stock set default 5; insert into item (id, label) values (901, 'd')",
       "insert into item (id, label) values (902, 'd')",
       ("select stock from t.item where id > 900 order by id", [(5,), (None,)])),
    ok("dropped and added again as another type", SHOP, "alter table item drop label; alter table item add label int; update item set label = 1 where id = 1",
       "", ("select label from t.item where id < 3 order by id", [(1,), (None,)])),
    no("check broken live", SHOP, "alter table item add check (stock < 1000)", "update item set stock = 5000 where id = 1", "ddl-failed"),
    no("unique index broken live", SHOP, "create unique index on item (stock)", "update item set stock = 2 where id = 1", "ddl-failed"),
]  # fmt: skip

OBJECTS = [
    ok("new table with rows, index, view and function", SHOP, "create table extra (id int primary key generated always as identity,"
       "item int references item); insert into extra (item) values (1), (2); create index on extra (item);"
       "create view v as select * from extra; create function one() returns int language sql as 'select 1'",
       "update item set stock = 3 where id = 1", ("select count(*) from t.v", [(2,)]), ("select t.one()", [(1,)])),
    ok("enumerated value added and used", SHOP + "create type size as enum ('s', 'm'); create table shirt (id int primary key, size size);"
       "insert into shirt values (1, 's');", "alter type size add value 'l'; insert into shirt values (2, 'l')", "",
       ("select size::text from t.shirt where id = 2", [("l",)])),
    ok("a new enumerated type with values added later", SHOP, "create type size as enum ('m'); alter type size add value 'l';"
       "alter type size add value 's' before 'm'; create table shirt (id int primary key, size size default 'l'); insert into shirt values (1); insert into shirt values (2, 's')", "",
       ("select size::text from t.shirt order by shirt.size", [("s",), ("l",)])),
    no("DDL in a DO block", SHOP, "do $$begin execute 'create table hidden (i int)'; end$$", "", "opaque-ddl"),
    no("DDL in a function", SHOP + "create function make() returns void language plpgsql as $$begin create table t.made (i int); end$$;",
       "select make()", "", "opaque-ddl"),
    ok("index built concurrently", SHOP, "create index concurrently by_stock on item (stock)", "",
       ("select count(*) from pg_indexes where indexname = 'by_stock'", [(1,)])),
    ok("materialized view refreshed", SHOP + "create materialized view total as select count(*) n from item;",
       "delete from item where id = 1; refresh materialized view total", "delete from item where id = 2",
       ("select n from t.total", [(48,)])),
    ok("granted on a table", SHOP, "grant select on item to pg_monitor", "",
       ("select has_table_privilege('pg_monitor', 't.item', 'select')", [(True,)])),
    ok("granted on a function", SHOP + "create function zero() returns int language sql as 'select 0'; revoke execute on function zero() from public;",
       "grant execute on function zero() to pg_monitor", "", ("select has_function_privilege('pg_monitor', 't.zero()', 'execute')", [(True,)])),
    ok("table made from a query", SHOP, "create table top as select id, stock from item where id < 4; update top set stock = -1 where id = 1",
       "update item set stock = 77 where id = 2", ("select id, stock from t.top order by 1", [(1, -1), (2, 2), (3, 3)])),
    no("function changed by both", SHOP + "create function zero() returns int language sql as 'select 0';",
       "create or replace function zero() returns int language sql as 'select 1'",
       "create or replace function zero() returns int language sql as 'select 2'", "schema"),
    ok("table made and dropped", SHOP, "create table tmp (i int); insert into tmp values (1); drop table tmp", "",
       ("select to_regclass('t.tmp')::text", [(None,)])),
    ok("several statements in one message", SHOP, ["alter table item add q int; update item set q = 1 where id = 1; alter table item add r int default 3"], "",
       ("select q, r from t.item where id < 3 order by id", [(1, 3), (None, 3)])),
    ok("domain, comment, policy, row security", SHOP, "create domain positive as int check (value > 0); alter table item add d positive;"
       "update item set d = 4 where id = 1; comment on column item.d is 'hey'; alter table item enable row level security;"
       "create policy everything on item using (true)", "update item set stock = 1 where id = 2",
       ("select d from t.item where id = 1", [(4,)]), ("select relrowsecurity from pg_class where oid = 't.item'::regclass", [(True,)])),
    ok("DDL under another role", SHOP + "grant all on schema t to clerk;",
       "set role clerk; create table own (i int primary key); insert into own values (1); reset role", "",
       ("select relowner::regrole::text from pg_class where oid = 't.own'::regclass", [("clerk",)]), ("select i from t.own", [(1,)])),
    ok("publication", SHOP, "create publication news for table item", "",
       ("select count(*) from pg_publication where pubname = 'news'", [(1,)])),
    ok("how text is searched", "create text search dictionary plain (template = simple); create text search configuration words (copy = simple);",
       "alter text search dictionary plain (accept = false); alter text search configuration words alter mapping for asciiword with plain, simple", "",
       ("select to_tsvector('t.words', 'A b')::text", [("'a':1 'b':2",)]),
       ("select count(*), max(dictinitoption) from pg_ts_config_map m join pg_ts_dict d on d.oid = m.mapdict where dictname = 'plain'", [(1, "accept = 'false'")])),
    no("one comment, two texts", AUDIT, "comment on trigger noted on item is 'F'", "comment on trigger noted on item is 'L'", "schema"),
    ok("one comment by both alike, and one more", AUDIT, "comment on trigger noted on item is 'both'; comment on constraint item_pkey on item is 'F'",
       "comment on trigger noted on item is 'both'; comment on constraint item_code_key on item is 'L'",
       ("select description from pg_description where objoid in (select oid from pg_trigger union all select oid from pg_constraint where conrelid = 't.item'::regclass) order by 1",
        [("F",), ("L",), ("both",)])),
    no("statistics of a column, two targets", SHOP, "alter table item alter stock set statistics 100", "alter table item alter stock set statistics 200", "schema"),
    ok("statistics of a column, and its default live", SHOP, "alter table item alter stock set statistics 100", "alter table item alter stock set default 5",
       ("select attstattarget, atthasdef from pg_attribute where attrelid = 't.item'::regclass and attname = 'stock'", [(100, True)])),
    no("room in a page, two settings", SHOP, "alter table item set (fillfactor = 70)", "alter table item set (fillfactor = 80)", "schema"),
    ok("casts of both", SHOP + "create type one as (a int); create type other as (a int);", "create cast (one as text) with inout", "create cast (other as text) with inout",
       ("select count(*) from pg_cast where oid > 16384", [(2,)])),
    no("one cast in two ways", SHOP + "create type one as (a int);", "create cast (one as text) with inout", "create cast (one as text) with inout as assignment", "schema"),
    no("a materialized view emptied", SHOP + "create materialized view total as select count(*) n from item;", "refresh materialized view total with no data", "",
       "opaque-ddl"),
    no("large object", SHOP + "select lo_from_bytea(4711, 'abc');", "select lo_put(4711, 0, 'xyz')", "", "large-objects"),
]  # fmt: skip

MORE = [
    ok("table renamed", SHOP, "alter table item rename to thing; update thing set stock = 100 where id = 1",
       "update item set label = 'L' where id = 1", ("select stock, label from t.thing where id = 1", [(100, "L")])),
    ok("table moved to another schema", SHOP, "create schema other; alter table item set schema other; update other.item set stock = 100 where id = 1",
       "update item set label = 'L' where id = 1", ("select stock, label from other.item where id = 1", [(100, "L")])),
    ok("another primary key", SHOP, "alter table item drop constraint item_pkey; alter table item alter code set not null;"
       "alter table item add primary key (code); update item set stock = 100 where id = 1; delete from item where id = 2",
       "update item set label = 'L' where id = 1", ("select stock, label from t.item where id < 3", [(100, "L")])),
    ok("extension installed and used", SHOP, "create extension hstore schema public; alter table item add h hstore; update item set h = 'a=>1' where id = 1",
       "update item set label = 'L' where id = 1", ("select h::text, label from t.item where id = 1", [('"a"=>"1"', "L")])),
    ok("keys and cells of domains, enumerated types, arrays and ranges", "create type size as enum ('s', 'm'); create domain code as text not null check (value <> '');"
       "create table v (s size, c code, a int[], r int4range, d code, primary key (s, c, a, r)); insert into v values ('s', 'x', '{1,2}', '[1,3)', 'd'), ('m', 'y', '{}', 'empty', 'd');",
       "update v set d = 'F' where s = 's'; delete from v where s = 'm'; insert into v values ('m', 'z', '{3}', '[,5)', 'n')",
       "insert into v values ('s', 'w', '{NULL}', '[,]', 'l')",
       ("select s::text, c::text, d::text from t.v order by 1, 2", [("m", "z", "n"), ("s", "w", "l"), ("s", "x", "F")])),
    ok("columns with the names that the merge uses itself", "create table v (n int primary key, op text unique, changed int, c0 int, k0 int);"
       "insert into v values (1, 'a', 1, 1, 1), (2, 'b', 2, 2, 2);", "update v set op = 'x', c0 = 5 where n = 1; update v set k0 = 7 where n = 2",
       "update v set changed = 9", ("select * from t.v order by n", [(1, "x", 9, 5, 1), (2, "b", 9, 2, 7)])),
    no("a foreign key to a partition's parent", "create table p (id int, z int, primary key (id, z)) partition by list (z); create table p1 partition of p for values in (1);"
       "insert into p values (1, 1), (2, 1); create table c (id int primary key, p int, z int, foreign key (p, z) references p);",
       "insert into c values (1, 2, 1)", "delete from p where id = 2", "fk-parent-missing"),
    ok("a view, changed while live changed another", SHOP + "create view v as select id from item; create view w as select id from item;",
       "create or replace view v as select id, stock from item", "create or replace view w as select id, label from item",
       ("select stock from t.v where id = 1", [(1,)]), ("select label from t.w where id = 1", [("label 1",)])),
    ok("rows without a key in partitions", "create table log (z int, what text) partition by list (z); create table log1 partition of log for values in (1);"
       "create table log2 partition of log for values in (2); insert into log values (1, 'a'), (1, 'a'), (2, 'a'), (2, 'b');",
       "delete from log where ctid = (select min(ctid) from log1 where what = 'a') and z = 1; update log set z = 1 where what = 'b'", "insert into log values (2, 'c')",
       ("select z, what from t.log order by 1, 2", [(1, "a"), (1, "b"), (2, "a"), (2, "c")])),
]  # fmt: skip

NUMBERED = """
create table visit (page int, hits int); insert into visit values (1, 0), (2, 0), (3, 0);
create table word (code text primary key, n int); insert into word values ('a', 0), ('b', 0), ('c', 0);
"""
SAME_BUT_MOVED = "update visit set page = 1 where page = 1; update word set n = 0 where code = 'a'"
NUMBER = "alter table word add no serial; alter table word add unique (no)"
LABEL = "alter table word add status text default 'new'; alter table word alter n type bigint"
GIVEN = [
    ok("rows get numbers for a key, the target's lie in another order", NUMBERED,
       "alter table visit add id serial primary key; update visit set hits = 50 where page = 1;"
       "create table note (visit int references visit, what text); insert into note select id, 'two' from visit where page = 2",
       SAME_BUT_MOVED + "; insert into visit values (9, 9)",
       ("select page, hits, id, what from t.visit left join t.note on visit = id where page < 9 order by page",
        [(1, 50, 1, None), (2, 0, 2, "two"), (3, 0, 3, None)]), ("select id > 3 from t.visit where page = 9", [(True,)])),
    no("rows get numbers for a key, one of them changed live", NUMBERED,
       "alter table visit add id serial primary key; update visit set hits = 50 where page = 1", "update visit set hits = 7 where page = 3",
       "rows-not-told-apart"),
    no("rows get numbers for a key, one of them deleted live", NUMBERED,
       "alter table visit add id int generated by default as identity primary key", "delete from visit where page = 3", "rows-not-told-apart"),
    ok("rows get random keys", NUMBERED, "alter table visit add id uuid primary key default gen_random_uuid(); delete from visit where page = 2",
       "insert into visit values (9, 9)", ("select page, count(id) from t.visit group by 1 order by 1", [(1, 1), (3, 1), (9, 1)])),
    no("rows get random keys, one of them changed live", NUMBERED, "alter table visit add id uuid primary key default gen_random_uuid()",
       "update visit set hits = 7 where page = 3", "rows-not-told-apart"),
    ok("rows with a key get numbers that others refer to", NUMBERED,
       "alter table word add no serial; create table note (no int, what text); insert into note select no, code from word where code <> 'b'",
       SAME_BUT_MOVED + "; delete from word where code = 'b'; insert into word values ('d', 5)",
       ("select code, what from t.word left join t.note using (no) order by 1", [("a", "a"), ("c", "c"), ("d", None)]), ("select nextval('t.word_no_seq') > max(no) from t.word", [(True,)])),
    ok("numbers that the fork took away again", NUMBERED, "alter table word add no serial; alter table word alter no drop not null;"
       "update word set no = null where code = 'a'", SAME_BUT_MOVED,
       ("select code, no from t.word order by 1", [("a", None), ("b", 2), ("c", 3)])),
    ok("another key, of numbers", NUMBERED, "alter table word drop constraint word_pkey; alter table word add id serial primary key;"
       "update word set n = 5 where code = 'b'", SAME_BUT_MOVED, ("select code, n, id from t.word order by 1", [("a", 0, 1), ("b", 5, 2), ("c", 0, 3)])),
    ok("keys that were filled by hand", NUMBERED, "alter table visit add id int; update visit set id = page * 10;"
       "alter table visit add primary key (id); delete from visit where page = 2", SAME_BUT_MOVED,
       ("select page, id from t.visit order by 1", [(1, 10), (3, 30)])),
    no("both numbered the rows", NUMBERED, "alter table visit add id serial", SAME_BUT_MOVED + "; alter table visit add id serial", "rows-not-told-apart"),
    ok("both numbered the rows by key, and one more refers to its number", NUMBERED, NUMBER + "; update word set n = 5 where code = 'b'",
       NUMBER + "; insert into word values ('d', 9); create table note (no int references word (no), what text); insert into note values (4, 'd')",
       ("select code, n, no, what from t.word left join t.note using (no) order by 1",
        [("a", 0, 1, None), ("b", 5, 2, None), ("c", 0, 3, None), ("d", 9, 4, "d")])),
    no("both numbered the rows by key, in another order", NUMBERED, SAME_BUT_MOVED + "; " + NUMBER, NUMBER, "update/update"),
    no("both numbered the rows by key, the target in another order", NUMBERED, NUMBER + "; update word set n = 5 where code = 'b'",
       SAME_BUT_MOVED + "; " + NUMBER, "update/update"),
    ok("both added a column and rewrote the table", NUMBERED, LABEL + "; update word set n = 5 where code = 'b'",
       LABEL + "; insert into word values ('d', 1, 'hot'); update word set status = 'old' where code = 'c'",
       ("select code, n, status from t.word order by 1", [("a", 0, "new"), ("b", 5, "new"), ("c", 0, "old"), ("d", 1, "hot")]), changed=1),
    ok("columns that are the same in all rows of a table that is rewritten", NUMBERED,
       "alter table visit add note text; alter table visit add status text default 'new'; alter table visit alter hits type bigint;"
        "update visit set hits = 50, note = 'F' where page = 1",
       SAME_BUT_MOVED + "; update visit set hits = 7 where page = 3; delete from visit where page = 2; insert into visit values (9, 9)",
       ("select page, hits, note, status from t.visit order by 1", [(1, 50, "F", "new"), (3, 7, None, "new"), (9, 9, None, "new")]), changed=2),
    ok("columns that are the same in all rows of a table with a key that is rewritten", NUMBERED,
       "alter table word add note text; " + LABEL + "; update word set n = 5, status = 'F' where code = 'a'",
       "update word set n = 7 where code = 'b'; delete from word where code = 'c'; insert into word values ('d', 9)",
       ("select code, n, note, status from t.word order by 1", [("a", 5, None, "F"), ("b", 7, None, "new"), ("d", 9, None, "new")]), changed=1),
    no("values by chance, whose default went again, one of the rows changed live", NUMBERED,
       "alter table visit add chance float default random(); alter table visit alter chance drop default", "update visit set hits = 7 where page = 3",
       "rows-not-told-apart"),
    no("numbers of a table that is rewritten later, one of the rows changed live", NUMBERED,
       "alter table visit add id serial; alter table visit alter hits type bigint", "update visit set hits = 7 where page = 3", "rows-not-told-apart"),
    ok("values by chance, whose default went again", NUMBERED, "create table chance as select 1.5::float as v; alter table visit add chance float default random();"
       "alter table visit alter chance drop default; update visit set chance = v from chance where page = 1", SAME_BUT_MOVED,
       ("select page, hits, chance = 1.5, chance is null from t.visit order by 1", [(1, 0, True, False), (2, 0, False, False), (3, 0, False, False)])),
    ok("rows in partitions get numbers", PARTED + "create table reading_2 partition of reading for values in (2);"
       "insert into reading values (1, 1, 'x'), (2, 1, 'x'), (3, 2, 'x')", "alter table reading add note text; alter table reading add no serial",
       "update reading set v = 'L' where id = 1; insert into reading values (4, 2, 'x')",
       ("select id, v, no, note from t.reading where id < 4 order by 1", [(1, "L", 1, None), (2, "x", 2, None), (3, "x", 3, None)]),
       ("select no > 3 from t.reading where id = 4", [(True,)])),
    ok("rows with a key get numbers, the target deleted some", NUMBERED, SAME_BUT_MOVED + "; " + NUMBER, "delete from word where code <> 'c'",
       ("select code, no from t.word", [("c", 2)])),
    no("a row without a key goes, in which the target has set a new column", NUMBERED, "delete from visit where page = 2",
       "alter table visit add note text; update visit set note = 'precious' where page = 2", "delete/update"),
    no("a row without a key changes, in which the target has set a new column", NUMBERED, "update visit set hits = 5 where page = 2",
       "alter table visit add note text; update visit set note = 'precious' where page = 2", "delete/update"),
    ok("a row without a key goes, the target has a new column", NUMBERED, "delete from visit where page = 2; update visit set hits = 1 where page = 3",
       "alter table visit add note text default 'x'; update visit set note = 'y' where page = 1",
       ("select page, hits, note from t.visit order by 1", [(1, 0, "y"), (3, 1, "x")])),
    no("a column dropped and made again alike, changed live", NUMBERED, "alter table word drop n; alter table word add n int; update word set n = 5 where code = 'a'",
       "update word set n = 100 where code = 'b'", "update/update"),
    ok("a column dropped and made again alike", NUMBERED, "alter table word drop n; alter table word add n int; update word set n = 5 where code = 'a'",
       "insert into word values ('d', 9)", ("select code, n from t.word order by 1", [("a", 5), ("b", None), ("c", None), ("d", 9)])),
    ok("a table dropped and made again alike", NUMBERED, "drop table word; create table word (code text primary key, n int);"
       "insert into word values ('a', 0), ('b', 5)", "insert into word values ('d', 9)",
       ("select code, n from t.word order by 1", [("a", 0), ("b", 5), ("d", 9)])),
    no("a table dropped and made again alike, a row of it changed live", NUMBERED, "drop table word; create table word (code text primary key, n int);"
       "insert into word values ('a', 0)", "update word set n = 9 where code = 'b'", "delete/update"),
]  # fmt: skip

BOOKING = """
create extension btree_gist schema public;
create table booking (room int, days int4range, guest text, note text, primary key (room, days without overlaps));
insert into booking values (1, '[1,5)', 'ann', ''), (1, '[5,9)', 'bob', ''), (2, '[1,9)', 'cid', '');
"""
MEAL = "create table meal (room int, days int4range, foreign key (room, period days) references booking (room, period days));"

SINCE = {
    15: [
        no("nulls that are not distinct", SHOP + "create table one (id int primary key, v int unique nulls not distinct);",
           "insert into one values (1, null)", "insert into one values (2, null)", "unique"),
        no("nulls that are not distinct, in a deferrable constraint", SHOP + "create table one (id int primary key, v int unique nulls not distinct deferrable);",
           "insert into one values (1, null)", "insert into one values (2, null)", "unique"),
        ok("publication of a schema", SHOP, "create publication news for tables in schema t", "",
           ("select count(*) from pg_publication_tables where pubname = 'news'", [(1,)])),
    ],
    16: [
        ok("storage of a new column", SHOP, "create table doc (id int primary key, body text storage external); insert into doc values (1, 'x')", "",
           ("select attstorage::text from pg_attribute where attrelid = 't.doc'::regclass and attname = 'body'", [("e",)])),
    ],
    17: [
        ok("identities of a partitioned table", "create table log (id int generated always as identity, z int, what text, primary key (id, z))"
           " partition by list (z); create table log1 partition of log for values in (1); create table log2 partition of log for values in (2);"
           "insert into log (z, what) values (1, 'a'), (2, 'b');",
           "insert into log (z, what) values (1, 'F'); update log set z = 2 where what = 'a'", "insert into log2 (z, what) values (2, 'L')",
           ("select what, z, tableoid::regclass::text from t.log order by 1",
            [("F", 1, "t.log1"), ("L", 2, "t.log2"), ("a", 2, "t.log2"), ("b", 2, "t.log2")]), ("select count(distinct id) from t.log", [(4,)])),
        ok("an expression replaced", "create table g (id int primary key, a int, b int generated always as (a * 2) stored); insert into g values (1, 1), (2, 2);",
           "alter table g alter b set expression as (a * 3); update g set a = 5 where id = 1", "update g set a = 7 where id = 2; insert into g values (3, 3)",
           ("select id, b from t.g order by id", [(1, 15), (2, 21), (3, 9)])),
        ok("the right to maintain", SHOP, "grant maintain on item to clerk", "update item set stock = 5 where id = 1",
           ("select has_table_privilege('clerk', 't.item', 'maintain')", [(True,)])),
        no("exclusion in a partitioned table", "create extension btree_gist schema public; create table b (room int, days int4range, exclude using gist (room with =, days with &&))"
           " partition by list (room); create table b1 partition of b for values in (1);",
           "insert into b values (1, '[1,5)')", "insert into b values (1, '[4,8)')", "exclusion"),
        ok("a collation of the server's own", SHOP, "create collation plain (provider = builtin, locale = 'C.UTF-8');"
           "alter table item alter label type text collate plain; update item set label = 'ä' where id = 1", "update item set stock = 9 where id = 1",
           ("select label, stock from t.item where id = 1", [("ä", 9)])),
        ok("rows merged by a statement of the fork", SHOP, "merge into item i using (values (1), (900)) v (id) on v.id = i.id when matched then update set stock = 0"
           " when not matched then insert values (v.id) when not matched by source and i.id = 50 then delete", "update item set stock = 7 where id = 2",
           ("select id, stock from t.item where id in (1, 2, 50, 900) order by id", [(1, 0), (2, 7), (900, None)])),
    ],
    18: [
        ok("virtual columns", "create table g (id int primary key, a int, twice int generated always as (a * 2) virtual, note text); insert into g values (1, 1), (2, 2);",
           "insert into g values (5, 5); update g set a = 9 where id = 1", "update g set a = 20 where id = 2; update g set note = 'L' where id = 1",
           ("select a, twice, note from t.g order by a", [(5, 10, None), (9, 18, "L"), (20, 40, None)])),
        ok("a virtual column added", SHOP, "alter table item add twice int generated always as (stock * 2); update item set stock = 9 where id = 1",
           "update item set label = 'L' where id = 1; update item set stock = 7 where id = 2",
           ("select twice, label from t.item where id < 3 order by id", [(18, "L"), (14, "label 2")])),
        no("a virtual column added twice, two expressions", SHOP, "alter table item add twice int generated always as (stock * 2)",
           "alter table item add twice int generated always as (stock + stock)", "schema"),
        ok("periods without overlaps, other rows and other columns", BOOKING,
           "update booking set guest = 'F' where guest = 'ann'; insert into booking values (2, '[9,12)', 'fay', ''); delete from booking where guest = 'bob'",
           "update booking set note = 'L' where guest = 'ann'; update booking set note = 'L' where guest = 'cid'",
           ("select room, days::text, guest, note from t.booking order by 1, 2",
            [(1, "[1,5)", "F", "L"), (2, "[1,9)", "cid", "L"), (2, "[9,12)", "fay", "")])),
        ok("a period that moves", BOOKING, "delete from booking where guest = 'bob'; update booking set days = '[1,9)' where guest = 'ann'",
           "update booking set note = 'L' where guest = 'cid'",
           ("select days::text, guest from t.booking where room = 1", [("[1,9)", "ann")])),
        no("periods that overlap", BOOKING, "insert into booking values (2, '[9,12)', 'fay', '')", "insert into booking values (2, '[11,14)', 'lee', '')",
           "exclusion"),
        no("periods that overlap, in a deferrable constraint", "create table free (room int4range, days int4range, unique (room, days without overlaps) deferrable);",
           "insert into free values ('[1,2)', '[1,5)')", "insert into free values ('[1,2)', '[4,8)')", "deferrable-exclusion"),
        no("one booking changed by both", BOOKING, "update booking set guest = 'F' where guest = 'ann'", "update booking set guest = 'L' where guest = 'ann'",
           "update/update"),
        no("a booking changed, and shortened live", BOOKING, "update booking set guest = 'F' where guest = 'ann'",
           "update booking set days = '[1,4)' where guest = 'ann'", "update/delete"),
        no("a reference to periods that ended live", BOOKING + MEAL, "insert into meal values (1, '[2,7)')", "delete from booking where guest = 'bob'", "fk-parent-missing"),
        no("a period ended that live refers to", BOOKING + MEAL, "update booking set days = '[1,4)' where guest = 'ann'", "insert into meal values (1, '[2,7)')",
           "fk-child-exists", "exclusion"),
        ok("references to periods", BOOKING + MEAL, "insert into meal values (1, '[2,7)'); update booking set days = '[1,7)' where guest = 'cid'",
           "insert into meal values (2, '[3,6)'); update booking set note = 'L' where guest = 'ann'",
           ("select room, days::text from t.meal order by 1", [(1, "[2,7)"), (2, "[3,6)")]),
           ("select days::text, note from t.booking order by guest", [("[1,5)", "L"), ("[5,9)", ""), ("[1,7)", "")])),
        ok("a constraint for not null, with a name", SHOP, "alter table item add constraint labelled not null label; update item set label = 'F' where id = 1",
           "update item set stock = 5 where id = 1",
           ("select conname from pg_constraint where conrelid = 't.item'::regclass and contype = 'n' and conname = 'labelled'", [("labelled",)]),
           ("select label, stock from t.item where id = 1", [("F", 5)])),
        no("a constraint for not null, broken live", SHOP, "alter table item add constraint labelled not null label", "update item set label = null where id = 1",
           "ddl-failed"),
        ok("not null, not yet validated", SHOP + "update item set label = null where id = 1;", "alter table item add constraint labelled not null label not valid",
           "update item set stock = 9 where id = 1", ("select convalidated from pg_constraint where conname = 'labelled'", [(False,)])),
        ok("not null, validated later", SHOP + "alter table item add constraint labelled not null label not valid;", "alter table item validate constraint labelled",
           "update item set stock = 9 where id = 1", ("select convalidated from pg_constraint where conname = 'labelled'", [(True,)])),
        no("not null, named twice", SHOP, "alter table item add constraint a not null label", "alter table item add constraint b not null label", "ddl-failed", "schema-mismatch"),
        ok("a reference that is not enforced", SHOP + "create table loose (id int primary key, item int references item not enforced);",
           "insert into loose values (1, 45), (2, 4711)", "delete from item where id = 45", ("select id, item from t.loose order by id", [(1, 45), (2, 4711)])),
        ok("a check that is not enforced", SHOP, "alter table item add constraint small check (stock < 10) not enforced; update item set stock = 1000 where id = 1",
           "update item set stock = 2000 where id = 2", ("select id, stock from t.item where id < 3 order by id", [(1, 1000), (2, 2000)])),
        ok("a reference enforced", SHOP + "create table loose (id int primary key, item int references item not enforced); insert into loose values (1, 4711);",
           "update loose set item = 1; alter table loose alter constraint loose_item_fkey enforced", "insert into loose values (2, 2)",
           ("select id, item from t.loose order by id", [(1, 1), (2, 2)]), ("select conenforced from pg_constraint where conname = 'loose_item_fkey'", [(True,)])),
    ],
}  # fmt: skip

PRICE = """
create table price (id int primary key, amount numeric(10,2), code varchar(10), told text);
insert into price select n, n, 'c' || n, '{"n": ' || n || '}' from generate_series(1, 20) n;
update price set amount = 1.25 where id = 1;
"""
PAIR = """
create type pair as (a int, b int); create domain couple as pair; create type nested as (inside pair, n int);
create table held (id int primary key, one pair, many pair[], couple couple, deep nested, n int);
insert into held values (1, row(1, 2), array[row(1, 2)::pair], row(1, 2), row(row(1, 2), 3), 0);
"""
ROUNDS = "alter table price alter amount type int"
AMOUNTS = "select amount::text from t.price where id in (1, 2, 900) order by id"
NUMBERS = "create sequence numbers; select nextval('numbers') from generate_series(1, 30);"

LOSSES = [
    ok("a type that rounds what the fork saw", PRICE, ROUNDS, "insert into price values (900, 7); update price set code = 'L' where id = 1",
       (AMOUNTS, [("1",), ("2",), ("7",)])),
    no("a type that rounds a new row", PRICE, ROUNDS, "insert into price values (900, 7.5)", "type-vs-change"),
    no("a type that rounds another value now", PRICE, ROUNDS, "update price set amount = 1.4 where id = 1", "type-vs-change"),
    no("a type that rounds no longer", PRICE, ROUNDS, "update price set amount = 1 where id = 1", "type-vs-change"),
    no("two values that would be rounded alike change places", PRICE, ROUNDS, "update price set amount = case id when 1 then 3 else 1.25 end where id in (1, 3)",
       "type-vs-change"),
    no("a type that rounds, and the row in conflict", PRICE, f"{ROUNDS}; update price set code = 'F' where id = 1",
       "update price set amount = 1.5, code = 'L' where id = 1", "type-vs-change", "update/update"),
    no("there and back", PRICE, f"{ROUNDS}; alter table price alter amount type numeric(10,2), add note text", "update price set amount = 7.5 where id = 7",
       "type-vs-change"),
    no("there and back under other names", PRICE,
       "alter table price rename to cost; alter table cost rename amount to sum; alter table cost alter sum type int; alter table cost alter sum type numeric(12,2)",
       "update price set amount = 7.5 where id = 7", "type-vs-change"),
    ok("there and back, all of it seen", PRICE, f"{ROUNDS}; alter table price alter amount type numeric(10,2), add note text", "delete from price where id = 2",
       (AMOUNTS, [("1.00",)])),
    no("cut off", PRICE, "alter table price alter code type varchar(3) using code::varchar(3)", "update price set code = 'precious' where id = 3", "type-vs-change"),
    ok("cut off, all of it short", PRICE, "alter table price alter code type varchar(3) using code::varchar(3)", "update price set code = 'L' where id = 3",
       ("select code from t.price where id in (3, 20) order by id", [("L",), ("c20",)])),
    ok("longer", PRICE, "alter table price alter code type varchar(20), alter told type varchar(90)", "update price set code = 'precious' where id = 3",
       ("select code from t.price where id = 3", [("precious",)])),
    no("text to numbers", "create table n (id int primary key, v text); insert into n select n, n from generate_series(1, 9) n;",
       "alter table n alter v type int using v::int", "update n set v = '007' where id = 3", "type-vs-change"),
    no("made by an expression", PRICE, "alter table price alter amount type int using amount * 100", "insert into price values (900, 7)", "type-vs-change"),
    ok("made by an expression, nothing written since", PRICE, "alter table price alter amount type int using amount * 100", "update price set code = 'L' where id = 2",
       (AMOUNTS, [("125",), ("200",)]), ("select code from t.price where id = 2", [("L",)])),
    no("made by an expression on both sides", PRICE, "alter table price alter amount type int using amount * 100, add note text",
       "alter table price alter amount type int using amount * 100", "type-vs-change"),
    ok("rounded on both sides", PRICE, f"{ROUNDS}, add note text", f"{ROUNDS}; insert into price values (900, 7)", (AMOUNTS, [("1",), ("2",), ("7",)])),
    ok("text to documents", PRICE, "alter table price alter told type jsonb using told::jsonb",
       """insert into price (id, told) values (900, '{ "b": 1, "a": [1, 2] }')""",
       ("select told::text from t.price where id in (1, 900) order by id", [('{"n": 1}',), ('{"a": [1, 2], "b": 1}',)])),
    no("text to documents, a name twice", PRICE, "alter table price alter told type jsonb using told::jsonb",
       """insert into price (id, told) values (900, '{"a": 1, "a": 2}')""", "type-vs-change"),
    no("a domain of the fork's own", PRICE, "create domain whole as int; alter table price alter amount type whole using amount::whole",
       "insert into price values (900, 7.5)", "type-vs-change"),
    no("under a search path and a role", PRICE, ["create schema own; create table own.price (amount numeric)", "set search_path = t", "set role postgres", ROUNDS],
       "insert into price values (900, 7.5)", "type-vs-change"),
    no("rounds in a partition", PARTED + "alter table reading add w numeric; insert into reading values (1, 1, 'x', 1.5);", "alter table reading alter w type int",
       "insert into reading values (2, 1, 'x', 2.5)", "type-vs-change"),
    no("rounds in a table that inherits", PRICE + "create table more () inherits (price); insert into more values (500, 1);", ROUNDS, "insert into more values (501, 1.5)",
       "type-vs-change"),
    ok("rounds a computed column", "create table c (id int primary key, n numeric, half numeric generated always as (n / 2) stored); insert into c values (1, 2);",
       "alter table c alter half type numeric(9, 1)", "insert into c values (2, 0.5)", ("select half::text from t.c order by id", [("1.0",), ("0.3",)])),
    no("an attribute dropped", PAIR, "alter type pair drop attribute b", "update held set one = row(1, 7)", "drop-vs-change"),
    no("an attribute dropped in an array", PAIR, "alter type pair drop attribute b", "update held set many = array[row(1, 7)::pair]", "drop-vs-change"),
    no("an attribute dropped in a domain", PAIR, "alter type pair drop attribute b", "update held set couple = row(1, 7)", "drop-vs-change"),
    no("an attribute dropped deep inside", PAIR, "alter type pair drop attribute b", "update held set deep = row(row(1, 7), 3)", "drop-vs-change"),
    ok("an attribute dropped that nobody has set since", PAIR, "alter type pair drop attribute b", "update held set n = 7",
       ("select one::text, many::text, couple::text, deep::text, n from t.held", [("(1)", "{(1)}", "(1)", '("(1)",3)', 7)])),
    no("a sequence set back", NUMBERS, "select setval('numbers', 5)", "", "sequence-set-back"),
    no("a sequence begun again among other DDL", NUMBERS + SHOP, "alter sequence numbers increment 1 restart with 5; alter table item add z int", "", "sequence-set-back"),
    no("an identity begun again among other DDL", "create table i (id int generated always as identity); insert into i select from generate_series(1, 9);",
       "alter table i alter id restart, add z int", "", "sequence-set-back"),
    no("a table emptied with its numbers", SHOP, "truncate item restart identity; insert into item (label) values ('new')", "", "sequence-set-back"),
    no("a sequence that counts down set back", "create sequence down increment -1; select nextval('down') from generate_series(1, 9);", "select setval('down', -2)", "",
       "sequence-set-back"),
    ok("a sequence made again that counts on", NUMBERS + SHOP, "drop sequence numbers; create sequence numbers; select setval('numbers', 900000); alter table item add z int", "",
       ("select nextval('t.numbers') > 900000", [(True,)])),
    no("a sequence made again among other DDL", NUMBERS + SHOP, "drop sequence numbers; create sequence numbers; alter table item add z int", "", "sequence-set-back"),
    no("an identity made again among other DDL", "create table i (id int generated always as identity); insert into i select from generate_series(1, 9);",
       "alter table i alter id drop identity; alter table i alter id add generated always as identity; alter table i add z int", "", "sequence-set-back"),
    no("a sequence renamed and set back", NUMBERS + SHOP, "alter sequence numbers rename to others; select setval('others', 5); alter table item add z int", "",
       "sequence-set-back"),
    ok("a sequence that the target renamed", SHOP, "insert into item (label) values ('F')", "alter sequence item_id_seq rename to others",
       ("select nextval('t.others') > 100000", [(True,)])),
    ok("a sequence set forward that is asked only then", NUMBERS, "select setval('numbers', 900000, false)", "", ("select nextval('t.numbers') >= 900000", [(True,)])),
    ok("sequences set to where the target's are not yet", NUMBERS + SHOP, "select setval('numbers', 900000), setval('item_id_seq', 70)", "",
       ("select nextval('t.numbers') > 900000, nextval('t.item_id_seq') > 70", [(True, True)])),
    ok("a sequence of the fork's own set back", SHOP, "create sequence own; select nextval('own') from generate_series(1, 9); alter sequence own restart with 4", "",
       ("select nextval('t.own') > 3", [(True,)])),
]  # fmt: skip

OTHER = "create table other (id int primary key);"
PT = (
    OTHER
    + "create table pt (id int primary key, x int, y int); insert into pt select n, n, n * 100 from generate_series(1, 5) n;"
)
TIMES = "create table e (id int primary key, at timestamp); insert into e values (1, '2020-01-01 12:00');"
TOKYO = "set timezone = 'Asia/Tokyo'"
LATE = "insert into e values (3, '2020-01-01 12:00')"
LOGGED = [
    no("a message with a rollback in it", SHOP + OTHER, ["begin; alter table item drop label; alter table item add label text; rollback; alter table other add z int"],
       "update item set label = 'precious' where id = 3; insert into item values (900, 1, 'l', 'l')", "opaque-ddl"),
    no("a message with a savepoint rolled back in it", PT,
       ["begin; savepoint a; alter table pt drop x; alter table pt add x int; rollback to a; alter table other add z int; commit"], "insert into pt values (9, 9, 900)", "opaque-ddl"),
    ok("a message with a savepoint in it", PT, ["begin; alter table pt add z int; savepoint a; alter table other add z int; release a; commit"], "insert into pt values (9, 9, 900)",
       ("select x, z from t.pt where id = 9", [(9, None)])),
    ok("a message of two transactions", PT, ["begin; alter table pt add z int; commit; begin; alter table other add z int; commit"], "insert into pt values (9, 9, 900)",
       ("select x, z from t.pt where id = 9", [(9, None)]), ("select count(z) from t.other", [(0,)])),
    no("a message that sets its path on the way", PT, ["create schema u; alter table pt add z int; set search_path = u; create table pt (i int)"], "", "opaque-ddl"),
    ok("a type changed under another time zone", TIMES, [TOKYO, "alter table e alter at type timestamptz"], LATE,
       ("select id, (at at time zone 'Asia/Tokyo')::text from t.e order by id", [(1, "2020-01-01 12:00:00"), (3, "2020-01-01 12:00:00")])),
    ok("defaults and bounds under another time zone", TIMES, [TOKYO, "alter table e add seen timestamptz default '2020-01-01 12:00', add gap interval default '1 12:00'",
        "create table log (at timestamptz) partition by range (at)", "create table log_1 partition of log for values from ('2020-01-01') to ('2021-01-01')",
        "create view late as select id from e where seen > '2020-06-01'", "alter table e add check (seen < '2030-01-01')"], LATE,
       ("select seen at time zone 'Asia/Tokyo' = '2020-01-01 12:00', gap::text from t.e where id = 3", [(True, "1 day 12:00:00")])),
    ok("days and months the other way round", "create table e (id int primary key, at text); insert into e values (1, '02.01.2020');",
       ["set datestyle = 'German, DMY'", "alter table e alter at type date using at::date, add seen date default '03.04.2020'"], "insert into e values (3, '02.01.2020')",
       ("select at::text, seen::text from t.e where id = 3", [("2020-01-02", "2020-04-03")])),
    ok("intervals with signs", TIMES, ["set intervalstyle = 'sql_standard'", "alter table e add gap interval default '-1 02:00:00'"], LATE,
       ("select gap = '-1 day -2 hours' from t.e where id = 3", [(True,)])),
    ok("the role's own settings", TIMES, ["set timezone = 'Asia/Tokyo'", "set role clerk", "create table pg_temp.mine (i int)", "reset role", "alter table e alter at type timestamptz",
        "set timezone = 'UTC'", "alter table e add seen timestamptz default '2020-01-01 12:00'"], LATE,
       ("select at at time zone 'Asia/Tokyo' = '2020-01-01 12:00', seen at time zone 'UTC' = '2020-01-01 12:00' from t.e where id = 3", [(True, True)])),
    no("two columns take each other's values in one statement", PT, "alter table pt alter x type bigint using y, alter y type bigint using x", "insert into pt values (9, 9, 900)",
       "type-vs-change"),
    ok("two columns take each other's values in one statement, nothing written since", PT, "alter table pt alter x type bigint using y, alter y type bigint using x",
       "insert into other values (1)", ("select x, y from t.pt where id < 3 order by id", [(100, 1), (200, 2)])),
    ok("two types in one statement, a row came live", PT, "alter table pt add z int, alter x type bigint, alter y type numeric", "insert into pt values (9, 9, 900)",
       ("select x, y::text, z from t.pt where id = 9", [(9, "900", None)])),
    no("two types in one statement, each takes something", PRICE, "alter table price alter code type varchar(3), alter amount type int",
       "insert into price values (900, 7.5)", "type-vs-change", "ddl-failed"),
    no("a second type in one statement takes something", PRICE, "alter table price alter code type varchar(30), alter amount type int",
       "insert into price values (900, 7.5)", "type-vs-change"),
    ok("a type between two defaults", PRICE + "alter table price alter amount set default 7.5;",
       "alter table price alter amount drop default, alter amount type bigint using amount::bigint, alter amount set default 7, add z int",
       "delete from price where id = 2", ("select count(*) from t.price", [(19,)])),
]  # fmt: skip
Z = "; alter table other add z int"
TWINS = (
    "create table blue (v int); create table green (v int); insert into blue values (1), (2); insert into green values (10);"
    + OTHER
)
TWINS_EXCHANGED = "alter table blue rename to tmp; alter table green rename to blue; alter table tmp rename to green"
KEYED_TWINS = "create table blue (id int primary key, v text); create table green (id int primary key, v text); insert into blue values (1, 'b'), (2, 'b'); insert into green values (1, 'g');"
KEYED_TWINS_EXCHANGED = (
    TWINS_EXCHANGED
    + "; alter index blue_pkey rename to tmp; alter index green_pkey rename to blue_pkey; alter index tmp rename to green_pkey"
)
STAGES = (
    "create schema live; create schema next; create table live.a (id int primary key, v text); create table next.a (id int primary key, v text); insert into live.a values (1, 'live'), (2, 'x'); insert into next.a values (1, 'next');"
    + OTHER
)
STAGES_EXCHANGED = "alter schema live rename to tmp; alter schema next rename to live; alter schema tmp rename to next"
POINTS = (
    "create table pt (id int primary key, x int, y int); insert into pt select n, n, n * 100 from generate_series(1, 5) n;"
    + OTHER
)
POINTS_EXCHANGED = "alter table pt rename x to tmp; alter table pt rename y to x; alter table pt rename tmp to y"
COUPLES = (
    "create type couple as (a int, b int); create table h (id int primary key, c couple); insert into h values (1, row(1,2)), (2, row(3,4));"
    + OTHER
)
COUPLES_EXCHANGED = "alter type couple rename attribute a to tmp; alter type couple rename attribute b to a; alter type couple rename attribute tmp to b"
REBUILT = "create table k (v int); insert into k values (1), (2); create table k_new (v int);"
BLUE, GREEN = "select v from t.blue order by 1", "select v from t.green order by 1"
XY = "select x, y from t.pt where id = 1"
THINGS = (
    SHOP
    + """create view v as select id from item; create function zero() returns int language sql as 'select 0'; create index by_stock on item (stock); create schema u2; create type gone as enum ('x'); create sequence nos;
alter table item add constraint pos check (stock >= 0); create policy p on item using (true); create function f() returns trigger language plpgsql as 'begin return new; end'; create trigger noted after update on item for each row execute function f();
create statistics st on stock, label from item; create schema u4; create function u4.one() returns int language sql as 'select 1';"""
)
DROPS = "drop statistics st; drop view v; drop function zero(); drop index by_stock; drop type gone; drop schema u2; drop sequence nos; alter table item drop label, drop constraint pos; drop policy p on item; drop trigger noted on item"
MISSED = "renamed-in-target"
NAMES = [
    ok("tables exchanged", TWINS, TWINS_EXCHANGED, "", (BLUE, [(10,)]), (GREEN, [(1,), (2,)])),
    ok("tables exchanged, and written", TWINS, TWINS_EXCHANGED + "; insert into blue values (11)", "", (BLUE, [(10,), (11,)]), (GREEN, [(1,), (2,)])),
    no("tables exchanged, written live", TWINS, TWINS_EXCHANGED, "update blue set v = 7", "keyless-row-count"),
    # Since PostgreSQL 18 the names of NOT NULL show it: then the tables are exchanged, and the new row with them.
    ok("tables with keys exchanged, written live", KEYED_TWINS, KEYED_TWINS_EXCHANGED, "insert into blue values (9, 'L')",
       ("select id, v from t.blue where id < 9", [(1, "g")]), ("select id, v from t.green where id < 9 order by 1", [(1, "b"), (2, "b")]),
       ("select v from t.blue where id = 9 union all select v from t.green where id = 9", [("L",)])),
    ok("a table filled anew in the place of the old one", REBUILT, "insert into k_new select v * 10 from k; alter table k rename to k_old; alter table k_new rename to k; alter table k_old rename to k_new", "",
       ("select v from t.k order by 1", [(10,), (20,)]), ("select v from t.k_new order by 1", [(1,), (2,)])),
    ok("schemas exchanged", STAGES, STAGES_EXCHANGED, "", ("select v from live.a order by 1", [("next",)]), ("select v from next.a order by id", [("live",), ("x",)])),
    no("attributes exchanged", COUPLES, COUPLES_EXCHANGED, "", "attributes-exchanged"),
    no("an attribute made anew", COUPLES, "alter type couple drop attribute b; alter type couple add attribute b int", "", "attributes-exchanged"),
    no("columns exchanged, a row came live", POINTS, POINTS_EXCHANGED, "insert into pt values (9, 9, 900)", "exchange-vs-change"),
    ok("columns exchanged, another changed live", "create table pt (id int primary key, x int, y int, w int); insert into pt select n, n, n * 100 from generate_series(1, 5) n;", POINTS_EXCHANGED, "update pt set w = 7",
       (XY, [(100, 1)]), ("select distinct w from t.pt", [(7,)])),
    ok("columns exchanged by both", POINTS, POINTS_EXCHANGED, POINTS_EXCHANGED, (XY, [(100, 1)])),
    ok("tables exchanged, in company", TWINS, TWINS_EXCHANGED + Z, "insert into blue values (3)", (BLUE, [(10,)]), (GREEN, [(1,), (2,), (3,)])),
    no("tables exchanged by both, in company", TWINS, TWINS_EXCHANGED + Z, TWINS_EXCHANGED, MISSED),
    no("schemas exchanged by both, in company", STAGES, STAGES_EXCHANGED + Z, STAGES_EXCHANGED, MISSED),
    no("columns exchanged by both, in company", POINTS, POINTS_EXCHANGED + Z, POINTS_EXCHANGED, MISSED),
    no("attributes exchanged by both, in company", COUPLES, COUPLES_EXCHANGED + Z, COUPLES_EXCHANGED, MISSED),
    no("tables exchanged by the fork, the company by both", TWINS, TWINS_EXCHANGED + Z, Z[2:], MISSED),
    no("a column made anew by the fork, the company by both", SHOP + OTHER, "alter table item drop label; alter table item add label text" + Z, Z[2:], MISSED),
    ok("tables exchanged by both, and the company", TWINS, TWINS_EXCHANGED + Z, TWINS_EXCHANGED + Z, (BLUE, [(10,)])),
    ok("renamed by both, where it may be gone", SHOP + OTHER, "alter table if exists item rename to thing" + Z, "alter table if exists item rename to thing", ("select count(*), count(z) from t.thing, t.other", [(0, 0)])),
    ok("dropped and made again, renamed inside live", THINGS, "drop view v; create view v as select id, stock from item; drop index by_stock; create index by_stock on item (stock, id)",
       "alter trigger noted on item rename to n2; alter function zero() rename to nought", ("select count(*) from t.v", [(50,)])),
    ok("a column gets another type, its index another name live", THINGS, "drop view v; alter table item alter stock type bigint", "alter index by_stock rename to others; alter table item rename constraint pos to positive",
       ("select to_regclass('t.others') is not null", [(True,)])),
    ok("all dropped, nothing renamed", THINGS, DROPS, "update item set stock = 7 where id = 1", ("select to_regclass('t.v'), to_regclass('t.nos')", [(None, None)])),
    no("a table dropped with what is on it, renamed live", THINGS, "drop table item cascade", "alter index by_stock rename to others; alter trigger noted on item rename to n2; alter policy p on item rename to p2",
       "schema-mismatch"),
    no("dropped, renamed live: a table", SHOP, "drop table item", "alter table item rename to thing", "schema", MISSED),
    no("dropped, renamed live: a column of a renamed table", SHOP, "alter table item drop column label", "alter table item rename to thing", MISSED),
    no("dropped, renamed live: a column", SHOP, "alter table item drop column label", "alter table item rename label to title", MISSED),
    no("dropped, renamed live: a view", THINGS, "drop view v", "alter view v rename to w", MISSED),
    no("dropped, moved live: a function", THINGS, "drop function zero()", "alter function zero() set schema u2", MISSED),
    no("dropped, renamed live: a function's schema", THINGS, "drop function u4.one()", "alter schema u4 rename to u5", MISSED),
    no("dropped, renamed live: a constraint", THINGS, "alter table item drop constraint pos", "alter table item rename constraint pos to positive", MISSED),
    no("dropped, renamed live: an index", THINGS, "drop index by_stock", "alter index by_stock rename to others", MISSED),
    no("dropped, renamed live: a policy", THINGS, "drop policy p on item", "alter policy p on item rename to p2", MISSED),
    no("dropped, renamed live: a trigger", THINGS, "drop trigger noted on item", "alter trigger noted on item rename to n2", MISSED),
    no("dropped, renamed live: a type", THINGS, "drop type gone", "alter type gone rename to here", MISSED),
    no("dropped, renamed live: a schema", THINGS, "drop schema u2", "alter schema u2 rename to u3", MISSED),
    no("dropped, renamed live: a sequence", THINGS, "drop sequence nos", "alter sequence nos rename to numbers", MISSED),
    no("dropped, renamed live: statistics", THINGS, "drop statistics st", "alter statistics st rename to st2", MISSED),
    no("a column dropped whose values changed their rows live", SHOP, "alter table item drop column label", "update item set label = 'label ' || (3 - id) where id < 3", "drop-vs-change"),
]  # fmt: skip

KEPT = (
    "create table k (id int primary key, v text); insert into k select n, 'v' || n from generate_series(1, 9) n;"
    + OTHER
)
ONE = "alter table k add n int default 1; alter table k alter n drop default"
ALL_ONE = ("select count(*) from t.k where n = 1", [(9,)])
FILLED = [
    no("filled by a default that went again", KEPT, ONE, "alter table k add n int", "filled-otherwise"),
    no("filled by a default that went again, no key", "create table l (v text); insert into l values ('a'), ('b');", ONE.replace(" k ", " l "), "alter table l add n int", "filled-otherwise"),
    no("filled live by a default that went again", KEPT, "alter table k add n int", ONE, "filled-otherwise"),
    no("two defaults that became one", KEPT, "alter table k add n int not null default 1; alter table k alter n set default 0" + Z,
       "alter table k add n int not null default 2; alter table k alter n set default 0", "filled-otherwise"),
    no("filled, and the table renamed", KEPT, ONE + "; alter table k rename to k9", "alter table k add n int", "filled-otherwise"),
    no("filled, and another column made anew", KEPT, ONE + "; alter table k alter id type bigint", "alter table k add n int", "filled-otherwise"),
    no("filled in a partition", PARTED + "insert into reading values (1, 1, 'a');", ONE.replace(" k ", " reading "), "alter table reading add n int", "filled-otherwise"),
    ok("filled alike", KEPT, ONE + Z, ONE, ALL_ONE),
    ok("filled alike, once by hand", KEPT, ONE + Z, "alter table k add n int; update k set n = 1", ALL_ONE),
    ok("filled alike, written anew", KEPT, ONE + Z, [ONE, "vacuum full k"], ALL_ONE),
    ok("filled by the target, all written by the fork", KEPT, "alter table k add n int; update k set n = 1" + Z, ONE, ALL_ONE),
    ok("filled under the name of one that goes", KEPT, "alter table k drop v; alter table k add v text default 'm'", "insert into other values (1)", ("select distinct v from t.k", [("m",)])),
    ok("filled with nothing by both", KEPT, "alter table k add n int" + Z, "alter table k add n int; update k set n = 5 where id = 1", ("select sum(n) from t.k", [(5,)])),
    ok("filled otherwise, no rows", "create table k (id int primary key);" + OTHER, ONE + Z, "alter table k add n int", ("select count(*) from t.k", [(0,)])),
    ok("filled with an array and a text alike", KEPT, "alter table k add n int[] default '{1,2}', add m text default 'a, \"b\"'" + Z, "alter table k add n int[] default '{1,2}', add m text default 'a, \"b\"'",
       ("select distinct n, m from t.k", [([1, 2], 'a, "b"')])),
]  # fmt: skip

OWN_FK = (
    SHOP
    + """create table reading (id int, zone int, item int, primary key (id, zone)) partition by list (zone);
create table reading_1 partition of reading for values in (1); create table reading_2 partition of reading for values in (2);
create table reading_3 partition of reading for values in (3) partition by range (id); create table reading_3a partition of reading_3 default;
alter table reading_1 add foreign key (item) references item; alter table reading_3 add foreign key (item) references item; insert into reading values (1, 1, 1), (2, 2, 2), (3, 3, 3);
create table mark (zone int, item int) partition by list (zone); create table mark_1 partition of mark for values in (1); create table mark_2 partition of mark for values in (2);
alter table mark_1 add foreign key (item) references item; insert into mark values (1, 1), (2, 2);"""
)
TO_PART = (
    PARTED
    + """create table reading_2 partition of reading for values in (2); insert into reading values (1, 1, 'a'), (2, 1, 'b'), (3, 2, 'c'), (4, 1, 'd');
alter table reading_1 add unique (id); alter table reading_1 add unique (v);
create table kid (id int primary key, r int, z int, foreign key (r, z) references reading_1 (id, zone)); insert into kid values (1, 1, 1);
create table nephew (id int primary key, r int references reading_1 (id));"""
)
OWN_UNIQUE = "create table reading (id int, zone int, v int) partition by list (zone); create table reading_1 partition of reading for values in (1); alter table reading_1 add unique (v) deferrable initially deferred; insert into reading values (1, 1, 1);"
OWN_EXCLUSION = "create table reading (id int, zone int, v int4range) partition by list (zone); create table reading_1 partition of reading for values in (1); alter table reading_1 add exclude using gist (v with &&) deferrable initially deferred; insert into reading values (1, 1, '[1,2)');"
HEIRS = "create table plant (id int primary key, v int); create table tree (h int) inherits (plant); insert into plant values (1, 1), (2, 2), (3, 3); insert into tree values (2, 2, 2), (3, 3, 3); create table kid (id int primary key, p int references plant); insert into kid values (3, null);"
GENERATED = "create table par (id int primary key, a int, g int generated always as (a * 2) stored unique); insert into par (id, a) values (1, 1), (2, 2); create table kid (id int primary key, g int references par (g));"
GENERATED_KEYLESS = "create table par (id int primary key); insert into par values (2), (4); create table kid (a int, g int generated always as (a * 2) stored references par);"
GENERATED_BOTH = "create table par (a int, g int generated always as (a * 2) stored unique); insert into par (a) values (1), (2); create table kid (id int primary key, g int references par (g));"
REFERENCES = [
    no("a partition's own foreign key: the parent went live", OWN_FK, "insert into reading values (4, 1, 45)", "delete from item where id = 45", "fk-parent-missing"),
    no("a partition's own foreign key: another reference", OWN_FK, "update reading set item = 44 where id = 1", "delete from item where id = 44", "fk-parent-missing"),
    no("a partition's own foreign key: a row moved into it", OWN_FK, "update reading set zone = 1 where id = 2", "delete from item where id = 2", "fk-parent-missing"),
    no("a partition's own foreign key: a child came live", OWN_FK, "delete from item where id = 44", "insert into reading values (4, 1, 44)", "fk-child-exists"),
    no("a partition of partitions has a foreign key", OWN_FK, "insert into reading values (4, 3, 45)", "delete from item where id = 45", "fk-parent-missing"),
    no("a partition of partitions has a foreign key: a child came live", OWN_FK, "delete from item where id = 44", "insert into reading values (4, 3, 44)", "fk-child-exists"),
    no("a partition's own foreign key, no key", OWN_FK, "insert into mark values (1, 45)", "delete from item where id = 45", "fk-parent-missing"),
    ok("rows of other partitions refer to nothing", OWN_FK, "insert into reading values (4, 2, 45); insert into mark values (2, 45); update reading set zone = 2 where id = 1", "delete from item where id in (45)",
       ("select zone, item from t.reading union all select zone, item from t.mark order by 1, 2", [(1, 1), (2, 1), (2, 2), (2, 2), (2, 45), (2, 45), (3, 3)])),
    no("a foreign key to a partition: a child came live", TO_PART, "delete from reading where id = 2", "insert into kid values (2, 2, 1)", "fk-child-exists"),
    no("a foreign key to a partition: a row moved out of it", TO_PART, "update reading set zone = 2 where id = 2", "insert into kid values (2, 2, 1)", "fk-child-exists"),
    no("a foreign key to a partition's own key: a row moved out of it", TO_PART, "update reading set zone = 2 where id = 2", "insert into nephew values (2, 2)", "fk-child-exists"),
    no("a foreign key to a partition: the parent went live", TO_PART, "insert into nephew values (2, 2)", "update reading set zone = 2 where id = 2", "fk-parent-missing"),
    ok("a foreign key to a partition: nobody refers to what goes", TO_PART, "update reading set zone = 2 where id = 2; insert into nephew values (3, 4)", "insert into kid values (2, 4, 1)",
       ("select id, zone from t.reading order by 1", [(1, 1), (2, 2), (3, 2), (4, 1)])),
    ok("rows exchange values of a partition's own key", TO_PART, "update reading set v = 'x' where id = 1; update reading set v = 'a' where id = 2; update reading set v = 'b' where id = 1", "",
       ("select id, v from t.reading where id < 3 order by 1", [(1, "b"), (2, "a")])),
    no("a deferrable key of a partition alone", OWN_UNIQUE, "insert into reading values (2, 1, 5)", "insert into reading values (3, 1, 5)", "unique"),
    no("a deferrable exclusion of a partition alone", OWN_EXCLUSION, "insert into reading values (2, 1, '[5,7)')", "insert into reading values (3, 1, '[5,9)')", "deferrable-exclusion"),
    no("a parent's row went live, an heir's like it is there", HEIRS, "insert into kid values (1, 2)", "delete from only plant where id = 2", "fk-parent-missing"),
    no("a parent's row goes, an heir's like it is there", HEIRS, "delete from only plant where id = 3", "update kid set p = 3 where id = 3", "fk-child-exists"),
    ok("heirs are no parents", HEIRS, "delete from tree where id = 3; insert into kid values (1, 1)", "update kid set p = 3 where id = 3", ("select id, p from t.kid order by 1", [(1, 1), (3, 3)])),
    no("a generated value to which others refer", GENERATED, "update par set a = 50 where id = 1", "insert into kid values (1, 2)", "fk-child-exists"),
    ok("a generated value to which nobody refers", GENERATED, "update par set a = 50 where id = 1", "insert into kid values (1, 4)", ("select g from t.par order by id", [(100,), (4,)])),
    no("a generated value of a row without a key, to which others refer", GENERATED_BOTH, "update par set a = 50 where a = 1", "insert into kid values (1, 2)", "fk-child-exists"),
    no("a generated reference of a row without a key", GENERATED_KEYLESS, "insert into kid values (1)", "delete from par where id = 2", "fk-parent-missing"),
    ok("a generated reference of a row without a key, to one that stays", GENERATED_KEYLESS, "insert into kid values (1), (1)", "delete from par where id = 4", ("select g from t.kid", [(2,), (2,)])),
]  # fmt: skip

GAVE = "alter table k add w text default 'x'; alter table k alter w drop default"
AGAIN = [
    no("under another key, what the target gave it is lost", KEPT, "update k set id = 1001 where id = 1", GAVE, "delete/update"),
    no("changed without a key, what the target gave it is lost", "create table k (v text); insert into k values ('a'), ('b');", "update k set v = 'A' where v = 'a'", GAVE, "delete/update"),
    ok("under another key, a new row gets the same", KEPT, "update k set id = 1001 where id = 1", "alter table k add w text default 'x', add n int not null default 7", ("select w, n from t.k where id = 1001", [("x", 7)])),
    ok("changed without a key, a new row gets the same", "create table k (v text); insert into k values ('a'), ('b');", "update k set v = 'A' where v = 'a'", "alter table k add w text default 'x', add n int",
       ("select w, n from t.k where v = 'A'", [("x", None)])),
    ok("deleted, and another row comes", KEPT, "delete from k where id = 1; insert into k values (1001, 'other')", GAVE, ("select count(*), count(w) from t.k", [(9, 8)])),
]  # fmt: skip

CASES = [
    *(
        *ROWS,
        *KINDS_OF_TABLES,
        *CONSTRAINTS,
        *COLUMNS,
        *OBJECTS,
        *MORE,
        *GIVEN,
        *LOSSES,
        *LOGGED,
        *NAMES,
        *FILLED,
        *REFERENCES,
        *AGAIN,
    ),
    *(replace(case, since=version) for version, cases in SINCE.items() for case in cases),
]


def messages(sql: str | list[str]) -> list[str]:
    return postgast.split(sql) if isinstance(sql, str) else sql


@dataclass
class Sides:
    """Production, one fork, and its base; every case that is asked for has happened on both in its own database."""

    rig: Any
    production: Any
    fork: Any
    base: Any
    mergeable: list[int]
    """Cases whose changes are not read yet."""
    read: dict[int, list[Any]] = field(default_factory=dict)

    def changes(self, number: int) -> list[Any]:
        """Of one case; what can be read is read for many cases at once."""
        if number not in self.mergeable:
            return self.read.pop(number) if number in self.read else self._diff([number])[number]
        chunk, self.mergeable = self.mergeable[:AT_ONCE], self.mergeable[AT_ONCE:]
        self.read |= self._diff(chunk)
        return self.changes(number)

    def _diff(self, numbers: list[int]) -> dict[int, list[Any]]:
        found = self.rig.diff(self.fork, base=self.base, databases=[database_of(number) for number in numbers])
        return {number: [each for each in found if each.database == database_of(number)] for number in numbers}


def database_of(number: int) -> str:
    return f"case_{number}"


@pytest.fixture(scope="module")
def sides(rig: Any, request: pytest.FixtureRequest) -> Iterator[Sides]:
    production = rig.create(settings={"file_copy_method": "clone"} if rig.version >= 18 else None)
    production.run("postgres", "create role clerk login")
    asked = {item.callspec.params["number"] for item in request.session.items if item.module is request.module}
    chosen = [(number, CASES[number]) for number in sorted(asked) if CASES[number].missing(production) is None]
    for number, case in chosen:
        production.run("postgres", f"create database {database_of(number)} strategy file_copy")  # much less WAL
        production.run(database_of(number), ["create schema t", "set search_path = t, public", *messages(case.setup)])
    fork = rig.fork(production)
    for number, case in chosen:
        fork.run(database_of(number), messages(case.fork))
        production.run(database_of(number), messages(case.target))
    base = rig.start_base(fork)
    yield Sides(rig, production, fork, base, [number for number, case in chosen if not case.refused])
    for site in (base, fork, production):
        site.discard()


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])
def test_case(rig: Any, sides: Sides, number: int) -> None:
    case, production, database = CASES[number], sides.production, database_of(number)
    missing = case.missing(production)
    if missing is not None:
        pytest.skip(f"this server has no {missing}")

    def merge() -> None:
        for changes in sides.changes(number):
            if case.changed is not None:
                assert max(len(t.deletes) + len(t.updates) + len(t.inserts) for t in changes.tables) <= case.changed
            rig.apply(production, changes)

    if not case.refused:
        merge()
        for sql, rows in case.merged:
            assert production.query(database, sql) == rows, sql
        return
    before = rig.servers.dump(production.server, database)
    with pytest.raises(Refused) as refused:
        merge()
    assert {conflict.kind for conflict in refused.value.conflicts} <= case.refused
    assert rig.servers.dump(production.server, database) == before

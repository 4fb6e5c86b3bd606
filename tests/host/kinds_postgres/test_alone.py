"""One statement of DDL, alone in a fork: either the target has its effect after the merge, or it is refused by name.

Nothing may be empty in silence. What pg_dump prints of fork and target decides, since it knows nothing of how wye reads
a schema; for the few things that it does not print a case has a query (`shown`). Every case is a database of its own,
a copy of one that has some of everything.
"""

# ruff: noqa: E501 - SQL reads better on long lines than cut into pieces
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from wye.kinds.postgres.catalog import read_schema
from wye.kinds.postgres.session import LOG_SCHEMA, begin_session
from wye.merge.refused import Refused

pytestmark = pytest.mark.host

AT_ONCE = 40
WORLD = [
    "create schema t",
    "create schema u",
    "create table item (id serial primary key, stock int, label text, code text constraint coded unique, constraint positive check (stock >= 0))",
    "insert into item (stock, label, code) select n, 'label ' || n, 'code ' || n from generate_series(1, 5) n",
    "create table purchase (id int primary key, item int constraint bought references item, note text)",
    "alter table purchase add constraint noted check (note <> '') not valid",
    "create index by_stock on item (stock)",
    "create index by_length on item (length(label), lower(code))",
    "create unique index coded_too on item (code) include (id)",
    "create view v as select id, label from item",
    "create materialized view total as select count(*) n, max(label) label from item",
    "create function note() returns trigger language plpgsql as 'begin return new; end'",
    "create trigger noting after update on item for each row execute function note()",
    "create function zero() returns int language sql as 'select 0'",
    "create function two(int, int) returns int language sql immutable as 'select 2'",
    "create procedure act() language sql as 'select 0'",
    "create aggregate every_one(int) (sfunc = int4pl, stype = int)",
    "create type size as enum ('s', 'm')",
    "create type pair as (a int, b text)",
    "create type span as range (subtype = int)",
    "create type shell",
    "create domain code as text constraint filled check (value <> '')",
    "create table thing of pair",
    "create policy everything on item using (true)",
    "create rule logged as on update to purchase do also nothing",
    "create table reading (id int, zone int, v text) partition by list (zone)",
    "create table reading_1 partition of reading for values in (1)",
    "create table reading_2 (id int, zone int, v text)",
    "create index reading_id on only reading (id)",
    "create index reading_1_id on reading_1 (id)",
    "create table plant (id int, v int)",
    "create table tree (h int) inherits (plant)",
    "create table bush (id int, v int)",
    "create unlogged table scrap (id int)",
    "create sequence counter",
    "create collation plain (locale = 'C')",
    "create operator === (leftarg = int, rightarg = int, function = int4eq)",
    "create operator family family using btree",
    "create operator class orderly for type int using btree family family as operator 1 <, operator 2 <=, operator 3 =, operator 4 >=, operator 5 >, function 1 btint4cmp(int, int)",
    "create cast (pair as text) with inout",
    "create conversion latin for 'LATIN1' to 'UTF8' from iso8859_1_to_utf8",
    "create statistics related (ndistinct) on stock, label from item",
    "create text search dictionary words (template = simple)",
    "create text search configuration search (copy = simple)",
    "create text search parser split (start = prsd_start, gettoken = prsd_nexttoken, end = prsd_end, lextypes = prsd_lextype)",
    "create text search template easy (init = dsimple_init, lexize = dsimple_lexize)",
    "create trusted language talk handler plpgsql_call_handler inline plpgsql_inline_handler validator plpgsql_validator",
    "create access method pile type table handler heap_tableam_handler",
    "create foreign data wrapper afar",
    "create server away foreign data wrapper afar",
    "create user mapping for clerk server away",
    "create foreign table distant (id int, v text) server away",
    "create publication news for table item",
    "create function ddl() returns event_trigger language plpgsql as 'begin end'",
    "create event trigger watching on ddl_command_start execute function ddl()",
    "create extension hstore schema public",
    "create extension citext schema public",
    "select lo_create(4711)",
]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """`refused`: the kind of refusal; empty: it is merged."""

    statement: str
    before: str = ""
    refused: str = ""
    shown: str = ""
    since: int = 0


COMMENTED = (
    "table item", "column item.stock", "column v.id", "column total.n", "column pair.a", "column distant.v", "index by_stock", "view v",
    "materialized view total", "sequence counter", "foreign table distant", "constraint positive on item", "constraint bought on purchase",
    "constraint filled on domain code", "constraint coded on item", "trigger noting on item", "function zero()", "procedure act()",
    "aggregate every_one(int)", "type size", "type pair", "type span", "domain code", "policy everything on item", "rule logged on purchase",
    "schema t", "schema public", "collation plain", "operator === (int, int)", "operator class orderly using btree", "operator family family using btree",
    "cast (pair as text)", "conversion latin", "statistics related", "text search dictionary words", "text search configuration search",
    "text search parser split", "text search template easy", "language talk", "access method pile", "foreign data wrapper afar", "server away",
    "publication news", "extension hstore",
)  # fmt: skip
RENAMED = (
    "table item", "index by_stock", "view v", "materialized view total", "sequence counter", "foreign table distant", "function zero()",
    "procedure act()", "aggregate every_one(int)", "type size", "type pair", "domain code", "schema u", "collation plain",
    "operator class orderly using btree", "operator family family using btree", "conversion latin", "statistics related",
    "text search dictionary words", "text search configuration search", "text search parser split", "text search template easy", "language talk",
    "foreign data wrapper afar", "server away", "publication news",
)  # fmt: skip
RENAMED_WITHIN = (
    "table item rename column stock", "view v rename column id", "materialized view total rename column n", "foreign table distant rename column v",
    "table item rename constraint positive", "domain code rename constraint filled", "trigger noting on item rename",
    "policy everything on item rename", "rule logged on purchase rename",
)  # fmt: skip
OWNED = (
    "table item", "view v", "materialized view total", "sequence counter", "foreign table distant", "function zero()", "procedure act()",
    "aggregate every_one(int)", "type size", "type pair", "type span", "domain code", "schema u", "collation plain", "operator === (int, int)",
    "operator class orderly using btree", "operator family family using btree", "conversion latin", "statistics related",
    "text search dictionary words", "text search configuration search", "server away", "publication news",
)  # fmt: skip
MOVED = (
    "table item", "view v", "materialized view total", "sequence counter", "foreign table distant", "function zero()", "procedure act()",
    "aggregate every_one(int)", "type size", "type pair", "domain code", "collation plain", "operator === (int, int)",
    "operator class orderly using btree", "operator family family using btree", "conversion latin", "statistics related",
    "text search dictionary words", "text search configuration search", "text search parser split", "text search template easy", "extension hstore",
)  # fmt: skip
DROPPED = (
    "table purchase", "index by_stock", "view v", "materialized view total", "sequence counter", "foreign table distant", "function zero()",
    "procedure act()", "aggregate every_one(int)", "type size", "type span", "domain code", "schema u", "collation plain", "operator === (int, int)",
    "operator class orderly using btree", "operator family family using btree cascade", "conversion latin", "statistics related",
    "text search dictionary words", "text search configuration search", "text search parser split", "text search template easy",
    "language talk", "access method pile", "publication news", "extension hstore", "trigger noting on item",
    "policy everything on item", "rule logged on purchase", "cast (pair as text)", "type shell",
)  # fmt: skip
GRANTED = (
    "select on table item", "select (label) on item", "update (stock), insert (label) on table item", "select on v", "select on total", "usage on sequence counter",
    "select on distant", "execute on function two(int, int)", "execute on procedure act()", "usage on type size", "usage on type pair", "usage on domain code",
    "create on schema u", "usage on language talk", "usage on foreign data wrapper afar", "usage on foreign server away",
    "select on all tables in schema t",
)  # fmt: skip
TABLES = (
    "alter stock set statistics 500", "alter label set (n_distinct = 5)", "alter label set storage external", "alter label set compression pglz",
    "alter stock set default 7", "alter stock set not null", "alter id drop default", "set (fillfactor = 70)", "set (autovacuum_enabled = false)",
    "set (toast.autovacuum_enabled = false)", "cluster on by_stock", "replica identity full", "replica identity nothing",
    "disable trigger noting", "enable always trigger noting", "enable replica trigger noting", "disable trigger all", "disable trigger user",
    "enable row level security", "force row level security", "set access method pile",
)  # fmt: skip

TRIGGERS = (
    "select tgrelid::regclass::text, tgtype, tgfoid::regproc::text, tgenabled::text from pg_trigger order by 1, 2, 3"
)
RIGHTS = "select proacl::text from pg_proc where proname = 'hstore' order by 1"
MADE = (
    "create type made; create function made_in(cstring) returns made language internal immutable strict as 'textin';"
    "create function made_out(made) returns cstring language internal immutable strict as 'textout';"
    "create type made (input = made_in, output = made_out, like = text, storage = plain)"
)
LOOSE = "alter operator family family using btree add operator 1 < (bigint, bigint)"
OTHERS = [
    # of tables and their columns
    Case("alter table item alter stock reset (n_distinct)", "alter table item alter stock set (n_distinct = 5)"),
    Case("alter table item alter stock set statistics -1", "alter table item alter stock set statistics 500"),
    Case("alter table item reset (fillfactor)", "alter table item set (fillfactor = 70)"),
    Case("alter table item set without cluster", "alter table item cluster on by_stock"),
    Case("alter table item replica identity using index coded_too", "alter table item alter code set not null"),
    Case("alter table item no force row level security", "alter table item force row level security"),
    Case("alter table item enable trigger noting", "alter table item disable trigger noting"),
    Case("alter table item disable trigger all", shown=TRIGGERS),
    Case("alter table purchase disable trigger all", shown=TRIGGERS),
    Case("alter table item enable trigger all", "alter table item disable trigger all", shown=TRIGGERS),
    Case("alter table purchase disable rule logged"),
    Case("alter table purchase enable always rule logged"),
    Case("alter table purchase alter constraint bought deferrable initially deferred"),
    Case("alter table purchase alter constraint bought not enforced", since=18),
    Case("alter table purchase validate constraint noted"),
    Case("alter table purchase drop constraint bought"),
    Case("alter table scrap set logged"),
    Case("alter table bush set unlogged"),
    Case("alter table tree no inherit plant"),
    Case("alter table bush inherit plant"),
    Case("alter table item of pair2", "create type pair2 as (id int, stock int, label text, code text)"),
    Case("alter table thing not of"),
    Case("alter table reading attach partition reading_2 for values in (2)"),
    Case("alter table reading attach partition reading_2 default"),
    Case("alter table reading detach partition reading_1"),
    Case("alter table reading detach partition reading_1 concurrently", refused="ddl-not-replayable"),
    Case("alter index reading_id attach partition reading_1_id"),
    Case("alter index by_stock set (fillfactor = 50)"),
    Case("alter index by_length alter column 1 set statistics 300"),
    Case("alter materialized view total alter n set statistics 300"),
    Case("alter materialized view total alter label set storage external"),
    Case("alter materialized view total alter label set compression pglz"),
    Case("alter materialized view total set (fillfactor = 50)"),
    Case("alter materialized view total cluster on total_n", "create index total_n on total (n)"),
    Case("alter view v alter label set default 'given'"),
    Case("alter view v set (security_barrier)"),
    Case("alter sequence counter increment 5 cycle"),
    Case("alter sequence counter owned by item.id"),
    Case("alter sequence counter set unlogged", since=15),
    Case("alter foreign table distant alter v options (add width '5')"),
    Case("alter foreign table distant options (add table_name 'x')"),
    Case("alter table reading_1 alter v set statistics 200"),
    Case("alter table item add column more int"),
    Case("alter table item alter stock set data type bigint"),
    Case("alter table item alter id add generated always as identity", "alter table item alter id drop default"),
    Case("alter table purchase alter note set data type text collate plain"),
    Case("create index on item (label)"),
    Case("create unlogged table fresh (id int)"),
    Case("create table fresh (like item including all)"),
    # of what runs
    Case("alter function zero() cost 7"),
    Case("alter function two(int, int) set work_mem = '1MB'"),
    Case("alter function zero() depends on extension hstore"),
    Case("alter function zero() no depends on extension hstore", "alter function zero() depends on extension hstore"),
    Case("alter trigger noting on item depends on extension hstore"),
    Case("alter index by_stock depends on extension hstore"),
    Case("alter materialized view total depends on extension hstore"),
    Case(
        "create or replace aggregate every_one(int) (sfunc = int4pl, stype = int, combinefunc = int4pl, parallel = safe)"
    ),
    Case("create or replace aggregate every_one(int) (sfunc = int4pl, stype = int, initcond = '5', sspace = 100)"),
    Case("create constraint trigger noting_too after update on item deferrable for each row execute function note()"),
    Case("alter policy everything on item to clerk"),
    Case("alter policy everything on item with check (stock > 0)"),
    Case(
        "create policy more on item with check (true)",
        "create policy more on item using (true); drop policy more on item",
    ),
    Case("alter language talk owner to chief"),
    Case(
        "create transform for pair language sql (from sql with function handed(internal), to sql with function given(internal))",
        "create function handed(internal) returns internal language internal immutable as 'int4recv'; create function given(internal) returns pair language internal immutable as 'record_recv'",
        refused="opaque-ddl",
    ),
    # of types
    Case("alter type size add value 'l'"),
    Case("alter type size rename value 's' to 'other'"),
    Case("alter type pair add attribute c int cascade"),
    Case("alter type pair alter attribute b type varchar(5) cascade"),
    Case("alter type pair rename attribute a to other cascade"),
    Case("alter domain code set default 'x'"),
    Case("alter domain code set not null"),
    Case("alter domain code drop constraint filled"),
    Case("alter type made set (storage = extended)", MADE),
    Case("comment on type made is 'said'", MADE),
    Case("alter type made owner to clerk", MADE),
    Case("create type other"),
    Case("alter operator === (int, int) set (restrict = eqsel, join = eqjoinsel)"),
    Case("create operator !== (leftarg = int, rightarg = int, function = int4ne, negator = ===)"),
    Case(
        "alter operator family family using btree add operator 1 < (int, bigint), function 1 (int, bigint) btint48cmp(int, bigint)"
    ),
    Case("alter operator family family using btree drop operator 1 (bigint, bigint)", LOOSE),
    Case(
        "create cast (size as int) with function count_of(size) as assignment",
        "create function count_of(size) returns int language sql as 'select 1'",
    ),
    Case("create default conversion more for 'LATIN1' to 'UTF8' from iso8859_1_to_utf8"),
    Case("alter statistics related set statistics 300"),
    Case("create statistics more (mcv) on stock, label from item"),
    Case("create collation more (provider = libc, locale = 'C.utf8')"),
    Case("alter text search dictionary words (accept = false)"),
    Case("alter text search configuration search drop mapping for asciiword"),
    Case("drop text search dictionary words; create text search dictionary words (template = easy)"),
    Case(
        "drop text search configuration search; create text search configuration search (parser = split)",
        "drop text search configuration search; create text search configuration search (parser = pg_catalog.default)",
    ),
    # of what is far
    Case("alter foreign data wrapper afar options (add a '1')", refused="opaque-ddl"),
    Case("alter server away options (add a '1')", refused="opaque-ddl"),
    Case("alter server away version '2'", refused="opaque-ddl"),
    Case("alter user mapping for clerk server away options (add a '1')", refused="opaque-ddl"),
    Case("create user mapping for public server away", refused="opaque-ddl"),
    Case("drop user mapping for clerk server away", refused="opaque-ddl"),
    Case("create server more foreign data wrapper afar", refused="opaque-ddl"),
    Case("create foreign data wrapper more", refused="opaque-ddl"),
    Case("create foreign table more (id int) server away", refused="opaque-ddl"),
    Case("create access method more type table handler heap_tableam_handler", refused="opaque-ddl"),
    Case("create language more handler plpgsql_call_handler", refused="opaque-ddl"),
    Case("drop foreign data wrapper afar cascade"),
    Case("drop server away cascade"),
    # of publications
    Case("alter publication news set (publish = 'insert')"),
    Case("alter publication news add table purchase"),
    Case("alter publication news drop table item"),
    Case("alter publication news set table item where (stock > 1)", since=15),
    Case("alter publication news set table item (id, stock)", since=15),
    Case("alter publication news add tables in schema u", since=15),
    Case("create publication more"),
    Case("create publication more for all tables"),
    # of rights
    Case("alter default privileges in schema t grant select on tables to clerk"),
    Case("alter default privileges for role clerk revoke execute on functions from public"),
    Case("grant select on item to clerk with grant option"),
    Case("revoke grant option for select on item from clerk", "grant select on item to clerk with grant option"),
    Case("revoke usage on schema public from public"),
    Case("revoke usage on type size from public"),
    Case("revoke execute on function zero() from public"),
    Case("revoke execute on function pg_catalog.pg_sleep(double precision) from public"),
    Case("grant execute on function pg_catalog.pg_read_file(text) to clerk"),
    Case("grant select on pg_catalog.pg_authid to clerk"),
    Case("grant select (rolpassword) on pg_catalog.pg_authid to clerk"),
    Case("revoke usage on language plpgsql from public"),
    Case(
        "grant usage on schema information_schema to clerk",
        shown="select nspacl::text from pg_namespace where nspname = 'information_schema'",
    ),
    Case("grant execute on function public.hstore(text, text) to clerk", shown=RIGHTS),
    Case("comment on large object 4711 is 'said'", shown="select obj_description(4711, 'pg_largeobject')"),
    # of extensions, and of what belongs to one or to the server
    Case("alter extension hstore add function zero()"),
    Case("alter extension hstore drop function public.hstore(text, text)"),
    Case(
        "alter extension hstore update to '1.8'",
        "drop extension hstore; create extension hstore schema public version '1.7'",
        shown="select extversion from pg_extension where extname = 'hstore'",
    ),
    Case("comment on function public.hstore(text, text) is 'said'", refused="unshown-ddl"),
    Case("comment on function pg_catalog.now() is 'said'", refused="unshown-ddl"),
    Case("alter function public.hstore(text, text) cost 100", refused="unshown-ddl"),
    Case("alter function public.hstore(text, text) owner to clerk", refused="unshown-ddl"),
    Case("alter operator public.-> (public.hstore, text) owner to clerk", refused="unshown-ddl"),
]

ALWAYS = [
    *(Case(f"comment on {each} is 'said'") for each in COMMENTED),
    *(Case(f"alter table item {each}") for each in TABLES),
    *OTHERS,
]
MORE = [
    *(Case(f"alter {each} rename to other") for each in RENAMED),
    *(Case(f"alter {each} to other") for each in RENAMED_WITHIN),
    *(Case(f"alter {each} owner to clerk") for each in OWNED),
    *(Case(f"alter {each} set schema u") for each in MOVED),
    *(Case(f"drop {each}") for each in DROPPED),
    *(Case(f"grant {each} to clerk") for each in GRANTED),
    *(Case(f"revoke {each} from clerk", f"grant {each} to clerk") for each in GRANTED),
]
"""What is more of the same."""
CASES = [*ALWAYS, *MORE]


def database_of(number: int) -> str:
    return f"alone_{number}"


def world(rig: Any) -> Any:
    """A production whose database "world" has some of everything."""
    site = rig.create(settings={"file_copy_method": "clone"} if rig.version >= 18 else None)
    if not site.query("postgres", "select from pg_available_extensions where name = 'hstore'"):
        site.discard()
        pytest.skip("this server has no extensions")
    site.run("postgres", ["create role clerk", "create role chief superuser", "create database world"])
    site.run("world", [WORLD[0], "set search_path = t, public", *WORLD[1:]])
    return site


@dataclass
class Sides:
    """Production, a fork in which each case of one batch has happened, and its base."""

    rig: Any
    numbers: list[int]
    sites: list[Any] = field(default_factory=list)
    changes: dict[int, list[Any]] = field(default_factory=dict)
    unchanged: list[Any] = field(default_factory=list)

    def start(self) -> None:
        self.sites.append(world(self.rig))
        for number in self.numbers:
            created = f"create database {database_of(number)} template world strategy file_copy"
            self.production.run("postgres", created)
            self.production.run(database_of(number), CASES[number].before)
        self.sites.append(self.rig.fork(self.production))
        for number in self.numbers:
            self.fork.run(database_of(number), CASES[number].statement)
        self.sites.append(self.rig.start_base(self.fork))
        mergeable = [number for number in self.numbers if not CASES[number].refused]
        with contextlib.suppress(Refused):  # and then each on its own, to see which one it was
            found = self.diff(mergeable)
            self.changes = {n: [each for each in found if each.database == database_of(n)] for n in mergeable}

    @property
    def production(self) -> Any:
        return self.sites[0]

    @property
    def fork(self) -> Any:
        return self.sites[1]

    def diff(self, numbers: list[int]) -> list[Any]:
        return list(self.rig.diff(self.fork, base=self.sites[2], databases=[database_of(number) for number in numbers]))

    def discard(self) -> None:
        for site in reversed(self.sites):
            site.discard()
        self.rig.sweep()

    def before(self, number: int) -> Any:
        """The target's state before the merge."""
        case = CASES[number]
        if case.before or case.shown:
            return self.state(self.production, number)
        if not self.unchanged:
            self.unchanged = [self.state(self.production, number)]
        return self.unchanged[0]

    def state(self, site: Any, number: int) -> Any:
        """All that pg_dump prints of a side, in no order, and what the case itself asks for."""
        case = CASES[number]
        dumped = self.rig.servers.dump(site.server, database_of(number), "--schema-only")
        own = [block for block in dumped.split("\n--\n-- Name: ") if LOG_SCHEMA not in block.partition("\n")[0]]
        return sorted(own), site.query(database_of(number), case.shown) if case.shown else []


@dataclass
class Batches:
    """So many cases at a time, since each takes room."""

    rig: Any
    numbers: list[int]
    sides: Sides | None = None

    def of(self, number: int) -> Sides:
        if self.sides is None or number not in self.sides.numbers:
            self.discard()
            first = self.numbers.index(number) // AT_ONCE * AT_ONCE
            self.sides = Sides(self.rig, self.numbers[first : first + AT_ONCE])
            self.sides.start()
        return self.sides

    def discard(self) -> None:
        if self.sides is not None:
            self.sides.discard()
            self.sides = None


@pytest.fixture(scope="module")
def batches(rig: Any, request: pytest.FixtureRequest) -> Iterator[Batches]:
    own = [item.callspec.params for item in request.session.items if item.module is request.module]
    asked = {params["number"] for params in own if "number" in params}
    made = Batches(rig, sorted(number for number in asked if CASES[number].since <= rig.version))
    yield made
    made.discard()


NUMBERS = [
    pytest.param(number, id=case.statement, marks=[pytest.mark.slow] if number >= len(ALWAYS) else [])
    for number, case in enumerate(CASES)
]


@pytest.mark.parametrize("number", NUMBERS)
def test_alone(rig: Any, batches: Batches, number: int) -> None:
    case, sides = CASES[number], batches.of(number)
    before, wanted = sides.before(number), sides.state(sides.fork, number)
    assert before != wanted or case.refused, "pg_dump does not print it: the case needs a query"
    try:
        for changes in sides.changes[number] if number in sides.changes else sides.diff([number]):
            rig.apply(sides.production, changes)
        refused = []
    except Refused as error:
        refused = error.conflicts
    assert {conflict.kind for conflict in refused} == ({case.refused} if case.refused else set()), refused
    assert sides.state(sides.production, number) == (before if case.refused else wanted)


UNSEEN = [
    ("alter event trigger watching owner to chief", "event-triggers"),
    ("alter event trigger watching rename to other", "event-triggers"),
    ("comment on event trigger watching is 'said'", "schema-log-incomplete"),
    ("grant select on large object 4711 to clerk", "large-objects"),
    ("alter large object 4711 owner to clerk", "large-objects"),
    ("cluster item using by_stock", "schema-log-incomplete"),
    ("alter system set work_mem = '8MB'", "server-settings"),
    ("alter database world set work_mem = '8MB'", "role-settings"),
    ("alter database world connection limit 5", "databases"),
    ("alter database world owner to clerk", "databases"),
    ("grant connect on database world to clerk", "databases"),
    ("create database other", "databases"),
    ("alter role clerk set work_mem = '8MB'", "role-settings"),
    ("alter role clerk in database world set work_mem = '8MB'", "role-settings"),
    ("alter role clerk createdb", "roles"),
    ("alter role clerk rename to other", "roles"),
    ("grant clerk to chief", "roles"),
    ("comment on role clerk is 'said'", "shared-comments"),
    ("comment on database world is 'said'", "shared-comments"),
    ("comment on tablespace pg_default is 'said'", "shared-comments"),
    ("alter tablespace pg_default set (random_page_cost = 2)", "tablespaces"),
    ("grant create on tablespace pg_default to clerk", "tablespaces"),
    ("grant set on parameter work_mem to clerk", "parameter-rights"),
    ("create subscription more connection 'host=nowhere' publication p with (connect = false)", "subscriptions"),
    ("set session_replication_role = replica; comment on trigger noting on item is 'said'", "schema-log-incomplete"),
    ("set session_replication_role = replica; alter function public.hstore(text, text) cost 100", "unshown-ddl"),
]
"""What no event trigger sees, because it is of the whole cluster or because it was asked not to look."""


@dataclass
class Apart:
    """Forks of one production, one after the other, each for one statement."""

    rig: Any
    production: Any
    base: Any

    def read(self, statement: str) -> list[Any]:
        """What is in the diff. A temporary table is still there."""
        fork = self.rig.start(self.base)
        connection = fork.server.connect("world")
        try:
            connection.execute("set search_path = t, public")
            for one in statement.split("; "):
                connection.execute(one)
            return list(self.rig.diff(fork))
        finally:
            connection.close()
            fork.discard()


@contextlib.contextmanager
def one_by_one(rig: Any) -> Iterator[Apart]:
    production = world(rig)
    production.run(
        "world", ["comment on policy everything on item is 'old'", "alter table item alter label set statistics 300"]
    )
    yield Apart(rig, production, rig.base(production))
    production.discard()
    rig.sweep()


@pytest.fixture(scope="module")
def apart(rig: Any) -> Iterator[Apart]:
    with one_by_one(rig) as made:
        yield made


@pytest.mark.parametrize(("statement", "kind"), UNSEEN, ids=[statement for statement, _ in UNSEEN])
def test_what_no_event_trigger_sees(apart: Apart, statement: str, kind: str) -> None:
    with pytest.raises(Refused) as error:
        apart.read(statement)
    assert {conflict.kind for conflict in error.value.conflicts} == {kind}


BACK = [
    "comment on trigger noting on item is 'said'",
    "comment on constraint positive on item is 'said'",
    "comment on policy everything on item is null",
    "alter table item alter stock set statistics 500",
    "alter table item alter label set statistics -1",
    "alter table item disable trigger noting",
]


@pytest.mark.parametrize("statement", BACK)
def test_taken_back(rig: Any, apart: Apart, statement: str) -> None:
    def state() -> Any:
        return read_schema(connection)

    (changes,) = apart.read(statement)
    with contextlib.closing(begin_session(apart.production.server.connect("world"))) as connection:
        before = state()
        applied = rig.apply(apart.production, changes)
        assert state() != before
        rig.apply(apart.production, applied.undo)
        assert state() == before

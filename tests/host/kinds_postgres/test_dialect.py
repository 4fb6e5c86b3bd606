"""A production whose clocks and calendars are not those of wye's sessions: DDL means there what it did in the fork."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from wye.merge.refused import Refused

pytestmark = pytest.mark.host

APP = "app"
SETUP = [
    "create schema t",
    "create table t.e (id int primary key, at timestamp, told text)",
    "insert into t.e values (1, '2020-01-01 12:00', '02/01/2020'), (2, null, null)",
]
NOON = "2020-01-01 12:00:00"
AT = "select id, (at at time zone 'Asia/Tokyo')::text from t.e where at is not null order by id"
PLAIN = "select id, at::text from t.e where at is not null order by id"


@pytest.fixture(params=["postgresql.conf", "alter database"])
def production(rig: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    is_in_file = request.param == "postgresql.conf"
    site = rig.create(settings={"timezone": "Asia/Tokyo", "datestyle": "SQL, DMY"} if is_in_file else None)
    site.run("postgres", "create database app")
    if not is_in_file:
        site.run(
            "postgres",
            ["alter database app set timezone = 'Asia/Tokyo'", "alter database app set datestyle = 'SQL, DMY'"],
        )
    site.run(APP, SETUP)
    yield site
    site.discard()
    rig.sweep()


@pytest.fixture
def fork(rig: Any, production: Any) -> Iterator[Any]:
    site = rig.fork(production)
    yield site
    site.discard()


STATEMENTS = [
    "alter table e alter at type timestamptz",
    "alter table e alter told type date using told::date",
    "alter table e add seen timestamptz not null default '2020-01-01 12:00'",
    "alter table e add constraint early check (seen < '2030-01-01')",
    "create table log (at timestamptz) partition by range (at)",
    "create table log_1 partition of log for values from ('2020-01-01') to ('2021-01-01')",
    "create view late as select id, interval '1-2' as gap from e where seen > '2020-06-01'",
]


def test_merged(rig: Any, production: Any, fork: Any) -> None:
    fork.run(APP, STATEMENTS)
    production.run(APP, "insert into e values (3, '01/01/2020 12:00')")
    (changes,) = rig.diff(fork)
    rig.apply(production, changes)
    assert production.query(APP, AT) == [(1, NOON), (3, NOON)]
    assert production.query(APP, "select told::text from t.e where id = 1") == [("2020-01-02",)]
    assert production.query(APP, "select distinct (seen at time zone 'Asia/Tokyo')::text from t.e") == [(NOON,)]


def test_taken_back(rig: Any, production: Any, fork: Any) -> None:
    """Also rows that came meanwhile."""
    fork.run(APP, "alter table e alter at type timestamptz")
    (changes,) = rig.diff(fork)
    before = rig.snapshot(production)
    undo = rig.apply(production, changes).undo
    production.run(APP, "insert into e values (3, '01/01/2020 12:00')")
    rig.apply(production, rig.with_lost(undo, before))
    assert production.query(APP, PLAIN) == [(1, NOON), (3, NOON)]


def test_values_that_no_cast_brings_back(rig: Any, production: Any, fork: Any) -> None:
    fork.run(APP, "alter table e alter told type date using told::date")
    (changes,) = rig.diff(fork)
    before = rig.snapshot(production)
    undo = rig.apply(production, changes).undo
    rig.apply(production, rig.with_lost(undo, before))
    assert production.query(APP, "select told from t.e where id = 1") == [("02/01/2020",)]


def test_the_other_way(rig: Any, production: Any, fork: Any) -> None:
    """The fork has the rows, and production has the DDL: what is merged are the rows."""
    fork.run(APP, "insert into e values (3, '01/01/2020 12:00')")
    production.run(APP, "alter table e add seen timestamptz default '01/01/2020 12:00'")
    (changes,) = rig.diff(fork)
    rig.apply(production, changes)
    assert production.query(APP, PLAIN) == [(1, NOON), (3, NOON)]
    assert production.query(APP, "select distinct (seen at time zone 'Asia/Tokyo')::text from t.e") == [(NOON,)]


def test_both_have_done_it(rig: Any, production: Any, fork: Any) -> None:
    for site in (fork, production):
        site.run(APP, STATEMENTS)
    fork.run(APP, "alter table e add note text")
    production.run(APP, "insert into e (id, at) values (3, '01/01/2020 12:00')")
    (changes,) = rig.diff(fork)
    rig.apply(production, changes)
    assert production.query(APP, AT) == [(1, NOON), (3, NOON)]


OLD_LOG = ["alter table _wye.ddl drop column settings"]


def test_a_log_that_an_older_version_began(rig: Any, production: Any, fork: Any) -> None:
    """What depends on settings is refused as it was then, and the rest is merged."""
    fork.run(APP, [*OLD_LOG, "alter table e add note text"])
    (changes,) = rig.diff(fork)
    rig.apply(production, changes)
    assert production.query(APP, "select count(note) from t.e") == [(0,)]
    fork.run(APP, "alter table e add seen timestamptz not null default '2020-01-01 12:00'")
    with pytest.raises(Refused) as error:
        rig.diff(fork)
    assert {each.kind for each in error.value.conflicts} == {"schema-log-incomplete"}


FORGED = {
    "no object": "'7'",
    "others": """'{"role": "clerk", "search_path": "x", "session_replication_role": "replica", "TimeZone": "UTC"}'""",
}
NO_SETTINGS = {
    "nested deeply": "('{\"TimeZone\": ' || repeat('[', 3000) || repeat(']', 3000) || '}')::jsonb",
    "no zone": """'{"TimeZone": "nowhere"}'""",
    "a statement": """'{"TimeZone": "UTC''; drop table t.e; --"}'""",
}


@pytest.mark.parametrize("settings", FORGED.values(), ids=FORGED)
def test_a_forged_log(rig: Any, production: Any, fork: Any, settings: str) -> None:
    fork.run(APP, ["alter table e add note text", f"update _wye.ddl set settings = {settings}"])
    (changes,) = rig.diff(fork)
    rig.apply(production, changes)
    assert production.query(APP, "select count(*), count(note) from t.e") == [(2, 0)]


@pytest.mark.parametrize("settings", NO_SETTINGS.values(), ids=NO_SETTINGS)
def test_settings_that_there_are_not(rig: Any, fork: Any, settings: str) -> None:
    fork.run(APP, ["alter table e add note text", f"update _wye.ddl set settings = {settings}"])
    with pytest.raises(Refused) as error:
        rig.diff(fork)
    assert {each.kind for each in error.value.conflicts} == {"ddl-not-replayable"}

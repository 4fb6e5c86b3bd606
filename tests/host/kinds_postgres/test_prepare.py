"""Copies of a live cluster are made safe, and what belongs to the whole cluster is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wye.errors import NotFound, Unsupported
from wye.host import Host
from wye.kinds.postgres import unsynced
from wye.kinds.postgres.cluster import clean, find_data, refuse_tablespaces, version
from wye.kinds.postgres.volume import PostgresVolume
from wye.merge.refused import Refused

pytestmark = pytest.mark.host

APP = "postgres"


@pytest.fixture(scope="module")
def production(rig: Any) -> Iterator[Any]:
    site = rig.create(settings={"max_prepared_transactions": "5", "wal_level": "logical"})
    site.run(APP, ["create schema t", "create table t.item (id serial primary key, stock int)"])
    site.run(APP, "insert into t.item (stock) select n from generate_series(1, 10) n")
    site.run(APP, ["create role worker", "grant pg_read_all_data to worker", "create database spare"])
    yield site
    site.discard()


def data_of(rig: Any, site: Any) -> Path:
    return Path(rig.pool.environment_path(site.id)) / "volumes/db/data"


def test_a_copy_is_cut_off_from_its_source(rig: Any, production: Any) -> None:
    environment = "c0c0c0c0c0c0"
    rig.pool.fork(rig.snapshot(production), environment)
    try:
        data = rig.pool.environment_path(environment) / "volumes/db/data"
        assert (data / "postmaster.pid").exists()
        clean(rig.host, data)
        assert not (data / "postmaster.pid").exists()
        clean(rig.host, data)
    finally:
        rig.pool.delete_environment(environment)
    assert (data_of(rig, production) / "postmaster.pid").exists()
    assert production.server.is_alive()


def test_find_data(rig: Any, production: Any, tmp_path: Path) -> None:
    root = Path(rig.pool.environment_path(production.id))
    assert find_data(rig.host, root / "volumes/db") == "data"
    assert find_data(rig.host, root / "volumes/db/data") == ""
    assert find_data(rig.host, tmp_path) is None
    assert PostgresVolume(rig.host).claims(root / "volumes/db")
    assert version(rig.host, root / "volumes/db/data") >= 15
    with pytest.raises(NotFound):
        version(rig.host, tmp_path)


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A fork's processes can put a link where a file is looked for."""
    host = Host()
    outside, data = tmp_path / "outside", tmp_path / "data"
    for folder in (outside, outside / "global", outside / "base", data):
        folder.mkdir()
    for name in ("PG_VERSION", "postmaster.pid"):
        (outside / name).write_text("15")
    (data / "PG_VERSION").symlink_to(outside / "PG_VERSION")
    (data / "global").symlink_to(outside / "global")
    (data / "base").symlink_to(outside / "base")
    (data / "postmaster.pid").symlink_to(outside / "postmaster.pid")
    (tmp_path / "link").symlink_to(outside)
    assert find_data(host, outside) == ""
    assert find_data(host, data) is None
    clean(host, data)
    assert not (data / "postmaster.pid").is_symlink()
    assert (outside / "postmaster.pid").exists()


@pytest.mark.parametrize("text", ["9.6", "13", "99", "x"])
def test_versions_that_cannot_be_merged(tmp_path: Path, text: str) -> None:
    (tmp_path / "PG_VERSION").write_text(text)
    with pytest.raises(Unsupported):
        version(Host(), tmp_path)


def test_tablespaces_outside_the_volume(tmp_path: Path) -> None:
    (tmp_path / "pg_tblspc").mkdir()
    refuse_tablespaces(Host(), tmp_path)
    (tmp_path / "pg_tblspc" / "16400").symlink_to("/elsewhere")
    with pytest.raises(Unsupported):
        refuse_tablespaces(Host(), tmp_path)


def test_open_and_prepared_transactions_stay_with_production(rig: Any, production: Any) -> None:
    with production.server.connect(APP) as writer:
        writer.execute("begin")
        writer.execute("insert into t.item (stock) values (77)")
        writer.execute("prepare transaction 'p1'")
        writer.execute("begin")
        writer.execute("update t.item set stock = 88 where id = 1")
        fork = rig.fork(production)
        try:
            assert fork.query(APP, "select count(*) from pg_prepared_xacts") == [(0,)]
            assert fork.query(APP, "select count(*) from t.item where stock in (77, 88)") == [(0,)]
            assert rig.diff(fork) == []
            writer.execute("commit")
            writer.execute("commit prepared 'p1'")
            fork.run(APP, "update item set stock = 5 where id = 2")
            (changes,) = rig.diff(fork)
            rig.apply(production, changes)
        finally:
            fork.discard()
    assert production.query(APP, "select stock from t.item where id in (1, 2) or stock = 77 order by 1") == [
        (5,),
        (77,),
        (88,),
    ]


def test_limits_of_time_are_for_applications(rig: Any, production: Any) -> None:
    names = ["statement_timeout", "idle_session_timeout", *(["transaction_timeout"] if rig.version >= 17 else [])]
    production.run(APP, [f"alter database postgres set {name} = '50ms'" for name in names])
    try:
        fork = rig.fork(production)
        with fork.server.connect(APP) as writer:
            writer.execute("set idle_session_timeout = 0")
            writer.execute("set statement_timeout = 0")
            writer.execute("update t.item set stock = 6 where id = 3")
        (changes,) = rig.diff(fork)
        fork.discard()
        assert len(changes.table("t.item").updates) == 1
    finally:
        production.run(APP, [f"alter database postgres reset {name}" for name in names])


def test_slots_are_dropped_in_the_fork_only(rig: Any, production: Any) -> None:
    production.query(APP, "select pg_create_logical_replication_slot('feed', 'pgoutput')")
    slots = "select slot_name from pg_replication_slots"
    fork = rig.fork(production)
    try:
        assert fork.query(APP, slots) == []
        assert production.query(APP, slots) == [("feed",)]
    finally:
        fork.discard()
        production.query(APP, "select pg_drop_replication_slot('feed')")


def test_sequences_move_ahead_by_a_stride_and_never_past_their_end(rig: Any, production: Any) -> None:
    production.run(APP, [
        "create sequence up", "create sequence down increment -2", "create sequence short maxvalue 50",
        "create sequence around maxvalue 9 cycle",
    ])  # fmt: skip
    fork = rig.fork(production, stride=1000)
    try:
        values = [fork.query(APP, f"select nextval('t.{name}')")[0][0] for name in ("up", "down", "short", "around")]
        assert values[0] in range(1001, 1050)
        assert values[1] in range(-2100, -2000)
        assert values[2] in range(2, 50)
        assert values[3] < 9
    finally:
        fork.discard()
        production.run(APP, "drop sequence up, down, short, around")


REFUSED = {
    "roles": ["create role stranger"],
    "roles: a member's options": ["grant pg_read_all_data to worker with {option}"],
    "parameter-rights": ["grant set on parameter work_mem to worker"],
    "databases": ["create database other"],
    "databases: renamed": ["alter database spare rename to other"],
    "databases: dropped": ["drop database spare"],
    "tablespaces": ["set allow_in_place_tablespaces = on", "create tablespace x location ''"],
    "role-settings": ["alter database postgres set work_mem = '77MB'"],
    "server-settings": ["alter system set work_mem = '77MB'"],
    "prepared-transactions": ["begin", "update item set stock = 0 where id = 3", "prepare transaction 'p2'"],
    "event-triggers": ["alter event trigger _wye_end disable"],
    "schema-log-incomplete": ["create table t.hidden (i int)", "delete from _wye.ddl"],
}


def test_ddl_in_the_template_is_refused(rig: Any, production: Any) -> None:
    fork = rig.fork(production)
    try:
        fork.run("template1", "create table hidden (i int)", "public")
        with pytest.raises(Refused) as refused:
            rig.diff(fork)
        assert {conflict.kind for conflict in refused.value.conflicts} <= {"schema-log-incomplete", "event-triggers"}
    finally:
        fork.discard()


@pytest.mark.parametrize(("kind", "statements"), REFUSED.items(), ids=REFUSED)
def test_what_is_not_merged_is_refused_by_name(rig: Any, production: Any, kind: str, statements: list[str]) -> None:
    fork = rig.fork(production)
    try:
        option = "set false" if rig.version >= 16 else "admin option"
        fork.run(APP, [statement.format(option=option) for statement in statements])
        with pytest.raises(Refused) as refused:
            rig.diff(fork)
        assert {conflict.kind for conflict in refused.value.conflicts} == {kind.partition(":")[0]}
        assert all(not conflict.choices for conflict in refused.value.conflicts)
    finally:
        fork.discard()


def test_a_server_need_not_sync_until_it_is_told(rig: Any) -> None:
    source = rig.create(settings={"fsync": "on"})
    source.run(APP, "alter system set work_mem = '77MB'")
    fork = rig.start(rig.snapshot(source))
    fork.server.stop()
    data = data_of(rig, fork)
    settings = data / "postgresql.auto.conf"
    before = settings.read_bytes()
    try:
        unsynced.begin(rig.host, data)
        unsynced.begin(rig.host, data)
        clean(rig.host, data)
        fork.server = rig.servers.start(data)
        assert fork.query(APP, "show fsync") == [("off",)]
        assert unsynced.end(rig.host, data)
        assert not unsynced.end(rig.host, data)
        assert settings.read_bytes() == before
        connection = fork.server.connect(APP)
        unsynced.reload(rig.host, connection)
        connection.close()
        assert fork.query(APP, "show fsync") == [("on",)]
        assert fork.query(APP, "show work_mem") == [("77MB",)]
        unsynced.begin(rig.host, data)
        PostgresVolume(rig.host).prepare(data)
        assert settings.read_bytes() == before, "what a preparation left that was cut short"
    finally:
        fork.discard()
        source.discard()


def test_settings_behind_a_link_are_left_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (tmp_path / "postgresql.auto.conf").symlink_to(outside)
    unsynced.begin(Host(), tmp_path)
    assert not unsynced.end(Host(), tmp_path)
    assert outside.read_text() == "mine"

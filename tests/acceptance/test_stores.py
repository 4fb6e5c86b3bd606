"""Which bytes of a volume are a database's: those that nothing in the volume tells of yet, and those that are none."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import Project

pytestmark = [pytest.mark.host, pytest.mark.timeout(180)]

COMPOSE = """
name: stores
services:
  cache:
    image: wye/redis
    command: %s
    volumes: ["cache:/data"]
volumes: {cache: {}}
"""
BY_DEFAULT = "[redis-server]"
OF_OTHER_NAMES = '[redis-server, --appendonly, "yes", --appenddirname, other, --dbfilename, prod.rdb]'


def redis(project: Project, name: str, *words: str) -> str:
    done = project.client.exec(name, ["redis-cli", *words], service="cache")
    assert done.exit_code == 0, done.text
    return done.text.strip()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("command", [BY_DEFAULT, OF_OTHER_NAMES], ids=["by-default", "other-names"])
def test_keys_in_files_that_the_volume_does_not_tell_of(project: Project, command: str, count: int) -> None:
    """There are none yet: by default the first comes after an hour. Or they have names of their own, and there are old
    ones beside. Several forks at once share their beginning."""
    project.up(COMPOSE % command)
    if command == OF_OTHER_NAMES:
        project.sh("production", "cp -r /data/other /data/appendonlydir", "cache")
    redis(project, "production", "set", "c", "3")
    project.client.fork("production", "f", count=count)
    fork = "f" if count == 1 else "f-2"
    redis(project, fork, "mset", "a", "2", "b", "1")
    (change,) = project.client.diff(fork).stores
    assert [each["key"] for each in change.page["keys"]] == ["a", "b"]
    done = project.client.merge(fork)
    assert done.merged, done.conflicts
    assert redis(project, "production", "mget", "a", "b", "c").split() == ["2", "1", "3"]
    back = project.client.revert(done.entry)
    assert back.merged, back.conflicts
    assert redis(project, "production", "mget", "a", "b", "c").split() == ["3"]
    project.client.sleep(fork)
    (change,) = project.client.diff(fork).stores
    assert [each["key"] for each in change.page["keys"]] == ["a", "b"]


def test_a_fork_that_switches_its_append_only_file_off(project: Project) -> None:
    project.up(COMPOSE % '[redis-server, --appendonly, "yes"]')
    redis(project, "production", "set", "a", "1")
    project.fork()
    redis(project, "f", "config", "set", "appendonly", "no")
    redis(project, "f", "set", "a", "2")
    (change,) = project.client.diff("f").stores
    assert [each["key"] for each in change.page["keys"]] == ["a"]
    done = project.client.merge("f")
    assert done.merged, done.conflicts
    assert redis(project, "production", "get", "a") == "2"


DATABASE = """
name: stores
services:
  db:
    image: wye/postgres:%s
    command: [-c, logging_collector=on, -c, log_directory=journal, -c, log_statement=all]
    environment: {POSTGRES_PASSWORD: example, PGDATA: /var/lib/postgresql/data/pgdata}
    volumes: ["db:/var/lib/postgresql/data"]
volumes: {db: {}}
"""


def psql(project: Project, name: str, statement: str) -> str:
    argv = ["psql", "-U", "postgres", "-Atqf", "-"]
    done = project.client.exec(name, argv, service="db", stdin=statement.encode())
    assert done.exit_code == 0, (done.text, done.stderr)
    return done.text.strip()


@pytest.mark.parametrize("version", [15, 17])
def test_files_beside_and_inside_a_data_directory(project: Project, version: int) -> None:
    """Beside it they merge as files; inside it what the server writes says nothing, and all else is refused by name."""
    project.up(DATABASE % version)
    psql(project, "production", "create table t (i int primary key); insert into t values (1)")
    project.fork()
    data = "/var/lib/postgresql/data"
    project.sh("f", f"mkdir {data}/uploads; echo cat > {data}/uploads/cat; touch {data}/.psql_history", "db")
    psql(project, "f", "insert into t select generate_series(2, 20000); checkpoint; select pg_switch_wal(); vacuum t")
    psql(project, "f", "select pg_rotate_logfile(); select pg_stat_reset()")
    project.client.sleep("f")
    project.client.wake("f")
    project.sh("f", f"kill -9 $(head -1 {data}/pgdata/postmaster.pid)", "db")
    project.client.sleep("f")
    project.client.wake("f")
    found = project.client.diff("f")
    assert [each.refused for each in found.stores] == [()]
    assert {each.path for each in found.files} == {"/uploads", "/uploads/cat"}
    assert {each.path for each in project.client.diff("f", rows=False).files} == {"/uploads", "/uploads/cat"}
    project.sh("f", f"mkdir {data}/pgdata/conf.d; echo x > {data}/pgdata/conf.d/more.conf", "db")
    refused = project.client.merge("f")
    assert [(each.kind, each.key) for each in refused.conflicts] == [("foreign-file", ("conf.d/more.conf",))]
    project.sh("f", f"rm -r {data}/pgdata/conf.d", "db")
    done = project.client.merge("f")
    assert done.merged, done.conflicts
    assert project.sh("production", f"cat {data}/uploads/cat", "db").text == "cat\n"
    assert psql(project, "production", "select count(*) from t") == "20000"
    back = project.client.revert(done.entry)
    assert back.merged, back.conflicts
    assert project.sh("production", f"ls {data}", "db").text == "pgdata\n"
    assert psql(project, "production", "select count(*) from t") == "1"


def test_files_in_the_directory_of_keys(project: Project) -> None:
    project.up(COMPOSE % '[redis-server, --appendonly, "yes"]')
    project.fork()
    redis(project, "f", "set", "a", "2")
    project.sh("f", "echo x > /data/users.acl; echo x > /data/.rediscli_history; echo x > /data/redis.log", "cache")
    refused = project.client.merge("f")
    assert [(each.kind, each.key) for each in refused.conflicts] == [("foreign-file", ("users.acl",))]
    (store,) = project.client.diff("f").stores
    assert [each.kind for each in store.refused] == ["foreign-file"]
    project.sh("f", "rm /data/users.acl", "cache")
    redis(project, "f", "eval", "for n = 1, 20000 do redis.call('set', 'k' .. n, n) end", "0")
    redis(project, "f", "bgsave")
    assert not project.client.diff("f").stores[0].refused
    redis(project, "f", "bgrewriteaof")
    assert not project.client.diff("f").stores[0].refused
    redis(project, "f", "eval", "for n = 1, 20000 do redis.call('del', 'k' .. n) end", "0")
    assert project.client.merge("f").merged

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
OF_OTHER_NAMES = "[sh, -c, 'exec redis-server --appendonly yes --appenddirname other --dbfilename prod.rdb']"


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

"""Which files a server goes by: what it says of itself counts, not what happens to lie in its directory."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from tests.host.kinds_redis.test_merge import difference, run

pytestmark = pytest.mark.host

CHANGED = [(0, b"a"), (0, b"b")]


def found(three: Any) -> list[tuple[int, bytes]]:
    _, _, changes = difference(three)
    return [(change.database, change.key) for change in changes.keys]


def restart(three: Any, *options: str) -> None:
    if three.live.process.poll() is None:
        three.live.stop()
    three.live_settings = options
    three.live = three.launcher.launch(three.home / "live", options)


def test_a_fork_that_switches_its_append_only_file_off(three: Any) -> None:
    run(three.ours, "SET a 1")
    fork = three.fork()
    run(fork, "CONFIG SET appendonly no", "SET a 2", "SET b 1")
    three.settle(fork)
    assert found(three) == CHANGED


def test_an_append_only_file_that_nobody_writes_any_more(three: Any) -> None:
    run(three.ours, "SET a 1")
    restart(three, "--save", "3600 1", "--appendonly", "no")
    run(three.ours, "SET a 10", "SAVE")
    fork = three.fork()
    run(fork, "SET a 2", "SET b 1")
    three.settle(fork)
    assert found(three) == CHANGED


def test_a_dump_of_another_name_beside_an_old_one(three: Any) -> None:
    run(three.ours, "SET a 1")
    three.live.stop()
    shutil.rmtree(three.home / "live" / "appendonlydir")
    restart(three, "--save", "3600 1", "--appendonly", "no")
    run(three.ours, "SET a 1", "SAVE")
    restart(three, "--save", "3600 1", "--appendonly", "no", "--dbfilename", "prod.rdb")
    fork = three.fork()
    run(fork, "SET a 2", "SET b 1")
    three.settle(fork)
    assert found(three) == CHANGED


def test_an_append_only_directory_of_another_name_beside_an_old_one(three: Any) -> None:
    run(three.ours, "SET a 1")
    restart(three, "--save", "", "--appendonly", "yes", "--appenddirname", "other")
    run(three.ours, "SET a 1")
    fork = three.fork()
    run(fork, "SET a 2", "SET b 1")
    three.settle(fork)
    assert found(three) == CHANGED


def test_an_append_only_file_that_is_being_made(three: Any) -> None:
    restart(three, "--save", "3600 1", "--appendonly", "no", "--rdb-key-save-delay", "2000")
    run(three.ours, *(f"SET k{n} {n}" for n in range(500)), "CONFIG SET rdb-key-save-delay 0", "SAVE")
    fork = three.fork()
    run(fork, "CONFIG SET rdb-key-save-delay 20000", "CONFIG SET appendonly yes", "SET a 2", "SET b 1")
    run(fork, "CONFIG SET rdb-key-save-delay 0")
    three.settle(fork)
    assert found(three) == CHANGED


def test_a_save_while_the_server_saves_by_itself(three: Any) -> None:
    restart(three, "--save", "3600 1", "--appendonly", "no")
    run(three.ours, *(f"SET k{n} {n}" for n in range(200)), "SAVE")
    fork = three.fork()
    run(fork, "CONFIG SET rdb-key-save-delay 2000", "BGSAVE", "CONFIG SET rdb-key-save-delay 0", "SET a 2", "SET b 1")
    three.settle(fork)
    assert found(three) == CHANGED


def test_a_server_that_has_not_saved_yet(three: Any) -> None:
    restart(three, "--save", "3600 1 300 100 60 10000", "--appendonly", "no")
    fork = three.fork()
    run(fork, "SET a 2", "SET b 1")
    three.settle(fork)
    assert found(three) == CHANGED


def test_a_cache_that_is_told_to_keep_nothing_keeps_nothing(three: Any) -> None:
    three.live.stop()
    shutil.rmtree(three.home / "live" / "appendonlydir")
    restart(three, "--save", "", "--appendonly", "no")
    run(three.ours, "SET a 1")
    fork = three.fork()
    three.settle(fork)
    assert not list((three.home / "fork").glob("*.rdb"))

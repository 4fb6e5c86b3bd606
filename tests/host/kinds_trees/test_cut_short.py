"""A process that cuts the index of a database's log short, which is mapped by whoever has the database open.

Who touches it then is killed by SIGBUS. That must be the process that has live files open, and never this one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from wye.errors import WyeError
from wye.host import Host
from wye.kinds.sqlite import live
from wye.kinds.sqlite.database import DatabaseFailed
from wye.kinds.trees.kind import Trees

pytestmark = pytest.mark.host

Three = Any
"""`conftest.Three`."""
HOST = Host()

APPLICATION = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
c.execute("PRAGMA wal_autocheckpoint = 0")
c.execute(sys.argv[2])
print("there", flush=True)
sys.stdin.read()
"""
WRITE = "INSERT INTO t VALUES (100, 'written', 0)"
MERGED = [(1, "f", 1), (2, "b", 2), (3, "new", 3)]


@pytest.fixture
def shared(three: Three) -> Three:
    three.run("base", "PRAGMA journal_mode = wal", "CREATE TABLE t (id INTEGER PRIMARY KEY, a, n)")
    three.run("base", "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2)")
    three.copy("base", "ours", "theirs")
    three.run("theirs", "UPDATE t SET a = 'f' WHERE id = 1", "INSERT INTO t VALUES (3, 'new', 3)")
    return three


@contextmanager
def application(three: Three, name: str = "live", *, statement: str = WRITE) -> Iterator[None]:
    """Has the database open, and keeps what it wrote in the log."""
    argv = [sys.executable, "-c", APPLICATION, str(three.path(name)), statement]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        yield
    finally:
        process.kill()
        process.communicate()


def cut(three: Three, name: str = "live") -> None:
    try:
        os.truncate(f"{three.path(name)}-shm", 0)
    except FileNotFoundError:
        pass


@contextmanager
def cutting(three: Three, name: str = "live") -> Iterator[None]:
    """Over and over."""
    ended = threading.Event()

    def go_on() -> None:
        while not ended.is_set():
            cut(three, name)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_cut_short_during_a_merge(shared: Three) -> None:
    planned = shared.plan()
    with application(shared):
        done = shared.apply(planned)
        cut(shared)
        with pytest.raises(DatabaseFailed, match="ended by signal SIGBUS") as caught:
            done.release()
        assert "-shm" in str(caught.value.hint)
        assert done.undo() == []
    assert shared.query("live", "SELECT * FROM t") == [(1, "a", 1), (2, "b", 2), (100, "written", 0)]
    done = shared.apply(planned)
    done.release()
    done.commit()
    assert shared.query("live", "SELECT * FROM t") == [*MERGED, (100, "written", 0)]
    assert sorted(path.name for path in (shared.home / "live").iterdir()) == ["volumes"]


def test_cut_short_again_and_again(shared: Three) -> None:
    """Wherever it happens, it is an error and no more. What it makes of the database itself is theirs who did it."""
    planned = shared.plan()
    deaths = []
    for _ in range(50):
        shutil.rmtree(shared.home / "live")
        shared.copy("ours", "live")
        with application(shared), cutting(shared):
            try:
                done = shared.apply(planned)
                try:
                    done.release()
                finally:
                    done.undo()
            except WyeError as error:
                deaths += ["SIGBUS" in error.message]
        if any(deaths):
            break
    assert any(deaths), "the attack is real"


def test_cut_short_during_a_diff(shared: Three) -> None:
    """Reading is done in copies, whose index is their own."""
    shared.run("theirs", "DELETE FROM t WHERE id = 3")
    with application(shared, "theirs"), cutting(shared, "theirs"):
        for _ in range(5):
            (found,) = shared.trees.databases(shared.bytes("base"), shared.bytes("theirs"), shared.changes())
            assert found.stat()["tables"] == [{"table": "t", "inserted": 1, "deleted": 0, "updated": 1}]


KILLED = """
import os, sys
from pathlib import Path
from wye.errors import WyeError
from wye.host import Host
from wye.kinds.sqlite.changes import from_json
from wye.kinds.sqlite.live import LiveDatabases
live = LiveDatabases(Host(), Path(sys.argv[1]))
merged = live.merge("db", "volumes/data/app.db", from_json(sys.stdin.buffer.read()), {}, {})
assert not merged.conflicts
print(live._process.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def test_it_ends_with_the_daemon(shared: Three) -> None:
    shared.plan()
    (found,) = shared.trees.databases(shared.bytes("base"), shared.bytes("theirs"), shared.changes())
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(shared.home / "live")],
        input=found.to_json(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == -9, done.stderr
    shared.run("live", "PRAGMA busy_timeout = 20000", "INSERT INTO t VALUES (9, 9, 9)")
    assert shared.query("live", "SELECT * FROM t") == [(1, "a", 1), (2, "b", 2), (9, 9, 9)]


def test_what_cannot_be_started_says_why(shared: Three, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PROGRAM", "wye.kinds.sqlite.no_such_program")
    with pytest.raises(DatabaseFailed, match=r"status 1: .*no_such_program"):
        shared.apply(shared.plan())


def test_no_answer_in_time(shared: Three, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_PATIENCE_S", 0.5)
    planned = shared.plan()
    with application(shared, statement="BEGIN IMMEDIATE"), pytest.raises(DatabaseFailed, match="too long"):
        shared.apply(planned, trees=Trees(HOST, uid_base=0))
    assert shared.query("live", "SELECT count(*) FROM t") == [(2,)]

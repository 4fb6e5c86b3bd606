"""What a fork puts beside a database, or in its place: one of many files, and no reason to see none of the others."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.host

Three = Any
"""`conftest.Three`."""


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(path.parent)
        try:
            listener.bind(path.name)
        finally:
            os.chdir(here)


THINGS: dict[str, Callable[[Path], Any]] = {
    "link": lambda path: path.symlink_to("/etc/shadow"),
    "loop": lambda path: path.symlink_to(path.name),
    "pipe": os.mkfifo,
    "directory": os.mkdir,
    "socket": listen,
}


@pytest.mark.parametrize("make", THINGS.values(), ids=THINGS)
@pytest.mark.parametrize("ending", ["-wal", "-journal"])
def test_what_lies_beside_a_database(three: Three, make: Callable[[Path], Any], ending: str) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    three.copy("base", "ours", "theirs")
    three.run("theirs", "INSERT INTO t VALUES (1)")
    three.path("theirs", "volumes/data/note").write_text("hello")
    make(three.path("theirs", f"volumes/data/app.db{ending}"))
    paths = three.changes()
    (database,) = three.trees.databases(three.bytes("base"), three.bytes("theirs"), paths)
    assert [refused["kind"] for refused in database.stat()["refused"]] == ["unreadable"]
    files = three.trees.changes(three.bytes("base"), three.bytes("theirs"), paths, text=True)
    assert "/note" in {change.path for change in files}
    planned = three.plan()
    assert [conflict.kind for conflict in planned.conflicts] == ["unreadable"]
    three.merge(resolutions={planned.conflicts[0].id: "ours"})
    assert three.path("live", "volumes/data/note").read_text() == "hello"
    assert three.query("live", "SELECT * FROM t") == []


@pytest.mark.parametrize("make", THINGS.values(), ids=THINGS)
def test_what_lies_in_the_place_of_a_database(three: Three, make: Callable[[Path], Any]) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    three.copy("base", "ours", "theirs")
    with suppress(FileNotFoundError):
        three.path("theirs").unlink()
    make(three.path("theirs"))
    paths = three.changes()
    assert three.trees.databases(three.bytes("base"), three.bytes("theirs"), paths) == []
    assert [conflict.kind for conflict in three.plan().conflicts] in ([], ["delete/update"], ["update/update"])


def test_names_that_no_companion_can_have(three: Three) -> None:
    path = f"volumes/data/{'n' * 250}.db"
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY)", path="volumes/data/short.db")
    three.path("base", "volumes/data/short.db").rename(three.path("base", path))
    three.copy("base", "ours", "theirs")
    data = three.path("theirs", path)
    data.write_bytes(data.read_bytes() + b"\0" * 4096)
    three.trees.databases(three.bytes("base"), three.bytes("theirs"), three.changes())
    three.plan()

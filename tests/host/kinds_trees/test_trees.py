"""Files and the databases among them, through `interfaces.FileKind`: each is merged in its own way, all or nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from wye.errors import BadRequest, WyeError
from wye.host import Host
from wye.kinds.sqlite.database import DatabaseBusy
from wye.kinds.trees.kind import Trees
from wye.kinds.trees.landing import JOURNAL
from wye.merge.refused import Refused

pytestmark = pytest.mark.host

Three = Any
"""`conftest.Three`."""

OTHER = "volumes/data/deep/more.sqlite"
TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)"


@pytest.fixture(params=["delete", "wal"])
def begun(three: Three, request: pytest.FixtureRequest) -> Three:
    """Two databases and a text in a volume, of which the fork changes all."""
    for path in ("volumes/data/app.db", OTHER):
        three.run("base", f"PRAGMA journal_mode = {request.param}", TABLE, path=path)
        three.run("base", "INSERT INTO t VALUES (1, 1, 1), (2, 2, 2)", path=path)
    three.path("base", "volumes/data/notes").write_text("one\ntwo\nthree\n")
    three.copy("base", "ours", "theirs")
    three.run("theirs", "UPDATE t SET a = 5 WHERE id = 1", "ALTER TABLE t ADD COLUMN c DEFAULT 7")
    three.run("theirs", "INSERT INTO t VALUES (3, 3, 3)", path=OTHER)
    three.path("theirs", "volumes/data/notes").write_text("one\ntwo\nthree\nfour\n")
    three.run("ours", "UPDATE t SET b = 6 WHERE id = 1")
    return three


def differences(three: Three, first: str, second: str) -> list[str]:
    """Paths, the databases' own companions aside."""
    found = [change.path for change in three.changes(first, second)]
    return [path for path in found if not path.endswith(("-wal", "-shm", "-journal"))]


@contextmanager
def application(three: Three, *statements: str, path: str = "volumes/data/app.db") -> Iterator[subprocess.Popen[str]]:
    """Another process that has the database open and, after its statements, goes on when told."""
    script = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], timeout=20, isolation_level=None)\n"
        "for s in sys.argv[2:]: c.execute(s).fetchall()\n"
        "print('there', flush=True)\n"
        "for line in sys.stdin:\n"
        "    print(c.execute(line).fetchall(), flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(three.path("live", path)), *statements],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def say(process: subprocess.Popen[str], statement: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(statement + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_diff_tells_rows_of_databases_and_lines_of_texts(begun: Three) -> None:
    sides, paths = (begun.bytes("base"), begun.bytes("theirs")), begun.changes()
    app, more = begun.trees.databases(*sides, paths)
    assert (app.place, app.kind) == ("sqlite volume data:/app.db", "sqlite")
    assert more.place == "sqlite volume data:/deep/more.sqlite"
    assert app.stat()["tables"] == [{"table": "t", "inserted": 0, "deleted": 0, "updated": 1}]
    rows = [{"change": "update", "key": {"id": "1"}, "cells": {"a": ["1", "5"]}}]
    assert app.page(0, 10) == {"tables": [{"table": "t", "rows": rows, "total": 1}]}
    assert app.page(1, 10)["tables"][0]["rows"] == []
    (told,) = begun.trees.changes(*sides, paths, text=True)
    assert (told.place, told.path) == ("volume data", "/notes")
    assert "+four" in told.text
    whole = begun.trees.changes(*sides, paths, text=False, whole=True)
    assert {each.path for each in whole} >= {"/notes", "/app.db", "/deep/more.sqlite"}
    assert list((begun.home / "scratch").iterdir()) == []


def test_a_database_without_changed_rows_is_no_change(three: Three) -> None:
    three.run("base", TABLE, "INSERT INTO t VALUES (1, 1, 1)")
    three.copy("base", "theirs", "ours")
    three.run("theirs", "PRAGMA journal_mode = wal", "UPDATE t SET a = 2", "UPDATE t SET a = 1", "VACUUM")
    assert three.changes()
    assert three.trees.databases(three.bytes("base"), three.bytes("theirs"), three.changes()) == []
    planned = three.plan()
    assert (planned.conflicts, planned.places(), planned.paths()) == ([], {}, frozenset())


def test_settings_of_a_database_are_told(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT)")
    three.copy("base", "theirs")
    three.run("theirs", "PRAGMA user_version = 4", "INSERT INTO t DEFAULT VALUES", "DELETE FROM t")
    (found,) = three.trees.databases(three.bytes("base"), three.bytes("theirs"), three.changes())
    assert (found.stat()["sequences"], found.stat()["sequences_set_back"]) == ({"t": 1}, {})
    (pragma,) = found.stat()["schema"]
    assert (pragma["before"], pragma["after"]) == ("PRAGMA user_version = 0", "PRAGMA user_version = 4")


def test_a_counter_that_went_back_is_told_and_planned(three: Three) -> None:
    three.run("base", "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT)", "INSERT INTO t VALUES (9)")
    three.copy("base", "theirs", "ours")
    three.run("theirs", "DELETE FROM sqlite_sequence")
    (found,) = three.trees.databases(three.bytes("base"), three.bytes("theirs"), three.changes())
    assert (found.stat()["sequences"], found.stat()["sequences_set_back"]) == ({"t": None}, {"t": 9})
    planned = three.plan()
    assert (planned.conflicts, list(planned.places())) == ([], ["sqlite volume data:/app.db"])


def test_both_sides_are_there_and_only_files_disturb(begun: Three) -> None:
    planned = begun.plan()
    assert planned.places() == {
        "sqlite volume data:/app.db": 1, "sqlite volume data:/deep/more.sqlite": 1, "volume data": 1,
    }  # fmt: skip
    assert planned.disturbed() == {"volume data"}
    assert planned.paths() >= {"volumes/data/notes", "volumes/data/app.db", "volumes/data/app.db-wal"}
    with application(begun, "SELECT * FROM t") as service:
        done = begun.apply(planned)
        assert done.check() == []
        assert say(service, "SELECT * FROM t WHERE id = 1") == "[(1, 1, 6)]", "nobody sees what is not released"
        done.release()
        assert say(service, "SELECT * FROM t WHERE id = 1") == "[(1, 5, 6, 7)]"
        assert say(service, "INSERT INTO t VALUES (9, 9, 9, 9)") == "[]"
        done.commit()
    assert begun.query("live", "SELECT * FROM t", OTHER) == [(1, 1, 1), (2, 2, 2), (3, 3, 3)]
    assert begun.path("live", "volumes/data/notes").read_text().endswith("four\n")
    assert not (begun.home / "live" / JOURNAL).exists()


def test_databases_alone_disturb_nobody(begun: Three) -> None:
    begun.path("theirs", "volumes/data/notes").write_text("one\ntwo\nthree\n")
    assert begun.plan().disturbed() == frozenset()


def test_conflicts_are_those_of_rows_and_can_be_settled(begun: Three) -> None:
    begun.run("ours", "UPDATE t SET a = 8 WHERE id = 1")
    begun.path("ours", "volumes/data/notes").write_text("one\ntwo\nthree\nFOUR\n")
    text, cell = begun.plan().conflicts
    assert (cell.kind, cell.place, cell.key, cell.column) == (
        "update/update", "sqlite volume data:/app.db t", ("1",), "a",
    )  # fmt: skip
    assert (cell.base, cell.ours, cell.theirs) == ("1", "8", "5")
    (left,) = begun.plan({cell.id: "theirs"}).conflicts
    assert left == text
    begun.merge(resolutions={cell.id: {"value": "80"}, text.id: "ours"})
    assert begun.query("live", "SELECT a, b FROM t WHERE id = 1") == [(80, 6)]


def test_the_project_may_be_stricter_or_add_up(begun: Three) -> None:
    begun.run("ours", "UPDATE t SET a = 2 WHERE id = 1")
    (conflict,) = begun.plan(settings={"table": {"t": "row"}}).conflicts
    assert (conflict.kind, conflict.column) == ("update/update", "")
    begun.merge(settings={"delta": ["t.a"]})
    assert begun.query("live", "SELECT a, b FROM t WHERE id = 1") == [(6, 6)]


ONE_SIDE = {"table": {"T": "table"}}


def test_a_table_that_only_one_side_may_change(begun: Three) -> None:
    """Any two changes are one conflict for the table; in the other database only the fork changed it."""
    begun.run("ours", "UPDATE t SET b = 9 WHERE id = 2")
    (conflict,) = begun.plan(settings=ONE_SIDE).conflicts
    assert (conflict.kind, conflict.place, conflict.key) == ("table/table", "sqlite volume data:/app.db t", ())
    begun.merge(resolutions={conflict.id: "theirs"}, settings=ONE_SIDE)
    assert begun.query("live", "SELECT id, a, b FROM t") == [(1, 5, 1), (2, 2, 9)]


def test_a_table_that_stays_the_target_s(begun: Three) -> None:
    (conflict,) = begun.plan(settings=ONE_SIDE).conflicts
    begun.merge(resolutions={conflict.id: "ours"}, settings=ONE_SIDE)
    assert begun.query("live", "SELECT id, a, b, c FROM t") == [(1, 1, 6, 7), (2, 2, 2, 7)], "the fork's column came"


def test_a_grain_that_there_is_not(begun: Three) -> None:
    with pytest.raises(BadRequest, match="bale"):
        begun.plan(settings={"table": {"t": "bale"}})


@pytest.mark.parametrize("released", [False, True])
def test_undo_gives_everything_back(begun: Three, released: bool) -> None:
    planned = begun.plan()
    done = begun.apply(planned)
    if released:
        done.release()
        begun.run("live", "INSERT INTO t VALUES (9, 9, 9, 9)", "UPDATE t SET b = 10 WHERE id = 1")
    assert done.undo() == []
    if released:
        assert begun.query("live", "SELECT * FROM t") == [(1, 1, 10), (2, 2, 2), (9, 9, 9)]
        assert begun.query("live", "SELECT sql FROM sqlite_schema") == [(TABLE,)]
    else:
        assert begun.query("live", "SELECT * FROM t") == [(1, 1, 6), (2, 2, 2)]
    assert begun.query("live", "SELECT count(*) FROM t", OTHER) == [(2,)]
    assert begun.path("live", "volumes/data/notes").read_text() == "one\ntwo\nthree\n"
    assert sorted(path.name for path in (begun.home / "live").iterdir()) == ["volumes"]


def test_a_conflict_that_came_up_since_changes_nothing(begun: Three) -> None:
    planned = begun.plan()
    begun.run("live", "UPDATE t SET b = 1 WHERE id = 2")
    begun.run("live", "INSERT INTO t VALUES (3, 0, 0)", path=OTHER)
    begun.copy("live", "before")
    with pytest.raises(Refused) as caught:
        begun.apply(planned)
    (conflict,) = caught.value.conflicts
    assert (conflict.kind, conflict.place) == ("insert/insert", "sqlite volume data:/deep/more.sqlite t")
    assert differences(begun, "before", "live") == []


def test_an_application_that_keeps_its_lock(begun: Three) -> None:
    planned = begun.plan()
    with application(begun, "BEGIN IMMEDIATE", path=OTHER), pytest.raises(DatabaseBusy):
        begun.apply(planned)
    assert begun.query("live", "SELECT * FROM t") == [(1, 1, 6), (2, 2, 2)]
    assert begun.path("live", "volumes/data/notes").read_text() == "one\ntwo\nthree\n"


class Stopped(BaseException):
    """The daemon is killed."""


class Killing(Host):
    def __init__(self, label: str, after: int) -> None:
        self.label, self.left = label, after

    def at(self, label: str) -> None:
        if label == self.label:
            self.left -= 1
            if self.left < 0:
                raise Stopped


@pytest.mark.parametrize("finish", [False, True])
@pytest.mark.parametrize(
    ("label", "after"),
    [
        ("sqlite:begin", 0),
        ("sqlite:journal", 0),
        ("sqlite:commit", 0),
        ("sqlite:commit", 1),
        ("sqlite:close-journal", 0),
    ],
)
def test_a_daemon_that_dies(begun: Three, label: str, after: int, finish: bool) -> None:
    planned = begun.plan()
    begun.copy("live", "before")
    trees = Trees(Killing(label, after), uid_base=0)
    with pytest.raises(Stopped):
        begun.apply(planned, trees=trees).commit()
    if finish and label != "sqlite:close-journal":
        return  # the entry was not written by then
    begun.trees.recover(begun.home / "live", finish=finish)
    rows = begun.query("live", "SELECT * FROM t"), begun.query("live", "SELECT count(*) FROM t", OTHER)
    if finish:
        assert rows == ([(1, 5, 6, 7), (2, 2, 2, 7)], [(3,)])
        assert begun.path("live", "volumes/data/notes").read_text().endswith("four\n")
    else:
        assert rows == ([(1, 1, 6), (2, 2, 2)], [(2,)])
        assert begun.path("live", "volumes/data/notes").read_text() == "one\ntwo\nthree\n"
    assert not begun.trees.recover(begun.home / "live")
    assert sorted(path.name for path in (begun.home / "live").iterdir()) == ["volumes"]


def test_a_commit_that_fails_half_way_is_taken_back(begun: Three) -> None:
    class Failing(Host):
        commits = 0

        def at(self, label: str) -> None:
            if label == "sqlite:commit":
                self.commits += 1
                if self.commits == 2:
                    raise WyeError("no more")

    planned = begun.plan()
    done = begun.apply(planned, trees=Trees(Failing(), uid_base=0))
    with pytest.raises(WyeError, match="no more"):
        done.release()
    assert begun.query("live", "SELECT count(*) FROM pragma_table_info('t')") == [(4,)]
    assert done.undo() == []
    assert begun.query("live", "SELECT * FROM t") == [(1, 1, 6), (2, 2, 2)]
    assert begun.query("live", "SELECT count(*) FROM t", OTHER) == [(2,)]


def test_a_copy_of_an_environment_in_a_merge_is_left_alone(begun: Three) -> None:
    done = begun.apply(begun.plan())
    done.release()
    begun.copy("live", "fork")
    begun.trees.recover(begun.home / "fork", finish=True)
    assert begun.query("fork", "SELECT * FROM t") == [(1, 5, 6, 7), (2, 2, 2, 7)]
    begun.copy("live", "other")
    assert not (begun.home / "fork" / JOURNAL).exists()
    done.undo()
    begun.trees.recover(begun.home / "other")
    assert begun.query("other", "SELECT * FROM t") == [(1, 5, 6, 7), (2, 2, 2, 7)]


def test_a_revert_takes_back_what_the_merge_wrote_and_no_more(begun: Three) -> None:
    begun.copy("ours", "live")
    begun.copy("live", "before")
    done = begun.apply(begun.plan())
    done.release()
    begun.run("live", "INSERT INTO t VALUES (8, 8, 8, 7)")  # before anybody could take a snapshot
    begun.copy("live", "after")
    done.commit()
    begun.run("live", "UPDATE t SET b = 4 WHERE id = 1")
    begun.copy("live", "now")
    planned = begun.plan(sides=("after", "now", "before"), back=True)
    done = begun.apply(planned, theirs="before")
    done.commit()
    assert begun.query("live", "SELECT * FROM t") == [(1, 1, 4), (2, 2, 2), (8, 8, 8)]
    assert begun.query("live", "SELECT count(*) FROM t", OTHER) == [(2,)]
    assert begun.path("live", "volumes/data/notes").read_text() == "one\ntwo\nthree\n"


def test_a_revert_would_lose_what_was_written_since(begun: Three) -> None:
    begun.copy("ours", "live")
    begun.copy("live", "before")
    done = begun.apply(begun.plan())
    done.release()
    begun.copy("live", "after")
    done.commit()
    begun.run("live", "UPDATE t SET c = 100 WHERE id = 2")
    begun.copy("live", "now")
    (conflict,) = begun.plan(sides=("after", "now", "before"), back=True).conflicts
    assert (conflict.kind, conflict.place, conflict.key) == (
        "drop-vs-change", "sqlite volume data:/app.db", ("t",),
    )  # fmt: skip


# ---------------------------------------------------------------- databases that come, go, and are something else


def test_a_new_database_is_a_file(three: Three) -> None:
    three.path("base", "volumes/data/x").touch()
    three.copy("base", "ours", "theirs")
    three.run("theirs", TABLE, "INSERT INTO t VALUES (1, 1, 1)")
    three.merge()
    assert three.query("live", "SELECT * FROM t") == [(1, 1, 1)]


def test_a_deleted_database_whose_rows_the_target_changed(three: Three) -> None:
    three.run("base", "PRAGMA journal_mode = wal", TABLE, "INSERT INTO t VALUES (1, 1, 1)")
    three.copy("base", "ours", "theirs")
    three.path("theirs").unlink()
    three.copy("ours", "live")
    with application(three) as service:  # what it wrote is in the log alone
        say(service, "INSERT INTO t VALUES (2, 2, 2)")
        three.home.joinpath("ours").rename(three.home / "old")
        three.copy("live", "ours")
    (conflict,) = three.plan().conflicts
    assert (conflict.kind, conflict.place) == ("delete/update", "sqlite volume data:/app.db")
    planned = three.plan({conflict.id: "ours"})
    assert (planned.conflicts, planned.places()) == ([], {})
    planned = three.plan({conflict.id: "theirs"})
    assert planned.places() == {"volume data": 1}


def test_a_deleted_database_that_nobody_used(three: Three) -> None:
    three.run("base", TABLE)
    three.copy("base", "ours", "theirs")
    three.path("theirs").unlink()
    three.merge()
    assert not three.path("live").exists()


def test_one_that_the_target_deleted(three: Three) -> None:
    three.run("base", TABLE)
    three.copy("base", "ours", "theirs")
    three.run("theirs", "INSERT INTO t VALUES (1, 1, 1)")
    three.path("ours").unlink()
    (conflict,) = three.plan().conflicts
    assert (conflict.kind, conflict.place, conflict.key) == ("update/delete", "volume data", ("app.db",))


def test_owner_and_mode_merge_as_with_any_file(begun: Three) -> None:
    begun.path("theirs").chmod(0o640)
    os.chown(begun.path("ours"), 7, 7)
    deltas = begun.trees.changes(begun.bytes("base"), begun.bytes("theirs"), begun.changes(), text=False)
    assert [each.path for each in deltas] == ["/app.db", "/notes"]
    planned = begun.plan()
    assert planned.places()["volume data"] == 2
    done = begun.apply(planned)
    done.commit()
    status = begun.path("live").stat()
    assert (status.st_mode & 0o777, status.st_uid) == (0o640, 7)
    assert begun.query("live", "SELECT * FROM t WHERE id = 1") == [(1, 5, 6, 7)]


def test_a_mode_that_both_changed(begun: Three) -> None:
    begun.path("theirs").chmod(0o640)
    begun.path("ours").chmod(0o600)
    (conflict,) = begun.plan().conflicts
    assert (conflict.place, conflict.key, conflict.column) == ("volume data", ("app.db",), "mode")


def test_one_that_cannot_be_read_is_refused_by_name(begun: Three) -> None:
    path = begun.path("theirs")
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 8000)
    for ending in ("-wal", "-shm"):
        begun.path("theirs", f"volumes/data/app.db{ending}").unlink(missing_ok=True)
    broken, _ = begun.trees.databases(begun.bytes("base"), begun.bytes("theirs"), begun.changes())
    (refusal,) = broken.stat()["refused"]
    assert refusal["kind"] == "unreadable"
    (conflict,) = begun.plan().conflicts
    assert (conflict.kind, conflict.place) == ("unreadable", "sqlite volume data:/app.db")
    begun.merge(resolutions={conflict.id: "ours"})
    assert begun.query("live", "SELECT * FROM t WHERE id = 1") == [(1, 1, 6)]
    assert begun.query("live", "SELECT count(*) FROM t", OTHER) == [(3,)]


def test_names_that_are_no_text(three: Three) -> None:
    name = os.fsdecode(b"volumes/data/\xff.db")
    three.run("base", TABLE, path=name)
    three.copy("base", "ours", "theirs")
    three.run("theirs", "INSERT INTO t VALUES (1, 1, 1)", path=name)
    (found,) = three.trees.databases(three.bytes("base"), three.bytes("theirs"), three.changes())
    assert found.place == "sqlite volume data:/\\xff.db"
    (conflict,) = three.plan().conflicts
    assert (conflict.kind, conflict.place) == ("unreadable", "sqlite volume data:/\\xff.db")


def test_a_file_of_several_names(begun: Three) -> None:
    os.link(begun.path("ours"), begun.path("ours", "volumes/data/again"))
    (conflict,) = begun.plan().conflicts
    assert (conflict.kind, conflict.place) == ("hard-link", "sqlite volume data:/app.db")


def test_links_in_the_place_of_a_database(begun: Three, tmp_path: Path) -> None:
    """The target's application puts a link there after the plan was made."""
    planned = begun.plan()
    outside = tmp_path / "outside.db"
    begun.path("live").rename(outside)
    begun.path("live").symlink_to(outside)
    with pytest.raises(WyeError):
        begun.apply(planned)
    assert begun.path("live", "volumes/data/notes").read_text() == "one\ntwo\nthree\n"


# ---------------------------------------------------------------- layers


def test_a_database_in_a_layer_needs_its_service_stopped(three: Three) -> None:
    path = "layers/web/upper/srv/app.db"
    three.run("base", TABLE, "INSERT INTO t VALUES (1, 1, 1)", path=path)
    three.copy("base", "ours", "theirs")
    three.run("theirs", "UPDATE t SET a = 2", path=path)
    three.run("ours", "UPDATE t SET b = 2", path=path)
    planned = three.plan()
    assert planned.places() == {"sqlite layer web:/srv/app.db": 1}
    assert planned.disturbed() == {"layer web"}
    three.merge()
    assert three.query("live", "SELECT * FROM t", path) == [(1, 2, 2)]


def test_a_database_of_the_image_that_the_target_never_wrote_to(three: Three, tmp_path: Path) -> None:
    path = "layers/web/upper/srv/app.db"
    three.run("image", TABLE, path="srv/app.db")
    three.images["web"] = tmp_path / "image"
    three.path("base", "layers/web/upper/etc/x").touch()
    three.copy("base", "ours", "theirs")
    three.path("theirs", path).write_bytes(three.path("image", "srv/app.db").read_bytes())
    three.run("theirs", "INSERT INTO t VALUES (1, 1, 1)", path=path)
    assert [each.place for each in three.trees.databases(three.bytes("base"), three.bytes("theirs"), three.changes())]
    planned = three.plan()
    assert planned.disturbed() == {"layer web"}
    three.merge()
    assert three.query("live", "SELECT * FROM t", path) == [(1, 1, 1)]

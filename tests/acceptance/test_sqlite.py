"""SQLite files in a running production: a fork's rows and schema go in while a service writes to the same file."""

from __future__ import annotations

import json
import textwrap
import threading
import time
from typing import Any

import pytest

from tests.acceptance.conftest import Project
from wye.errors import CheckFailed, WyeError

pytestmark = [pytest.mark.host, pytest.mark.timeout(180)]

WRITER = """
import os, sqlite3, time
os.chown("/data", 1000, 1000)
os.setgid(1000)
os.setuid(1000)
c = sqlite3.connect("/data/app.db", timeout=20, isolation_level=None)
c.execute("PRAGMA journal_mode = wal")
c.execute("CREATE TABLE IF NOT EXISTS visits (id TEXT PRIMARY KEY, at REAL)")
c.execute("CREATE TABLE IF NOT EXISTS items (id INTEGER PRIMARY KEY, name TEXT, price INT, stock INT)")
names = [(n, f"item {n}") for n in range(1, 51)]
c.executemany("INSERT OR IGNORE INTO items (id, name, price, stock) VALUES (?, ?, 1, 100)", names)
while True:
    c.execute("INSERT INTO visits VALUES (hex(randomblob(8)), ?)", (time.time(),))
    c.execute("UPDATE items SET stock = stock - 1 WHERE id = 50")
    time.sleep(0.01)
"""

COMPOSE = f"""
name: embedded
services:
  app:
    image: wye/python
    command:
      - python3
      - -u
      - -c
      - |
{textwrap.indent(WRITER, "        ")}
    stop_signal: SIGKILL
    volumes: ["data:/data"]
  box:
    image: wye/python
    command: ["sh", "-c", "touch /tmp/well; exec sleep infinity"]
    environment: {{COLOUR: green}}
    stop_signal: SIGKILL
    volumes: ["data:/data"]
  web:
    image: wye/python
    command: ["sh", "-c", "exec sleep $$LASTS"]
    environment: {{LASTS: infinity}}
    stop_signal: SIGKILL
    healthcheck: {{test: [CMD-SHELL, 'test "$$LASTS" = infinity'], interval: 1s, retries: 1}}
    volumes: ["data:/data:ro"]
volumes: {{data: {{}}}}
x-wye: {{merge: {{delta: [items.stock]}}}}
"""

QUERY = """
import json, sqlite3, sys
c = sqlite3.connect("/data/app.db", timeout=20, isolation_level=None)
print(json.dumps([row for s in sys.argv[1:] for row in c.execute(s).fetchall()]))
"""


class Embedded:
    """The project of this file."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.client = project.client

    def sql(self, environment: str, *statements: str) -> list[Any]:
        """As a service does it, from a process of its own that shares the volume."""
        done = self.client.exec(environment, ["python3", "-c", QUERY, *statements], service="box")
        assert done.exit_code == 0, done.text + done.stderr.decode()
        found: list[Any] = json.loads(done.text)
        return found

    def wait_for_visits(self, environment: str = "production", more: int = 5) -> int:
        """That many after now. Returns how many there are then."""
        start = self.visits(environment)
        deadline = time.monotonic() + 20
        while (found := self.visits(environment)) < start + more:
            assert time.monotonic() < deadline, "the writer stands still"
            time.sleep(0.02)
        return found

    def visits(self, environment: str = "production") -> int:
        return int(self.sql(environment, "SELECT count(*) FROM visits")[0][0])

    def pids(self) -> dict[str, int | None]:
        return {each.service: each.pid for each in self.client.environment("production").services}

    def up(self, environment: str, compose: str) -> None:
        directory = self.project.directory / environment
        directory.mkdir(exist_ok=True)
        (directory / "compose.yaml").write_text(compose)
        self.client.up(directory, name=environment, environment={}, wait=False)


@pytest.fixture
def embedded(project: Project) -> Embedded:
    made = Embedded(project)
    project.up(COMPOSE)
    deadline = time.monotonic() + 20
    while project.sh("production", "test -s /data/app.db").exit_code:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    made.wait_for_visits()
    project.fork()
    made.sql("f", "ALTER TABLE items ADD COLUMN note TEXT", "UPDATE items SET note = 'new', price = 5 WHERE id < 10")
    made.sql("f", "CREATE TABLE tags (name TEXT PRIMARY KEY)", "INSERT INTO tags VALUES ('a'), ('b')")
    made.sql("f", "UPDATE items SET stock = stock + 1000 WHERE id = 50", "DELETE FROM items WHERE id = 20")
    return made


def items(embedded: Embedded, environment: str = "production") -> list[Any]:
    """All but the one that the writer changes."""
    return embedded.sql(environment, "SELECT * FROM items WHERE id <> 50 ORDER BY id")


def test_rows_and_schema_go_in_while_a_service_writes(embedded: Embedded) -> None:
    told = {each.place: each for each in embedded.client.diff("f").stores}["sqlite volume data:/app.db"]
    assert told.kind == "sqlite"
    assert {each["name"] for each in told.stat["schema"]} == {"items", "tags"}
    assert {each["table"]: (each["inserted"], each["deleted"]) for each in told.stat["tables"]}["items"] == (0, 1)
    assert embedded.client.diff("f").files == ()
    assert "/app.db-wal" in {each.path for each in embedded.client.diff("f", rows=False).files}
    embedded.client.stop("f", ["app"])
    pids, started = embedded.pids(), embedded.visits()
    found = embedded.client.merge("f")
    assert found.merged, found.conflicts
    assert (found.restarted, embedded.pids()) == ((), pids), "nobody was restarted"
    assert list(found.applied) == ["sqlite volume data:/app.db"]
    assert embedded.sql("production", "SELECT price, note FROM items WHERE id = 3") == [[5, "new"]]
    assert embedded.sql("production", "SELECT name FROM tags ORDER BY 1") == [["a"], ["b"]]
    assert embedded.sql("production", "SELECT count(*) FROM items WHERE id = 20") == [[0]]
    assert embedded.wait_for_visits() > started
    assert embedded.pids() == pids, "the writer has met no error"
    # Each visit, here or in the fork, takes one of stock a moment later, unless its writer was cut off between the two.
    counted = embedded.sql("production", "SELECT stock + (SELECT count(*) FROM visits) FROM items WHERE id = 50")
    assert 1100 <= counted[0][0] <= 1103
    assert embedded.sql("production", "PRAGMA integrity_check") == [["ok"]]
    assert not embedded.client.merge("f").entry, "there is nothing left to merge"


def test_a_revert_keeps_what_was_written_meanwhile(embedded: Embedded) -> None:
    before, seen = items(embedded), {row[0] for row in embedded.sql("production", "SELECT id FROM visits")}
    done = embedded.client.merge("f")
    embedded.wait_for_visits()
    kept = {row[0] for row in embedded.sql("production", "SELECT id FROM visits")}
    back = embedded.client.revert(done.entry)
    assert back.merged, back.conflicts
    assert items(embedded) == before
    now = {row[0] for row in embedded.sql("production", "SELECT id FROM visits")}
    gone = {row[0] for row in embedded.sql("f", "SELECT id FROM visits")} - seen
    assert now >= kept - gone, "all that production wrote, before, during and after the merge"
    assert embedded.wait_for_visits()
    assert embedded.sql("production", "SELECT count(*) FROM sqlite_schema WHERE name = 'tags'") == [[0]]


def test_a_counter_that_a_fork_set_back(embedded: Embedded) -> None:
    counter = "SELECT seq FROM sqlite_sequence WHERE name = 'log'"
    add = "INSERT INTO log DEFAULT VALUES"
    embedded.sql("production", "CREATE TABLE log (id INTEGER PRIMARY KEY AUTOINCREMENT)", *[add] * 5)
    embedded.project.fork("anew")
    embedded.sql("anew", "DELETE FROM log", "DELETE FROM sqlite_sequence WHERE name = 'log'", add, add)
    (told,) = embedded.client.diff("anew").stores
    assert (told.stat["sequences"], told.stat["sequences_set_back"]) == ({"log": 2}, {"log": 5})
    done = embedded.client.merge("anew")
    assert done.merged, done.conflicts
    assert embedded.sql("production", counter) == [[2]]
    assert embedded.client.revert(done.entry).merged
    assert embedded.sql("production", counter) == [[5]]
    assert embedded.client.merge("anew").merged
    assert embedded.sql("production", counter, "SELECT id FROM log") == [[2], [1], [2]]
    embedded.sql("production", add)
    embedded.sql("anew", "DELETE FROM sqlite_sequence")
    (conflict,) = embedded.client.merge("anew").conflicts
    assert (conflict.kind, conflict.place, conflict.key) == (
        "sequence-set-back", "sqlite volume data:/app.db", ("log",),
    )  # fmt: skip
    assert (conflict.base, conflict.ours, conflict.theirs) == (2, 3, None)
    assert embedded.client.merge("anew", resolutions={conflict.id: "theirs"}).merged
    assert embedded.sql("production", counter) == []
    embedded.sql("production", add)
    assert embedded.sql("production", "SELECT id FROM log") == [[1], [2], [3], [4]]


def test_a_conflict_is_listed_exactly_and_settled(embedded: Embedded) -> None:
    embedded.sql("production", "UPDATE items SET price = 9, name = 'ours' WHERE id = 3")
    found = embedded.client.merge("f")
    (conflict,) = found.conflicts
    assert (conflict.kind, conflict.place, conflict.key, conflict.column) == (
        "update/update", "sqlite volume data:/app.db items", ("3",), "price",
    )  # fmt: skip
    assert (conflict.base, conflict.ours, conflict.theirs) == ("1", "9", "5")
    assert not found.merged
    assert embedded.sql("production", "SELECT count(*) FROM pragma_table_info('items')") == [[4]]
    found = embedded.client.merge("f", resolutions={conflict.id: {"value": "7"}})
    assert found.merged, found.conflicts
    assert embedded.sql("production", "SELECT name, price, note FROM items WHERE id = 3") == [["ours", 7, "new"]]


def test_a_reference_to_a_row_that_production_deleted(embedded: Embedded) -> None:
    embedded.sql("f", "CREATE TABLE notes (id INTEGER PRIMARY KEY, item REFERENCES items)")
    embedded.sql("f", "INSERT INTO notes VALUES (1, 30), (2, 31)", "DELETE FROM items WHERE id = 32")
    embedded.sql("production", "DELETE FROM items WHERE id = 30")
    (conflict,) = embedded.client.merge("f").conflicts
    assert (conflict.kind, conflict.place, conflict.key, conflict.column, conflict.theirs) == (
        "fk-parent-missing", "sqlite volume data:/app.db notes", ("1",), "item", "30",
    )  # fmt: skip
    assert set(conflict.choices) == {"ours", "value"}
    assert embedded.sql("production", "SELECT count(*) FROM sqlite_schema WHERE name = 'notes'") == [[0]]
    found = embedded.client.merge("f", resolutions={conflict.id: {"value": 31}})
    assert found.merged, found.conflicts
    assert embedded.sql("production", "SELECT * FROM notes") == [[1, 31], [2, 31]]
    assert embedded.sql("production", "PRAGMA foreign_key_check") == []


CUT = """
import os, time
ended = time.monotonic() + 12
while time.monotonic() < ended:
    try:
        os.truncate("/data/app.db-shm", 0)
    except FileNotFoundError:
        pass
"""


def test_a_service_that_cuts_a_mapped_file_short_does_not_end_the_daemon(embedded: Embedded) -> None:
    """What it makes of its own database is its own affair; see `tests/host/kinds_trees/test_cut_short.py`."""
    daemon = embedded.project.running.process
    assert daemon is not None
    cutting = threading.Thread(
        target=embedded.client.exec, args=("production", ["python3", "-c", CUT]), kwargs={"service": "box"}
    )
    cutting.start()
    while cutting.is_alive():
        try:
            embedded.client.merge("f")
        except WyeError:
            continue
    assert daemon.poll() is None
    assert embedded.client.environment("production").services


def test_a_service_that_does_not_come_back_undoes_the_rows(embedded: Embedded) -> None:
    embedded.up("f", COMPOSE.replace("LASTS: infinity", "LASTS: '1000'"))
    before, pids = items(embedded), embedded.pids()
    started = embedded.wait_for_visits()
    with pytest.raises(CheckFailed, match="undone"):
        embedded.client.merge("f")
    assert items(embedded) == before
    assert embedded.sql("production", "SELECT count(*) FROM sqlite_schema WHERE name = 'tags'") == [[0]]
    assert embedded.wait_for_visits() > started
    assert {name: pid for name, pid in embedded.pids().items() if name != "web"} == {
        name: pid for name, pid in pids.items() if name != "web"
    }
    assert embedded.client.environment("production").services


def test_a_fork_is_brought_up_to_date(embedded: Embedded) -> None:
    embedded.sql("production", "UPDATE items SET name = 'later' WHERE id = 3")
    done = embedded.client.update("f")
    assert done.merged, done.conflicts
    assert embedded.sql("f", "SELECT name, price, note FROM items WHERE id = 3") == [["later", 5, "new"]]
    assert embedded.wait_for_visits("f")

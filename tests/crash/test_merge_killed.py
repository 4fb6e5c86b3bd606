"""kill -9 of the daemon at the labelled operations of a merge, a revert and an update, with databases (PostgreSQL,
Redis, SQLite), a file and the spec in them. Started again, the target is as before or as after, whole; it runs; what
others wrote is there; a merge that was cut short is told; and nothing is left on the machine.

`bin/test` tries a share of the labels, `bin/test --slow` each.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.inventory import inventory
from tests.crash.test_kill_everywhere import SHARE, TURN, Stage, staged
from wye.api.client import Client
from wye.api.wire import MergeResult
from wye.errors import WyeError

pytestmark = [pytest.mark.host, pytest.mark.timeout(6000)]

FEWER = 8
"""A round takes longer here than in the other sweeps, so that a share is a share of fewer."""

NEVER = "kill:never"

COMPOSE = """
name: crash
services:
  db:
    image: wye/postgres
    environment: {POSTGRES_USER: shop, POSTGRES_PASSWORD: shop, POSTGRES_DB: shop}
    volumes: ["db:/var/lib/postgresql/data"]
    healthcheck: {test: [CMD, pg_isready, -q, -h, 127.0.0.1, -U, shop, -d, shop], interval: 1s, retries: 60}
  cache:
    image: wye/redis
    command: [redis-server, --appendonly, "yes"]
    volumes: ["cache:/data"]
  lite:
    image: wye/python
    command: ["sh", "-c", "while [ ! -e /data/write.py ]; do sleep 0.1; done; exec python3 /data/write.py"]
    stop_signal: SIGKILL
    volumes: ["lite:/data"]
  web:
    image: wye/python
    command: ["python3", "-m", "http.server", "7000"]
    environment: {COLOUR: green}
    stop_signal: SIGKILL
    volumes: ["docs:/docs"]
    ports: ["127.0.0.1::7000"]
volumes: {db: {}, cache: {}, docs: {}, lite: {}}
"""
EXTRA = """
  extra:
    image: wye/base
    command: ["sleep", "infinity"]
    stop_signal: SIGKILL
    volumes: ["more:/more"]
volumes: {db: {}, cache: {}, docs: {}, lite: {}, more: {}}
"""
SCHEMA = """create table items (id int primary key, price int);
insert into items select n, 1 from generate_series(1, 9) n;
create table loose (what text); insert into loose values ('a'), ('a')"""
CHANGE = """alter table items add column note text; update items set note = 'x', price = 2 where id < 3;
insert into loose values ('a'), ('b')"""
STATE = """select id, price from items where id < 3 order by id; select what, count(*) from loose group by 1 order by 1;
select count(*) from information_schema.columns where column_name = 'note'"""
LITE_WRITER = """
import sqlite3, time
if "no egress" in open("/etc/resolv.conf").read():  # in a fork nobody writes
    time.sleep(1e9)
c = sqlite3.connect("/data/app.db", timeout=30, isolation_level=None)
c.execute("PRAGMA journal_mode = wal")
c.execute("CREATE TABLE IF NOT EXISTS ticks (n INTEGER PRIMARY KEY)")
c.execute("CREATE TABLE IF NOT EXISTS items (id INTEGER PRIMARY KEY, price INT)")
c.execute("INSERT OR IGNORE INTO items VALUES (1, 1), (2, 1)")
while True:
    c.execute("INSERT INTO ticks SELECT coalesce(max(n), 0) + 1 FROM ticks")
    time.sleep(0.02)
"""
LITE = """
import sqlite3, sys
c = sqlite3.connect("/data/app.db", timeout=30, isolation_level=None)
for statement in sys.argv[1:]:
    for row in c.execute(statement):
        print(*row, sep="|")
"""
LITE_CHANGE = ("ALTER TABLE items ADD COLUMN note TEXT", "UPDATE items SET price = 2, note = 'x' WHERE id = 1")
LITE_STATE = ("SELECT price FROM items ORDER BY id", "SELECT count(*) FROM pragma_table_info('items')")
BEFORE = ("1|1\n2|1\na|2\n0", "hello", "1\n1\n2", "one", "green")
AFTER = ("1|2\n2|2\na|3\nb|1\n1", "bye", "2\n1\n3", "two", "blue")


class Shop:
    """Production with a fork that differs from it, and what both look like from outside."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    @property
    def client(self) -> Client:
        return self.stage.running.client

    def sql(self, name: str, statements: str) -> str:
        argv = ["psql", "-U", "shop", "-d", "shop", "-Atq", "-v", "ON_ERROR_STOP=1", "-f", "-"]
        done = self.client.exec(name, argv, service="db", stdin=statements.encode())
        assert done.exit_code == 0, done.stderr.decode()
        return done.text.strip()

    def lite(self, name: str, *statements: str) -> str:
        done = self.client.exec(name, ["python3", "-c", LITE, *statements], service="lite")
        assert done.exit_code == 0, done.stderr.decode()
        return done.text.strip()

    def sh(self, name: str, script: str, service: str) -> str:
        done = self.client.exec(name, ["sh", "-c", script], service=service)
        assert done.exit_code == 0, f"{script}: {done.text}"
        return done.text.strip()

    def up(self, name: str, compose: str) -> None:
        directory = self.stage.project / name
        directory.mkdir(exist_ok=True)
        (directory / "compose.yaml").write_text(compose)
        self.client.up(directory, name=name, environment={})

    def make(self) -> None:
        self.up("production", COMPOSE)
        self.sql("production", SCHEMA)
        self.begin_to_tick()
        self.sh("production", "redis-cli set greeting hello", "cache")
        self.sh("production", "echo one > /docs/file", "web")
        self.client.fork("production", "f")
        self.sql("f", CHANGE)
        self.lite("f", *LITE_CHANGE)
        self.sh("f", "redis-cli set greeting bye", "cache")
        self.sh("f", "echo two > /docs/file", "web")
        self.up("f", COMPOSE.replace("green", "blue").replace(f"\n{COMPOSE.splitlines()[-1]}\n", EXTRA))

    def begin_to_tick(self) -> None:
        """Others write to production all the time, whether there is a daemon or not."""
        self.sql("production", "create table ticks (n int)")
        loop = 'n=0; while :; do n=$((n+1)); echo "insert into ticks values ($n);"; sleep 0.05; done'
        script = f"nohup setsid sh -c '{loop} | psql -U shop -d shop -q' >/dev/null 2>&1 &"
        self.sh("production", script, "db")
        put = f"cat > /data/write <<'EOF'\n{LITE_WRITER}EOF\nmv /data/write /data/write.py"
        self.sh("production", put + "; until [ -s /data/app.db ]; do sleep 0.05; done; sleep 0.2", "lite")
        assert self.is_ticking()

    def is_ticking(self) -> bool:
        """Whether other ticks came in both databases; asserts that none was lost, and none came twice."""
        query = "select count(*), count(distinct n), max(n) from ticks"
        until = time.monotonic() + 20
        for ask in (self.sql, self.lite):
            seen = now = ask("production", query)
            while now == seen and time.monotonic() < until:
                now = ask("production", query)
            count, distinct, last = now.split("|")
            assert count == distinct == last
            if now == seen:
                return False
        return True

    def await_servers(self, name: str) -> None:
        """After a kill that found them stopped: the daemon starts them again and does not wait for them."""
        self.sh(name, "until pg_isready -q -U shop -d shop; do sleep 0.05; done", "db")
        self.sh(name, "until redis-cli ping | grep -q PONG; do sleep 0.05; done", "cache")

    def look(self, name: str) -> tuple[str, ...]:
        return (
            self.sql(name, STATE),
            self.sh(name, "redis-cli get greeting", "cache"),
            self.lite(name, *LITE_STATE),
            self.sh(name, "cat /docs/file", "web"),
            self.sh(name, "echo $COLOUR", "web"),
        )

    def is_whole(self, name: str) -> bool:
        """Whether the environment is as after a merge; asserts that it is that or as before it, and runs."""
        seen = self.look(name)
        assert seen in (BEFORE, AFTER)
        view = self.client.environment(name)
        assert ("extra" in {each.service for each in view.services}) == (seen == AFTER)
        assert all(each.state == "running" for each in view.services)
        return seen == AFTER


@pytest.fixture(scope="module")
def shop(test_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with staged(test_root, tmp_path_factory.mktemp("project")) as stage:
        made = Shop(stage)
        made.make()
        yield made


Verb = Callable[[Client], MergeResult]


class Sweep:
    """Verbs that die, and what must be there then. `settle` looks at what a verb has come to, which it is told in
    words, and answers which verb is next: so reverts follow merges, and merges reverts."""

    def __init__(self, shop: Shop, verbs: dict[str, Verb], settle: Callable[[str], str]) -> None:
        self.shop, self.verbs, self.settle = shop, verbs, settle
        self.stage = shop.stage
        self.there: dict[str, dict[str, int | list[str]]] = {}
        """What is on the machine, by the verb that is next."""
        self.due: dict[str, list[str]] = {}
        self.fault = NEVER
        """Of the daemon that runs now."""

    def run(self) -> None:
        """Each verb once for what is done only once, once to learn its labels, then once for each of these."""
        verb = next(iter(self.verbs))
        for _ in self.verbs:
            verb = self._undisturbed(verb)
        for number in range(len(self.verbs)):
            self.shop.client.collect()
            self.there[verb] = self._inventory()
            self.stage.labels.unlink(missing_ok=True)
            self._have(f"record:{self.stage.labels}")
            current, verb = verb, self._undisturbed(verb)
            labels = list(dict.fromkeys(self.stage.labels.read_text().split()))
            assert len(labels) > 20, "the verb hardly touches the machine: are its operations labelled?"
            step = 1 if SHARE == 1 else FEWER * SHARE
            first = (2 * number + 1) * step // (2 * len(self.verbs)) + TURN
            self.due[current] = labels[first % min(step, len(labels)) :: step]
        while any(self.due.values()):
            verb = self._killed(verb, self.due[verb].pop(0)) if self.due[verb] else self._undisturbed(verb)

    def _have(self, fault: str) -> None:
        """A daemon with this fault. It finds what the one before it left."""
        if self.fault != fault:
            self.stage.restart(fault)
            self.fault = fault

    def _undisturbed(self, verb: str) -> str:
        armed = self.stage.arm() if self.fault.startswith("record:") else contextlib.nullcontext()
        with armed:
            assert self.verbs[verb](self.shop.client).merged
        return self.settle(f"after a {verb} without any fault")

    def _killed(self, verb: str, label: str) -> str:
        self._have(f"kill:{label}")
        with self.stage.arm():  # until it has died: some of it happens in the background
            with contextlib.suppress(WyeError):
                self.verbs[verb](self.shop.client)
            died = self.stage.running.wait_for_death(20)
        assert died == -9, f"the daemon did not reach {label} a second time"
        self._have(f"kill:{self.due[verb][0]}" if self.due[verb] else NEVER)
        client = self.shop.client
        when = f"after a {verb} that died at {label}"
        following = self.settle(when)
        assert client.collect().snapshots == 0, f"{when} snapshots of no revision are left"
        deadline = time.monotonic() + 10  # networks are taken apart in the background
        while (now := self._inventory()) != self.there[following] and time.monotonic() < deadline:
            time.sleep(0.05)
        assert now == self.there[following], f"{when} something is left behind"
        pool, run = self.stage.running.root / "pool", self.stage.running.run
        left = [*pool.glob("environments/*/.wye-merge*"), *pool.glob("scratch/*"), *run.glob("tmp/*")]
        assert not left, when
        for environment in client.environments():
            assert client.log(environment.name, verify=True).verified, when
        return following

    def _inventory(self) -> dict[str, int | list[str]]:
        """Without snapshots: revisions have them, and each round adds some."""
        return {name: count for name, count in inventory(self.stage.running).items() if name != "snapshots"}


def last_merge(client: Client) -> str:
    return next(entry.id for entry in client.log("production", limit=10_000).entries if entry.verb == "merge")


def test_merge_and_revert(shop: Shop) -> None:
    begun = ""

    def newest(client: Client) -> str:
        return client.log("production").entries[0].id

    def merge(client: Client) -> MergeResult:
        nonlocal begun
        begun = newest(client)
        return client.merge("f")

    def revert(client: Client) -> MergeResult:
        nonlocal begun
        begun = newest(client)
        return client.revert(last_merge(client))

    was_merged = False

    def settle(when: str) -> str:
        nonlocal was_merged
        assert shop.is_ticking(), when
        entry = shop.client.log("production").entries[0]
        is_merged = shop.is_whole("production")
        verb = "revert" if was_merged else "merge"
        if is_merged != was_merged:
            assert entry.verb == verb, when
        elif entry.id != begun:  # unless it had not come to anything
            told = f"{verb} of" in entry.message and "was cut short and taken back" in entry.message
            assert told, f"{when} it is not told: {entry.message}"
        was_merged = is_merged
        return "revert" if is_merged else "merge"

    Sweep(shop, {"merge": merge, "revert": revert}, settle).run()
    if was_merged:
        assert revert(shop.client).merged
    assert not shop.is_whole("production")


def test_update(shop: Shop) -> None:
    rounds, last = 0, 0

    def write() -> None:
        nonlocal rounds
        rounds += 1
        shop.sql("production", f"update items set price = {rounds + 100} where id = 9")

    def settle(when: str) -> str:
        nonlocal last
        shop.await_servers("f")
        assert shop.is_whole("f"), f"{when} the fork has lost what it did"
        found = int(shop.sql("f", "select price from items where id = 9")) - 100
        assert found in (rounds, last), when
        last = found
        assert shop.is_ticking(), when
        assert not shop.is_whole("production"), when
        write()
        return "update"

    write()
    Sweep(shop, {"update": lambda client: client.update("f")}, settle).run()

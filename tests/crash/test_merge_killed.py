"""kill -9 of the daemon at every labelled operation of a merge, a revert and an update, with databases, a file, a key
and the spec in it. Started again, the target is as before or as after, whole; it runs; what others wrote is there; and
a merge that was cut short is told."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.inventory import inventory
from tests.crash.test_kill_everywhere import HERE, SHARE, Stage
from wye.api.client import Client
from wye.api.wire import MergeResult
from wye.errors import WyeError
from wye.testing.running_daemon import RunningDaemon

pytestmark = [pytest.mark.host, pytest.mark.slow, pytest.mark.timeout(3000)]

_FEWER = 3
"""A round takes longer here than in the other sweeps, so that a share is a share of fewer."""

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
  web:
    image: wye/base
    command: ["sleep", "infinity"]
    environment: {COLOUR: green}
    stop_signal: SIGKILL
    volumes: ["docs:/docs"]
volumes: {db: {}, cache: {}, docs: {}}
"""
EXTRA = """
  extra:
    image: wye/base
    command: ["sleep", "infinity"]
    stop_signal: SIGKILL
    volumes: ["more:/more"]
volumes: {db: {}, cache: {}, docs: {}, more: {}}
"""
SCHEMA = """create table items (id int primary key, price int);
insert into items select n, 1 from generate_series(1, 9) n;
create table loose (what text); insert into loose values ('a'), ('a')"""
CHANGE = """alter table items add column note text; update items set note = 'x', price = 2 where id < 3;
insert into loose values ('a'), ('b')"""
STATE = """select id, price from items where id < 3 order by id; select what, count(*) from loose group by 1 order by 1;
select count(*) from information_schema.columns where column_name = 'note'"""
BEFORE = ("1|1\n2|1\na|2\n0", "hello", "one", "green")
AFTER = ("1|2\n2|2\na|3\nb|1\n1", "bye", "two", "blue")


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
        self.tick()
        self.sh("production", "redis-cli set greeting hello", "cache")
        self.sh("production", "echo one > /docs/file", "web")
        self.client.fork("production", "f")
        self.sql("f", CHANGE)
        self.sh("f", "redis-cli set greeting bye", "cache")
        self.sh("f", "echo two > /docs/file", "web")
        self.up("f", COMPOSE.replace("green", "blue").replace("\nvolumes: {db: {}, cache: {}, docs: {}}\n", EXTRA))

    def look(self, name: str) -> tuple[str, ...]:
        return (
            self.sql(name, STATE),
            self.sh(name, "redis-cli get greeting", "cache"),
            self.sh(name, "cat /docs/file", "web"),
            self.sh(name, "echo $COLOUR", "web"),
        )

    def tick(self) -> None:
        """Others write to production all the time, whether there is a daemon or not."""
        self.sql("production", "create table ticks (n int)")
        loop = 'n=0; while :; do n=$((n+1)); echo "insert into ticks values ($n);"; sleep 0.05; done'
        script = f"nohup setsid sh -c '{loop} | psql -U shop -d shop -q' >/dev/null 2>&1 &"
        self.sh("production", script, "db")

    def is_ticking(self) -> bool:
        """Whether another tick came; asserts that none was lost, and none came twice."""
        count, distinct, last = self.sql("production", "select count(*), count(distinct n), max(n) from ticks").split(
            "|"
        )
        assert count == distinct == last
        until = time.monotonic() + 20
        while self.sql("production", "select max(n) from ticks") == last:
            if time.monotonic() > until:
                return False
        return True

    def is_whole(self, name: str) -> bool:
        """Whether the environment is as after a merge; asserts that it is that or as before it, and runs."""
        seen = self.look(name)
        assert seen in (BEFORE, AFTER)
        services = {each.service for each in self.client.environment(name).services}
        assert ("extra" in services) == (seen == AFTER)
        assert all(each.state == "running" for each in self.client.environment(name).services)
        return seen == AFTER


@pytest.fixture
def shop(test_root: Path, tmp_path: Path) -> Iterator[Shop]:
    running = RunningDaemon(
        test_root,
        instance="wyecra",
        uplinks="100.78.0.0/16",
        settings={"WYE_WARM_NETWORKS": "0", "PYTHONPATH": str(HERE.parents[1])},
    )
    stage = Stage(running, tmp_path)
    stage.armed.unlink(missing_ok=True)
    try:
        stage.start(f"record:{stage.labels}")
        running.discard_everything()
        running.client.collect()
        yield Shop(stage)
        stage.armed.unlink(missing_ok=True)
        running.kill()
        running.command = ("-m", "wye.daemon.main")
        running.start()
        running.discard_everything()
    finally:
        stage.armed.unlink(missing_ok=True)
        running.dismantle()


def sweep(shop: Shop, verb: Callable[[Client], MergeResult], settle: Callable[[str], None]) -> None:
    """`verb` for each of its labels, dying there. `settle` looks at what is there then, and brings it back to where
    `verb` can start again; it gets the time of death in words."""
    stage = shop.stage
    with stage.arm():
        assert verb(shop.client).merged
    settle("without any fault")  # what is done only once is done now
    before = there(stage.running)
    stage.labels.unlink(missing_ok=True)
    with stage.arm():
        assert verb(shop.client).merged
    labels = list(dict.fromkeys(stage.labels.read_text().split()))
    assert len(labels) > 20, "the verb hardly touches the machine: are its operations labelled?"
    settle("without any fault")
    for label in labels[:: 1 if SHARE == 1 else _FEWER * SHARE]:
        client = stage.restart(f"kill:{label}")
        with stage.arm(), contextlib.suppress(WyeError):
            verb(client)
        assert stage.running.wait_for_death(20) == -9, f"the daemon did not reach {label} a second time"
        client = stage.start(f"record:{stage.labels}")
        settle(f"after dying at {label}")
        assert client.collect().snapshots == 0, f"after dying at {label} snapshots of no revision are left"
        assert there(stage.running) == before, f"after dying at {label} something is left behind"
        for environment in client.environments():
            assert client.log(environment.name, verify=True).verified, f"after dying at {label}"
        left = [path.name for path in (stage.running.root / "pool" / "environments").glob("*/.wye-merge*")]
        assert not left, f"after dying at {label}"


def there(running: RunningDaemon) -> dict[str, int | list[str]]:
    """Without snapshots: revisions have them, and each round adds some."""
    return {name: count for name, count in inventory(running).items() if name != "snapshots"}


def last_merge(client: Client, verb: str) -> str:
    return next(entry.id for entry in client.log("production", limit=10_000).entries if entry.verb == verb)


def is_told(client: Client, verb: str) -> bool:
    """Whether the newest entry says that the verb was cut short, unless it had not come to anything."""
    newest = client.log("production").entries[0]
    return f"{verb} of" in newest.message and "was cut short and taken back" in newest.message


def test_merge(shop: Shop) -> None:
    shop.make()
    begun: list[str] = []

    def verb(client: Client) -> MergeResult:
        begun[:] = [client.log("production").entries[0].id]
        return client.merge("f")

    def settle(when: str) -> None:
        client = shop.client
        newest = client.log("production").entries[0]
        assert shop.is_ticking(), when
        if shop.is_whole("production"):
            assert newest.verb == "merge", when
            assert client.revert(newest.id).merged, when
            assert not shop.is_whole("production"), when
        else:
            assert newest.id == begun[0] or is_told(client, "merge"), f"{when} it is not told: {newest.message}"
        assert shop.is_ticking(), when

    sweep(shop, verb, settle)
    assert shop.client.merge("f").merged


def test_revert(shop: Shop) -> None:
    shop.make()
    shop.client.merge("f")
    begun: list[str] = []

    def verb(client: Client) -> MergeResult:
        begun[:] = [client.log("production").entries[0].id]
        return client.revert(last_merge(client, "merge"))

    def settle(when: str) -> None:
        client = shop.client
        newest = client.log("production").entries[0]
        assert shop.is_ticking(), when
        if shop.is_whole("production"):
            assert newest.id == begun[0] or is_told(client, "revert"), f"{when} it is not told: {newest.message}"
        else:
            assert newest.verb == "revert", when
            assert client.merge("f").merged, when
            assert shop.is_whole("production"), when
        assert shop.is_ticking(), when

    sweep(shop, verb, settle)


def test_update(shop: Shop) -> None:
    shop.make()
    rounds, last = 0, 0

    def write() -> None:
        nonlocal rounds
        rounds += 1
        shop.sql("production", f"update items set price = {rounds + 100} where id = 9")

    def settle(when: str) -> None:
        nonlocal last
        assert shop.is_whole("f"), f"{when} the fork has lost what it did"
        found = int(shop.sql("f", "select price from items where id = 9")) - 100
        assert found in (rounds, last), when
        last = found
        assert shop.is_ticking(), when
        assert not shop.is_whole("production"), when
        write()

    write()
    sweep(shop, lambda client: client.update("f"), settle)

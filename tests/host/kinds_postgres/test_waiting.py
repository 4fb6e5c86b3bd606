"""Who waits for a row while a merge writes it: what he does comes upon the new row, or fails; it is never lost."""

# ruff: noqa: E501 - SQL reads better on long lines than cut into pieces
from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from wye.host import Host
from wye.kinds.postgres.apply import apply

pytestmark = pytest.mark.host

MODEL = """
create schema t; set search_path = t;
create table item (id int primary key); insert into item select generate_series(1, 10);
create table purchase (id int primary key, item int references item {rule}, code text unique, number int generated always as identity);
insert into purchase select n, n, 'p' || n from generate_series(1, 9) n;
create table line (purchase int references purchase, code text references purchase (code));
create table slot (code text unique, item int references item, at int); insert into slot values ('a', 10, 1);
create table note (code text references slot (code));
"""
RULES = {"": "", "cascade": "on delete cascade on update cascade", "null": "on delete set null"}
UPDATED = "update purchase set code = 'F' where id = 5"
EXCHANGED = "update purchase set code = 'x' where id = 5; update purchase set code = 'p5' where id = 6; update purchase set code = 'p6' where id = 5"
NUMBERED = "update purchase set number = default where id = 5"
KEYLESS = "update slot set at = 2"
PLAIN = "do $$ declare n int; begin update purchase set item = 6 where id = 5; get diagnostics n = row_count; assert n = 1; end $$"


@dataclass(frozen=True)
class Race:
    rule: str
    fork: str
    live: str
    said: str
    """The beginning of the command's tag, or a part of the error."""
    left: tuple[Any, ...] | None = ()
    """What is read of the row then: id, item, whether it is the fork's; () is not looked at."""


FORKS = (UPDATED, EXCHANGED, NUMBERED)
RACES = [
    *(Race("cascade", fork, "delete from item where id = 5", "DELETE 1", None) for fork in FORKS),
    *(Race("", fork, "delete from item where id = 5", "purchase_item_fkey") for fork in FORKS),
    *(Race("null", fork, "delete from item where id = 5", "DELETE 1", (5, None)) for fork in FORKS),
    *(Race("cascade", fork, "update item set id = 500 where id = 5", "UPDATE 1", (5, 500)) for fork in FORKS),
    *(Race("", fork, "update purchase set item = 6 where id = 5", "UPDATE 1", (5, 6)) for fork in FORKS),
    *(Race("", fork, PLAIN, "DO", (5, 6)) for fork in FORKS),
    *(Race("", fork, "delete from purchase where id = 5", "DELETE 1", None) for fork in FORKS),
    *(Race("", fork, "insert into line (purchase) values (5)", "INSERT 0 1", (5, 5)) for fork in FORKS),
    Race("", UPDATED, "insert into line (code) values ('p5')", "line_code_fkey", (5, 5)),
    Race("", EXCHANGED, "insert into line (code) values ('p5')", "INSERT 0 1", (5, 5)),
    Race("", KEYLESS, "insert into note values ('a')", "INSERT 0 1"),
    Race("", KEYLESS, "delete from item where id = 10", "slot_item_fkey"),
]  # fmt: skip


class _Beside(Host):
    """Has somebody do something just before the commit, and goes on when he waits for a lock or is done."""

    def __init__(self, connection: Any, watching: Any, live: str) -> None:
        super().__init__()
        self._connection, self._watching, self._live = connection, watching, live
        self._thread = threading.Thread(target=self._run)
        self.said = ""

    def _run(self) -> None:
        try:
            self._connection.execute("set search_path = t; set lock_timeout = '8s'")
            self.said = self._connection.execute(self._live).statusmessage
        except psycopg.Error as error:
            self.said = str(error)

    def join(self) -> None:
        self._thread.join()

    def at(self, label: str) -> None:
        if label == "postgres:apply:commit":
            self._thread.start()
            until = time.monotonic() + 5
            while self._thread.is_alive() and time.monotonic() < until:
                if self._watching.execute("select count(*) from pg_locks where not granted").fetchone()[0]:
                    break
        super().at(label)


@pytest.fixture(scope="module")
def sides(rig: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Production, a fork that has done its part in a database for each race, and the base."""
    production = rig.create()
    for number, rule in enumerate(RULES.values()):
        production.run("postgres", f"create database model_{number}")
        production.run(f"model_{number}", MODEL.format(rule=rule))
    model = {rule: number for number, rule in enumerate(RULES)}
    for number, race in enumerate(RACES):
        production.run("postgres", f"create database race_{number} template model_{model[race.rule]}")
    production.run("postgres", "create database held template model_0")
    fork = rig.fork(production)
    for number, race in enumerate(RACES):
        fork.run(f"race_{number}", race.fork)
    fork.run("held", EXCHANGED)
    base = rig.start_base(fork)
    yield production, fork, base
    for site in (base, fork, production):
        site.discard()


@pytest.mark.parametrize("number", range(len(RACES)), ids=[f"{race.fork[:34]}/{race.live[:34]}/{race.rule}" for race in RACES])  # fmt: skip
def test_who_waits_for_a_row(rig: Any, sides: Any, number: int) -> None:
    race, (production, fork, base), database = RACES[number], sides, f"race_{number}"
    [changes] = rig.diff(fork, base=base, databases=[database])
    with (
        production.server.connect(database) as live,
        production.server.connect(database) as watching,
        production.server.connect(database) as connection,
    ):
        live.autocommit = watching.autocommit = True
        host = _Beside(live, watching, race.live)
        apply(host, connection, changes)
        host.join()
    assert race.said in host.said, host.said
    orphans = "select * from t.purchase p where item is not null and not exists (select from t.item where id = p.item)"
    assert production.query(database, orphans) == []
    if race.left != ():
        rows = production.query(database, "select id, item from t.purchase where id = 5")
        assert rows == ([race.left] if race.left else [])
    if race.fork == UPDATED and race.left is not None:
        assert production.query(database, "select code from t.purchase where id = 5") == [("F",)]


def test_an_exchange_waits_for_those_who_are_at_it(rig: Any, sides: Any) -> None:
    """He has written another row, and writes one of the merge's while the merge waits for him."""
    production, fork, base = sides
    [changes] = rig.diff(fork, base=base, databases=["held"])
    with production.server.connect("held") as busy, production.server.connect("held") as connection:
        busy.autocommit = False
        busy.execute("update t.purchase set item = 1 where id = 9")

        def go_on() -> None:
            busy.execute("update t.purchase set item = 2 where id = 5")
            busy.commit()

        timer = threading.Timer(0.3, go_on)
        timer.start()
        apply(rig.host, connection, changes)
        timer.join()
    rows = production.query("held", "select id, item, code from t.purchase where id in (5, 6, 9) order by id")
    assert rows == [(5, 2, "p6"), (6, 6, "p5"), (9, 1, "p9")]

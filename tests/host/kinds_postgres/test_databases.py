"""Several databases of one server: all of them are merged or none, and what is in conflict is told of all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from wye.errors import Unavailable
from wye.host import Host
from wye.interfaces import Terms
from wye.kinds.postgres.kind import PostgresChanges, PostgresKind
from wye.merge.refused import Refused

pytestmark = pytest.mark.host

NAMES = ("one", "two")
STATE = "select 'item', id, stock from t.item union all select what, null, n from t.log order by 1, 2, 3"


@dataclass
class At:
    """`interfaces.Endpoint` for a server whose sockets lie in a directory of the host."""

    sockets: Path
    env: dict[str, str]
    root: Path = Path("/nonexistent")
    target: str = ""
    argv: tuple[str, ...] = field(default_factory=tuple)

    @contextlib.contextmanager
    def socket(self, path: str) -> Iterator[Path]:
        yield self.sockets / Path(path).name

    def dial(self, port: int) -> Any:
        raise NotImplementedError(port)


@pytest.fixture
def production(own_rig: Any) -> Iterator[Any]:
    site = own_rig.create()
    for name in NAMES:
        site.run("postgres", f"create database {name}")
        site.run(name, [
            "create schema t", "create table t.item (id int primary key, stock int)",
            "insert into t.item values (1, 1), (2, 2)", "create table t.log (what text, n int)",
        ])  # fmt: skip
    yield site
    site.discard()


def state(site: Any) -> list[Any]:
    return [site.query(name, STATE) for name in NAMES]


def changed(rig: Any, production: Any, *statements: str) -> PostgresChanges:
    fork = rig.fork(production)
    for name in NAMES:
        fork.run(name, list(statements))
    found = rig.diff(fork)
    fork.discard()
    return PostgresChanges("postgres db", tuple(found))


def reached(rig: Any, site: Any) -> At:
    with site.server.connect("postgres") as connection:
        return At(rig.servers.directory, {"PGPORT": str(connection.info.port)})


def test_conflicts_of_all_databases_are_told(own_rig: Any, production: Any) -> None:
    changes = changed(own_rig, production, "update t.item set stock = 100 where id = 1")
    for name in NAMES:
        production.run(name, "update t.item set stock = 5 where id = 1")
    with pytest.raises(Refused) as refused:
        PostgresKind(own_rig.host).apply(reached(own_rig, production), changes, Terms(dry_run=True))
    assert {each.place for each in refused.value.conflicts} == {f"postgres/{name}/t.item" for name in NAMES}


def test_a_database_that_refuses_keeps_all_as_they_were(own_rig: Any, production: Any) -> None:
    """And the merge may be tried again: nothing of it is there yet, so nothing comes twice."""
    changes = changed(
        own_rig, production, "update t.item set stock = 100 where id = 1", "insert into t.log values ('order', 1)"
    )
    kind, target = PostgresKind(own_rig.host), reached(own_rig, production)
    before = state(production)
    holding = production.server.connect("two")
    holding.execute("begin; update t.item set stock = stock where id = 1")
    with pytest.raises(Refused) as refused:
        kind.apply(target, changes, Terms())
    assert [each.kind for each in refused.value.conflicts] == ["lock-timeout"]
    assert state(production) == before
    holding.close()
    kept: list[bytes] = []
    done = kind.apply(target, changes, Terms(), kept.append)
    assert state(production) == [[("item", 1, 100), ("item", 2, 2), ("order", None, 1)]] * 2
    assert done.items == 4
    assert all(seconds >= 0 for seconds in done.seconds.values())
    kind.apply(target, kind.load(kept[-1], place="postgres db", target=target), Terms())
    assert state(production) == before


class CutShort(Host):
    """Fails at the last database's commit, when all others are merged: as after a kill at that moment."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.left = len(NAMES)
        self.error = error or Unavailable("cut short")

    def at(self, label: str) -> None:
        if label == "postgres:apply:commit":
            self.left -= 1
            if not self.left:
                raise self.error


def test_taking_back_goes_on_where_it_was_cut_short(own_rig: Any, production: Any) -> None:
    """Also between two commits: what is back already is not taken back again."""
    changes = changed(
        own_rig, production, "update t.item set stock = 100 where id = 1", "insert into t.log values ('order', 1)"
    )
    kind, target = PostgresKind(own_rig.host), reached(own_rig, production)
    before = state(production)
    kept: list[bytes] = []
    kind.apply(target, changes, Terms(), kept.append)
    back: list[bytes] = []
    left = kind.load(kept[-1], place="postgres db", target=target)
    with pytest.raises(Unavailable):
        PostgresKind(CutShort()).apply(target, left, Terms(), back.append)
    assert sorted(now == was for now, was in zip(state(production), before, strict=True)) == [False, True]
    back = back[-1:]
    left = kind.load(kept[-1], place="postgres db", target=target, back=back)
    kind.apply(target, left, Terms(), back.append)
    assert state(production) == before
    assert not kind.load(kept[-1], place="postgres db", target=target, back=back)


def test_nothing_begins_again_once_another_database_has_committed(own_rig: Any, production: Any) -> None:
    changes = changed(own_rig, production, "insert into t.log values ('order', 1)")
    kind, target = PostgresKind(own_rig.host), reached(own_rig, production)
    before = state(production)
    deadlock = CutShort(psycopg.errors.DeadlockDetected("deadlock detected"))
    kept: list[bytes] = []
    with pytest.raises(Unavailable, match="at the commit"):
        PostgresKind(deadlock).apply(target, changes, Terms(), kept.append)
    assert [len(rows) for rows in state(production)] == [2, 3], "once where it was committed, and not where it failed"
    kind.apply(target, kind.load(kept[-1], place="postgres db", target=target), Terms())
    assert state(production) == before


def test_a_transaction_that_may_yet_be_committed(
    own_rig: Any, production: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = changed(own_rig, production, "insert into t.log values ('order', 1)")
    kind, target = PostgresKind(own_rig.host), reached(own_rig, production)

    def load(kept: bytes) -> Any:
        return kind.load(kept, place="postgres db", target=target)

    def keep(kept: bytes) -> None:
        with monkeypatch.context() as patched:
            patched.setattr("wye.kinds.postgres.kind._OVER_S", 0.1)
            with pytest.raises(Unavailable, match="still under way"):
                load(kept)
        waiting.append(executor.submit(load, kept))

    waiting: list[Future[Any]] = []
    with ThreadPoolExecutor(len(NAMES)) as executor:
        kind.apply(target, changes, Terms(), keep)
        assert [len(each.result().databases) for each in waiting] == [1, 2]

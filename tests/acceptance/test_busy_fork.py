"""A fork that goes on being written to while it is merged, or brought up to date: what a merge read and what it keeps
as its base are of one moment, so nothing is brought twice, nothing is lost, and nothing is in conflict with itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

import pytest

from tests.acceptance.conftest import wait_until
from tests.acceptance.test_merge import COMPOSE, Session, Shop, shop  # noqa: F401 - the fixture
from wye.errors import WyeError

pytestmark = [pytest.mark.host, pytest.mark.timeout(300)]

TERMS = "\nx-wye: {merge: {delta: [items.stock]}}\n"
MERGES = 4


class Busy:
    """Repeats an act, with a number that counts on, until it is left. `done`: how many came back without an error."""

    def __init__(self, act: Callable[[int], object]) -> None:
        self.done = 0
        self._act = act
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._repeat)

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait_for_more()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.set()
        self._thread.join()

    def wait_for_more(self) -> None:
        done = self.done
        wait_until(lambda: self.done > done, patience_s=60)

    def _repeat(self) -> None:
        while not self._leave.is_set():
            try:
                self._act(self.done + 1)
            except (AssertionError, WyeError):
                return
            self.done += 1


def test_what_it_writes_is_merged_once(shop: Shop) -> None:  # noqa: F811
    shop.up("production", COMPOSE + TERMS)
    shop.project.fork()
    session = Session(shop, "f")
    try:
        write = "update items set stock = stock + 1 where id = 1; update items set price = {} where id = 2"
        with Busy(lambda number: session.ask(write.format(number))) as busy:
            for _ in range(MERGES):
                busy.wait_for_more()
                shop.merged()
    finally:
        session.close()
    shop.merge()
    assert busy.done > 0
    stock, price = "select stock from items where id = 1", "select price from items where id = 2"
    assert shop.sql("production", stock) == shop.sql("f", stock) == str(100 + busy.done)
    assert shop.sql("production", price) == str(busy.done)
    assert not shop.merge().merged, "all of it came over"


def test_tables_that_recovery_empties_are_merged_from_a_busy_fork(shop: Shop) -> None:  # noqa: F811
    shop.sql("production", "create unlogged table scraps (id int primary key)")
    shop.project.fork()
    shop.sql("f", "insert into scraps values (1), (2)")
    session = Session(shop, "f")
    try:
        write = "update items set price = {} where id = 2"
        with Busy(lambda number: session.ask(write.format(number))) as busy:
            shop.merged()
    finally:
        session.close()
    assert busy.done > 0
    assert shop.sql("production", "select count(*) from scraps") == "2"


def test_what_it_writes_during_an_update_is_kept(shop: Shop) -> None:  # noqa: F811
    shop.project.fork()
    shop.sql("production", "update items set price = 77 where id = 9")
    session = Session(shop, "f")
    insert = "insert into items values (1000 + {}, 'busy', 1, 1)"
    try:
        with (
            Busy(lambda number: session.ask(insert.format(number))) as rows,
            Busy(lambda number: shop.sh("f", f"echo {number} >> /docs/count", "docs")) as lines,
        ):
            assert shop.project.client.update("f").merged
    finally:
        session.close()
    assert rows.done > 0
    assert lines.done > 0
    found = shop.sql("f", "select count(*) from items where name = 'busy'")
    assert int(found) - rows.done in (0, 1), "the last one may have been done and not been told"
    counted = [int(line) for line in shop.sh("f", "cat /docs/count", "docs").split()]
    assert counted in (list(range(1, lines.done + extra + 1)) for extra in (0, 1))
    assert shop.sql("f", "select price from items where id = 9") == "77"

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from wye.drivers.network.warm import Warm
from wye.errors import Unavailable
from wye.interfaces import NetworkShape
from wye.testing.contracts.network import SHAPE

OTHER = replace(SHAPE, ports=())


class Yard:
    """Builds numbers."""

    def __init__(self) -> None:
        self.numbers = itertools.count()
        self.standing: dict[int, NetworkShape] = {}
        self.may_build = threading.Event()
        self.may_build.set()
        self.failures = 0
        self.warm = Warm(self.build, self.demolish)

    def build(self, shape: NetworkShape) -> int:
        self.may_build.wait(5)
        if self.failures:
            self.failures -= 1
            raise Unavailable("not now")
        number = next(self.numbers)
        self.standing[number] = shape
        return number

    def demolish(self, number: int) -> None:
        del self.standing[number]


@pytest.fixture
def yard() -> Iterator[Yard]:
    made = Yard()
    yield made
    made.may_build.set()
    made.warm.close()


def test_stock_is_filled_and_refilled(yard: Yard) -> None:
    assert yard.warm.take(SHAPE) is None
    yard.warm.want(SHAPE, 3)
    assert yard.warm.wait(SHAPE, 5)
    taken = {yard.warm.take(SHAPE) for _ in range(3)}
    assert taken == {0, 1, 2}
    assert yard.warm.wait(SHAPE, 5)
    assert set(yard.standing) == {0, 1, 2, 3, 4, 5}
    assert yard.warm.take(OTHER) is None


def test_every_shape_has_its_own(yard: Yard) -> None:
    yard.warm.want(SHAPE, 1)
    yard.warm.want(OTHER, 1)
    assert yard.warm.wait(SHAPE, 5)
    assert yard.warm.wait(OTHER, 5)
    number = yard.warm.take(OTHER)
    assert number is not None
    assert yard.standing[number] == OTHER


def test_less_is_demolished_at_once(yard: Yard) -> None:
    yard.warm.want(SHAPE, 4)
    assert yard.warm.wait(SHAPE, 5)
    yard.warm.want(SHAPE, 1)
    assert len(yard.standing) == 1
    yard.warm.want(SHAPE, 0)
    assert yard.standing == {}


def test_what_is_forgotten_while_it_is_built_is_demolished(yard: Yard) -> None:
    yard.may_build.clear()
    yard.warm.want(SHAPE, 1)
    yard.warm.want(SHAPE, 0)
    yard.may_build.set()
    yard.warm.close()
    assert yard.standing == {}


def test_close_leaves_what_was_taken(yard: Yard) -> None:
    yard.warm.want(SHAPE, 2)
    assert yard.warm.wait(SHAPE, 5)
    taken = yard.warm.take(SHAPE)
    yard.warm.close()
    assert set(yard.standing) == {taken}
    yard.warm.want(SHAPE, 1)
    assert yard.warm.wait(SHAPE, 5), "it can be used again"


def test_failure_is_tried_again(yard: Yard, caplog: pytest.LogCaptureFixture) -> None:
    yard.failures = 1
    yard.warm.want(SHAPE, 1)
    assert yard.warm.wait(SHAPE, 5)
    assert "not now" in caplog.text

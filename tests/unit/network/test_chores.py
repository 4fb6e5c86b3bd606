from __future__ import annotations

import threading

import pytest

from wye.drivers.network.chores import Chores
from wye.errors import Unavailable


def test_chores_are_done_in_order_and_before_close() -> None:
    chores, done, gate = Chores("test"), list[int](), threading.Event()
    chores.put(lambda: gate.wait(5) and None)
    for number in range(5):
        chores.put(lambda number=number: done.append(number))
    assert done == []
    gate.set()
    chores.wait()
    assert done == [0, 1, 2, 3, 4]
    chores.put(lambda: done.append(5))
    chores.close()
    assert done[-1] == 5
    chores.close()
    chores.wait()


def test_a_failure_keeps_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    chores, done = Chores("test"), list[str]()

    def fail() -> None:
        raise Unavailable("the kernel said no")

    chores.put(fail)
    chores.put(lambda: done.append("next"))
    chores.close()
    assert done == ["next"]
    assert "the kernel said no" in caplog.text

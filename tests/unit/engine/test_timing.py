from __future__ import annotations

import pytest

from wye.engine.timing import Steps
from wye.testing.mock_clock import ClockHost


def test_steps_in_order_and_added_up() -> None:
    host = ClockHost()
    steps = Steps(host)
    with steps("snapshot"):
        host.advance(1.5)
    with steps("start"):
        host.advance(1.0)
    with steps("snapshot"):
        host.advance(0.5)
    assert list(steps.taken.items()) == [("snapshot", 2.0), ("start", 1.0)]


def test_a_step_that_fails_took_its_time_too() -> None:
    host = ClockHost()
    steps = Steps(host)

    def fail() -> None:
        with steps("start"):
            host.advance(3.0)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert steps.taken == {"start": 3.0}

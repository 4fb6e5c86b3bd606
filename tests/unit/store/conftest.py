from __future__ import annotations

import pytest

from wye.store.ledger import Ledger
from wye.store.memory import MemoryStore
from wye.testing.histories import History
from wye.testing.mock_clock import ClockHost


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def clock() -> ClockHost:
    return ClockHost()


@pytest.fixture
def ledger(store: MemoryStore, clock: ClockHost) -> Ledger:
    return Ledger(store, store, monotonic=clock.monotonic)


@pytest.fixture
def history(ledger: Ledger) -> History:
    return History(ledger)

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.host.network.machine import Machine

from wye.drivers.network import LinuxNetwork
from wye.drivers.network.watch import Watch


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path / "machine") as made:
        yield made


@pytest.fixture
def network(machine: Machine) -> Iterator[LinuxNetwork]:
    """Whatever a test did to it, all is erased through a new object."""
    network = machine.network()
    try:
        yield network
    finally:
        network.close()
        machine.network().erase()


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that take a rule away to see that it was this one which forbade something."""
    monkeypatch.setattr(Watch, "_restored", lambda _watch: True)

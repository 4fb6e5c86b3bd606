from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wye.drivers.network import LinuxNetwork
from wye.drivers.network.namespaces import CLONE_NEWNET, current
from wye.host import Host
from wye.interfaces import Network
from wye.testing.contracts.network import NetworkContract
from wye.testing.memory_network import MemoryNetwork, MemoryWorld


class TestMemory(NetworkContract):
    @pytest.fixture
    def world(self) -> MemoryWorld:
        return MemoryWorld()

    @pytest.fixture
    def network(self, world: MemoryWorld) -> Network:
        network = MemoryNetwork(world=world)
        network.open()
        return network

    @pytest.fixture
    def again(self, world: MemoryWorld) -> Callable[[], Network]:
        return lambda: MemoryNetwork(world=world)


@pytest.mark.host
class TestLinux(NetworkContract):
    """In a network namespace of its own, which stands in for the host's: nothing here can touch the machine's."""

    @pytest.fixture
    def again(self, tmp_path: Path) -> Iterator[Callable[[], Network]]:
        host = Host()
        before = current()
        host.unshare("test:host", CLONE_NEWNET)
        made: list[LinuxNetwork] = []

        def again() -> Network:
            network = LinuxNetwork(host, directory=tmp_path / "network", uplinks="198.18.0.0/24")
            network.open()
            made.append(network)
            return network

        try:
            yield again
            for network in made[:-1]:
                network.close()
            made[-1].erase()
        finally:
            host.set_namespace("test:host", before, CLONE_NEWNET)
            os.close(before)

    @pytest.fixture
    def network(self, again: Callable[[], Network]) -> Network:
        return again()

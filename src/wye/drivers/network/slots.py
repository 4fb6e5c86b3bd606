"""Slots: numbered places for private networks, before and after anybody owns one.

A slot is a directory with a record (of its owner, if it has one) and the names of its namespaces: one router, and one
for each replica. The number gives the slot's link on the host and its pair of uplink addresses, so nothing has to be
allocated and everything is found again from the number alone. A slot that is made ahead becomes an environment's by
one small file; nothing in the kernel is renamed.
"""

from __future__ import annotations

import ipaddress
import os
import threading
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from wye.drivers.network import namespaces, netlink
from wye.drivers.network.netlink import Netlink
from wye.drivers.network.record import Record
from wye.errors import Exhausted, WyeError
from wye.host import Host


@dataclass(frozen=True, slots=True)
class Slot:
    """One number's names and addresses."""

    number: int
    directory: Path
    link: str
    host_address: str
    address: str

    @property
    def record(self) -> Path:
        return self.directory / "record.json"

    @property
    def router(self) -> Path:
        return self.directory / "router"

    @property
    def services(self) -> Path:
        return self.directory / "services"

    def service(self, replica: str) -> Path:
        return self.services / replica


class Slots:
    """Gives out and removes slots. Safe to use from several threads, one at a time for each slot."""

    def __init__(self, host: Host, directory: Path, uplinks: ipaddress.IPv4Network, prefix: str) -> None:
        self._host = host
        self._directory = directory
        self._uplinks = uplinks
        self._prefix = prefix
        self._lock = threading.Lock()
        self._claimed: set[int] = set()
        self._next = 0

    def slot(self, number: int) -> Slot:
        first = self._uplinks.network_address + 2 * number
        return Slot(number, self._directory / str(number), f"{self._prefix}{number}", str(first), str(first + 1))

    def recall(self) -> list[int]:
        """The slots with anything in the directory, which count as claimed from now on."""
        with self._lock:
            self._claimed = {int(name) for name in os.listdir(self._directory) if name.isdigit()}
            self._next = max(self._claimed, default=-1) + 1
            return sorted(self._claimed)

    def claim(self) -> Slot:
        """A number that nobody has, the longest unused first. Raises Exhausted when the range has no more."""
        count = self._uplinks.num_addresses // 2
        with self._lock:
            for offset in range(count):
                number = (self._next + offset) % count
                if number not in self._claimed:
                    self._claimed.add(number)
                    self._next = number + 1
                    return self.slot(number)
        raise Exhausted(
            f"no uplink address is left in {self._uplinks}", hint="give the daemon a larger range of uplinks"
        )

    def is_whole(self, slot: Slot, record: Record) -> bool:
        """Whether all the namespaces that the record names are there."""
        paths = [slot.router, *(slot.service(replica) for replica in record.links)]
        return all(namespaces.is_named(path) for path in paths)

    def demolish(self, *slots: Slot) -> None:
        """Removes all of them and gives their numbers back, once the links are gone and connection tracking has
        forgotten the addresses: who gets a number next must not get its connections. The kernel frees the rest by
        itself. One that fails does not keep the others; raises the first failure."""
        self.remove_links([slot.link for slot in slots])
        failures: list[WyeError] = []
        for slot in slots:
            try:
                self._remove(slot)
            except WyeError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def remove_links(self, names: Sequence[str]) -> None:
        """Nothing passes through them from the first moment."""
        if not names:
            return
        with closing(Netlink()) as outside:
            self._send(outside, "network:lower-uplinks", *map(netlink.doom_link, names))
            self._send(outside, "network:remove-uplinks", netlink.delete_doomed_links())

    def _remove(self, slot: Slot) -> None:
        self.forget_services(slot, keep=())
        namespaces.forget(self._host, slot.router)
        self.forget_connections(slot)
        self._host.remove_tree("network:remove-slot", slot.directory)
        with self._lock:
            self._claimed.discard(slot.number)

    def forget_connections(self, slot: Slot, *, received: bool = True) -> None:
        """Cuts the connections that went out, and those that came in, through the slot's uplink. Each takes a walk
        through the kernel's table, 5 ms, unless that is empty."""
        address = netlink.Flow(source=slot.address)
        requests = [netlink.forget_connections(asked=address)]
        requests += [netlink.forget_connections(answered=address)] if received else []
        with closing(Netlink(netlink.NETFILTER)) as tracking:
            self._send(tracking, "network:forget-connections", *requests)

    def forget_services(self, slot: Slot, *, keep: Collection[str]) -> None:
        """Takes away the names of all service namespaces but those of the replicas in `keep`."""
        if slot.services.is_dir():
            for name in os.listdir(slot.services):
                if name not in keep:
                    namespaces.forget(self._host, slot.service(name))

    def _send(self, socket: Netlink, label: str, *requests: netlink.Request) -> None:
        self._host.at(label)
        try:
            socket.send(*requests)
        except OSError as error:
            raise self._host.failure(label, str(error.filename), error) from error

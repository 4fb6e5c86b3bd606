"""Slots: private networks as the kernel has them, numbered, before and after anybody owns one.

A slot is a directory with a record (of its owner, if it has one) and the names of its namespaces: one router with a
bridge and the uplink, and one for each replica. The number gives the slot's link on the host and its pair of uplink
addresses, so nothing has to be allocated and everything is found again from the number alone. A slot that is made
ahead becomes an environment's by one small file; nothing in the kernel is renamed.

The same private addresses are used in every slot, and hardware addresses follow from them: to its processes a fork
looks like its source.
"""

from __future__ import annotations

import ipaddress
import os
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from wye.drivers.network import namespaces, netlink, rules
from wye.drivers.network.netlink import Netlink
from wye.drivers.network.nftables import Nftables
from wye.drivers.network.record import Record
from wye.errors import Exhausted, WyeError
from wye.host import Host

SERVICE_LINK = "eth0"

_EVERYWHERE = {"ipv6/conf/default/disable_ipv6": "1"}
_ROUTER = {**_EVERYWHERE, "ipv4/ip_forward": "1", "ipv4/conf/all/send_redirects": "0"}
_SERVICE = {**_EVERYWHERE, "ipv4/ip_unprivileged_port_start": "0", "ipv4/ping_group_range": "0 2147483647"}
_LOOPBACK = netlink.raise_link("lo")


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
    """Makes, changes and removes slots. Safe to use from several threads, one at a time per slot."""

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

    def build(self, slot: Slot, record: Record) -> None:
        """Makes all of a claimed slot, for nobody yet: the record is not written. On failure nothing is left.

        Call from a thread in the host's namespace."""
        self._host.make_directory("network:slot", slot.services)
        outside = namespaces.current()
        try:
            namespaces.aside(lambda: self._build_inside(slot, record, outside))
            self._raise_uplink(slot)
        except (WyeError, OSError) as error:
            self.demolish(slot)
            if isinstance(error, OSError):
                raise self._host.failure("network:build", str(error.filename or "build"), error) from error
            raise
        finally:
            os.close(outside)

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
        outside = Netlink()
        try:
            self._send(outside, "network:lower-uplinks", *map(netlink.doom_link, names))
            self._send(outside, "network:remove-uplinks", netlink.delete_doomed_links())
        finally:
            outside.close()

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
        tracking = Netlink(netlink.NETFILTER)
        try:
            self._send(tracking, "network:forget-connections", *requests)
        finally:
            tracking.close()

    def forget_services(self, slot: Slot, *, keep: Collection[str]) -> None:
        """Takes away the names of all service namespaces but those of the replicas in `keep`."""
        if slot.services.is_dir():
            for name in os.listdir(slot.services):
                if name not in keep:
                    namespaces.forget(self._host, slot.service(name))

    def change(self, slot: Slot, old: Record, between: Record, after: Record) -> None:
        """Takes the slot from `old` to `after`, leaving alone what `between` says is in both. If `old` is not settled,
        more may be there than it says; that goes too."""
        self.forget_services(slot, keep=between.links)
        gone = set(old.links.values()) | set(after.links.values())
        gone -= set(between.links.values())
        added = [endpoint for endpoint in after.shape.endpoints if endpoint[0] not in between.links]

        def inside() -> None:
            namespaces.enter(self._host, slot.router)
            router = Netlink()
            try:
                self._send(router, "network:remove-links", *(netlink.delete_link(_port(n)) for n in sorted(gone)))
                if text := _router_change(old, after):
                    self._rule("network:router-sets", text)
                self._add_services(slot, router, after, added)
            finally:
                router.close()

        namespaces.aside(inside)

    def set_router(self, slot: Slot, old: Record, new: Record) -> None:
        """Takes the router's sets from what `old` says to what `new` says."""
        text = _router_change(old, new)

        def inside() -> None:
            namespaces.enter(self._host, slot.router)
            self._rule("network:router-sets", text)

        if text:
            namespaces.aside(inside)

    # ------------------------------------------------------------ inside

    def _build_inside(self, slot: Slot, record: Record, outside: int) -> None:
        namespaces.make(self._host, slot.router)
        namespaces.set_kernel(self._host, "network:router-settings", _ROUTER)
        sets = rules.change(rules.ROUTER_TABLE, frozenset(), record.router_elements())
        self._rule("network:router-rules", rules.router_rules() + sets)
        router = Netlink()
        try:
            self._send(
                router,
                "network:router-links",
                _LOOPBACK,
                netlink.bridge(rules.BRIDGE, hardware_address(record.shape.gateway)),
                netlink.veth(rules.UPLINK, peer=slot.link, namespace=outside),
            )
            uplink = self._index(router, rules.UPLINK)
            self._send(
                router,
                "network:router-addresses",
                netlink.address(self._index(router, rules.BRIDGE), record.shape.gateway, _prefix_length(record)),
                netlink.address(uplink, slot.address, 31),
                netlink.default_route(slot.host_address, uplink),
            )
            self._add_services(slot, router, record, record.shape.endpoints)
        finally:
            router.close()

    def _add_services(self, slot: Slot, router: Netlink, record: Record, added: Sequence[tuple[str, str]]) -> None:
        """Makes a namespace for each endpoint, then all their links at once. Leaves the thread in the last one."""
        sockets: list[Netlink] = []
        descriptors: list[int] = []
        try:
            for replica, _ in added:
                path = slot.service(replica)
                namespaces.make(self._host, path)
                namespaces.set_kernel(self._host, "network:service-settings", _SERVICE)
                sockets.append(Netlink())
                descriptors.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            master = self._index(router, rules.BRIDGE)
            pairs = [
                netlink.veth(
                    _port(record.links[replica]),
                    peer=SERVICE_LINK,
                    namespace=descriptor,
                    mac=hardware_address(address),
                    master=master,
                )
                for (replica, address), descriptor in zip(added, descriptors, strict=True)
            ]
            self._send(router, "network:service-links", *pairs)
            for (_, address), inside in zip(added, sockets, strict=True):
                link = self._index(inside, SERVICE_LINK)
                self._send(
                    inside,
                    "network:service-addresses",
                    _LOOPBACK,
                    netlink.address(link, address, _prefix_length(record)),
                    netlink.raise_link(SERVICE_LINK),
                    netlink.default_route(record.shape.gateway, link),
                )
        finally:
            for opened in sockets:
                opened.close()
            for descriptor in descriptors:
                os.close(descriptor)

    # ------------------------------------------------------------ outside

    def _raise_uplink(self, slot: Slot) -> None:
        """`route_localnet` lets connections from 127.0.0.1 leave by this link and their replies come back; what
        else bears such an address is dropped by the rules before routing."""
        settings = {
            f"ipv6/conf/{slot.link}/disable_ipv6": "1",
            f"ipv4/conf/{slot.link}/route_localnet": "1",
            f"ipv4/conf/{slot.link}/send_redirects": "0",
            f"ipv4/conf/{slot.link}/accept_redirects": "0",
        }
        namespaces.set_kernel(self._host, "network:uplink-settings", settings)
        outside = Netlink()
        try:
            self._send(
                outside,
                "network:raise-uplink",
                netlink.address(self._index(outside, slot.link), slot.host_address, 31),
                netlink.raise_link(slot.link),
            )
        finally:
            outside.close()

    def _rule(self, label: str, text: str) -> None:
        """In the namespace of the calling thread."""
        nftables = Nftables()
        try:
            self._host.at(label)
            nftables.run(text)
        finally:
            nftables.close()

    def _send(self, socket: Netlink, label: str, *requests: netlink.Request) -> None:
        if not requests:
            return
        self._host.at(label)
        try:
            socket.send(*requests)
        except OSError as error:
            raise self._host.failure(label, str(error.filename), error) from error

    def _index(self, socket: Netlink, name: str) -> int:
        try:
            return socket.index(name)
        except OSError as error:
            raise self._host.failure("network:find-link", name, error) from error


def hardware_address(ip: str) -> bytes:
    """A locally administered one that follows from a private address."""
    return b"\x0a\x77" + ipaddress.IPv4Address(ip).packed


def _router_change(old: Record, new: Record) -> str:
    if old.settled:
        return rules.change(rules.ROUTER_TABLE, old.router_elements(), new.router_elements())
    return rules.empty_router_sets() + rules.change(rules.ROUTER_TABLE, frozenset(), new.router_elements())


def _port(number: int) -> str:
    return f"port{number}"


def _prefix_length(record: Record) -> int:
    return ipaddress.IPv4Network(record.shape.subnet).prefixlen

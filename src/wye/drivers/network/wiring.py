"""What is inside a slot: its namespaces, links, addresses and rules, made in batches.

The same private addresses are used in every slot, and hardware addresses follow from them: to its processes a fork
looks like its source.

A pair of links carries nothing until both ends are up and the kernel's link watch has noticed, which it does when it
gets round to it; the first packet of a service that was quicker would be lost and tried again a second later. So
what is made here is waited for.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from contextlib import ExitStack, closing

from wye.drivers.network import namespaces, netlink, rules
from wye.drivers.network.netlink import Link, Netlink, Request
from wye.drivers.network.nftables import Nftables
from wye.drivers.network.record import Record
from wye.drivers.network.settings import Settings
from wye.drivers.network.slots import Slot
from wye.errors import Unavailable
from wye.host import Host

SERVICE_LINK = "eth0"

_SERVICE = {"ip_unprivileged_port_start": "0", "ping_group_range": "0 2147483647"}
_LOOPBACK = netlink.raise_link("lo")
_LINK_WATCH_S = 5.0


class Wiring:
    """Makes and changes what is inside of slots. Call from threads in the host's namespace, one for each slot."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def build(self, slot: Slot, record: Record) -> None:
        """Makes all of it, for nobody yet: the record is not written."""
        self._host.make_directory("network:slot", slot.services)
        outside = namespaces.current()
        try:
            router = namespaces.aside(lambda: self._build_inside(slot, record, outside))
        finally:
            os.close(outside)
        with closing(router):
            self._raise_uplink(slot)
            self._wait(router, [rules.UPLINK])

    def change(self, slot: Slot, old: Record, between: Record, after: Record) -> None:
        """Takes the slot from `old` to `after`, leaving alone what `between` says is in both. If `old` is not settled,
        more may be there than it says; that goes too. The names of namespaces that `between` does not know must be
        gone."""
        gone = set(old.links.values()) | set(after.links.values())
        gone -= set(between.links.values())
        added = [endpoint for endpoint in after.shape.endpoints if endpoint[0] not in between.links]

        def inside() -> None:
            namespaces.enter(self._host, slot.router)
            with closing(Netlink()) as router:
                self._send(router, "network:remove-links", *(netlink.delete_link(_port(n)) for n in sorted(gone)))
                if text := _router_change(old, after):
                    self._rule("network:router-sets", text)
                self._add_services(slot, router, after, added)

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

    def _build_inside(self, slot: Slot, record: Record, outside: int) -> Netlink:
        """All but the host's end of the uplink. Returns a socket of the router's namespace."""
        namespaces.make(self._host, slot.router)
        sets = rules.change(rules.ROUTER_TABLE, frozenset(), record.router_elements())
        self._rule("network:router-rules", rules.router_rules() + sets)
        with ExitStack() as undo:
            router = undo.enter_context(closing(Netlink()))
            self._send(
                router,
                "network:router-links",
                _LOOPBACK,
                netlink.bridge(rules.BRIDGE, hardware_address(record.shape.gateway)),
                netlink.veth(rules.UPLINK, peer=slot.link, namespace=outside),
                *_raise_in_router(rules.BRIDGE),
                *_raise_in_router(rules.UPLINK),
            )
            bridge, uplink = (self._link(router, name).index for name in (rules.BRIDGE, rules.UPLINK))
            self._send(
                router,
                "network:router-addresses",
                netlink.address(bridge, record.shape.gateway, _prefix_length(record)),
                netlink.address(uplink, slot.address, 31),
                netlink.default_route(slot.host_address, uplink),
            )
            self._add_services(slot, router, record, record.shape.endpoints)
            undo.pop_all()
        return router

    def _add_services(self, slot: Slot, router: Netlink, record: Record, added: Sequence[tuple[str, str]]) -> None:
        """Makes a namespace for each endpoint, then all their links at once. Leaves the thread in the last one."""
        if not added:
            return
        sockets: list[Netlink] = []
        descriptors: list[int] = []
        with ExitStack() as undo:
            settings = undo.enter_context(closing(Settings(self._host)))
            for replica, _ in added:
                namespaces.make(self._host, slot.service(replica))
                settings.write("network:service-settings", _SERVICE)
                sockets.append(undo.enter_context(closing(Netlink())))
                descriptors.append(namespaces.current())
                undo.callback(os.close, descriptors[-1])
            master = self._link(router, rules.BRIDGE).index
            pairs: list[Request] = []
            for (replica, address), descriptor in zip(added, descriptors, strict=True):
                port, mac = _port(record.links[replica]), hardware_address(address)
                pairs += [
                    netlink.veth(port, peer=SERVICE_LINK, namespace=descriptor, mac=mac, master=master),
                    netlink.no_ipv6(port),
                    netlink.raise_link(port),
                ]
            self._send(router, "network:service-links", *pairs)
            for (_, address), inside in zip(added, sockets, strict=True):
                link = self._link(inside, SERVICE_LINK).index
                self._send(
                    inside,
                    "network:service-addresses",
                    _LOOPBACK,
                    netlink.no_ipv6(SERVICE_LINK),
                    netlink.address(link, address, _prefix_length(record)),
                    netlink.raise_link(SERVICE_LINK),
                    netlink.default_route(record.shape.gateway, link),
                )
        self._wait(router, [*(_port(record.links[replica]) for replica, _ in added), rules.BRIDGE])

    # ------------------------------------------------------------ outside

    def _raise_uplink(self, slot: Slot) -> None:
        """`route_localnet` lets connections from 127.0.0.1 leave by this link and their replies come back; what
        else bears such an address is dropped by the rules before routing."""
        with closing(Netlink()) as outside:
            self._send(
                outside,
                "network:raise-uplink",
                netlink.no_ipv6(slot.link),
                netlink.set_ipv4(slot.link, {netlink.ROUTE_LOCALNET: 1, netlink.ACCEPT_REDIRECTS: 0}),
                netlink.address(self._link(outside, slot.link).index, slot.host_address, 31),
                netlink.raise_link(slot.link),
            )

    def _wait(self, router: Netlink, names: Sequence[str]) -> None:
        """Until all carry packets. To ask for a link makes newer kernels look at once."""
        until = self._host.monotonic() + _LINK_WATCH_S
        for name in names:
            while not self._link(router, name).is_up:
                if self._host.monotonic() > until:
                    raise Unavailable(f"link {name} did not come up in {_LINK_WATCH_S:g} s")
                self._host.sleep(0.001)

    def _rule(self, label: str, text: str) -> None:
        """In the namespace of the calling thread."""
        with closing(Nftables()) as nftables:
            self._host.at(label)
            nftables.run(text)

    def _send(self, socket: Netlink, label: str, *requests: Request) -> None:
        if not requests:
            return
        self._host.at(label)
        try:
            socket.send(*requests)
        except OSError as error:
            raise self._host.failure(label, str(error.filename), error) from error

    def _link(self, socket: Netlink, name: str) -> Link:
        try:
            return socket.link(name)
        except OSError as error:
            raise self._host.failure("network:find-link", name, error) from error


def hardware_address(ip: str) -> bytes:
    """A locally administered one that follows from a private address."""
    return b"\x0a\x77" + ipaddress.IPv4Address(ip).packed


def _router_change(old: Record, new: Record) -> str:
    if old.settled:
        return rules.change(rules.ROUTER_TABLE, old.router_elements(), new.router_elements())
    return rules.empty_router_sets() + rules.change(rules.ROUTER_TABLE, frozenset(), new.router_elements())


def _raise_in_router(name: str) -> list[Request]:
    return [netlink.no_ipv6(name), netlink.set_ipv4(name, {netlink.FORWARDING: 1}), netlink.raise_link(name)]


def _port(number: int) -> str:
    return f"{rules.PORT}{number}"


def _prefix_length(record: Record) -> int:
    return ipaddress.IPv4Network(record.shape.subnet).prefixlen

"""What is remembered of one environment's network, and the pure decisions about it.

A record is a small file beside the network's namespaces. It is the truth: the host's rules are made from records
whenever the daemon starts, and a network without a record belongs to nobody and is swept. While a network is changed
in place its record is not `settled` and names only what is there before and after; so being killed half way leaves
strays, which the next start removes, and never a record of something missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import msgspec

from wye.drivers.network.rules import PORT, Element
from wye.interfaces import NetworkShape, Publication
from wye.model import EnvironmentId

FIRST_PORT = 10000
WILDCARD = "0.0.0.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """`uplink`: the environment's address on the host; `links`: replica -> number of its link in the router;
    `ports`: publication key -> port on the uplink. Numbers are kept for as long as the thing is there, so that a
    change of shape disturbs nothing that stays."""

    environment: EnvironmentId
    uplink: str
    shape: NetworkShape
    egress: tuple[str, ...] = ()
    publications: tuple[Publication, ...] = ()
    links: dict[str, int] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    settled: bool = True

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Record:
        """Raises ValueError."""
        return msgspec.json.decode(data, type=cls)

    def elements(self) -> frozenset[Element]:
        """What this environment has in the host's sets."""
        found: set[Element] = set()
        for publication in self.publications:
            target = f"{self.uplink} . {self.ports[publication.key]}"
            port = f"{publication.protocol} . {publication.host_port}"
            if publication.host_ip == WILDCARD:
                found.add(("inet", "wildcard_ports", port, target))
            else:
                found.add(("inet", "ports", f"{publication.host_ip} . {port}", target))
        if self.egress:
            found.add(("inet", "egress", self.uplink, ""))
        return frozenset(found)

    def router_elements(self) -> frozenset[Element]:
        """What it has in its own router's sets."""
        ports = {
            ("ip", "ports", f"{protocol} . {self.ports[key]}", f"{address} . {container}")
            for key, address, container, protocol in self.shape.ports
        }
        egress = {("ip", "egress", address, "") for replica, address in self.shape.endpoints if replica in self.egress}
        members = {
            ("bridge", "members", f'"{PORT}{self.links[replica]}" . {address}', "")
            for replica, address in self.shape.endpoints
        }
        return frozenset(ports | egress | members)

    def between(self, shape: NetworkShape, egress: tuple[str, ...]) -> Record:
        """What is there both now and once the network has the new shape."""
        endpoints = tuple(endpoint for endpoint in self.shape.endpoints if endpoint in shape.endpoints)
        kept = {replica for replica, _ in endpoints}
        ports = tuple(port for port in self.shape.ports if port in shape.ports)
        keys = {key for key, *_ in ports}
        return replace(
            self,
            shape=replace(self.shape, endpoints=endpoints, ports=ports),
            egress=tuple(replica for replica in self.egress if replica in egress and replica in kept),
            publications=tuple(publication for publication in self.publications if publication.key in keys),
            links={replica: number for replica, number in self.links.items() if replica in kept},
            ports={key: number for key, number in self.ports.items() if key in keys},
            settled=False,
        )

    def after(self, shape: NetworkShape, egress: tuple[str, ...]) -> Record:
        """The record of the new shape; what stays keeps its numbers."""
        return replace(
            self,
            shape=shape,
            egress=egress,
            links=_numbered(self.links, [replica for replica, _ in shape.endpoints], 0),
            ports=_numbered(self.ports, [key for key, *_ in shape.ports], FIRST_PORT),
            settled=True,
        )


def fresh(environment: EnvironmentId, uplink: str, shape: NetworkShape) -> Record:
    """The record of a network that has just been made: nothing published, nothing may go out."""
    nothing = NetworkShape(subnet=shape.subnet, gateway=shape.gateway, endpoints=(), ports=())
    return Record(environment=environment, uplink=uplink, shape=nothing).after(shape, ())


def _numbered(taken: dict[str, int], names: list[str], first: int) -> dict[str, int]:
    numbers = {name: taken[name] for name in names if name in taken}
    following = max([first - 1, *taken.values()]) + 1
    for name in names:
        if name not in numbers:
            numbers[name] = following
            following += 1
    return numbers

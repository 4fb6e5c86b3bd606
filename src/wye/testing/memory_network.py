"""Private networks that exist only in memory, for tests of the engine: no root, no kernel, the same contract.

Nothing is reachable. Addresses and namespace paths look like real ones and lead nowhere.
"""

from __future__ import annotations

import ipaddress
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from wye.errors import BadRequest, Conflict, NotFound
from wye.host import Host
from wye.interfaces import Attachment, NetworkShape, Publication
from wye.model import EnvironmentId

_REPLICA = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(slots=True, kw_only=True)
class MemoryAttachment:
    """One environment's network. `ports`: publication key -> port that `dial` gives."""

    number: int
    shape: NetworkShape
    egress: frozenset[str] = frozenset()
    publications: tuple[Publication, ...] = ()
    ports: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class MemoryWorld:
    """What outlives a daemon: give it to the next MemoryNetwork."""

    attached: dict[EnvironmentId, MemoryAttachment] = field(default_factory=dict)
    made: int = 0


class MemoryNetwork:
    """Keeps `wye.interfaces.Network`. `warmed` is what `warm` was last asked for, by shape."""

    def __init__(self, host: Host | None = None, world: MemoryWorld | None = None) -> None:
        self._host = host or Host()
        self.world = world or MemoryWorld()
        self.warmed: dict[NetworkShape, int] = {}
        self._lock = threading.Lock()

    def open(self) -> None:
        self._host.at("network:open")

    def close(self) -> None:
        self.warmed.clear()

    def warm(self, shape: NetworkShape, count: int) -> None:
        _check_shape(shape)
        self.warmed[shape] = count

    def attach(self, environment: EnvironmentId, shape: NetworkShape, *, egress: Mapping[str, bool]) -> Attachment:
        _check_shape(shape)
        self._host.at("network:attach")
        with self._lock:
            there = self.world.attached.get(environment)
            if there is None or (there.shape.subnet, there.shape.gateway) != (shape.subnet, shape.gateway):
                self.world.made += 1
                there = MemoryAttachment(number=self.world.made, shape=shape)
            kept = set(shape.ports) & set(there.shape.ports)
            keys = {key for key, *_ in kept}
            there.publications = tuple(p for p in there.publications if p.key in keys)
            there.ports = {key: number for key, number in there.ports.items() if key in keys}
            for key, *_ in shape.ports:
                there.ports.setdefault(key, max([9999, *there.ports.values()]) + 1)
            there.shape = shape
            there.egress = frozenset(replica for replica, _ in shape.endpoints if egress.get(replica, False))
            self.world.attached[environment] = there
            paths = {replica: f"/run/wye/memory/{there.number}/{replica}" for replica, _ in shape.endpoints}
            return Attachment(environment=environment, namespaces=paths)

    def publish(self, environment: EnvironmentId, publications: Sequence[Publication], *, cut: bool = True) -> None:
        self._host.at("network:publish")
        with self._lock:
            there = self._get(environment)
            _check_publications(publications, there.shape)
            for other, attached in self.world.attached.items():
                for publication in publications:
                    if other != environment and any(_clash(publication, taken) for taken in attached.publications):
                        place = f"port {publication.host_port}/{publication.protocol} of {publication.host_ip}"
                        raise Conflict(f"{place} is published by environment {other}", hint="choose another host port")
            there.publications = tuple(publications)

    def detach(self, environment: EnvironmentId) -> None:
        self._host.at("network:detach")
        with self._lock:
            self.world.attached.pop(environment, None)

    def environments(self) -> frozenset[EnvironmentId]:
        with self._lock:
            return frozenset(self.world.attached)

    def dial(self, environment: EnvironmentId, key: str) -> tuple[str, int]:
        with self._lock:
            there = self._get(environment)
            if key not in there.ports:
                raise NotFound(f"{environment} has no port {key}")
            return str(ipaddress.IPv4Address("100.80.0.1") + 2 * there.number), there.ports[key]

    def _get(self, environment: EnvironmentId) -> MemoryAttachment:
        if environment not in self.world.attached:
            raise NotFound(f"{environment} has no network", hint="start the environment")
        return self.world.attached[environment]


def _clash(one: Publication, other: Publication) -> bool:
    same_port = (one.protocol, one.host_port) == (other.protocol, other.host_port)
    return same_port and (one.host_ip == other.host_ip or "0.0.0.0" in (one.host_ip, other.host_ip))


def _check_shape(shape: NetworkShape) -> None:
    try:
        subnet = ipaddress.IPv4Network(shape.subnet)
        addresses = [ipaddress.IPv4Address(text) for text in (shape.gateway, *dict(shape.endpoints).values())]
    except ValueError as error:
        raise BadRequest(f"not a private network: {error}") from error
    members = dict(shape.endpoints)
    if (
        len(members) != len(shape.endpoints)
        or len(set(addresses)) != len(addresses)
        or any(address not in subnet for address in addresses)
        or not all(map(_REPLICA.fullmatch, members))
        or any(text not in members.values() for _, text, _, _ in shape.ports)
        or not all(0 < port < 65536 and protocol in ("tcp", "udp") for _, _, port, protocol in shape.ports)
    ):
        raise BadRequest("not a possible network")


def _check_publications(publications: Sequence[Publication], shape: NetworkShape) -> None:
    protocols = {key: protocol for key, _, _, protocol in shape.ports}
    for publication in publications:
        if publication.key not in protocols:
            raise NotFound(f"the environment has no port {publication.key} to publish")
        try:
            ipaddress.IPv4Address(publication.host_ip)
        except ValueError as error:
            raise BadRequest(f"port {publication.key}: {error}") from error
        if publication.protocol != protocols[publication.key] or not 0 < publication.host_port < 65536:
            raise BadRequest(f"port {publication.key} cannot be published like that")
    if len({replace(publication, key="") for publication in publications}) != len(publications):
        raise BadRequest("a host port is published twice")

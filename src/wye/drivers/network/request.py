"""What a caller may ask for. Pure. Names become parts of paths and of rules, so nothing else gets in."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from wye.errors import BadRequest, NotFound
from wye.interfaces import NetworkShape, Publication

_REPLICA = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_PROTOCOLS = ("tcp", "udp")
_MOST_PORTS = 50_000


def check_shape(shape: NetworkShape) -> None:
    """Raises BadRequest."""
    try:
        subnet = ipaddress.IPv4Network(shape.subnet)
        taken = {ipaddress.IPv4Address(shape.gateway)}
        for replica, text in shape.endpoints:
            address = ipaddress.IPv4Address(text)
            if address in taken:
                raise BadRequest(f"{address} is given to more than one of the network's members")
            taken.add(address)
            if _REPLICA.fullmatch(replica) is None:
                raise BadRequest(f"{replica!r} cannot name a member of a network")
    except ValueError as error:
        raise BadRequest(f"not a private network: {error}") from error
    unusable = {subnet.network_address, subnet.broadcast_address}
    if wrong := sorted(address for address in taken if address not in subnet or address in unusable):
        raise BadRequest(f"{wrong[0]} is no address for a member of {subnet}")
    _check_names([replica for replica, _ in shape.endpoints])
    _check_names([key for key, *_ in shape.ports])
    if len(shape.ports) > _MOST_PORTS:
        raise BadRequest(f"more than {_MOST_PORTS} published ports")
    members = {text for _, text in shape.endpoints}
    for key, text, container, protocol in shape.ports:
        if text not in members:
            raise BadRequest(f"port {key}: no member of the network has the address {text}")
        _check_port(key, container, protocol)


def check_publications(publications: Sequence[Publication], shape: NetworkShape) -> None:
    """Raises BadRequest, or NotFound for a key that the shape has not."""
    protocols = {key: protocol for key, _, _, protocol in shape.ports}
    places = set()
    for publication in publications:
        if publication.key not in protocols:
            raise NotFound(f"the environment has no port {publication.key} to publish")
        if publication.protocol != protocols[publication.key]:
            raise BadRequest(f"port {publication.key} is not {publication.protocol}")
        _check_port(publication.key, publication.host_port, publication.protocol)
        try:
            ipaddress.IPv4Address(publication.host_ip)
        except ValueError as error:
            raise BadRequest(f"port {publication.key}: {publication.host_ip!r} is not an IPv4 address") from error
        place = (publication.host_ip, publication.protocol, publication.host_port)
        if place in places:
            raise BadRequest(f"{publication.host_ip}:{publication.host_port} is published twice")
        places.add(place)


def _check_names(names: list[str]) -> None:
    if len(set(names)) != len(names):
        raise BadRequest(f"named twice in a network: {next(name for name in names if names.count(name) > 1)}")


def _check_port(key: str, number: int, protocol: str) -> None:
    if not 0 < number < 65536:
        raise BadRequest(f"port {key}: {number} is not a port number")
    if protocol not in _PROTOCOLS:
        raise BadRequest(f"port {key}: {protocol!r} cannot be published", hint="use tcp or udp")

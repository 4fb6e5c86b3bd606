"""`ports` and `expose`: every short and long form → one `Port` per published container port.

Ranges are written out. A range on the host for a single container port ("any free one of these") becomes its
first port, with a warning. What another service also wants is judged in `validate`.
"""

from __future__ import annotations

import ipaddress
import re

from wye.compose.at import At
from wye.compose.findings import Findings
from wye.compose.keys import fields
from wye.compose.nodes import Table
from wye.model import Port

LARGEST = 65535
MOST = 4096
"""Ports of one service. More are a mistake, or a hole."""

_RANGE = re.compile(r"(?P<first>[0-9]{1,6})(?:-(?P<last>[0-9]{1,6}))?")
_ANY = "0.0.0.0"
_LONG = ("target", "published", "host_ip", "protocol", "mode", "name", "app_protocol")


class PortError(ValueError):
    """What is wrong with a port, in a sentence for the user."""


def parse_range(text: str, *, low: int = 1) -> range:
    """ "80" or "8000-8010". Raises PortError."""
    match = _RANGE.fullmatch(text)
    if match is None:
        raise PortError(f'"{text}" is not a port or a range of ports')
    first = int(match["first"])
    last = int(match["last"] or first)
    if not low <= first <= LARGEST or not low <= last <= LARGEST:
        raise PortError(f'"{text}" is not within {low} and {LARGEST}')
    if last < first:
        raise PortError(f'the range "{text}" ends before it starts')
    return range(first, last + 1)


def parse_short(text: str) -> tuple[list[Port], bool]:
    """`[IP:][HOST:]CONTAINER[/PROTOCOL]` → the ports, and whether a host range was cut to its first port.

    Raises PortError."""
    body, slash, protocol = text.partition("/")
    address, host, container = _split(body)
    return pair(container, host, protocol if slash else "tcp", address)


def _split(body: str) -> tuple[str, str, str]:
    if body.startswith("["):
        address, bracket, rest = body[1:].partition("]:")
        parts = rest.split(":")
        if not bracket or len(parts) != 2:
            raise PortError(f'"{body}" is not [IPv6]:HOST:CONTAINER')
        return address, parts[0], parts[1]
    parts = body.split(":")
    if len(parts) == 1:
        return "", "", parts[0]
    if len(parts) == 2:
        if "." in parts[0]:
            raise PortError(f'"{body}" has an address but no host port: write {parts[0]}::{parts[1]} for any free one')
        return "", parts[0], parts[1]
    return ":".join(parts[:-2]), parts[-2], parts[-1]


def pair(container: str, host: str, protocol: str, address: str) -> tuple[list[Port], bool]:
    """The ports of a range: `host` and `address` may be empty. Raises PortError."""
    if protocol not in ("tcp", "udp"):
        raise PortError(f'the protocol "{protocol}" is not tcp or udp')
    if address:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise PortError(f'"{address}" is not an IP address; for this machine only, write 127.0.0.1') from None
    inside = parse_range(container)
    outside = parse_range(host, low=0) if host else None
    is_cut = outside is not None and len(inside) == 1 < len(outside)
    if outside is not None and len(outside) != len(inside) and not is_cut:
        raise PortError(f"{len(outside)} host ports for {len(inside)} container ports")
    if len(inside) > MOST:
        raise PortError(f"{len(inside)} ports are more than {MOST}")
    ports = [
        Port(
            container=number,
            protocol=protocol,
            host=(outside[n] or None) if outside is not None else None,
            host_ip=address or _ANY,
        )
        for n, number in enumerate(inside)
    ]
    return ports, is_cut


def read_ports(at: At, findings: Findings) -> tuple[Port, ...]:
    """The value of `ports`, each port once."""
    ports: dict[Port, None] = {}
    for item in at.items():
        try:
            found, is_cut = _read_port(item, findings)
        except PortError as error:
            raise item.error(str(error)) from None
        if is_cut:
            findings.warn(item, f"of the range of host ports, {found[0].host} is taken")
        ports |= dict.fromkeys(found)
        if len(ports) > MOST:
            raise at.error(f"more than {MOST} ports")
    return tuple(ports)


def _read_port(item: At, findings: Findings) -> tuple[list[Port], bool]:
    if isinstance(item.node, Table):
        long = fields(item, _LONG, findings)
        for key in ("name", "mode", "app_protocol"):
            long.string(key)
        return pair(
            long.required("target").number_text(),
            long.read("published", At.number_text) or "",
            long.string("protocol") or "tcp",
            long.string("host_ip") or "",
        )
    return parse_short(item.number_text())


def read_expose(at: At) -> tuple[int, ...]:
    """The value of `expose`: numbers, ranges and `PORT/PROTOCOL`."""
    ports: dict[int, None] = {}
    for item in at.items():
        body, slash, protocol = item.number_text().partition("/")
        if slash and protocol not in ("tcp", "udp"):
            raise item.error(f'the protocol "{protocol}" is not tcp or udp')
        try:
            ports |= dict.fromkeys(parse_range(body))
        except PortError as error:
            raise item.error(str(error)) from None
    return tuple(ports)

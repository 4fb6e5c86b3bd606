"""Links, addresses, routes and tracked connections, over netlink sockets.

Owns the few messages that private networks need (rtnetlink(7), and one of ctnetlink). A socket belongs to the
network namespace of the thread that opened it and may then be used from any thread: so a thread that has moved
into a namespace opens one and needs no way back.

Why not pyroute2: measured here with its version 0.9, importing it costs every start of the daemon 125 ms, opening a
socket 0.3 ms and adding an address 0.25 ms, each a turn of an event loop. A batch of three such requests takes
0.05 ms here, and the whole network of four services 6 ms.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

ROUTE, NETFILTER = 0, 12
FORWARDING, ACCEPT_REDIRECTS, ROUTE_LOCALNET = 1, 4, 26
"""Settings of a link, for `set_ipv4`."""

_ACK_CAPPED = (270, 10)  # SOL_NETLINK, NETLINK_CAP_ACK
_ADD_MEMBERSHIP = (270, 1)  # SOL_NETLINK, NETLINK_ADD_MEMBERSHIP
_BATCH = 64
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP, _EXCL, _CREATE, _REPLACE = 0x1, 0x4, 0x300, 0x200, 0x400, 0x100
_NEWLINK, _DELLINK, _GETLINK, _NEWADDR, _NEWROUTE, _DELROUTE = 16, 17, 18, 20, 24, 25
_DELETE_CONNECTIONS = 0x102
_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BBHiII")
_UP = 0x1
_OPERATIONAL = 6
_DOOMED = 0x77796521
"""A link group, a number that nobody chooses by chance."""

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MASTER, _IFLA_OPERSTATE, _IFLA_LINKINFO = 1, 3, 10, 16, 18
_IFLA_AF_SPEC, _IFLA_GROUP, _IFLA_NET_NS_FD, _IFLA_TX_QUEUES, _IFLA_RX_QUEUES = 26, 27, 28, 31, 32
_INET6_ADDRESS_MODE = 8
_LAST_METRIC = 0xFFFFFFFF
_UNREACHABLE, _UNICAST, _TABLE_MAIN, _PROTOCOL_BOOT, _SCOPE_UNIVERSE = 7, 1, 254, 3, 0


@dataclass(frozen=True, slots=True)
class Request:
    """One message. `ignore`: errors that mean it is as wanted already."""

    what: str
    kind: int
    flags: int
    body: bytes
    ignore: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Link:
    """`is_up`: it carries packets. A link that was told to be up does so a little later (see `Wiring`)."""

    index: int
    is_up: bool


class Netlink:
    """A socket in the calling thread's network namespace. One thread at a time may use it."""

    def __init__(self, protocol: int = ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.bind((0, 0))
        self._socket.setsockopt(*_ACK_CAPPED, 1)
        self._sequence = 0

    def send(self, *requests: Request) -> None:
        """Carries out all requests, in order, in as few system calls as their answers have room for. Raises OSError
        for the first that was refused; those after it were tried all the same."""
        refused = [self._send(requests[n : n + _BATCH]) for n in range(0, len(requests), _BATCH)]
        for error in refused:
            if error is not None:
                raise error

    def _send(self, requests: Sequence[Request]) -> OSError | None:
        first = self._sequence + 1
        self._sequence += len(requests)
        self._socket.send(b"".join(_message(request, first + offset, _ACK) for offset, request in enumerate(requests)))
        refused: OSError | None = None
        for kind, sequence, body in self._answers(len(requests)):
            if kind != _ERROR:
                continue
            number, request = _error(body), requests[sequence - first]
            if number and number not in request.ignore and refused is None:
                refused = OSError(number, os.strerror(number), request.what)
        return refused

    def link(self, name: str) -> Link:
        """Raises OSError (ENODEV)."""
        self._sequence += 1
        request = Request(f"find link {name}", _GETLINK, 0, _link() + attribute(_IFLA_IFNAME, name))
        self._socket.send(_message(request, self._sequence, _ACK))
        found = Link(0, False)
        for kind, _, body in self._answers(1):
            if kind == _NEWLINK:
                states = [value[0] for number, value in attributes(body[_LINK.size :]) if number == _IFLA_OPERSTATE]
                found = Link(_LINK.unpack_from(body)[3], states == [_OPERATIONAL])
            elif number := _error(body):
                raise OSError(number, os.strerror(number), request.what)
        return found

    def links(self) -> frozenset[str]:
        """The names of all links."""
        self._sequence += 1
        self._socket.send(_message(Request("list links", _GETLINK, _DUMP, _link()), self._sequence, 0))
        names = set()
        for kind, _, body in self._answers(1):
            if kind == _NEWLINK:
                names |= {
                    value.rstrip(b"\0").decode()
                    for number, value in attributes(body[_LINK.size :])
                    if number == _IFLA_IFNAME
                }
        return frozenset(names)

    def join(self, group: int) -> None:
        """From now on the kernel tells this socket what happens there: see `told`."""
        self._socket.setsockopt(*_ADD_MEMBERSHIP, group)
        self._socket.setblocking(False)

    def told(self) -> Iterator[tuple[int | None, bytes]]:
        """(type, body) of what has been told since the last time, without waiting. Type None: some of it is lost."""
        while True:
            try:
                data = self._socket.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                yield None, b""
                continue
            for kind, _, body in _messages(data):
                yield kind, body

    def fileno(self) -> int:
        return self._socket.fileno()

    def _answers(self, ends: int) -> Iterator[tuple[int, int, bytes]]:
        """(type, sequence, body) of what comes back, until `ends` requests have been answered to their end."""
        while ends:
            for kind, sequence, body in _messages(self._socket.recv(1 << 18)):
                ends -= kind in (_ERROR, _DONE)
                yield kind, sequence, body

    def close(self) -> None:
        self._socket.close()


# ---------------------------------------------------------------- links


def bridge(name: str, mac: bytes) -> Request:
    """A bridge that forwards at once and does not look into multicast."""
    kind = attribute(1, "bridge") + attribute(2, attribute(5, 0) + attribute(23, b"\0"))
    return _new_link(name, attribute(_IFLA_ADDRESS, mac) + attribute(_IFLA_LINKINFO, kind))


def veth(name: str, *, peer: str, namespace: int, mac: bytes = b"", master: int = 0) -> Request:
    """A pair: `name` here, `peer` in the namespace behind the descriptor. One queue each: the default is one for
    every possible CPU."""
    one_queue = attribute(_IFLA_TX_QUEUES, 1) + attribute(_IFLA_RX_QUEUES, 1)
    other = _link() + attribute(_IFLA_IFNAME, peer) + attribute(_IFLA_NET_NS_FD, namespace) + one_queue
    if mac:
        other += attribute(_IFLA_ADDRESS, mac)
    kind = attribute(1, "veth") + attribute(2, attribute(1, other))
    attributes_ = one_queue + attribute(_IFLA_LINKINFO, kind)
    if master:
        attributes_ += attribute(_IFLA_MASTER, master)
    return _new_link(name, attributes_)


def set_ipv4(name: str, settings: Mapping[int, int]) -> Request:
    """What is below /proc/sys/net/ipv4/conf/NAME, by number, without a walk there."""
    configuration = b"".join(attribute(number, value) for number, value in settings.items())
    body = _link() + attribute(_IFLA_IFNAME, name) + _nested(_IFLA_AF_SPEC, _nested(2, _nested(1, configuration)))
    return Request(f"set up link {name}", _NEWLINK, 0, body)


def no_ipv6(name: str) -> Request:
    """The link gives itself no IPv6 address, as it would do when it comes up. Kernels without IPv6 agree."""
    no_address = attribute(_INET6_ADDRESS_MODE, b"\1")
    body = _link() + attribute(_IFLA_IFNAME, name) + _nested(_IFLA_AF_SPEC, _nested(10, no_address))
    return Request(f"set link {name} without ipv6", _NEWLINK, 0, body, frozenset({errno.EAFNOSUPPORT}))


def raise_link(name: str) -> Request:
    body = _LINK.pack(0, 0, 0, 0, _UP, _UP) + attribute(_IFLA_IFNAME, name)
    return Request(f"set link {name} up", _NEWLINK, 0, body)


def doom_link(name: str) -> Request:
    """Takes it down, and marks it for `delete_doomed_links`. Nothing happens if it is not there."""
    body = _LINK.pack(0, 0, 0, 0, 0, _UP) + attribute(_IFLA_IFNAME, name) + attribute(_IFLA_GROUP, _DOOMED)
    return Request(f"set link {name} down", _NEWLINK, 0, body, frozenset({errno.ENODEV}))


def delete_doomed_links() -> Request:
    """All of them in one go, for which the kernel waits once: 20 ms, where one by one takes 20 ms each."""
    body = _link() + attribute(_IFLA_GROUP, _DOOMED)
    return Request("delete links", _DELLINK, 0, body, frozenset({errno.ENODEV}))


def delete_link(name: str) -> Request:
    """Nothing happens if it is not there."""
    body = _link() + attribute(_IFLA_IFNAME, name)
    return Request(f"delete link {name}", _DELLINK, 0, body, frozenset({errno.ENODEV}))


# ---------------------------------------------------------------- addresses and routes


def address(link: int, ip: str, prefix_length: int) -> Request:
    packed = socket.inet_aton(ip)
    body = (
        struct.pack("=BBBBI", socket.AF_INET, prefix_length, 0, 0, link) + attribute(2, packed) + attribute(1, packed)
    )
    return Request(f"add address {ip}/{prefix_length}", _NEWADDR, _CREATE | _REPLACE, body)


def default_route(gateway: str, link: int) -> Request:
    body = _route(0, _UNICAST) + attribute(5, socket.inet_aton(gateway)) + attribute(4, link)
    return Request(f"add route via {gateway}", _NEWROUTE, _CREATE | _REPLACE, body)


def unreachable(network: str, prefix_length: int, *, present: bool = True) -> Request:
    """A route that refuses what no other route takes; nothing happens if it is as wanted."""
    body = _route(prefix_length, _UNREACHABLE) + attribute(1, socket.inet_aton(network)) + attribute(6, _LAST_METRIC)
    if present:
        return Request(f"refuse {network}/{prefix_length}", _NEWROUTE, _CREATE | _REPLACE, body)
    return Request(f"forget {network}/{prefix_length}", _DELROUTE, 0, body, frozenset({errno.ESRCH}))


# ---------------------------------------------------------------- tracked connections


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Which connections, by one direction of theirs; None matches any."""

    source: str | None = None
    protocol: int | None = None
    source_port: int | None = None
    destination_port: int | None = None

    def encode(self) -> tuple[bytes, int]:
        """The tuple, and the flags that say which of its parts count."""
        flags, ip, ports = 0, b"", b""
        if self.source is not None:
            flags, ip = 1, attribute(1, socket.inet_aton(self.source))
        if self.protocol is not None:
            flags |= 8
            ports += attribute(1, bytes([self.protocol]))
        if self.source_port is not None:
            flags |= 16
            ports += attribute(2, struct.pack("!H", self.source_port))
        if self.destination_port is not None:
            flags |= 32
            ports += attribute(3, struct.pack("!H", self.destination_port))
        return _nested(1, ip) + _nested(2, ports), flags


def forget_connections(*, asked: Flow | None = None, answered: Flow | None = None) -> Request:
    """Makes connection tracking forget those whose original direction is `asked` and whose reply direction is
    `answered`: their next packet is judged afresh. Linux 5.8 or newer."""
    body, flags = struct.pack("=BBH", socket.AF_INET, 0, 0), [0, 0]
    for place, flow in enumerate((asked, answered)):
        if flow is not None:
            encoded, flags[place] = flow.encode()
            body += _nested(place + 1, encoded)
    body += _nested(25, attribute(1, flags[0]) + attribute(2, flags[1]))
    return Request("forget connections", _DELETE_CONNECTIONS, 0, body, frozenset({errno.ENOENT}))


# ---------------------------------------------------------------- encoding


def attribute(number: int, value: bytes | str | int) -> bytes:
    """One netlink attribute: an int is an unsigned 32 bit one, a str ends in a zero byte."""
    if isinstance(value, int):
        value = struct.pack("=I", value)
    elif isinstance(value, str):
        value = value.encode() + b"\0"
    return struct.pack("=HH", 4 + len(value), number) + value + bytes(-len(value) % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes in `data`: (number, value)."""
    offset = 0
    while offset + 4 <= len(data):
        length, number = struct.unpack_from("=HH", data, offset)
        yield number & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def _nested(number: int, value: bytes) -> bytes:
    return attribute(number | 0x8000, value) if value else b""


def _link() -> bytes:
    return _LINK.pack(0, 0, 0, 0, 0, 0)


def _new_link(name: str, more: bytes) -> Request:
    body = _link() + attribute(_IFLA_IFNAME, name) + more
    return Request(f"make link {name}", _NEWLINK, _CREATE | _EXCL, body)


def _error(body: bytes) -> int:
    number: int = struct.unpack_from("=i", body)[0]
    return -number


def _route(prefix_length: int, kind: int) -> bytes:
    return struct.pack(
        "=BBBBBBBBI", socket.AF_INET, prefix_length, 0, 0, _TABLE_MAIN, _PROTOCOL_BOOT, _SCOPE_UNIVERSE, kind, 0
    )


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """What the kernel sent in one go: (type, sequence, body)."""
    offset = 0
    while offset < len(data):
        length, kind, _, sequence, _ = _HEADER.unpack_from(data, offset)
        yield kind, sequence, data[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def _message(request: Request, sequence: int, flags: int) -> bytes:
    length = _HEADER.size + len(request.body)
    header = _HEADER.pack(length, request.kind, request.flags | _REQUEST | flags, sequence, 0)
    return header + request.body + bytes(-length % 4)

"""Against the kernel: what needs no privilege. The rest is in tests/host/network."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from wye.drivers.network.netlink import Flow, Netlink, attribute, attributes, raise_link


@pytest.fixture
def netlink() -> Iterator[Netlink]:
    opened = Netlink()
    yield opened
    opened.close()


def test_links_are_found_by_name(netlink: Netlink) -> None:
    assert "lo" in netlink.links()
    assert netlink.link("lo").index == socket.if_nametoindex("lo")
    with pytest.raises(OSError, match="no-such-link") as caught:
        netlink.link("no-such-link")
    assert caught.value.errno == errno.ENODEV
    assert netlink.link("lo").index, "the socket is still in step"


def test_first_refusal_of_a_batch_is_told(netlink: Netlink) -> None:
    with pytest.raises(OSError, match="set link first up"):
        netlink.send(raise_link("first"), raise_link("second"))
    assert "lo" in netlink.links()


def test_more_requests_than_the_socket_has_room_for_answers(netlink: Netlink) -> None:
    with pytest.raises(OSError, match="set link n0 up"):
        netlink.send(*(raise_link(f"n{number}") for number in range(2000)))
    assert "lo" in netlink.links()


@pytest.mark.parametrize("value", [b"", b"a", b"abcd", b"abcde"])
def test_attributes_are_padded_and_come_back(value: bytes) -> None:
    data = attribute(3, value) + attribute(4, 7) + attribute(5, "name")
    assert len(data) % 4 == 0
    assert list(attributes(data)) == [(3, value), (4, b"\7\0\0\0"), (5, b"name\0")]


def test_a_flow_matches_only_by_what_it_names() -> None:
    assert Flow(source="1.2.3.4").encode()[1] == 1
    assert Flow(protocol=17, destination_port=53).encode()[1] == 8 | 32
    assert Flow(protocol=6, source_port=10000, source="1.2.3.4").encode()[1] == 1 | 8 | 16

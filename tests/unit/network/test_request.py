from __future__ import annotations

from dataclasses import replace

import pytest

from wye.drivers.network.request import check_publications, check_shape
from wye.errors import BadRequest, NotFound
from wye.interfaces import Publication
from wye.testing.contracts.network import SHAPE


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"subnet": "10.83.0.1/24"}, "not a private network"),
        ({"subnet": "fd00::/64"}, "not a private network"),
        ({"gateway": "10.83.0.0"}, "10.83.0.0 is no address"),
        ({"gateway": "10.83.0.255"}, "10.83.0.255 is no address"),
        ({"endpoints": (("a", "10.84.0.2"),), "ports": ()}, "10.84.0.2 is no address"),
        ({"endpoints": (("a/b", "10.83.0.2"),), "ports": ()}, "'a/b' cannot name"),
        ({"endpoints": (("a\n", "10.83.0.2"),), "ports": ()}, "cannot name"),
        ({"endpoints": ((".", "10.83.0.2"),), "ports": ()}, "cannot name"),
        ({"endpoints": (("", "10.83.0.2"),), "ports": ()}, "cannot name"),
        ({"endpoints": (("a", "10.83.0.2 } ; flush ruleset"),), "ports": ()}, "not a private network"),
        ({"ports": (*SHAPE.ports, SHAPE.ports[0])}, "named twice in a network: db/5432/tcp"),
        ({"ports": (("x", "10.83.0.2", 5, "tcp }"),)}, "cannot be published"),
        ({"ports": (("x", "10.83.0.2", 65536, "tcp"),)}, "65536 is not a port"),
    ],
)
def test_impossible_shapes(change: dict[str, object], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        check_shape(replace(SHAPE, **change))  # type: ignore[arg-type]


def test_a_network_of_nobody() -> None:
    check_shape(replace(SHAPE, endpoints=(), ports=()))


@pytest.mark.parametrize("host_ip", ["", "::", "localhost", "1.2.3", "127.0.0.1 ", "127.0.0.1/8"])
def test_host_addresses(host_ip: str) -> None:
    publication = Publication(key="db/5432/tcp", host_ip=host_ip, host_port=1, protocol="tcp")
    with pytest.raises(BadRequest, match="not an IPv4 address"):
        check_publications([publication], SHAPE)


def test_unknown_port() -> None:
    with pytest.raises(NotFound, match="no port x"):
        check_publications([Publication(key="x", host_ip="0.0.0.0", host_port=1, protocol="tcp")], SHAPE)

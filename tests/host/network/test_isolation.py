"""What must not get through. Each silence has beside it the same way open for somebody else, or opened on purpose:
otherwise a broken network would pass for a safe one."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest
from tests.host.network.machine import (
    DB,
    HOST,
    METADATA,
    OUTSIDE,
    REACHED,
    SHAPE,
    SILENT,
    Machine,
    on,
)

from wye.drivers.network import LinuxNetwork
from wye.drivers.network.netlink import Netlink
from wye.model import EnvironmentId

pytestmark = pytest.mark.host

PRODUCTION, FORK = EnvironmentId("production"), EnvironmentId("fork")
EVERY_EGRESS = {"db": True, "web": True}


@pytest.fixture
def fork(network: LinuxNetwork) -> Path:
    """A service of a fork that may go out, which is all that a policy can grant."""
    return Path(network.attach(FORK, SHAPE, egress=EVERY_EGRESS).namespaces["web"])


def router(namespace: Path) -> Path:
    return namespace.parent.parent / "router"


def uplink(network: LinuxNetwork, environment: EnvironmentId) -> str:
    return network.dial(environment, "db/5432/tcp")[0]


def host_side(network: LinuxNetwork, environment: EnvironmentId) -> str:
    return (
        uplink(network, environment).rpartition(".")[0] + "." + str(int(uplink(network, environment).split(".")[3]) - 1)
    )


def test_fork_to_production(machine: Machine, network: LinuxNetwork, fork: Path) -> None:
    db = Path(network.attach(PRODUCTION, SHAPE, egress=EVERY_EGRESS).namespaces["db"])
    machine.listen(db, 5432)
    network.publish(PRODUCTION, [on(5432)])
    address, port = network.dial(PRODUCTION, "db/5432/tcp")
    assert machine.reaches(None, address, port)
    assert machine.reaches(machine.outside, HOST, 5432)
    for way in (HOST, "127.0.0.1", host_side(network, PRODUCTION), host_side(network, FORK)):
        assert machine.tries(fork, way, 5432) != REACHED, way
    assert machine.tries(fork, address, port) == SILENT
    assert machine.tries(router(fork), HOST, 5432) == SILENT
    assert machine.tries(router(fork), address, port) == SILENT


def test_fork_to_fork(machine: Machine, network: LinuxNetwork, fork: Path) -> None:
    other = EnvironmentId("other")
    server = machine.bind(Path(network.attach(other, SHAPE, egress=EVERY_EGRESS).namespaces["web"]), 53)
    network.publish(other, [on(53, key="web/53/udp")])
    address, port = network.dial(other, "web/53/udp")
    assert machine.is_answered(None, address, port, server)
    assert machine.asks(fork, address, port, server) == SILENT
    assert machine.asks(fork, HOST, 53, server) == SILENT
    machine.sh(f"ip route replace 10.83.0.0/24 via {host_side(network, FORK)}", inside=router(fork))
    assert machine.asks(router(fork), "10.83.0.3", 53, server) == SILENT


def test_fork_to_the_services_of_the_host(machine: Machine, network: LinuxNetwork, fork: Path) -> None:
    machine.listen(None, 22)
    server = machine.bind(None, 53)
    ways = (HOST, "127.0.0.1", host_side(network, FORK), "198.18.0.0")
    for way in ways:
        assert machine.reaches(None, way, 22), way
    assert machine.reaches(machine.outside, HOST, 22)
    for way in ways:
        for place in (fork, router(fork)):
            assert machine.tries(place, way, 22) != REACHED, way
            assert machine.asks(place, way, 53, server) != REACHED, way


@pytest.mark.usefixtures("unwatched")
def test_loopback_addresses_over_the_uplink(machine: Machine, network: LinuxNetwork, fork: Path) -> None:
    """The uplink may route 127/8, for connections from the host; a router that was taken over must not profit."""
    listener = machine.listen(None, 22, "127.0.0.1")
    inside = router(fork)
    machine.sh(
        "ip address delete 127.0.0.1/8 dev lo; sysctl -qw net.ipv4.conf.all.route_localnet=1;"
        f"ip route add 127.0.0.1/32 via {host_side(network, FORK)} src {uplink(network, FORK)}",
        inside=inside,
    )
    assert machine.tries(inside, "127.0.0.1", 22) == SILENT
    machine.sh("nft flush chain inet wye arriving; nft flush chain inet wye to_the_host")
    assert machine.reaches(inside, "127.0.0.1", 22), "the attack works where nobody forbids it"
    listener.close()


def test_metadata_even_with_egress(machine: Machine, network: LinuxNetwork, fork: Path) -> None:
    machine.listen(machine.outside, 80)
    assert machine.reaches(None, METADATA, 80)
    assert machine.reaches(fork, OUTSIDE, 80)
    assert machine.tries(fork, METADATA, 80) == SILENT
    assert machine.tries(router(fork), METADATA, 80) == SILENT


def test_no_egress(machine: Machine, network: LinuxNetwork) -> None:
    fork = machine.place("fork", "web", network)
    listener = machine.listen(machine.outside, 443)
    server = machine.bind(machine.outside, 53)
    assert machine.reaches(None, OUTSIDE, 443)
    for place in (fork, router(fork)):
        assert machine.tries(place, OUTSIDE, 443) == SILENT
        assert machine.asks(place, OUTSIDE, 53, server) == SILENT
    network.attach(FORK, SHAPE, egress={"web": True})
    assert machine.reaches(fork, OUTSIDE, 443)
    listener.close()


def test_ports_that_others_publish_on_the_host(machine: Machine, network: LinuxNetwork, fork: Path) -> None:
    """A container engine's, say. They are the host's own services, which egress does not include."""
    machine.listen(machine.outside, 80)
    machine.sh(
        "nft 'table ip engine { chain p { type nat hook prerouting priority dstnat;"
        f" ip daddr {HOST} tcp dport 8080 dnat to {OUTSIDE}:80; }}; }}'"
    )
    near = machine.neighbour("near", "192.0.2")
    assert machine.reaches(near, HOST, 8080)
    assert machine.reaches(fork, OUTSIDE, 80)
    assert machine.tries(fork, HOST, 8080) == SILENT


def raw_datagram(source: str, destination: str, port: int) -> bytes:
    payload = b"spoof"
    udp = struct.pack("!HHHH", 1234, port, 8 + len(payload), 0) + payload
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, socket.IPPROTO_UDP, 0) + addresses + udp


def arrives(machine: Machine, place: Path, packet: bytes, destination: str, server: socket.socket) -> bool:
    raw = machine.socket(place, socket.SOCK_RAW, proto=socket.IPPROTO_RAW)
    raw.sendto(packet, (destination, 0))
    server.settimeout(0.3)
    try:
        return server.recv(100) == b"spoof"
    except TimeoutError:
        return False


def test_spoofed_source(machine: Machine, network: LinuxNetwork, fork: Path) -> None:
    """From the router, past its masquerading: only the uplink's own address gets through the host."""
    network.attach(PRODUCTION, SHAPE, egress=EVERY_EGRESS)
    server = machine.bind(machine.outside, 53)
    machine.sh("nft delete table ip wye", inside=router(fork))
    honest = raw_datagram(uplink(network, FORK), OUTSIDE, 53)
    assert arrives(machine, router(fork), honest, OUTSIDE, server)
    for source in (uplink(network, PRODUCTION), host_side(network, FORK), HOST, "10.83.0.3", "8.8.8.8", "127.0.0.1"):
        assert not arrives(machine, router(fork), raw_datagram(source, OUTSIDE, 53), OUTSIDE, server), source


def test_spoofed_source_from_a_service(machine: Machine, network: LinuxNetwork) -> None:
    """A service without egress in the name of one that has it: the bridge knows who is behind which link."""
    names = network.attach(FORK, SHAPE, egress={"web": True}).namespaces
    server = machine.bind(machine.outside, 53)
    packet = raw_datagram("10.83.0.3", OUTSIDE, 53)
    assert arrives(machine, Path(names["web"]), packet, OUTSIDE, server)
    assert not arrives(machine, Path(names["db"]), packet, OUTSIDE, server)
    inner = machine.bind(Path(names["web"]), 9000)
    assert arrives(machine, Path(names["db"]), raw_datagram(DB, "10.83.0.3", 9000), "10.83.0.3", inner)
    assert not arrives(machine, Path(names["db"]), raw_datagram("10.83.0.77", "10.83.0.3", 9000), "10.83.0.3", inner)


@pytest.mark.usefixtures("unwatched")
def test_ipv6_on_the_uplink(machine: Machine, network: LinuxNetwork, fork: Path) -> None:
    listener = machine.socket(None, family=socket.AF_INET6)
    listener.bind(("::", 22))
    listener.listen()
    link = next(name for name in sorted(links()) if name.startswith("wye-"))
    assert machine.sh(f"ip -6 address show dev {link}").strip() == ""
    machine.sh(
        f"sysctl -qw net.ipv6.conf.{link}.disable_ipv6=0; ip link set {link} down; ip link set {link} up;"
        f"ip -6 address add fd00:77::1/64 dev {link} nodad"
    )
    inside = router(fork)
    machine.sh(
        "sysctl -qw net.ipv6.conf.uplink.disable_ipv6=0; ip -6 address add fd00:77::2/64 dev uplink nodad",
        inside=inside,
    )
    client = machine.socket(inside, family=socket.AF_INET6)
    client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.connect(("fd00:77::1", 22))
    for chain in ("arriving", "to_the_host", "from_the_host"):
        machine.sh(f"nft flush chain inet wye {chain}")
    machine.socket(inside, family=socket.AF_INET6).connect(("fd00:77::1", 22))


def links() -> frozenset[str]:
    sockets = Netlink()
    try:
        return sockets.links()
    finally:
        sockets.close()


@pytest.mark.usefixtures("unwatched")
def test_outside_cannot_pass_by_the_published_ports(machine: Machine, network: LinuxNetwork) -> None:
    """A neighbour that uses the host as its router reaches no uplink, and no port that is for 127.0.0.1 only."""
    machine.listen(machine.place("fork", "db", network), 5432)
    network.publish(FORK, [on(1000, host_ip="127.0.0.1"), on(2000)])
    address, port = network.dial(FORK, "db/5432/tcp")
    assert machine.reaches(None, address, port)
    assert machine.reaches(None, "127.0.0.1", 1000)
    assert machine.reaches(machine.outside, HOST, 2000)
    assert machine.tries(machine.outside, address, port) == SILENT
    machine.sh(
        "ip address delete 127.0.0.1/8 dev lo; sysctl -qw net.ipv4.conf.all.route_localnet=1;"
        f"ip route add 127.0.0.1/32 via {HOST} src {OUTSIDE}",
        inside=machine.outside,
    )
    assert machine.tries(machine.outside, "127.0.0.1", 1000) == SILENT
    machine.sh("nft flush chain inet wye from_outside; nft add rule inet wye from_outside jump published")
    assert machine.reaches(machine.outside, "127.0.0.1", 1000), "the attack works where nobody forbids it"


def test_the_host_does_not_become_a_router(machine: Machine, network: LinuxNetwork) -> None:
    """Between links that were there before: no. To and from one that somebody brings later: that is theirs to say."""
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"
    neighbour = machine.neighbour("near", "192.0.2")
    machine.listen(neighbour, 80)
    assert machine.reaches(machine.outside, "192.0.2.2", 80), "it came later"
    network.erase()
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1", "somebody may rely on it"
    machine.sh("sysctl -qw net.ipv4.ip_forward=0")
    again = machine.network()
    assert machine.tries(machine.outside, "192.0.2.2", 80) == SILENT
    later = machine.neighbour("later", "192.0.3")
    machine.listen(later, 80)
    assert machine.reaches(machine.outside, "192.0.3.2", 80)
    machine.sh("ip link delete later")
    again.erase()
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "0"


def test_what_is_sent_to_a_fork_that_is_gone_stays_here(machine: Machine, network: LinuxNetwork, fork: Path) -> None:
    address, port = network.dial(FORK, "db/5432/tcp")
    server = machine.bind(machine.outside, port)
    machine.sh(f"ip address add {address}/32 dev lo", inside=machine.outside)
    network.detach(FORK)
    network.environments()
    assert machine.asks(None, address, port, server) != REACHED
    machine.sh("ip route delete unreachable 198.18.0.0/22 metric 4294967295")
    assert machine.is_answered(None, address, port, server), "without the route it would leave"

"""What must get through."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest
from tests.host.network.machine import DB, HOST, OUTSIDE, REACHED, SHAPE, SILENT, WEB, Machine, on, talk

from wye.drivers.network import LinuxNetwork
from wye.model import EnvironmentId

pytestmark = pytest.mark.host

ONE, TWO = EnvironmentId("one"), EnvironmentId("two")


def test_service_to_service(machine: Machine, network: LinuxNetwork) -> None:
    names = network.attach(ONE, SHAPE, egress={}).namespaces
    db, web = Path(names["db"]), Path(names["web"])
    listener = machine.listen(db, 5432)
    client = machine.connect(web, DB, 5432)
    server, peer = listener.accept()
    assert peer[0] == WEB
    talk(client, server)
    assert machine.is_answered(web, DB, 53, machine.bind(db, 53))


def test_a_service_has_loopback_and_low_ports_and_no_ipv6_beyond(machine: Machine, network: LinuxNetwork) -> None:
    db = Path(network.attach(ONE, SHAPE, egress={}).namespaces["db"])
    machine.listen(db, 80, "127.0.0.1")
    assert machine.reaches(db, "127.0.0.1", 80)
    assert machine.sh("cat /proc/sys/net/ipv4/ip_unprivileged_port_start", inside=db).strip() == "0"
    assert machine.sh("cat /proc/sys/net/ipv4/ping_group_range", inside=db).split() == ["0", "2147483647"]
    assert machine.sh("ip -6 -o address", inside=db).split()[1:4] == ["lo", "inet6", "::1/128"]
    assert len(machine.sh("ip -6 -o address", inside=db).splitlines()) == 1
    assert "default via 10.83.0.1 dev eth0" in machine.sh("ip route", inside=db)


def test_forks_have_the_same_addresses_and_never_meet(machine: Machine, network: LinuxNetwork) -> None:
    one, two = (network.attach(environment, SHAPE, egress={}).namespaces for environment in (ONE, TWO))
    links = "ip -o link show eth0 | grep -o 'link/ether [^ ]*'"
    assert machine.sh(links, inside=Path(one["db"])) == machine.sh(links, inside=Path(two["db"]))
    listeners = [machine.listen(Path(names["db"]), 5432) for names in (one, two)]
    for names, mine, other in ((one, *listeners), (two, *reversed(listeners))):
        client = machine.connect(Path(names["web"]), DB, 5432)
        server, _ = mine.accept()
        talk(client, server)
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()
        other.setblocking(True)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", HOST])
def test_published_port_from_the_host_itself(machine: Machine, network: LinuxNetwork, address: str) -> None:
    listener = machine.listen(machine.place("one", "db", network), 5432)
    network.publish(ONE, [on(5432)])
    client = machine.connect(None, address, 5432)
    server, _ = listener.accept()
    talk(client, server)


def test_published_port_from_another_machine_keeps_its_address(machine: Machine, network: LinuxNetwork) -> None:
    listener = machine.listen(machine.place("one", "db", network), 5432)
    network.publish(ONE, [on(15432)])
    client = machine.connect(machine.outside, HOST, 15432)
    server, peer = listener.accept()
    assert peer[0] == OUTSIDE
    talk(client, server)


def test_published_udp_port(machine: Machine, network: LinuxNetwork) -> None:
    server = machine.bind(machine.place("one", "web", network), 53)
    network.publish(ONE, [on(53, key="web/53/udp")])
    for where, address in ((None, "127.0.0.1"), (None, HOST), (machine.outside, HOST)):
        assert machine.is_answered(where, address, 53, server)


def test_host_address_of_a_publication_is_honoured(machine: Machine, network: LinuxNetwork) -> None:
    machine.sh("ip address add 203.0.113.9/24 dev ext0")
    machine.listen(machine.place("one", "db", network), 5432)
    network.publish(ONE, [on(1000, host_ip="127.0.0.1"), on(2000, host_ip="203.0.113.9"), on(3000)])
    outside = {
        (address, port): machine.tries(machine.outside, address, port)
        for address in (HOST, "203.0.113.9")
        for port in (1000, 2000, 3000)
    }
    assert {place for place, outcome in outside.items() if outcome == REACHED} == {
        ("203.0.113.9", 2000),
        (HOST, 3000),
        ("203.0.113.9", 3000),
    }
    assert machine.reaches(None, "127.0.0.1", 1000)
    assert machine.tries(None, HOST, 1000) != REACHED
    assert machine.reaches(None, "203.0.113.9", 2000)


def test_the_listener_behind_a_port_sees_connections_only_while_nothing_is_published(
    machine: Machine, network: LinuxNetwork
) -> None:
    """The daemon reserves every published port, and wakes a fork by what arrives there."""
    reserve = machine.listen(None, 5432)
    listener = machine.listen(machine.place("one", "db", network), 5432)
    early = machine.connect(None, "127.0.0.1", 5432)
    kept, _ = reserve.accept()
    network.publish(ONE, [on(5432)])
    client = machine.connect(None, "127.0.0.1", 5432)
    talk(client, listener.accept()[0])
    talk(early, kept)
    network.publish(ONE, [])
    late = machine.connect(None, "127.0.0.1", 5432)
    talk(late, reserve.accept()[0])


def test_connections_go_on_through_a_port_that_is_withheld_without_a_cut(
    machine: Machine, network: LinuxNetwork
) -> None:
    reserve = machine.listen(None, 5432)
    listener = machine.listen(machine.place("one", "db", network), 5432)
    network.publish(ONE, [on(5432)])
    client = machine.connect(machine.outside, HOST, 5432)
    server, _ = listener.accept()
    network.publish(ONE, [], cut=False)
    network.environments()
    late = machine.connect(machine.outside, HOST, 5432)
    talk(late, reserve.accept()[0])
    talk(client, server)
    network.publish(ONE, [on(5432)])
    talk(client, server)


def test_udp_conversation_moves_to_the_port_when_it_is_published(machine: Machine, network: LinuxNetwork) -> None:
    reserve = machine.bind(None, 53)
    server = machine.bind(machine.place("one", "web", network), 53)
    client = machine.socket(machine.outside, socket.SOCK_DGRAM)
    client.sendto(b"early", (HOST, 53))
    assert reserve.recv(10) == b"early"
    network.publish(ONE, [on(53, key="web/53/udp")])
    network.environments()
    client.sendto(b"late", (HOST, 53))
    assert server.recv(10) == b"late"


def test_dial_leads_past_the_published_port(machine: Machine, network: LinuxNetwork) -> None:
    listener = machine.listen(machine.place("one", "db", network), 5432)
    client = machine.connect(None, *network.dial(ONE, "db/5432/tcp"))
    talk(client, listener.accept()[0])


def test_a_port_moves_from_one_environment_to_another(machine: Machine, network: LinuxNetwork) -> None:
    first, second = (machine.listen(machine.place(name, "db", network), 5432) for name in ("one", "two"))
    network.publish(ONE, [on(5432)])
    old = machine.connect(machine.outside, HOST, 5432)
    old_server, _ = first.accept()
    network.publish(ONE, [])
    network.publish(TWO, [on(5432)])
    client = machine.connect(machine.outside, HOST, 5432)
    talk(client, second.accept()[0])
    old.sendall(b"x")
    with pytest.raises(ConnectionResetError):
        old.recv(1)
    old_server.close()


def test_egress_is_per_replica(machine: Machine, network: LinuxNetwork) -> None:
    listener = machine.listen(machine.outside, 7000)
    names = network.attach(ONE, SHAPE, egress={"web": True}).namespaces
    client = machine.connect(Path(names["web"]), OUTSIDE, 7000)
    server, peer = listener.accept()
    assert peer[0] == HOST
    talk(client, server)
    assert machine.tries(Path(names["db"]), OUTSIDE, 7000) == SILENT
    assert machine.is_answered(Path(names["web"]), OUTSIDE, 53, machine.bind(machine.outside, 53))


def test_egress_comes_and_goes(machine: Machine, network: LinuxNetwork) -> None:
    listener = machine.listen(machine.outside, 7000)
    web = machine.place("one", "web", network)
    assert machine.tries(web, OUTSIDE, 7000) == SILENT
    network.attach(ONE, SHAPE, egress={"web": True, "db": True})
    client = machine.connect(web, OUTSIDE, 7000)
    server, _ = listener.accept()
    network.attach(ONE, SHAPE, egress={"db": True})
    client.sendall(b"x")
    server.settimeout(0.3)
    with pytest.raises(TimeoutError):
        server.recv(1)
    assert machine.tries(web, OUTSIDE, 7000) == SILENT


def test_in_place_change_disturbs_nobody(machine: Machine, network: LinuxNetwork) -> None:
    names = network.attach(ONE, SHAPE, egress={}).namespaces
    listener = machine.listen(Path(names["db"]), 5432)
    network.publish(ONE, [on(5432)])
    inner = machine.connect(Path(names["web"]), DB, 5432)
    inner_server, _ = listener.accept()
    outer = machine.connect(machine.outside, HOST, 5432)
    outer_server, _ = listener.accept()

    grown = replace(
        SHAPE,
        endpoints=(("cache", "10.83.0.9"), *SHAPE.endpoints),
        ports=(("cache/6379/tcp", "10.83.0.9", 6379, "tcp"), *SHAPE.ports),
    )
    added = network.attach(ONE, grown, egress={"cache": True}).namespaces
    network.publish(ONE, [on(5432), on(6379, key="cache/6379/tcp")])
    talk(inner, inner_server)
    talk(outer, outer_server)
    cache = machine.listen(Path(added["cache"]), 6379)
    for where, address in ((Path(names["web"]), "10.83.0.9"), (machine.outside, HOST)):
        client = machine.connect(where, address, 6379)
        talk(client, cache.accept()[0])

    network.attach(ONE, SHAPE, egress={})
    talk(inner, inner_server)
    talk(outer, outer_server)
    assert machine.tries(Path(names["web"]), "10.83.0.9", 6379) != REACHED
    assert machine.tries(machine.outside, HOST, 6379) != REACHED
    assert not Path(added["cache"]).exists()

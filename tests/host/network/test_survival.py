"""What is left when the daemon dies, anywhere; when an operation fails, anywhere; when the machine restarts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.host.network.machine import HOST, OUTSIDE, REACHED, SHAPE, Machine, on, talk

from wye.drivers.network import LinuxNetwork
from wye.drivers.network.netlink import Netlink
from wye.drivers.network.record import Record
from wye.errors import BadRequest, Conflict, Exhausted, Unavailable, WyeError
from wye.host import Host
from wye.model import EnvironmentId
from wye.testing.faulty_host import FaultyHost

pytestmark = pytest.mark.host

PRODUCTION, FORK = EnvironmentId("production"), EnvironmentId("fork")
GROWN = replace(
    SHAPE,
    endpoints=(("cache", "10.83.0.9"), SHAPE.endpoints[0]),
    ports=(("cache/6379/tcp", "10.83.0.9", 6379, "tcp"), SHAPE.ports[0]),
)


def opened(machine: Machine, host: Host) -> LinuxNetwork:
    network = LinuxNetwork(host, directory=machine.directory / "network", uplinks="198.18.0.0/22")
    network.open()
    return network


def life(network: LinuxNetwork) -> None:
    """Everything that a fork's network goes through."""
    network.attach(FORK, SHAPE, egress={"web": True})
    network.publish(FORK, [on(6000), on(6001, key="web/53/udp")])
    network.attach(FORK, GROWN, egress={"cache": True})
    network.publish(FORK, [on(6000), on(6379, key="cache/6379/tcp")])
    network.attach(FORK, SHAPE, egress={})
    network.detach(FORK)
    network.environments()


def points(machine: Machine) -> list[tuple[str, int]]:
    """Every point at which that can be cut short: (label, the how-manieth time)."""
    host = FaultyHost(record=True)
    network = opened(machine, host)
    life(network)
    network.close()
    seen: Counter[str] = Counter()
    found = []
    for label in host.labels:
        seen[label] += 1
        found.append((label, seen[label]))
    assert len(found) > 60
    return found


def check_nothing_else(machine: Machine, network: LinuxNetwork) -> None:
    """What is on the machine is what the records say, in every detail."""
    directory = machine.directory / "network" / "slots"
    records = {path.parent: Record.decode(path.read_bytes()) for path in directory.glob("*/record.json")}
    assert {record.environment for record in records.values()} == network.environments()
    assert set(directory.iterdir()) == set(records)
    expected = {path / "router" for path in records} | {
        path / "services" / replica for path, record in records.items() for replica in record.links
    }
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    assert sorted(mount for mount in mounts if mount.startswith(str(directory))) == sorted(map(str, expected))
    outside = Netlink()
    assert {name for name in outside.links() if name.startswith("wye-")} == {f"wye-{path.name}" for path in records}
    outside.close()
    listed = json.loads(machine.sh("nft -j list table inet wye"))["nftables"]
    found = sum(
        len(each[kind].get("elem", []))
        for each in listed
        for kind in ("set", "map")
        if kind in each and each[kind]["name"] != "guarded"
    )
    assert found == sum(len(record.elements()) for record in records.values())


class Client:
    """Connections to and from production, which must outlive everything."""

    def __init__(self, machine: Machine, network: LinuxNetwork) -> None:
        names = network.attach(PRODUCTION, SHAPE, egress={"web": True}).namespaces
        network.publish(PRODUCTION, [on(5432)])
        self.machine = machine
        self.listener = machine.listen(Path(names["db"]), 5432)
        self.client = machine.connect(machine.outside, HOST, 5432)
        self.server, _ = self.listener.accept()
        outside = machine.listen(machine.outside, 7000)
        self.outgoing = machine.connect(Path(names["web"]), OUTSIDE, 7000)
        self.incoming, _ = outside.accept()

    def check(self) -> None:
        talk(self.client, self.server)
        talk(self.outgoing, self.incoming)
        with self.machine.connect(self.machine.outside, HOST, 5432) as fresh, self.listener.accept()[0] as server:
            talk(fresh, server)


@pytest.fixture
def client(machine: Machine, network: LinuxNetwork) -> Client:
    return Client(machine, network)


def status_of_death(machine: Machine, label: str, nth: int) -> int:
    """Runs `life` in a process that is killed there; its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        try:
            life(opened(machine, FaultyHost(kill_at=label, nth=nth)))
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def check_fork_works(machine: Machine, network: LinuxNetwork) -> None:
    names = network.attach(FORK, SHAPE, egress={}).namespaces
    network.publish(FORK, [on(6000)])
    with machine.listen(Path(names["db"]), 5432) as listener:
        with machine.connect(machine.outside, HOST, 6000) as fork, listener.accept()[0] as server:
            talk(fork, server)
        with machine.connect(Path(names["web"]), "10.83.0.2", 5432) as inner, listener.accept()[0] as server:
            talk(inner, server)
    assert machine.tries(Path(names["web"]), OUTSIDE, 7000, timeout_s=0.05) != REACHED


@pytest.mark.timeout(900)
def test_kill_at_every_label(machine: Machine, network: LinuxNetwork, client: Client) -> None:
    network.close()
    for label, nth in points(machine):
        assert status_of_death(machine, label, nth) == -signal.SIGKILL, (label, nth)
        client.check()
        later = machine.network()
        try:
            check_nothing_else(machine, later)
            client.check()
            check_fork_works(machine, later)
            later.detach(FORK)
            check_nothing_else(machine, later)
        except BaseException as error:
            error.add_note(f"after dying at {label}, time {nth}")
            raise
        finally:
            later.close()


@pytest.mark.timeout(900)
def test_failure_at_every_label(machine: Machine, network: LinuxNetwork, client: Client) -> None:
    """The verb fails with an error of ours; the same daemon, asked again, does it; the next start finds no strays."""
    network.close()
    for label, nth in points(machine):
        try:
            host = FaultyHost(fail_at=label, nth=nth)
            try:
                faulty = opened(machine, host)
            except WyeError:
                faulty = opened(machine, host)
            with contextlib.suppress(WyeError):
                life(faulty)
            assert host.has_fired
            client.check()
            life(faulty)
            faulty.close()
            later = machine.network()
            check_nothing_else(machine, later)
            client.check()
            later.close()
        except BaseException as error:
            error.add_note(f"after a failure at {label}, time {nth}")
            raise


def test_a_new_daemon_finds_everything_again(machine: Machine, network: LinuxNetwork, client: Client) -> None:
    address = network.dial(PRODUCTION, "db/5432/tcp")
    del network
    later = machine.network()
    assert later.environments() == {PRODUCTION}
    assert later.dial(PRODUCTION, "db/5432/tcp") == address
    client.check()
    later.publish(PRODUCTION, [on(5432), on(5433)])
    client.check()
    later.close()


def test_killed_with_a_warm_stock(machine: Machine, network: LinuxNetwork, client: Client) -> None:
    network.close()
    child = os.fork()
    if child == 0:
        try:
            doomed = machine.network()
            doomed.warm(SHAPE, 3)
            while len(list((machine.directory / "network" / "slots").iterdir())) < 4:
                doomed.environments()
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    later = machine.network()
    check_nothing_else(machine, later)
    client.check()
    later.close()


def test_restart_of_the_machine(machine: Machine, network: LinuxNetwork) -> None:
    """Files are there, namespaces, links and rules are not."""
    network.attach(FORK, SHAPE, egress={})
    network.publish(FORK, [on(6000)])
    network.close()
    for path in (machine.directory / "network" / "slots").rglob("*"):
        machine.host.unmount("test:restart", path, lazy=True)
    machine.sh("nft delete table inet wye; ip link delete wye-0 || true")
    later = machine.network()
    assert later.environments() == frozenset()
    check_nothing_else(machine, later)
    check_fork_works(machine, later)
    later.close()


def test_a_record_that_cannot_be_read(machine: Machine, network: LinuxNetwork, client: Client) -> None:
    """While its network is up, it is not for us to take it away."""
    network.close()
    record = next((machine.directory / "network" / "slots").glob("*/record.json"))
    data = record.read_bytes()
    record.write_bytes(b"{}")
    with pytest.raises(Unavailable, match="cannot be read"):
        machine.network()
    client.check()
    record.write_bytes(data)
    later = machine.network()
    client.check()
    later.close()


@pytest.mark.parametrize(
    "options",
    [{"uplinks": "everywhere"}, {"prefix": "wye-x"}, {"prefix": "averylongprefix"}, {"table": "a table"}],
    ids=str,
)
def test_impossible_options(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        LinuxNetwork(Host(), directory=tmp_path, **options)


def test_other_uplinks_than_before(machine: Machine, network: LinuxNetwork, client: Client) -> None:
    network.close()
    other = LinuxNetwork(machine.host, directory=machine.directory / "network", uplinks="198.18.8.0/22")
    with pytest.raises(Conflict, match="production"):
        other.open()
    client.check()


def test_a_namespace_that_somebody_holds_is_cut_off_all_the_same(machine: Machine, network: LinuxNetwork) -> None:
    names = network.attach(FORK, SHAPE, egress={"web": True}).namespaces
    router, web = Path(names["web"]).parent.parent / "router", Path(names["web"])
    machine.listen(machine.outside, 7000)
    with machine.socket(router), machine.socket(web) as held:
        assert machine.reaches(web, OUTSIDE, 7000)
        network.detach(FORK)
        check_nothing_else(machine, network)
        with pytest.raises(OSError, match=r"unreachable|timed out"):
            held.connect((OUTSIDE, 7000))


def test_who_gets_the_address_next_does_not_get_the_conversation(machine: Machine, network: LinuxNetwork) -> None:
    network.close()
    small = LinuxNetwork(machine.host, directory=machine.directory / "small", uplinks="198.18.9.0/31", table="small")
    small.open()
    try:
        server = machine.bind(Path(small.attach(FORK, SHAPE, egress={}).namespaces["web"]), 53)
        small.publish(FORK, [on(6000, key="web/53/udp")])
        with pytest.raises(Exhausted, match="uplink"):
            small.attach(PRODUCTION, SHAPE, egress={})
        client = machine.socket(machine.outside, socket.SOCK_DGRAM)
        client.sendto(b"for the fork", (HOST, 6000))
        assert server.recv(100) == b"for the fork"
        small.detach(FORK)
        small.environments()
        next_one = machine.bind(Path(small.attach(PRODUCTION, SHAPE, egress={}).namespaces["web"]), 53)
        client.sendto(b"for the fork", (HOST, 6000))
        next_one.settimeout(0.3)
        with pytest.raises(TimeoutError):
            next_one.recv(100)
    finally:
        small.erase()


def test_sixty_environments_cost_each_the_same(machine: Machine, network: LinuxNetwork) -> None:
    """Noise is allowed for; growth with the number is not."""
    times: dict[str, list[float]] = {"attach": [], "publish": [], "detach": []}

    def timed(what: str, work: Callable[[], object]) -> None:
        before = time.perf_counter()
        work()
        times[what].append(time.perf_counter() - before)

    for number in range(60):
        environment = EnvironmentId(f"fork{number}")
        timed("attach", lambda environment=environment: network.attach(environment, SHAPE, egress={}))
        timed("publish", lambda e=environment, n=number: network.publish(e, [on(6000 + n)]))
    first = Path(network.attach(EnvironmentId("fork0"), SHAPE, egress={}).namespaces["db"])
    last = Path(network.attach(EnvironmentId("fork59"), SHAPE, egress={}).namespaces["db"])
    for port, place in ((6000, first), (6059, last)):
        listener = machine.listen(place, 5432)
        talk(machine.connect(machine.outside, HOST, port), listener.accept()[0])
    for number in range(60):
        timed("detach", lambda n=number: network.detach(EnvironmentId(f"fork{n}")))
    check_nothing_else(machine, network)
    for what, seconds in times.items():
        early, late = statistics.median(seconds[:20]), statistics.median(seconds[40:])
        assert late < 4 * early + 0.005, (what, early, late)

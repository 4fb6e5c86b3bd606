"""What every implementation of Network keeps, as far as it can be seen without sending a packet.

Subclass, and give the `network` fixture an opened network in a world without any, and `again` a way to get another
one, opened, in the same world, as a daemon started anew has it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from wye.errors import BadRequest, Conflict, NotFound
from wye.interfaces import Network, NetworkShape, Publication
from wye.model import EnvironmentId

ONE, TWO = EnvironmentId("environment1"), EnvironmentId("environment2")

SHAPE = NetworkShape(
    subnet="10.83.0.0/24",
    gateway="10.83.0.1",
    endpoints=(("db", "10.83.0.2"), ("web", "10.83.0.3"), ("web-2", "10.83.0.4")),
    ports=(("db/5432/tcp", "10.83.0.2", 5432, "tcp"), ("web/53/udp", "10.83.0.3", 53, "udp")),
)
GROWN = replace(
    SHAPE,
    endpoints=(("cache", "10.83.0.5"), *SHAPE.endpoints[:2]),
    ports=(("cache/6379/tcp", "10.83.0.5", 6379, "tcp"), *SHAPE.ports),
)


def on(port: int, key: str = "db/5432/tcp", host_ip: str = "127.0.0.1") -> Publication:
    return Publication(key=key, host_ip=host_ip, host_port=port, protocol=key.rpartition("/")[2])


class NetworkContract:
    @pytest.fixture
    def network(self) -> Network:
        raise NotImplementedError

    @pytest.fixture
    def again(self) -> Callable[[], Network]:
        raise NotImplementedError

    # ------------------------------------------------------------ attach, detach

    def test_a_world_without_environments(self, network: Network) -> None:
        assert network.environments() == frozenset()
        network.detach(ONE)
        network.open()

    def test_attach_gives_each_replica_a_namespace_of_its_own(self, network: Network) -> None:
        one = network.attach(ONE, SHAPE, egress={})
        two = network.attach(TWO, SHAPE, egress={"db": True, "unknown": True})
        assert one.environment == ONE
        assert set(one.namespaces) == {"db", "web", "web-2"}
        assert len({*one.namespaces.values(), *two.namespaces.values()}) == 6
        assert network.environments() == {ONE, TWO}

    def test_attach_again_gives_the_same(self, network: Network) -> None:
        first = network.attach(ONE, SHAPE, egress={})
        assert network.attach(ONE, SHAPE, egress={}) == first
        assert network.attach(ONE, SHAPE, egress={"db": True}) == first
        assert network.attach(ONE, SHAPE, egress={}) == first

    def test_another_shape_leaves_alone_what_is_in_both(self, network: Network) -> None:
        first = network.attach(ONE, SHAPE, egress={})
        network.publish(ONE, [on(41000)])
        before = network.dial(ONE, "db/5432/tcp")
        grown = network.attach(ONE, GROWN, egress={})
        assert set(grown.namespaces) == {"cache", "db", "web"}
        assert {name: grown.namespaces[name] for name in ("db", "web")} == {
            name: first.namespaces[name] for name in ("db", "web")
        }
        assert network.dial(ONE, "db/5432/tcp") == before
        assert network.dial(ONE, "cache/6379/tcp") not in (before, network.dial(ONE, "web/53/udp"))
        assert network.attach(ONE, SHAPE, egress={}) == first
        with pytest.raises(NotFound):
            network.dial(ONE, "cache/6379/tcp")

    def test_another_subnet_is_another_network(self, network: Network) -> None:
        network.attach(ONE, SHAPE, egress={})
        network.publish(ONE, [on(41000)])
        moved = NetworkShape(subnet="10.84.0.0/24", gateway="10.84.0.1", endpoints=(("db", "10.84.0.2"),), ports=())
        assert set(network.attach(ONE, moved, egress={}).namespaces) == {"db"}
        network.attach(TWO, SHAPE, egress={})
        network.publish(TWO, [on(41000)])

    def test_detach_takes_it_away(self, network: Network) -> None:
        network.attach(ONE, SHAPE, egress={})
        network.detach(ONE)
        network.detach(ONE)
        assert network.environments() == frozenset()
        with pytest.raises(NotFound):
            network.dial(ONE, "db/5432/tcp")
        network.attach(ONE, SHAPE, egress={})
        assert network.environments() == {ONE}

    @pytest.mark.parametrize(
        "shape",
        [
            replace(SHAPE, subnet="ten"),
            replace(SHAPE, gateway="10.99.0.1"),
            replace(SHAPE, endpoints=(("db", "10.83.0.1"),), ports=()),
            replace(SHAPE, endpoints=(("db", "10.83.0.2"), ("web", "10.83.0.2")), ports=()),
            replace(SHAPE, endpoints=(("db", "10.83.0.2"), ("db", "10.83.0.3")), ports=()),
            replace(SHAPE, endpoints=(("../db", "10.83.0.2"),), ports=()),
            replace(SHAPE, endpoints=(("..", "10.83.0.2"),), ports=()),
            replace(SHAPE, ports=(("db/1/tcp", "10.83.0.9", 1, "tcp"),)),
            replace(SHAPE, ports=(("db/0/tcp", "10.83.0.2", 0, "tcp"),)),
            replace(SHAPE, ports=(("db/1/sctp", "10.83.0.2", 1, "sctp"),)),
        ],
    )
    def test_an_impossible_shape_is_refused(self, network: Network, shape: NetworkShape) -> None:
        with pytest.raises(BadRequest):
            network.attach(ONE, shape, egress={})
        assert network.environments() == frozenset()

    def test_eight_threads(self, network: Network) -> None:
        start = threading.Barrier(8)

        def life(number: int) -> None:
            environment = EnvironmentId(f"thread{number}")
            start.wait()
            for _ in range(3):
                network.attach(environment, SHAPE, egress={"db": number % 2 == 0})
                network.publish(environment, [on(42000 + number)])
                network.detach(environment)
            network.attach(environment, SHAPE, egress={})

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(life, range(8)))
        assert len(network.environments()) == 8
        assert len({network.dial(environment, "db/5432/tcp") for environment in network.environments()}) == 8

    def test_eight_threads_and_one_environment(self, network: Network) -> None:
        with ThreadPoolExecutor(8) as pool:
            attachments = list(pool.map(lambda _: network.attach(ONE, SHAPE, egress={}), range(8)))
        assert all(attachment == attachments[0] for attachment in attachments)

    # ------------------------------------------------------------ publish, dial

    def test_publish_needs_a_network_and_a_port_of_its_shape(self, network: Network) -> None:
        with pytest.raises(NotFound):
            network.publish(ONE, [on(41000)])
        network.attach(ONE, SHAPE, egress={})
        with pytest.raises(NotFound, match="web/80/tcp"):
            network.publish(ONE, [on(41000, "web/80/tcp")])
        with pytest.raises(NotFound):
            network.dial(ONE, "web/80/tcp")

    @pytest.mark.parametrize(
        "publication",
        [
            on(0),
            on(65536),
            on(41000, host_ip="::1"),
            on(41000, host_ip="localhost"),
            replace(on(41000), protocol="udp"),
        ],
    )
    def test_an_impossible_publication_is_refused(self, network: Network, publication: Publication) -> None:
        network.attach(ONE, SHAPE, egress={})
        with pytest.raises(BadRequest):
            network.publish(ONE, [publication])

    def test_a_host_port_is_published_once(self, network: Network) -> None:
        for environment in (ONE, TWO):
            network.attach(environment, SHAPE, egress={})
        network.publish(ONE, [on(41000)])
        network.publish(TWO, [on(41002)])
        with pytest.raises(Conflict, match="41000"):
            network.publish(TWO, [on(41003), on(41000)])
        with pytest.raises(Conflict, match="41000"):
            network.publish(TWO, [on(41000, host_ip="0.0.0.0")])
        network.publish(TWO, [on(41000, host_ip="127.0.0.2"), on(41000, "web/53/udp")])
        with pytest.raises(BadRequest):
            network.publish(TWO, [on(41004), on(41004)])
        network.publish(ONE, [on(41002)])

    def test_publish_makes_exactly_these(self, network: Network) -> None:
        for environment in (ONE, TWO):
            network.attach(environment, SHAPE, egress={})
        network.publish(ONE, [on(41000), on(41001)])
        network.publish(ONE, [on(41001)])
        network.publish(ONE, [on(41001)])
        network.publish(TWO, [on(41000)])
        network.publish(ONE, [])
        network.publish(TWO, [on(41000), on(41001)])
        network.detach(TWO)
        network.publish(ONE, [on(41000, host_ip="0.0.0.0")])

    def test_a_port_that_left_the_shape_is_free(self, network: Network) -> None:
        network.attach(ONE, GROWN, egress={})
        network.publish(ONE, [on(41000, "cache/6379/tcp"), on(41001)])
        network.attach(ONE, SHAPE, egress={})
        network.attach(TWO, SHAPE, egress={})
        network.publish(TWO, [on(41000)])
        with pytest.raises(Conflict):
            network.publish(TWO, [on(41001)])

    # ------------------------------------------------------------ warm, close, again

    def test_warm_networks_belong_to_nobody(self, network: Network, again: Callable[[], Network]) -> None:
        network.warm(SHAPE, 2)
        for number in range(3):
            network.attach(EnvironmentId(f"warm{number}"), SHAPE, egress={"web": True})
        assert len(network.environments()) == 3
        network.warm(SHAPE, 1)
        network.warm(SHAPE, 0)
        network.close()
        assert len(again().environments()) == 3

    def test_environments_outlive_the_daemon(self, network: Network, again: Callable[[], Network]) -> None:
        first = network.attach(ONE, SHAPE, egress={})
        network.publish(ONE, [on(41000)])
        address = network.dial(ONE, "db/5432/tcp")
        network.attach(TWO, SHAPE, egress={})
        network.detach(TWO)
        network.close()
        later = again()
        assert later.environments() == {ONE}
        assert later.dial(ONE, "db/5432/tcp") == address
        assert later.attach(ONE, SHAPE, egress={}) == first
        later.attach(TWO, SHAPE, egress={})
        with pytest.raises(Conflict):
            later.publish(TWO, [on(41000)])
        assert later.dial(TWO, "db/5432/tcp") != address

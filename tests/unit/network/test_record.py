from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wye.drivers.network.record import FIRST_PORT, Record, fresh
from wye.interfaces import NetworkShape, Publication
from wye.model import EnvironmentId

ONE = EnvironmentId("one")
UPLINK = "100.80.0.1"


@st.composite
def shapes(draw: st.DrawFn) -> NetworkShape:
    names = draw(st.lists(st.sampled_from("abcdef"), unique=True))
    endpoints = tuple((name, f"10.0.0.{10 + ord(name)}") for name in names)
    ports = [(f"{name}/80/tcp", address, draw(st.sampled_from([80, 81])), "tcp") for name, address in endpoints]
    return NetworkShape(subnet="10.0.0.0/24", gateway="10.0.0.1", endpoints=endpoints, ports=tuple(ports))


def published(record: Record) -> Record:
    publications = tuple(
        Publication(key=key, host_ip="0.0.0.0", host_port=1000 + number, protocol=protocol)
        for number, (key, _, _, protocol) in enumerate(record.shape.ports)
    )
    return replace(record, publications=publications)


@given(shapes(), shapes(), st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef")))
def test_change_in_place(first: NetworkShape, second: NetworkShape, before: set[str], after: set[str]) -> None:
    old = replace(published(fresh(ONE, UPLINK, first)), egress=tuple(sorted(before & set(dict(first.endpoints)))))
    allowed = tuple(sorted(after & set(dict(second.endpoints))))
    between = old.between(second, allowed)
    new = between.after(second, allowed)

    assert not between.settled
    assert new.settled
    assert (new.shape, new.egress) == (second, allowed)
    assert between.elements() <= old.elements(), "nothing is granted half way"
    assert between.router_elements() <= old.router_elements() & new.router_elements()
    for replica in dict(first.endpoints).keys() & dict(second.endpoints).keys():
        assert new.links[replica] == old.links[replica], "what stays keeps its link"
    for key in {port[0] for port in first.ports if port in second.ports}:
        assert new.ports[key] == old.ports[key], "what stays keeps its port"
    assert len(set(new.links.values())) == len(second.endpoints)
    assert len(set(new.ports.values())) == len(second.ports)
    assert all(number >= FIRST_PORT for number in new.ports.values())


@given(shapes())
def test_record_comes_back_from_its_bytes(shape: NetworkShape) -> None:
    record = published(fresh(ONE, UPLINK, shape))
    assert Record.decode(record.encode()) == record


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"environment": 1}'])
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Record.decode(data)


def test_fresh_network_grants_nothing() -> None:
    shape = NetworkShape(
        subnet="10.0.0.0/24",
        gateway="10.0.0.1",
        endpoints=(("db", "10.0.0.2"),),
        ports=(("db/5432/tcp", "10.0.0.2", 5432, "tcp"),),
    )
    record = fresh(ONE, UPLINK, shape)
    assert record.elements() == frozenset()
    assert record.router_elements() == {
        ("ip", "ports", "tcp . 10000", "10.0.0.2 . 5432"),
        ("bridge", "members", '"port0" . 10.0.0.2', ""),
    }


def test_elements_of_publications() -> None:
    shape = NetworkShape(
        subnet="10.0.0.0/24",
        gateway="10.0.0.1",
        endpoints=(("db", "10.0.0.2"),),
        ports=(("db/5432/tcp", "10.0.0.2", 5432, "tcp"), ("db/53/udp", "10.0.0.2", 53, "udp")),
    )
    record = replace(
        fresh(ONE, UPLINK, shape),
        egress=("db",),
        publications=(
            Publication(key="db/5432/tcp", host_ip="127.0.0.1", host_port=15432, protocol="tcp"),
            Publication(key="db/53/udp", host_ip="0.0.0.0", host_port=53, protocol="udp"),
        ),
    )
    assert record.elements() == {
        ("inet", "ports", "127.0.0.1 . tcp . 15432", "100.80.0.1 . 10000"),
        ("inet", "wildcard_ports", "udp . 53", "100.80.0.1 . 10001"),
        ("inet", "egress", "100.80.0.1", ""),
    }

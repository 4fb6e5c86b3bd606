"""Somebody else takes our rules away while the driver runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.host.network.machine import DB, REACHED, SHAPE, SILENT, Machine, on

from wye.drivers.network import LinuxNetwork
from wye.model import EnvironmentId

pytestmark = pytest.mark.host

FORK = EnvironmentId("f00000000001")
_TAMPERING = {
    "everybody's": "nft flush ruleset",
    "the table": "nft delete table inet wye",
    "a chain's rules": "nft flush chain inet wye to_the_host",
    "one rule": "nft delete rule inet wye leaving handle"
    " $(nft -a list chain inet wye leaving | sed -n 's/.*drop # handle //p' | head -1)",
    "a policy's worth": "nft add chain inet wye through_the_host '{ policy drop; }'",
    "its effect": "nft add table inet wye '{ flags dormant; }'",
}


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def rules(machine: Machine) -> str:
    return machine.sh("nft -s list table inet wye || true")


@pytest.fixture
def fork(network: LinuxNetwork) -> Path:
    place = Path(network.attach(FORK, SHAPE, egress={}).namespaces["db"])
    network.publish(FORK, [on(6000)])
    return place


@pytest.mark.parametrize("script", _TAMPERING.values(), ids=_TAMPERING.keys())
def test_what_was_taken_away_is_back(machine: Machine, network: LinuxNetwork, fork: Path, script: str) -> None:
    service, secret = machine.listen(fork, 5432, DB), machine.listen(None, 7000)
    before = rules(machine)
    machine.sh(script)
    until(lambda: rules(machine) == before, "the table is not what it was")
    assert machine.tries(fork, "203.0.113.1", 7000) == SILENT, "the host's own service"
    assert machine.tries(machine.outside, "203.0.113.1", 6000) == REACHED, "the published port"
    assert network.environments() == {FORK}
    service.close()
    secret.close()


def test_it_comes_back_time_and_again(machine: Machine, network: LinuxNetwork, fork: Path) -> None:
    before = rules(machine)
    for _ in range(20):
        machine.sh("nft flush ruleset")
    until(lambda: rules(machine) == before, "the table is not what it was")


def test_what_others_do_in_their_tables_is_their_affair(machine: Machine, network: LinuxNetwork, fork: Path) -> None:
    before = machine.sh("nft -a list table inet wye")
    machine.sh(
        "nft 'table inet other { chain gate { type filter hook input priority 0; }; }'; nft delete table inet other"
    )
    network.publish(FORK, [on(6000), on(6001)])
    network.publish(FORK, [on(6000)])
    time.sleep(0.2)
    assert machine.sh("nft -a list table inet wye") == before, "loaded anew without need"


def test_nothing_comes_back_after_the_end(machine: Machine) -> None:
    network = machine.network()
    network.attach(FORK, SHAPE, egress={})
    network.erase()
    time.sleep(0.2)
    assert rules(machine) == ""

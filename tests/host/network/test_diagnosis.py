"""What doctor says of a network: of a sound one, and of everything that may stand in its way."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from tests.host.network.machine import SHAPE, UPLINKS, Machine

from wye.drivers.network import LinuxNetwork, diagnosis
from wye.drivers.network.rules import HostRules
from wye.interfaces import Finding
from wye.model import EnvironmentId

pytestmark = pytest.mark.host


def problems(network: LinuxNetwork) -> list[Finding]:
    return [finding for finding in network.diagnose() if finding.level != "ok"]


def test_nothing_is_wrong_and_nothing_is_changed(machine: Machine, network: LinuxNetwork) -> None:
    network.attach(EnvironmentId("a00000000001"), SHAPE, egress={})
    before = machine.sh("nft list ruleset")
    found = {finding.subject: (finding.level, finding.text) for finding in network.diagnose()}
    assert found == {
        "firewall": ("ok", "nftables with NAT, fib and bridges"),
        "packet forwarding": ("ok", "on"),
        "uplinks": ("ok", "1 of 512 networks are in use"),
    }
    assert machine.sh("nft list ruleset") == before


@pytest.mark.parametrize("family", ["ip", "inet"])
def test_a_forward_policy_of_somebody_else(machine: Machine, network: LinuxNetwork, family: str) -> None:
    machine.sh(f"nft 'table {family} other {{ chain gate {{ type filter hook forward priority 0; policy drop; }}; }}'")
    (found,) = problems(network)
    assert (found.subject, found.level) == ("forwarding elsewhere", "warning")
    assert f"table {family} other" in found.text
    for command in found.fix.split("; "):
        machine.sh(command)
    assert problems(network) == []


def test_the_table_is_gone(machine: Machine, network: LinuxNetwork) -> None:
    """Nobody sees to it that it comes back: another's table, which was never there."""
    rules = HostRules(table="other", prefix="other-", uplinks=UPLINKS, guarded=frozenset())
    (found, *_) = diagnosis.findings(
        machine.host, rules, forwards=True, uplinks=IPv4Network(UPLINKS), taken=0, routes="header"
    )
    assert (found.subject, found.level) == ("firewall", "failure")
    assert "restart the daemon" in found.fix
    assert problems(network) == []


def test_policies_that_do_not_concern_forwarding(machine: Machine, network: LinuxNetwork) -> None:
    machine.sh("nft 'table ip one { chain in { type filter hook input priority 0; policy drop; }; }'")
    machine.sh("nft 'table ip6 two { chain gate { type filter hook forward priority 0; policy drop; }; }'")
    machine.sh("nft 'table ip three { chain gate { type filter hook forward priority 0; policy accept; }; }'")
    assert problems(network) == []


def test_forwarding_was_turned_off(machine: Machine, network: LinuxNetwork) -> None:
    machine.sh("sysctl -q -w net.ipv4.ip_forward=0")
    (found,) = problems(network)
    assert (found.subject, found.level) == ("packet forwarding", "failure")
    machine.sh(found.fix.partition(",")[0])
    assert problems(network) == []


def test_somebody_uses_our_range(machine: Machine, network: LinuxNetwork) -> None:
    machine.sh("ip route add 198.18.2.0/24 via 203.0.113.2")
    (found,) = problems(network)
    assert found.level == "warning"
    assert "198.18.2.0/24" in found.text
    assert "ext0" in found.text

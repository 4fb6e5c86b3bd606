from __future__ import annotations

from typing import Any

from wye.drivers.network.diagnosis import dropping


def chain(**more: Any) -> dict[str, Any]:
    shape = {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}
    return {**shape, **more}


def test_what_a_container_engine_leaves_behind() -> None:
    regular = {"family": "ip", "table": "filter", "name": "DOCKER"}
    (found,) = dropping([chain(), chain(name="INPUT", hook="input"), regular], "wye", "wye-")
    assert found.fix == "iptables -I FORWARD -i wye-+ -j ACCEPT; iptables -I FORWARD -o wye-+ -j ACCEPT"


def test_whose_chain_it_is() -> None:
    assert not [*dropping([chain(family="inet", table="wye")], "wye", "wye-")]
    assert not [*dropping([chain()], "wye", "wye-", {"ip filter"})]
    (legacy,) = dropping([chain(legacy=True)], "wye", "wye-")
    assert legacy.fix.startswith("iptables-legacy -I")
    (other,) = dropping([chain(family="inet", table="ufw", name="f")], "wye", "wye-")
    assert other.fix.startswith("nft insert rule inet ufw f iifname 'wye-*' accept;")

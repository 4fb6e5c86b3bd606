from __future__ import annotations

from wye.drivers.network.rules import HostRules, change, router_rules

A = ("inet", "ports", "127.0.0.1 . tcp . 1", "100.80.0.1 . 10000")
B = ("inet", "ports", "127.0.0.1 . tcp . 1", "100.80.0.3 . 10000")
C = ("inet", "egress", "100.80.0.1", "")

RULES = HostRules(table="t", prefix="t-", uplinks="100.80.0.0/12", guarded=frozenset({"eth0", "eth1"}))


def test_change_is_the_difference_and_takes_before_it_gives() -> None:
    assert change("t", frozenset({A, C}), frozenset({B, C})).splitlines() == [
        "delete element inet t ports { 127.0.0.1 . tcp . 1 }",
        "add element inet t ports { 127.0.0.1 . tcp . 1 : 100.80.0.3 . 10000 }",
    ]
    assert change("t", frozenset({A}), frozenset({A})) == ""


def test_load_replaces_the_whole_table_in_one_text() -> None:
    text = RULES.load([A, C])
    assert text.startswith("table inet t\ndelete table inet t\ntable inet t {")
    assert text.index("add element") > text.index("chain answers")
    assert 'elements = { "eth0", "eth1" }' in text


def test_the_host_drops_nothing_by_default() -> None:
    """Other users of the machine keep their own policies."""
    assert "policy drop" not in RULES.load([])


def test_routers_drop_by_default() -> None:
    assert router_rules().count("policy drop") == 3

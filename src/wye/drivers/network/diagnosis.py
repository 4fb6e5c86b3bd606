"""What of this machine's network stands in the way of environments', in words, for `wye doctor`.

The firewall is asked whether it would take our rules, and takes none of them. Everybody's tables are passed by every
packet, so a forward chain elsewhere that drops what it does not know (Docker's, ufw's) stops published ports and egress
whatever our own table says; nothing of ours may change that, so it is told.
"""

from __future__ import annotations

import ipaddress
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from wye.drivers.network.nftables import Nftables, RulesRefused
from wye.drivers.network.rules import HostRules, router_rules
from wye.errors import Unavailable, Unsupported
from wye.host import Host
from wye.interfaces import Finding

_PROBE_TABLE = "wyeprobe"
_FEW_NETWORKS = 16


def findings(
    host: Host, rules: HostRules, *, forwards: bool, uplinks: ipaddress.IPv4Network, taken: int, routes: str
) -> list[Finding]:
    """`taken`: how many networks there are; `routes`: what /proc/self/net/route says. Changes nothing."""
    return [*_firewall(host, rules), _forwarding(forwards), _range(uplinks, taken, routes, rules.prefix)]


def _firewall(host: Host, rules: HostRules) -> list[Finding]:
    try:
        nftables = Nftables()
    except (Unsupported, Unavailable) as error:
        return [Finding(subject="firewall", level="failure", text=error.message, fix=error.hint or "")]
    try:
        host.at("network:diagnose")
        probe = replace(rules, table=_PROBE_TABLE)
        nftables.check(probe.load(()) + router_rules())
        ruleset = [*nftables.listed("chains"), *_legacy(host)]
        passing = {name for name in _tables(ruleset) if rules.prefix in json.dumps(nftables.listed(f"table {name}"))}
    except RulesRefused as error:
        fix = "use a kernel with nftables' NAT, fib and bridge parts: modprobe nft_chain_nat nft_fib_inet nf_tables"
        return [Finding(subject="firewall", level="failure", text=error.message, fix=fix)]
    finally:
        nftables.close()
    if not any(chain["table"] == rules.table for chain in ruleset):
        text = f"the table inet {rules.table} is gone: no published ports, and nothing keeps forks from others"
        fix = "restart the daemon, which makes it again; 'nft flush ruleset' and nftables.service remove it"
        return [Finding(subject="firewall", level="failure", text=text, fix=fix)]
    well = Finding(subject="firewall", level="ok", text="nftables with NAT, fib and bridges")
    return [well, *dropping(ruleset, rules.table, rules.prefix, passing)]


def _tables(chains: Iterable[Mapping[str, Any]]) -> set[str]:
    return {_table_of(chain) for chain in chains if _drops(chain) and not chain.get("legacy")}


def dropping(
    chains: Iterable[Mapping[str, Any]], own: str, prefix: str, passing: Iterable[str] = ()
) -> Iterable[Finding]:
    """A finding for each forward chain that drops what it does not know. `chains` as nft's JSON has them; `passing`:
    tables ("ip filter") that have a rule about our links, and so are taken to let them pass. Pure."""
    for chain in chains:
        table = _table_of(chain)
        if not _drops(chain) or chain["table"] == own or table in passing:
            continue
        text = f"the forward chain of table {table} drops what it does not know: no egress, no published ports"
        if table == "ip filter":
            program = "iptables-legacy" if chain.get("legacy") else "iptables"
            rules = [f"{program} -I {chain['name']} -{side} {prefix}+ -j ACCEPT" for side in "io"]
        else:
            where = f"{table} {chain['name']}"
            rules = [f"nft insert rule {where} {side}ifname '{prefix}*' accept" for side in "io"]
        yield Finding(subject="forwarding elsewhere", level="warning", text=text, fix="; ".join(rules))


def _drops(chain: Mapping[str, Any]) -> bool:
    forwards = chain.get("hook") == "forward" and chain.get("policy") == "drop"
    return forwards and chain["family"] in ("ip", "inet")


def _table_of(chain: Mapping[str, Any]) -> str:
    return f"{chain['family']} {chain['table']}"


def _legacy(host: Host) -> list[dict[str, Any]]:
    """The forward chain of the kernel's older firewall, which nftables does not list."""
    if shutil.which("iptables-legacy") is None:
        return []
    done = host.run("network:diagnose", ("iptables-legacy", "-S", "FORWARD"), check=False)
    lines = done.text.splitlines()
    if "-P FORWARD DROP" not in lines or any("wye" in line for line in lines):
        return []
    shape = {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}
    return [{**shape, "legacy": True}]


def _forwarding(forwards: bool) -> Finding:
    if forwards:
        return Finding(subject="packet forwarding", level="ok", text="on")
    fix = "sysctl -w net.ipv4.ip_forward=1, and see who turns it off (/etc/sysctl.d)"
    return Finding(subject="packet forwarding", level="failure", text="off: nothing enters or leaves", fix=fix)


def _range(uplinks: ipaddress.IPv4Network, taken: int, routes: str, prefix: str) -> Finding:
    subject, most = "uplinks", uplinks.num_addresses // 2
    for link, network in _routes(routes):
        if network.prefixlen and network.overlaps(uplinks) and not link.startswith(prefix):
            text = f"{uplinks} overlaps {network}, which this machine reaches through {link}"
            return Finding(subject=subject, level="warning", text=text, fix="set `uplinks` to a range nobody uses")
    told = f"{taken} of {most} networks are in use"
    if most - taken < _FEW_NETWORKS:
        return Finding(
            subject=subject, level="warning", text=told, fix="set `uplinks` to a wider range, or discard forks"
        )
    return Finding(subject=subject, level="ok", text=told)


def _routes(text: str) -> Iterable[tuple[str, ipaddress.IPv4Network]]:
    """(link, network) of each line of /proc/net/route, whose numbers are in this machine's byte order: little-endian
    wherever wye runs."""
    for line in text.splitlines()[1:]:
        fields = line.split()
        address, mask = (int.from_bytes(bytes.fromhex(fields[n]), "little") for n in (1, 7))
        if fields[0] != "*":
            yield fields[0], ipaddress.IPv4Network((address, mask.bit_count()))

"""What may pass, as nftables text. Pure: values in, text out.

The host's table says who may enter or leave an environment; it grows by set elements alone, so that one more
environment costs the same with ten others as with a thousand. An environment's own tables, in its router namespace,
say which service a published port means, which services may go out, and which address belongs to which link of the
bridge; they depend only on the shape.

Everything is denied that is not named here, and only on our own links: other tables and their policies stay as they
are. Going out is no way to the host's own addresses either, so what somebody else's rules (a container engine's) would
send on from there is dropped. Anti-spoofing is `fib`: a packet from an uplink must bear the one address that is routed
to that uplink.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from string import Template

ROUTER_TABLE = "wye"
BRIDGE = "bridge"
UPLINK = "uplink"
PORT = "port"
"""How the bridge's links to services are named, with a number."""

NEVER = "127.0.0.0/8, 169.254.0.0/16, 100.100.100.200, 192.0.0.192, 224.0.0.0/4, 255.255.255.255"
"""Loopback, link-local with the metadata services of clouds (and the two that live elsewhere), multicast, broadcast."""

Element = tuple[str, str, str, str]
"""Family of the table, set or map, key, value (empty in a set)."""


_HOST_TABLE = Template("""\
table inet $table {
  map ports { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
  map wildcard_ports { type inet_proto . inet_service : ipv4_addr . inet_service; }
  set egress { type ipv4_addr; }
  set guarded { type ifname; $elements }

  chain arriving {
    type filter hook prerouting priority raw; policy accept;
    iifname != $ours accept
    meta nfproto != ipv4 drop
    ip daddr { $never } drop
    fib saddr . iif oif missing drop
  }
  chain published {
    meta l4proto { tcp, udp } dnat ip to ip daddr . meta l4proto . th dport map @ports
    meta nfproto != ipv4 return
    fib daddr type local meta l4proto { tcp, udp } dnat ip to meta l4proto . th dport map @wildcard_ports
  }
  chain from_outside {
    type nat hook prerouting priority dstnat; policy accept;
    iifname $ours accept
    ip daddr 127.0.0.0/8 accept
    jump published
  }
  chain from_here {
    type nat hook output priority -100; policy accept;
    jump published
  }
  chain sources {
    type nat hook postrouting priority srcnat; policy accept;
    oifname $ours ip saddr 127.0.0.0/8 masquerade
    oifname != $ours ip saddr $uplinks masquerade
  }
  chain to_the_host {
    type filter hook input priority filter; policy accept;
    iifname $ours goto answers
  }
  chain from_the_host {
    type filter hook output priority filter; policy accept;
    oifname $ours meta nfproto != ipv4 drop
  }
  chain through_the_host {
    type filter hook forward priority filter; policy accept;
    iifname $ours goto leaving
    oifname $ours goto entering
    iifname @guarded oifname @guarded drop
  }
  chain leaving {
    oifname $ours drop
    ct direction original ct status dnat drop
    ip saddr @egress accept
    goto answers
  }
  chain entering {
    ct status dnat accept
    goto answers
  }
  chain answers {
    ct direction reply ct state established accept
    ct state related accept
    drop
  }
}
""")

_ROUTER_TABLES = Template("""\
table ip $table {
  map ports { type inet_proto . inet_service : ipv4_addr . inet_service; }
  set egress { type ipv4_addr; }
  chain published {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "$uplink" meta l4proto { tcp, udp } dnat ip to meta l4proto . th dport map @ports
  }
  chain sources {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "$uplink" masquerade
  }
  chain through {
    type filter hook forward priority filter; policy drop;
    iifname "$bridge" oifname "$bridge" accept
    ct state invalid drop
    ct direction reply ct state established accept
    ct state related accept
    iifname "$uplink" oifname "$bridge" ct status dnat accept
    iifname "$bridge" oifname "$uplink" ip saddr @egress accept
  }
  chain to_the_router {
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    iifname "$bridge" icmp type echo-request accept
  }
}
table bridge $table {
  set members { type ifname . ipv4_addr; }
  chain arriving {
    type filter hook prerouting priority -300; policy drop;
    ether type ip iifname . ip saddr @members accept
    ether type arp iifname . arp saddr ip @members accept
  }
}
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRules:
    """The host's table, whole. `uplinks`: the range of their addresses; `prefix`: how their links' names begin;
    `guarded`: links between which the host did not forward before wye turned forwarding on."""

    table: str
    prefix: str
    uplinks: str
    guarded: frozenset[str]

    def load(self, elements: Iterable[Element]) -> str:
        """Replaces the table in one transaction; connections that are tracked go on."""
        return (
            f"table inet {self.table}\ndelete table inet {self.table}\n"
            + self._text()
            + self.change(frozenset(), frozenset(elements))
        )

    def remove(self) -> str:
        return f"table inet {self.table}\ndelete table inet {self.table}\n"

    def change(self, old: frozenset[Element], new: frozenset[Element]) -> str:
        return change(self.table, old, new)

    def _text(self) -> str:
        guarded = ", ".join(f'"{name}"' for name in sorted(self.guarded))
        return _HOST_TABLE.substitute(
            table=self.table,
            ours=f'"{self.prefix}*"',
            elements=f"elements = {{ {guarded} }}" if guarded else "",
            never=NEVER,
            uplinks=self.uplinks,
        )


def router_rules() -> str:
    """An environment's own tables, for a namespace that has none."""
    return _ROUTER_TABLES.substitute(table=ROUTER_TABLE, uplink=UPLINK, bridge=BRIDGE)


def change(table: str, old: frozenset[Element], new: frozenset[Element]) -> str:
    """Takes the elements of a table's sets from `old` to `new`; empty if nothing changes. Exactly the difference:
    emptying a set, or replacing its table, would make the kernel wait 10 to 15 ms."""
    gone = [f"delete element {family} {table} {name} {{ {key} }}\n" for family, name, key, _ in sorted(old - new)]
    added = [
        f"add element {family} {table} {name} {{ {key}{' : ' if value else ''}{value} }}\n"
        for family, name, key, value in sorted(new - old)
    ]
    return "".join(gone + added)


def empty_router_sets() -> str:
    """For a router of which nobody knows what its sets hold."""
    table = ROUTER_TABLE
    return f"flush map ip {table} ports\nflush set ip {table} egress\nflush set bridge {table} members\n"

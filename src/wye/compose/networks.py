"""Networks, names and addresses: all services of an environment share its one private network.

So a file's networks only decide what names a service has besides its own and whether it may reach beyond the
environment: it may not if all its networks are `internal`. What cannot be kept (subnets, fixed addresses,
separation between networks) is said in a warning.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass

from wye.compose.at import At
from wye.compose.findings import Findings
from wye.compose.keys import fields, suggest
from wye.compose.mounts import check_options, is_external
from wye.compose.nodes import Items, Table

_KEYS = (
    "name", "driver", "driver_opts", "ipam", "external", "internal", "enable_ipv4", "enable_ipv6", "attachable",
    "labels",
)  # fmt: skip
_ENDPOINT_KEYS = (
    "aliases", "interface_name", "ipv4_address", "ipv6_address", "link_local_ips", "mac_address", "driver_opts",
    "priority", "gw_priority", "use_service_name_alias",
)  # fmt: skip
_FIXED = ("ipv4_address", "ipv6_address", "mac_address", "interface_name", "link_local_ips")
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")


@dataclass(frozen=True, slots=True)
class Networks:
    """The networks of the file: name → whether it is internal."""

    internal: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A service in the network."""

    aliases: tuple[str, ...]
    egress: bool


def read_networks(top: Mapping[str, At], findings: Findings) -> Networks:
    """Judges the networks at the top of the file. Raises ComposeError."""
    internal = {"default": False}
    for name, at in top.items():
        internal[name] = False
        if at.is_null:
            continue
        network = fields(at, _KEYS, findings)
        for key in ("enable_ipv4", "attachable"):
            network.boolean(key)
        network.string("name")
        network.read("labels", At.pairs)
        internal[name] = network.boolean("internal")
        external = network.get("external")
        if external is not None and is_external(external):
            findings.warn(external, "is the environment's own network; nothing outside is joined")
        driver = network.get("driver")
        if driver is not None and driver.string() not in ("bridge", "default", ""):
            findings.warn(driver, "has no effect; the environment has one private network")
        ipam, options = network.get("ipam"), network.get("driver_opts")
        if ipam is not None and _check_ipam(ipam, findings):
            findings.warn(ipam, "has no effect; wye chooses the addresses")
        if options is not None and check_options(options):
            findings.warn(options, "has no effect; wye chooses the addresses")
        if network.boolean("enable_ipv6"):
            findings.warn(network.required("enable_ipv6"), "has no effect; the private network is IPv4")
    return Networks(internal)


def _check_ipam(at: At, findings: Findings) -> bool:
    """Whether it asks for anything."""
    ipam = fields(at, ("driver", "config", "options"), findings)
    ipam.string("driver")
    ipam.read("config", At.items)
    ipam.read("options", At.entries)
    return bool(ipam.known)


def read_endpoint(at: At | None, networks: Networks, findings: Findings) -> Endpoint:
    """The value of a service's `networks`. Raises ComposeError."""
    if at is None:
        return Endpoint((), not networks.internal["default"])
    if isinstance(at.node, Items):
        joined: dict[str, At] = {item.string(): item for item in at.items()}
    else:
        joined = at.entries()
    aliases: list[str] = []
    for name, entry in joined.items():
        if name not in networks.internal:
            hint = suggest(name, networks.internal) or f"add it at the top: networks: {{{name}: }}"
            raise entry.error(f"there is no network {name}", hint=hint)
        if isinstance(at.node, Table) and not entry.is_null:
            aliases += _endpoint(entry, findings)
    is_inside = bool(joined) and all(networks.internal[name] for name in joined)
    return Endpoint(tuple(aliases), not is_inside)


def _endpoint(at: At, findings: Findings) -> list[str]:
    endpoint = fields(at, _ENDPOINT_KEYS, findings)
    for key in _FIXED:
        given = endpoint.get(key)
        if given is not None:
            _ = given.strings() if key == "link_local_ips" else given.string()
            findings.warn(given, "has no effect; wye chooses the addresses")
    for key in ("priority", "gw_priority"):
        endpoint.read(key, At.number)
    endpoint.read("driver_opts", At.entries)
    endpoint.boolean("use_service_name_alias")
    aliases = endpoint.get("aliases")
    return [host_name(item) for item in aliases.strings()] if aliases is not None else []


def host_name(at: At, text: str | None = None) -> str:
    """A name that can stand in /etc/hosts; `text` if `at` holds more than the name. Raises ComposeError."""
    name = at.filled() if text is None else text
    if not _HOST_NAME.fullmatch(name):
        raise at.error(f'"{name}" is not a host name')
    return name


def read_extra_hosts(at: At, findings: Findings) -> tuple[tuple[str, str], ...]:
    """`HOST:IP`, `HOST=IP`, or a mapping of a host to one address or several."""
    found: list[tuple[str, str]] = []
    for item, host, address in _host_pairs(at):
        bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
        if bare == "host-gateway":
            findings.warn(item, "the machine itself cannot be reached from an environment; left out")
        elif is_address(bare):
            found.append((host_name(item, host), bare))
        else:
            raise item.error(f'"{address}" is not an IP address')
    return tuple(dict.fromkeys(found))


def _host_pairs(at: At) -> list[tuple[At, str, str]]:
    if isinstance(at.node, Table):
        return [
            (item, host, item.string())
            for host, entry in at.entries().items()
            for item in (entry.items() if isinstance(entry.node, Items) else (entry,))
        ]
    pairs = []
    for item in at.strings():
        text = item.string()
        host, separator, address = text.partition("=") if "=" in text else text.partition(":")
        if not separator:
            raise item.error(f'"{text}" is not HOST=ADDRESS')
        pairs.append((item, host.strip(), address.strip()))
    return pairs


def read_dns(at: At) -> tuple[str, ...]:
    """The value of `dns`: one address or several."""
    servers = at.one_or_more()
    for server in servers:
        if not is_address(server.string()):
            raise server.error(f'"{server.string()}" is not an IP address')
    return tuple(server.string() for server in servers)


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def read_mode(at: At, findings: Findings) -> str | None:
    """The value of `network_mode`: None is the environment's network. Raises ComposeError."""
    mode = at.filled()
    if mode == "none" or (mode.startswith("service:") and len(mode) > len("service:")):
        return mode
    if mode in ("bridge", "default"):
        findings.warn(at, "has no effect; the service is in the environment's private network")
        return None
    hint = {
        "host": "publish its ports instead",
        "container": 'name a service of this file: "service:NAME"',
    }.get(mode.partition(":")[0], 'write none or "service:NAME"')
    findings.refuse(at, f'the network mode "{mode}" would let the service out of its environment', hint=hint)
    return None

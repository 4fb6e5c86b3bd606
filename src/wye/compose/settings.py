"""`x-wye`: what only wye understands.

At the top: `fork` (what a fork may do and use), and settings that other rooms own, which pass through here as canonical
JSON. In a service: `egress`, and settings for that service. Only known keys are taken, so that a misspelt
policy is an error and not an open door.
"""

from __future__ import annotations

import json
from typing import Any

from wye.compose.at import At
from wye.compose.deploy import cpus, memory, pids
from wye.compose.findings import Findings
from wye.compose.keys import fields
from wye.compose.merging import check_checks, check_merge
from wye.compose.nodes import Items, Kind, Node, Scalar, Table
from wye.model import ForkPolicy, Limits

PASSED_ON = ("checks", "merge", "policy", "kinds", "network")
PASSED_ON_BY_SERVICE = ("kind", "merge", "exec")

_INTEGER_DIGITS = 18


def read_top(at: At, findings: Findings) -> tuple[ForkPolicy, dict[str, str]]:
    """The top-level `x-wye` → what forks may do, and the settings of other rooms. Raises ComposeError."""
    known = fields(at, ("fork", *PASSED_ON), findings)
    for name, check in (("merge", check_merge), ("checks", check_checks)):
        if (given := known.get(name)) is not None:
            check(given, findings)
    settings = {name: canonical(known.required(name).node) for name in PASSED_ON if name in known.known}
    return known.read("fork", lambda fork: _fork(fork, findings)) or ForkPolicy(), settings


def _fork(at: At, findings: Findings) -> ForkPolicy:
    known = fields(at, ("egress", "disk", "limits"), findings)
    limits = Limits()
    if (given := known.get("limits")) is not None:
        inner = fields(given, ("cpus", "memory", "pids"), findings)
        limits = Limits(
            cpus=inner.read("cpus", cpus), memory_bytes=inner.read("memory", memory), pids=inner.read("pids", pids)
        )
    return ForkPolicy(egress=known.boolean("egress"), disk_bytes=known.size("disk"), limits=limits)


def read_service(at: At, service: str, findings: Findings) -> tuple[bool | None, dict[str, str]]:
    """A service's `x-wye` → its egress if it says so, and settings by `services.<name>.<key>`."""
    known = fields(at, ("egress", *PASSED_ON_BY_SERVICE), findings)
    known.boolean("exec")
    settings = {
        f"services.{service}.{name}": canonical(known.required(name).node)
        for name in PASSED_ON_BY_SERVICE
        if name in known.known
    }
    return known.read("egress", At.boolean), settings


def canonical(node: Node) -> str:
    """JSON with sorted keys and no spaces: equal for equal settings."""
    return json.dumps(_value(node), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _value(node: Node) -> Any:
    if isinstance(node, Items):
        return [_value(value) for value in node.values]
    if isinstance(node, Table):
        return {name: _value(entry.node) for name, entry in node.entries.items()}
    return _scalar(node)


def _scalar(node: Scalar) -> str | int | float | bool | None:
    if node.kind is Kind.NULL:
        return None
    if node.kind is Kind.BOOLEAN:
        return node.text.lower() == "true"
    if node.kind is Kind.INTEGER and len(node.text) <= _INTEGER_DIGITS:
        return int(node.text, 0) if node.text[:2] in ("0o", "0x") else int(node.text)
    if node.kind is Kind.FLOAT and abs(number := float(node.text)) != float("inf"):
        return number
    return node.text

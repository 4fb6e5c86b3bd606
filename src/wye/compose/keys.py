"""Which keys there are, and what becomes of each.

Every service key of the compose specification is in exactly one of four tables: read by this room, harmless (accepted
without a word), idle (accepted with a warning: it asks for something that wye does not do and that nobody's
data depends on), or refused (it would break the isolation of a fork, or change what the service does). `x-*` is
accepted everywhere; `x-wye` only where it means something.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable

from wye.compose.at import At, Fields
from wye.compose.findings import Findings
from wye.compose.nodes import Items, Scalar, Table

Shape = Callable[[At], object]

_text, _flag, _amount = At.string, At.boolean, At.number_text
_strings, _pairs, _table, _list = At.strings, At.pairs, At.entries, At.items

TOP = frozenset({"version", "name", "include", "services", "networks", "volumes", "secrets", "configs"})

SERVICE = frozenset({
    "build", "cap_add", "cap_drop", "command", "configs", "container_name", "cpus", "depends_on", "deploy", "dns",
    "entrypoint", "env_file", "environment", "expose", "extra_hosts", "group_add", "healthcheck", "hostname", "image",
    "init", "labels", "links", "logging", "mem_limit", "network_mode", "networks", "pids_limit", "platform", "ports",
    "profiles", "pull_policy", "read_only", "restart", "scale", "secrets", "security_opt", "shm_size", "stdin_open",
    "stop_grace_period", "stop_signal", "sysctls", "tmpfs", "tty", "ulimits", "user", "volumes", "volumes_from",
    "working_dir",
})  # fmt: skip

HARMLESS: dict[str, Shape] = {
    "annotations": _pairs,
    "attach": _flag,
    "develop": _table,
    "pull_refresh_after": _text,
}

IDLE: dict[str, Shape] = {
    "blkio_config": _table,
    "cpu_count": _amount,
    "cpu_percent": _amount,
    "cpu_period": _amount,
    "cpu_quota": _amount,
    "cpu_rt_period": _amount,
    "cpu_rt_runtime": _amount,
    "cpu_shares": _amount,
    "cpuset": _text,
    "dns_opt": _strings,
    "dns_search": At.one_or_more,
    "domainname": _text,
    "isolation": _text,
    "label_file": At.one_or_more,
    "mac_address": _text,
    "mem_reservation": At.size,
    "mem_swappiness": _amount,
    "memswap_limit": _amount,
    "oom_kill_disable": _flag,
    "oom_score_adj": _amount,
    "runtime": _text,
    "storage_opt": _table,
    "umask": _amount,
}

_HOST = "would let the service out of its environment"
_LATER = "is not supported"
REFUSED: dict[str, tuple[Shape, str, frozenset[str]]] = {
    "cgroup": (_text, _HOST, frozenset({"private"})),
    "cgroup_parent": (_text, _HOST, frozenset()),
    "credential_spec": (_table, _LATER, frozenset()),
    "device_cgroup_rules": (_strings, _HOST, frozenset()),
    "devices": (_list, _HOST, frozenset()),
    "external_links": (_strings, "names containers that are outside of the environment", frozenset()),
    "gpus": (lambda at: at.is_text or at.items(), _HOST, frozenset()),
    "ipc": (_text, "would share memory with what is outside of the service", frozenset({"private", "shareable"})),
    "models": (lambda at: isinstance(at.node, Table) or at.strings(), _LATER, frozenset()),
    "pid": (_text, _HOST, frozenset()),
    "post_start": (_list, _LATER, frozenset()),
    "pre_start": (_list, _LATER, frozenset()),
    "pre_stop": (_list, _LATER, frozenset()),
    "privileged": (_flag, _HOST, frozenset()),
    "provider": (_table, _LATER, frozenset()),
    "use_api_socket": (_flag, _HOST, frozenset()),
    "userns_mode": (_text, _HOST, frozenset()),
    "uts": (_text, _HOST, frozenset()),
}
"""Shape, why not, and the values that ask for nothing and so are fine. So are `false`, an empty list and null."""

_HINTS = {
    "privileged": "name the capabilities it needs in cap_add",
    "devices": "a fork gets no devices of the machine",
    "pre_start": "make it a service, and wait for it with depends_on: service_completed_successfully",
    "post_start": "make it a service of its own that depends on this one",
}


def service_fields(at: At, findings: Findings) -> Fields:
    """A service's entries that this room reads; the others are judged. Raises ComposeError."""
    every = SERVICE | HARMLESS.keys() | IDLE.keys() | REFUSED.keys()
    found = fields(
        at, every, findings, nullable={"command", "entrypoint", "develop", "deploy", "pid", "umask"}, own=True
    )
    for name, entry in found.known.items():
        if name in SERVICE or entry.is_null:
            continue
        if name in REFUSED:
            _judge(name, entry, findings)
        elif name in IDLE:
            IDLE[name](entry)
            findings.warn(entry, "has no effect")
        elif not name.startswith("x-"):
            HARMLESS[name](entry)
    kept = {name: entry for name, entry in found.known.items() if name in SERVICE or name == "x-wye"}
    return Fields(at, kept)


def _judge(name: str, at: At, findings: Findings) -> None:
    shape, reason, neutral = REFUSED[name]
    shape(at)
    node = at.node
    asks_nothing = (
        (isinstance(node, Items) and not node.values)
        or (isinstance(node, Table) and not node.entries)
        or (isinstance(node, Scalar) and (node.text in neutral or (shape is _flag and not at.boolean())))
    )
    if not asks_nothing:
        findings.refuse(at, reason, hint=_HINTS.get(name))


def fields(
    at: At,
    known: Iterable[str],
    findings: Findings,
    *,
    nullable: Iterable[str] = (),
    own: bool = False,
) -> Fields:
    """The entries of a mapping whose keys are `known`; `own`: an `x-wye` has a meaning here.

    An unknown key, or one without a value that is not `nullable`, is refused; lenient leaves it out.
    """
    names, may_be_null = frozenset(known), frozenset(nullable)
    found: dict[str, At] = {}
    for name, entry in at.entries().items():
        if name == "x-wye":
            if own:
                found[name] = entry
            else:
                findings.refuse(entry, "means nothing here", hint="x-wye stands at the top and in services")
        elif name.startswith("x-"):
            continue
        elif name not in names:
            findings.refuse(entry, "unknown key", hint=suggest(name, names))
        elif entry.is_null and name not in may_be_null:
            findings.refuse(entry, "has no value", hint="give it one, or remove the key")
        else:
            found[name] = entry
    return Fields(at, found)


def suggest(name: str, known: Iterable[str]) -> str | None:
    """A hint for a misspelt name."""
    close = difflib.get_close_matches(name, sorted(known), 1)
    return f"did you mean {close[0]}?" if close else None

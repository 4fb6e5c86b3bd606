"""How many, how much and what after an end: `deploy`, `scale`, `restart` and the older limit keys.

Where two keys say the same thing they must agree; `deploy.restart_policy` wins over `restart`, as in compose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from wye.compose.at import At, Fields
from wye.compose.findings import Findings
from wye.compose.keys import fields
from wye.model import Limits, Restart, RestartPolicy

T = TypeVar("T")

MOST_REPLICAS = 100

_KEYS = (
    "mode", "endpoint_mode", "replicas", "labels", "rollback_config", "update_config", "resources", "restart_policy",
    "placement",
)  # fmt: skip
_IDLE = ("endpoint_mode", "rollback_config", "update_config", "placement")
_CONDITIONS = {"none": RestartPolicy.NO, "on-failure": RestartPolicy.ON_FAILURE, "any": RestartPolicy.ALWAYS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deploy:
    """What a service says of its running, all keys taken together."""

    replicas: int
    limits: Limits
    restart: Restart


def read_deploy(service: Fields, findings: Findings) -> Deploy:
    """From a service's fields. Raises ComposeError."""
    at = service.get("deploy")
    deploy = fields(at, _KEYS, findings) if at is not None and not at.is_null else Fields(service.at, {})
    for key in _IDLE:
        entry = deploy.get(key)
        if entry is not None:
            _ = entry.string() if key == "endpoint_mode" else entry.entries()
            findings.warn(entry, "has no effect on one machine")
    deploy.read("labels", At.pairs)
    mode = deploy.get("mode")
    if mode is not None and mode.string() not in ("replicated", "global"):
        findings.refuse(
            mode, f'the mode "{mode.string()}" is not supported', hint="the modes are replicated and global"
        )
    return Deploy(
        replicas=_replicas(service, deploy),
        limits=_limits(service, deploy, findings),
        restart=_restart(service, deploy, findings),
    )


def _replicas(service: Fields, deploy: Fields) -> int:
    found = [at for at in (service.get("scale"), deploy.get("replicas")) if at is not None]
    counts = {at.integer() for at in found}
    if len(counts) > 1:
        raise found[0].error("scale and deploy.replicas differ", hint="give only one of them")
    for at in found:
        count = at.integer()
        if count < 1:
            raise at.error("must be at least 1", hint="give a service that shall not run a profile")
        if count > MOST_REPLICAS:
            raise at.error(f"must be at most {MOST_REPLICAS}, not {count}")
        return count
    return 1


def _limits(service: Fields, deploy: Fields, findings: Findings) -> Limits:
    resources = deploy.get("resources")
    parts = fields(resources, ("limits", "reservations"), findings) if resources is not None else None
    limits_at = parts.get("limits") if parts is not None else None
    limits = (
        fields(limits_at, ("cpus", "memory", "pids"), findings) if limits_at is not None else Fields(service.at, {})
    )
    if parts is not None:
        _reservations(parts.get("reservations"), findings)
    return Limits(
        cpus=_agreed(service.get("cpus"), limits.get("cpus"), cpus),
        memory_bytes=_agreed(service.get("mem_limit"), limits.read("memory", _text), memory),
        pids=_agreed(service.get("pids_limit"), limits.get("pids"), pids),
        shm_bytes=service.read("shm_size", memory),
    )


def _agreed(older: At | None, newer: At | None, read: Callable[[At], T | None]) -> T | None:
    """The value of two keys of one meaning."""
    found = [(at, read(at)) for at in (older, newer) if at is not None]
    if len(found) == 2 and found[0][1] != found[1][1]:
        raise found[0][0].error(f"differs from {found[1][0].key}", hint="give only one of them")
    return found[-1][1] if found else None


def _text(at: At) -> At:
    """Where compose wants a string even for a bare number."""
    at.string()
    return at


def cpus(at: At) -> float | None:
    """A number of processors; 0 is no limit."""
    count = at.number()
    if count < 0 or count > 4096:
        raise at.error(f"{count:g} processors do not make sense")
    return count or None


def memory(at: At) -> int | None:
    """Bytes; 0 and -1 are no limit."""
    if at.number_text() == "-1":
        return None
    return at.size() or None


def pids(at: At) -> int | None:
    """A number of processes; 0 and -1 are no limit."""
    count = at.integer(-1)
    return count if count > 0 else None


def _reservations(at: At | None, findings: Findings) -> None:
    if at is None:
        return
    for name, entry in fields(at, ("cpus", "memory", "pids", "generic_resources", "devices"), findings).known.items():
        if name == "devices":
            findings.refuse(entry, "a fork gets no devices of the machine")
        elif name == "generic_resources":
            findings.warn(entry, "has no effect")
        elif name == "memory":
            entry.string()
        else:
            entry.number_text()


def _restart(service: Fields, deploy: Fields, findings: Findings) -> Restart:
    at = deploy.get("restart_policy")
    own = service.read("restart", _restart_word) or Restart()
    if at is None:
        return own
    policy = fields(at, ("condition", "delay", "max_attempts", "window"), findings)
    condition = policy.get("condition")
    word = condition.string() if condition is not None else "any"
    if word not in _CONDITIONS:
        raise policy.required("condition").error(f'"{word}" is not none, on-failure or any')
    return Restart(
        policy=_CONDITIONS[word],
        max_retries=policy.integer("max_attempts", 0),
        delay_s=policy.read("delay", At.duration),
        window_s=policy.read("window", At.duration),
    )


def _restart_word(at: At) -> Restart:
    word, colon, count = at.filled().partition(":")
    if word not in {policy.value for policy in RestartPolicy} or (colon and word != "on-failure"):
        raise at.error(
            f'"{at.string()}" is not a restart policy', hint='"no", always, on-failure[:N] or unless-stopped'
        )
    if colon and not (count.isascii() and count.isdigit() and len(count) < 10):
        raise at.error(f'"{count}" is not a number of retries')
    return Restart(policy=RestartPolicy(word), max_retries=int(count) if colon else None)

"""Which capabilities a container's root has.

Docker's default list without NET_RAW, MKNOD and AUDIT_WRITE. They are held in the container's own user namespace and
reach nothing outside it, but each one widens what the kernel lets a hostile process try, so only a list known to be
useful and contained there may be added. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from wye.errors import BadRequest, Unsupported

DEFAULT = frozenset(
    f"CAP_{name}"
    for name in (
        "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP",
        "SETUID", "SYS_CHROOT",
    )
)  # fmt: skip
_ADDABLE = DEFAULT | {
    f"CAP_{name}" for name in ("AUDIT_WRITE", "IPC_LOCK", "IPC_OWNER", "LEASE", "SYS_NICE", "SYS_PTRACE")
}
_OWN_NETWORK = frozenset({"CAP_NET_ADMIN", "CAP_NET_BROADCAST", "CAP_NET_RAW"})
"""The kernel heeds these only in a network namespace that belongs to the container's user namespace."""
_REFUSED = frozenset(
    f"CAP_{name}"
    for name in (
        "AUDIT_CONTROL", "AUDIT_READ", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "DAC_READ_SEARCH",
        "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "PERFMON", "SYSLOG", "SYS_ADMIN", "SYS_BOOT",
        "SYS_MODULE", "SYS_PACCT", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM",
    )
)  # fmt: skip


def granted(add: Iterable[str], drop: Iterable[str], *, own_network: bool) -> frozenset[str]:
    """The capabilities of a container's root. Raises BadRequest for no capability, Unsupported for a refused one."""
    added, dropped = [_named(name) for name in add], [_named(name) for name in drop]
    allowed = _ADDABLE | _OWN_NETWORK if own_network else _ADDABLE
    for name in added:
        if name in allowed:
            continue
        reason = (
            "the network of an environment belongs to the host"
            if name in _OWN_NETWORK
            else "it has no use inside a user namespace, or reaches out of it"
        )
        raise Unsupported(f"cap_add {name}: {reason}", hint=f"remove it; allowed are {', '.join(sorted(_ADDABLE))}")
    kept = frozenset() if "CAP_ALL" in dropped else DEFAULT - set(dropped)
    return kept | frozenset(added)


def _named(name: str) -> str:
    full = name.upper()
    full = full if full.startswith("CAP_") else f"CAP_{full}"
    if full != "CAP_ALL" and full not in _ADDABLE | _OWN_NETWORK | _REFUSED:
        raise BadRequest(f"{name!r} is no capability", hint="see capabilities(7)")
    return full

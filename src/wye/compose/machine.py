"""Paths that belong to the machine itself, and so never go into an environment.

The list is of names, and is held against a path as written and with its links followed. It is a seat belt for whoever
writes `/:/host` out of habit, and it keeps a compose file from reading the password file through `secrets`.
"""

from __future__ import annotations

import os
from pathlib import Path

_TREES = (
    "/boot", "/dev", "/etc/ssh", "/etc/sudoers.d", "/proc", "/root/.ssh", "/run", "/sys", "/var/lib/containerd",
    "/var/lib/containers", "/var/lib/docker", "/var/lib/wye", "/var/run",
)  # fmt: skip
_EXACT = frozenset({
    "/", "/bin", "/etc", "/etc/gshadow", "/etc/gshadow-", "/etc/shadow", "/etc/shadow-", "/etc/sudoers", "/home",
    "/lib", "/lib64", "/root", "/sbin", "/usr", "/var", "/var/lib", "/var/log",
})  # fmt: skip
_SOCKETS = frozenset({"containerd.sock", "crio.sock", "docker.sock", "podman.sock"})


def why_not(path: str | Path) -> str | None:
    """Why an absolute path may not be taken in, in a sentence; None: it may."""
    for candidate in (os.path.normpath(path), os.path.realpath(path)):
        if candidate.rsplit("/", 1)[-1] in _SOCKETS:
            return f"{candidate} is the socket of a container engine"
        if candidate in _EXACT or any(candidate == tree or candidate.startswith(f"{tree}/") for tree in _TREES):
            return f"{candidate} belongs to the machine itself"
    return None

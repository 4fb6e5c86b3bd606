"""Kernel settings of a container: only those that belong to its namespaces.

The OCI runtime writes them from inside, which the kernel refuses for a network namespace that belongs to the host.
Those (`net.*` with a named namespace) are written from here, by a thread that enters the namespace and ends.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path

from wye.errors import Unsupported, WyeError
from wye.host import Host

_NAME = re.compile(r"[a-z0-9_]+(\.[A-Za-z0-9_-]+)+")
_IPC = frozenset(
    ("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shm_rmid_forced", "kernel.shmall",
     "kernel.shmmax", "kernel.shmmni")
)  # fmt: skip
_CLONE_NEWNET = 0x40000000


def check(sysctls: Mapping[str, str]) -> None:
    """Raises Unsupported for a setting that is not the container's own."""
    for name in sysctls:
        if not _NAME.fullmatch(name) or not (name in _IPC or name.startswith(("net.", "fs.mqueue."))):
            raise Unsupported(
                f"sysctl {name!r} is the whole machine's, not a container's",
                hint="only net.*, fs.mqueue.* and kernel.shm*, kernel.msg*, kernel.sem can be set",
            )


def write_network(host: Host, namespace: str, sysctls: Mapping[str, str]) -> None:
    """Writes the `net.*` settings in the network namespace at path `namespace`. Raises OperationFailed."""
    wanted = {name: value for name, value in sysctls.items() if name.startswith("net.")}
    if not wanted:
        return
    failures: list[WyeError] = []

    def enter_and_write() -> None:
        try:
            _enter(host, namespace)
            for name, value in wanted.items():
                _write(host, name, value)
        except WyeError as error:
            failures.append(error)

    thread = threading.Thread(target=enter_and_write, name="wye-sysctl")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _enter(host: Host, namespace: str) -> None:
    try:
        opened = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise host.failure("start:sysctl", f"open {namespace}", error) from error
    try:
        host.set_namespace("start:sysctl", opened, _CLONE_NEWNET)
    finally:
        os.close(opened)


def _write(host: Host, name: str, value: str) -> None:
    path = Path("/proc/sys", *name.split("."))
    try:
        with open(path, "r+") as file:
            file.write(value)
    except OSError as error:
        raise host.failure("start:sysctl", f"set {name} to {value!r}", error) from error

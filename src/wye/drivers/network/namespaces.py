"""Network namespaces as named files, and work inside them.

A namespace is kept alive by a bind mount of its nsfs file, which outlives this process, and is what an OCI runtime
takes as a path. Whatever has to be done inside one is done on a thread made for it: that thread changes namespace
and ends, so there is no way back to forget and no caller left in the wrong place.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from wye.host import MS_BIND, Host

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
_NSFS = 0x6E736673
_OWN = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)


def aside(work: Callable[[], T]) -> T:
    """Runs `work` on a thread of its own and returns what it returns. The thread may change namespace."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="wye-namespace") as thread:
        return thread.submit(work).result()


def make(host: Host, path: Path) -> None:
    """Moves the calling thread (see `aside`) into a new namespace, named by the file `path`."""
    host.unshare("network:make-namespace", CLONE_NEWNET)
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o444))
    except OSError as error:
        raise host.failure("network:name-namespace", str(path), error) from error
    host.mount("network:name-namespace", _OWN, path, "none", flags=MS_BIND)


def enter(host: Host, path: Path) -> None:
    """Moves the calling thread (see `aside`) into the namespace at `path`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise host.failure("network:enter-namespace", str(path), error) from error
    try:
        host.set_namespace("network:enter-namespace", descriptor, CLONE_NEWNET)
    finally:
        os.close(descriptor)


def current() -> int:
    """A descriptor of the calling thread's namespace."""
    return os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)


def is_named(path: Path) -> bool:
    """Whether a namespace is mounted at `path`; False for a plain file, as after a restart of the machine."""
    buffer = ctypes.create_string_buffer(256)
    if _libc.statfs(os.fsencode(path), buffer) != 0:
        return False
    return ctypes.c_long.from_buffer(buffer).value == _NSFS


def forget(host: Host, path: Path) -> None:
    """Takes the name away; the namespace goes when no process is left in it."""
    host.unmount("network:forget-namespace", path, lazy=True)
    path.unlink(missing_ok=True)

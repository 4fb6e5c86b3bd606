"""Snapshots that are lent: an environment that nobody has written to yet needs no subvolume of its own.

A loan is a symbolic link `lent/<environment>` to the snapshot, so that whoever looks at the pool sees what it is. It is
durable once its directory is synced, which costs a fraction of the commit that a new subvolume would be, and with the
snapshot itself if it was made first: a link to no snapshot is what a crash leaves in between. That an environment got
its own subvolume meanwhile is said by that subvolume, not by the link's absence: a power failure may bring a link back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from wye.errors import Conflict
from wye.host import Host
from wye.model import EnvironmentId, SnapshotId

_SETTLED_S = 1.0
"""So old a directory's time must be that every later change gives it another, however coarse the kernel's clock."""


class Lent:
    """Which snapshots are lent, read anew only when their directory has changed: to delete a thousand snapshots beside
    a thousand loans is not to read a million links. Threads may share it."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._known: tuple[tuple[int, int, int], frozenset[SnapshotId]] | None = None

    def snapshots(self, loans: int) -> frozenset[SnapshotId]:
        """All that are lent. `loans`: the open directory."""
        now, found = self._host.now(), os.fstat(loans)
        stamp = (found.st_dev, found.st_ino, found.st_mtime_ns)
        if self._known is not None and self._known[0] == stamp:
            return self._known[1]
        listed = frozenset(_listed(loans))
        self._known = (stamp, listed) if now - found.st_mtime > _SETTLED_S else None
        return listed


def make(host: Host, loans: int, environment: EnvironmentId, snapshot: SnapshotId) -> None:
    """`loans`: the open directory. Raises Conflict if the environment has one already."""
    host.at("pool:lend")
    try:
        os.symlink(f"../snapshots/{snapshot}", environment, dir_fd=loans)
    except FileExistsError:
        raise Conflict(f"the environment {environment} is in the pool already") from None
    except OSError as error:
        raise host.failure("pool:lend", f"lend the snapshot {snapshot}", error) from error


def sync(host: Host, loans: int) -> None:
    """Makes all loans durable that were made."""
    host.at("pool:sync-loans")
    try:
        os.fsync(loans)
    except OSError as error:
        raise host.failure("pool:sync-loans", "sync what is lent", error) from error


def read(loans: int, environment: EnvironmentId) -> SnapshotId | None:
    try:
        return snapshot_of(os.readlink(environment, dir_fd=loans))
    except FileNotFoundError:
        return None


def snapshot_of(target: str) -> SnapshotId:
    """Which snapshot a loan's target names."""
    return SnapshotId(target.rpartition("/")[2])


def end(host: Host, loans: int, environment: EnvironmentId) -> None:
    """Nothing happens if there is none."""
    host.at("pool:end-loan")
    with suppress(FileNotFoundError):
        os.unlink(environment, dir_fd=loans)


def _listed(loans: int) -> Iterator[SnapshotId]:
    for name in os.listdir(loans):
        snapshot = read(loans, EnvironmentId(name))
        if snapshot is not None:
            yield snapshot

"""Snapshots that are lent: an environment that nobody has written to yet needs no subvolume of its own.

A loan is a symbolic link `lent/<environment>` to the snapshot, so that whoever looks at the pool sees what it is. It is
durable once its directory is synced, which costs a fraction of the commit that a new subvolume would be, and with the
snapshot itself if it was made first: a link to no snapshot is what a crash leaves in between. That an environment got
its own subvolume meanwhile is said by that subvolume, not by the link's absence: a power failure may bring a link back.
"""

from __future__ import annotations

import os
from contextlib import suppress

from wye.errors import Conflict
from wye.host import Host
from wye.model import EnvironmentId, SnapshotId


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


def snapshots(loans: int) -> set[SnapshotId]:
    """All that are lent."""
    found = set()
    for name in os.listdir(loans):
        snapshot = read(loans, EnvironmentId(name))
        if snapshot is not None:
            found.add(snapshot)
    return found

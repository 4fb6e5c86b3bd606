"""Subvolumes within an environment: whoever owns a directory on btrfs can make one, and then it cannot be deleted."""

from __future__ import annotations

import os

from wye.drivers.btrfs import ioctls
from wye.host import Host

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def delete_below(host: Host, directory: int, name: str) -> None:
    """Deletes the subvolumes within subvolume `name` of the open `directory`, read-only ones too."""
    descriptor = os.open(name, _DIRECTORY, dir_fd=directory)
    try:
        top = ioctls.subvolume_id(host, "pool:identify", descriptor)
    finally:
        os.close(descriptor)
    found = [top]
    for parent in found:
        refs = ioctls.search(
            host,
            "pool:list-nested",
            directory,
            ioctls.ROOTS_TREE,
            (ioctls.ROOT_REF, ioctls.ROOT_REF),
            (parent, parent),
        )
        found += [ref.offset for ref in refs]
    for each in found[1:]:
        descriptor = ioctls.open_subvolume(host, "pool:open-nested", directory, each)
        try:
            ioctls.make_writable(host, "pool:unlock-nested", descriptor)
        finally:
            os.close(descriptor)
    for each in reversed(found[1:]):
        ioctls.destroy_by_id(host, "pool:delete-nested", directory, each)

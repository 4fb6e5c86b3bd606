"""Simple quotas: how much of the pool is an environment's own, and how much it may be.

With simple quotas (kernel 6.7 and later) an extent belongs to the subvolume that wrote it, so accounting costs
nothing per snapshot, and a fork starts at nothing. What is read comes from sysfs: the kernel's own figures as they
are now, where the quota tree would show those of the last commit. Room promised to writes that are still in
memory counts, as it does against the limit.
"""

from __future__ import annotations

import errno
from pathlib import Path

from wye.drivers.btrfs import ioctls
from wye.host import Host, OperationFailed
from wye.model import Usage

_FIRST_SUBVOLUME = 256
_LAST_SUBVOLUME = (1 << 64) - 256


def mode(host: Host, descriptor: int) -> str | None:
    """ "squota", "qgroup" (the old, slow quotas), or None: quotas are off."""
    try:
        return (_groups(host, descriptor) / "mode").read_text().strip()
    except FileNotFoundError:
        # Kernels before 6.7 have no such file, and no simple quotas.
        return "qgroup" if _groups(host, descriptor).exists() else None


def enable(host: Host, descriptor: int) -> bool:
    """Turns simple quotas on unless other quotas are. Returns whether they are on."""
    if mode(host, descriptor) is None:
        try:
            ioctls.enable_simple_quota(host, "pool:enable-quota", descriptor)
        except OperationFailed as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
    return mode(host, descriptor) == "squota"


def usage(host: Host, descriptor: int) -> Usage:
    """Of the subvolume that `descriptor` lies in."""
    group = _groups(host, descriptor) / f"0_{ioctls.subvolume_id(host, 'pool:usage', descriptor)}"
    try:
        own = _number(group / "exclusive") + _number(group / "rsv_data")
        is_limited = _number(group / "limit_flags") & 1
        return Usage(exclusive_bytes=own, limit_bytes=_number(group / "max_referenced") if is_limited else None)
    except FileNotFoundError:
        return Usage(exclusive_bytes=None)


def groups(host: Host, descriptor: int) -> set[int]:
    """Ids of all subvolumes, living or not, that have a quota group."""
    return {int(entry.name[2:]) for entry in _groups(host, descriptor).glob("0_*")}


def sweep(host: Host, descriptor: int) -> int:
    """Removes the quota groups that deleted subvolumes left behind. Returns how many.

    The kernel removes a group with its subvolume only if none of its extents lives on in a snapshot, and never
    looks again.
    """
    items = ioctls.search(
        host,
        "pool:list-subvolumes",
        descriptor,
        ioctls.ROOTS_TREE,
        (ioctls.ROOT_ITEM, ioctls.ROOT_ITEM),
        (_FIRST_SUBVOLUME, _LAST_SUBVOLUME),
    )
    left = groups(host, descriptor) - {item.objectid for item in items}
    removed = 0
    for subvolume in left:
        if subvolume < _FIRST_SUBVOLUME:
            continue
        try:
            if _number(_groups(host, descriptor) / f"0_{subvolume}" / "referenced") == 0:
                ioctls.remove_qgroup(host, "pool:remove-qgroup", descriptor, subvolume)
                removed += 1
        except FileNotFoundError:
            continue
        except OperationFailed as error:
            # Removed by the kernel meanwhile, or in use again.
            if error.errno not in (errno.ENOENT, errno.EBUSY):
                raise
    return removed


def _groups(host: Host, descriptor: int) -> Path:
    return Path("/sys/fs/btrfs", ioctls.filesystem_id(host, "pool:identify", descriptor), "qgroups")


def _number(path: Path) -> int:
    return int(path.read_text())

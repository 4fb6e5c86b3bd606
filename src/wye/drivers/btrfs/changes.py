"""What differs between two snapshots, in time proportional to the difference.

The kernel compares the two trees, skipping every block they share, and sends the result to a memory file: with no
pipe there is no second thread and nothing to drain. The stream says which paths to look at; what happened to each is
decided by looking at both sides (`compare.judge`). Two things it leaves to us: the other names of a file that has
several, and what lies below a directory that moved. Where the kernel refuses, the trees are walked.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
from contextlib import closing

from wye.drivers.btrfs import compare, ioctls, stream
from wye.drivers.btrfs.tree import Tree
from wye.host import Host, OperationFailed
from wye.interfaces import PathChange

_WHOLE = (0, 1 << 63)
_REFUSALS = (errno.EINVAL, errno.ENAMETOOLONG, errno.ENOMEM, errno.EOPNOTSUPP, errno.EUCLEAN)


def between(host: Host, base_root: int, new_root: int) -> list[PathChange]:
    """See `Volumes.changes`. Both are descriptors of read-only subvolumes of one file system.

    Extents may cover more than differs: a file that was replaced is one extent.
    """
    with closing(Tree(host, base_root)) as base, closing(Tree(host, new_root)) as new:
        try:
            steps = _steps(host, base, new)
            return compare.judged(base, new, _candidates(host, base, new, steps))
        except OperationFailed as error:
            if error.errno not in _REFUSALS:
                raise
            return compare.walk(base, new)
        except OSError as error:
            raise host.failure("pool:changes", "compare two snapshots", error) from error


def _steps(host: Host, base: Tree, new: Tree) -> stream.Steps:
    base_tree = ioctls.subvolume_id(host, "pool:identify", base.descriptor)
    memory = os.memfd_create("wye-changes", os.MFD_CLOEXEC)
    try:
        ioctls.send_changes(host, "pool:changes", new.descriptor, base_tree, memory)
        with mmap.mmap(memory, 0, access=mmap.ACCESS_READ) as mapped:
            return stream.read(mapped)
    finally:
        os.close(memory)


def _candidates(host: Host, base: Tree, new: Tree, steps: stream.Steps) -> compare.Candidates:
    candidates: compare.Candidates = {}
    for path, touch in steps.touched.items():
        candidates[path] = (touch.extents, touch.attributes)
        found = new.lstat(path)
        if found is not None and found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
            for name in _names(host, new, found.st_ino):
                candidates[name] = candidates[path]
    replaced: set[bytes] = set(steps.departed)
    for path, origin in steps.arrived.items():
        replaced.add(path)
        if origin is not None:
            replaced.update(new.below(path))
            replaced.update(base.below(origin))
    candidates.update((path, ([_WHOLE], None)) for path in replaced)
    return candidates


def _names(host: Host, tree: Tree, inode: int) -> list[bytes]:
    """All names of a file in its snapshot."""
    found = []
    identity = ioctls.subvolume_id(host, "pool:identify", tree.descriptor)
    for parent, name in ioctls.links(host, "pool:links", tree.descriptor, inode):
        found.append(ioctls.directory_path(host, "pool:links", tree.descriptor, identity, parent) + name)
    return found

"""One snapshot's tree, looked at without trusting it.

Nothing in a snapshot changes any more, but what is in it was made by hostile hands: a path from one snapshot may lead
through a symbolic link in another, so every directory is opened without following any; and a path may be longer than
the kernel takes in one call, so long ones are opened in parts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from wye.host import Host

_PART_BYTES = 4000
_EMPTY_SUBVOLUME_INODE = 2
"""What stands in a snapshot where its source had a subvolume within: nothing that the snapshot holds."""
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Tree:
    """The tree below the directory open as `root`, which stays the caller's. Paths are bytes without a slash in front;
    b"" is the root. One thread at a time."""

    def __init__(self, host: Host, root: int) -> None:
        self._host = host
        self.descriptor = root
        self._parent = b""
        self._parent_descriptor: int | None = root

    def close(self) -> None:
        self._forget_parent()

    def lstat(self, path: bytes) -> os.stat_result | None:
        """None if it is not there. Quick for many paths in a row that lie in the same directory."""
        parent, _, name = path.rpartition(b"/")
        if parent != self._parent:
            self._forget_parent()
            try:
                self._parent_descriptor = self._open(parent, os.O_PATH | os.O_DIRECTORY)
            except OSError as error:
                if error.errno not in _NOT_THERE:
                    raise
            self._parent = parent
        if self._parent_descriptor is None:
            return None
        try:
            found = os.stat(name or b".", dir_fd=self._parent_descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return None if found.st_ino == _EMPTY_SUBVOLUME_INODE else found

    def names(self, path: bytes) -> list[bytes]:
        """In the directory `path`."""
        descriptor = self._open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return [os.fsencode(name) for name in os.listdir(descriptor)]
        finally:
            os.close(descriptor)

    def below(self, path: bytes) -> Iterator[bytes]:
        """Everything below `path`, in no order. Nothing if it is no directory."""
        waiting = [path]
        while waiting:
            directory = waiting.pop()
            found = self.lstat(directory)
            if found is None or not stat.S_ISDIR(found.st_mode):
                continue
            inside = [directory + b"/" + name if directory else name for name in self.names(directory)]
            yield from inside
            waiting += inside

    def link_target(self, path: bytes) -> bytes:
        with self._opened(path, os.O_PATH | os.O_NOFOLLOW) as descriptor:
            return os.readlink(b"", dir_fd=descriptor)

    def attributes(self, path: bytes) -> dict[str, bytes]:
        """Extended attributes, of a link its own."""
        with self._opened(path, os.O_PATH | os.O_NOFOLLOW) as descriptor:
            # The way to an O_PATH descriptor's attributes that every kernel has.
            opened = f"/proc/self/fd/{descriptor}"
            return {name: os.getxattr(opened, name) for name in os.listxattr(opened)}

    @contextlib.contextmanager
    def regular(self, path: bytes) -> Iterator[int]:
        """A regular file, opened for reading."""
        with self._opened(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as descriptor:
            yield descriptor

    @contextlib.contextmanager
    def _opened(self, path: bytes, flags: int) -> Iterator[int]:
        descriptor = self._open(path, flags)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _open(self, path: bytes, flags: int) -> int:
        at = self.descriptor
        try:
            while len(path) > _PART_BYTES:
                cut = path.rindex(b"/", 0, _PART_BYTES)
                part, path = path[:cut], path[cut + 1 :]
                below = self._host.open_beneath(at, os.fsdecode(part), os.O_PATH | os.O_DIRECTORY)
                if at != self.descriptor:
                    os.close(at)
                at = below
            return self._host.open_beneath(at, os.fsdecode(path), flags)
        finally:
            if at != self.descriptor:
                os.close(at)

    def _forget_parent(self) -> None:
        if self._parent_descriptor is not None and self._parent_descriptor != self.descriptor:
            os.close(self._parent_descriptor)
        self._parent_descriptor = None
        self._parent = b"\0"

"""Single effects on single inodes: exchange two names, copy a content, set attributes.

Everything is done relative to open directories and on open descriptors, so that no path is walked twice and no link
is followed. What the standard library lacks (renameat2, syncfs) is called by way of ctypes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from wye.host import Host, OperationFailed
from wye.kinds.files.journal import Attributes, decode_xattrs, encode_xattrs
from wye.kinds.files.tree import FIFO, kept_xattrs, state_of, xattrs_of
from wye.merge.files import FileState, FileType

OPAQUE = "trusted.overlay.opaque"
_NOREPLACE, _EXCHANGE = 1, 2
_FICLONE = 0x40049409
_NO_CLONE = (errno.EXDEV, errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EPERM, errno.ETXTBSY)
_COPY_BYTES = 1 << 24
_libc = ctypes.CDLL(None, use_errno=True)


def exchange(host: Host, label: str, old: tuple[int, str], new: tuple[int, str]) -> None:
    """Swaps two names, each (directory, name). Raises OSError; ENOENT if one is not there."""
    _rename(host, label, old, new, _EXCHANGE)


def move(host: Host, label: str, old: tuple[int, str], new: tuple[int, str]) -> None:
    """Renames. Raises OSError; EEXIST if `new` is there."""
    _rename(host, label, old, new, _NOREPLACE)


def inode_of(directory: int, name: str) -> int | None:
    """None if it is not there."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return None


def sync(host: Host, label: str, descriptor: int) -> None:
    """Makes all that was done to the file system of an open directory durable: syncfs(2)."""
    host.at(label)
    if _libc.syncfs(descriptor) != 0:
        raise OperationFailed(label, "syncfs", ctypes.get_errno())


def create(host: Host, directory: int, name: str, state: FileState, source: int | None, text: bytes | None) -> None:
    """Makes `name`, new, of `state`'s type and content, its attributes not yet set. The content is `text` or that of
    the regular file behind the O_PATH descriptor `source`. Raises OSError."""
    if state.type is FileType.DIRECTORY:
        os.mkdir(name, 0o700, dir_fd=directory)
    elif state.type is FileType.SYMLINK:
        os.symlink(state.target, name, dir_fd=directory)
    elif state.type is FileType.WHITEOUT:
        os.mknod(name, stat.S_IFCHR, 0, dir_fd=directory)
    elif state.type is FileType.OTHER:
        kind = stat.S_IFIFO if state.target == FIFO else stat.S_IFSOCK
        os.mknod(name, kind | 0o600, dir_fd=directory)
    else:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
        try:
            if text is not None:
                _write_all(descriptor, text)
            elif source is not None:
                copy_content(host, source, descriptor)
        finally:
            os.close(descriptor)


def attributes_of(descriptor: int) -> Attributes:
    """Of what an O_PATH descriptor stands for."""
    found, state = os.fstat(descriptor), state_of(descriptor, digest=False)
    return Attributes(
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        xattrs=encode_xattrs(kept_xattrs(xattrs_of(descriptor))),
        opaque=state.opaque,
    )


def set_attributes(descriptor: int, wanted: Attributes) -> None:
    """On what an O_PATH descriptor stands for. The owner first: a change takes away set-uid bits and capabilities."""
    path = f"/proc/self/fd/{descriptor}"
    found = os.fstat(descriptor)
    if (found.st_uid, found.st_gid) != (wanted.uid, wanted.gid):
        os.chown(path, wanted.uid, wanted.gid)
        found = os.fstat(descriptor)
    if stat.S_IMODE(found.st_mode) != wanted.mode and not stat.S_ISLNK(found.st_mode):
        os.chmod(path, wanted.mode)
    present, xattrs = kept_xattrs(xattrs_of(descriptor)), decode_xattrs(wanted.xattrs)
    for name in present.keys() - xattrs.keys():
        os.removexattr(path, name)
    for name, value in xattrs.items():
        if present.get(name) != value:
            os.setxattr(path, name, value)
    if stat.S_ISDIR(found.st_mode) and state_of(descriptor, digest=False).opaque != wanted.opaque:
        if wanted.opaque:
            os.setxattr(path, OPAQUE, b"y")
        else:
            for name in [name for name in xattrs_of(descriptor) if name.endswith(".overlay.opaque")]:
                os.removexattr(path, name)


def _rename(host: Host, label: str, old: tuple[int, str], new: tuple[int, str], flags: int) -> None:
    host.at(label)
    done = _libc.renameat2(old[0], os.fsencode(old[1]), new[0], os.fsencode(new[1]), flags)
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), old[1])


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def copy_content(host: Host, source: int, target: int) -> None:
    """From the regular file behind an O_PATH descriptor: shares the blocks where the file system can, else copies."""
    opened = os.open(f"/proc/self/fd/{source}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        try:
            host.ioctl("files:stage-content", target, _FICLONE, opened)
        except OperationFailed as error:
            if error.errno not in _NO_CLONE:
                raise
        else:
            return
        _copy_data(opened, target)
    finally:
        os.close(opened)


def _copy_data(source: int, target: int) -> None:
    """Holes stay holes: they may be larger than any disk."""
    size, at = os.fstat(source).st_size, 0
    os.ftruncate(target, size)
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        end = os.lseek(source, at, os.SEEK_HOLE)
        os.lseek(target, at, os.SEEK_SET)
        while at < end and (copied := os.sendfile(target, source, at, min(_COPY_BYTES, end - at))):
            at += copied
        if at < end:
            return  # it has been cut short meanwhile

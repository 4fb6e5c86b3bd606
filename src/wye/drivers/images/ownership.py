"""Shifts the ownership of an unpacked tree into the containers' user namespace, once.

Every file's owner and group move up by `uid_base`, so that the tree needs no id-mapped mount and a process
that escaped its container would own nothing on the host. What could be dangerous on the host does not
survive: device nodes and sockets are removed, file capabilities are bound to the namespace. Ids that the
namespace has no room for become nobody. No link is followed: the tree may come from anybody.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from wye.errors import BadRequest
from wye.host import Host

IDS = 65536
NOBODY = 65534

_CAPABILITY = "security.capability"
_VERSION_2, _VERSION_3, _EFFECTIVE = 0x02000000, 0x03000000, 0x1
_DANGEROUS = (stat.S_ISCHR, stat.S_ISBLK, stat.S_ISSOCK, stat.S_ISFIFO)

_DIRECTORIES = {"proc": 0o555, "sys": 0o555, "dev": 0o755, "run": 0o755, "tmp": 0o1777, "etc": 0o755}
_FILES = ("hosts", "hostname", "resolv.conf")


@dataclass(slots=True)
class Shifted:
    """What a shift met."""

    entries: int = 0
    removed: int = 0
    squashed: int = 0


def shift_tree(host: Host, label: str, root: Path, uid_base: int) -> Shifted:
    """Shifts all of `root`, which nobody else may be writing to. Raises OperationFailed, DiskFull,
    and BadRequest if the root itself is something else than a directory."""
    host.at(label)
    if not stat.S_ISDIR(os.lstat(root).st_mode):
        raise BadRequest("the image's root is not a directory")
    done = Shifted()
    seen: set[int] = set()
    try:
        _shift(str(root), os.lstat(root), uid_base, done)
        pending = [str(root)]
        while pending:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if any(kind(status.st_mode) for kind in _DANGEROUS):
                        os.unlink(entry.path)
                        done.removed += 1
                        continue
                    if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                        if status.st_ino in seen:
                            continue
                        seen.add(status.st_ino)
                    _shift(entry.path, status, uid_base, done)
                    if stat.S_ISDIR(status.st_mode):
                        pending.append(entry.path)
    except OSError as error:
        raise host.failure(label, f"shift ownership below {root}", error) from error
    return done


def _shift(path: str, status: os.stat_result, uid_base: int, done: Shifted) -> None:
    done.entries += 1
    ids = []
    for number in (status.st_uid, status.st_gid):
        if number >= IDS:
            done.squashed += 1
            number = NOBODY
        ids.append(number + uid_base)
    mode = status.st_mode
    # chown(2) clears file capabilities and the set-id bits: read the first before, set the others after.
    capability = _capability(path) if stat.S_ISREG(mode) and mode & 0o111 else None
    os.lchown(path, *ids)
    if mode & (stat.S_ISUID | stat.S_ISGID) and not stat.S_ISLNK(mode):
        os.chmod(path, stat.S_IMODE(mode))
    if capability is not None:
        os.setxattr(path, _CAPABILITY, _rooted(capability, uid_base), follow_symlinks=False)


def _capability(path: str) -> bytes | None:
    try:
        return os.getxattr(path, _CAPABILITY, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return None
        raise


def _rooted(value: bytes, uid_base: int) -> bytes:
    """A version 2 or 3 capability as version 3 for the namespace whose root is `uid_base`.

    Layout (linux/capability.h, vfs_ns_cap_data): u32 magic, 2 x (u32 permitted, u32 inheritable), u32 rootid.
    """
    magic, *sets = struct.unpack_from("<5I", value.ljust(20, b"\0"))
    return struct.pack("<6I", _VERSION_3 | (magic & _EFFECTIVE), *sets, uid_base)


def make_mount_points(host: Host, label: str, root: Path, uid_base: int) -> None:
    """Adds to the shifted tree the directories and files that a runtime mounts over.

    Raises BadRequest if one of them is there as something else, since it would lead out of the tree.
    """
    host.at(label)
    for name, mode in _DIRECTORIES.items():
        try:
            _directory(host, root, name, mode, uid_base)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EXDEV):
                raise BadRequest(f"the image has a /{name} that is not a directory") from error
            raise host.failure(label, f"make {root / name}", error) from error
    descriptor = host.open_beneath(root, "etc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in _FILES:
            _plain_file(descriptor, name, uid_base)
    except OSError as error:
        raise host.failure(label, f"make a file in {root}/etc", error) from error
    finally:
        os.close(descriptor)


def _directory(host: Host, root: Path, name: str, mode: int, uid_base: int) -> None:
    path = root / name
    try:
        os.mkdir(path)
    except FileExistsError:
        descriptor = host.open_beneath(root, name, os.O_RDONLY | os.O_DIRECTORY)
        os.close(descriptor)
    else:
        os.lchown(path, uid_base, uid_base)
        os.chmod(path, mode)
    if name == "tmp":
        os.chmod(path, mode)


def _plain_file(directory: int, name: str, uid_base: int) -> None:
    """An image's /etc/resolv.conf is often a link to what a resolver would write: an empty file replaces it."""
    try:
        if stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            return
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o644, dir_fd=directory)
    os.fchmod(descriptor, 0o644)
    os.fchown(descriptor, uid_base, uid_base)
    os.close(descriptor)

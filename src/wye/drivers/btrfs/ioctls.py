"""The btrfs ioctls that the pool uses, one function each: packs, calls, unpacks, and decides nothing.

Nothing here starts a program: `btrfs subvolume snapshot` costs more than the snapshot. Structures are those of
<linux/btrfs.h> and <linux/btrfs_tree.h>. Every function takes the host and the label of its effect, and raises
what `Host.ioctl` raises.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from wye.host import Host, OperationFailed

_libc = ctypes.CDLL(None, use_errno=True)

SUBVOLUME_ROOT_INODE = 256
TOP_LEVEL_TREE = 5
ROOTS_TREE = 1

ROOT_ITEM, ROOT_REF = 132, 156
INODE_REF, INODE_EXTREF = 12, 13

_SNAP_CREATE_V2 = 0x50009417
_SUBVOL_CREATE_V2 = 0x50009418
_SUBVOL_SETFLAGS = 0x4008941A
_SNAP_DESTROY_V2 = 0x5000943F
_TREE_SEARCH_V2 = 0xC0709411
_INO_LOOKUP = 0xD0009412
_FS_INFO = 0x8400941F
_SEND = 0x40489426
_QUOTA_CTL = 0xC0109428
_QGROUP_CREATE = 0x4010942A
_QGROUP_LIMIT = 0x8030942B

_SUBVOL_READ_ONLY = 1 << 1
_SUBVOL_QGROUP_INHERIT = 1 << 2
_SUBVOL_SPEC_BY_ID = 1 << 4
_INHERIT_SET_LIMITS = 1
_LIMIT_MAX_REFERENCED = 1
_SEND_NO_FILE_DATA = 1
_HANDLE_WITHOUT_PARENT = 0x4D
_QUOTA_ENABLE_SIMPLE = 4

_NO_LIMIT = (1 << 64) - 1
_SEARCH_BUFFER_BYTES = 1 << 16
_SEARCH_HEADER = struct.Struct("=QQQII")
_REF = struct.Struct("<QH")
_EXTENDED_REF = struct.Struct("<QQH")


class _Limit(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("flags", "max_rfer", "max_excl", "rsv_rfer", "rsv_excl")]


class _Inherit(ctypes.Structure):
    _fields_ = [
        ("flags", ctypes.c_uint64),
        ("num_qgroups", ctypes.c_uint64),
        ("num_ref_copies", ctypes.c_uint64),
        ("num_excl_copies", ctypes.c_uint64),
        ("lim", _Limit),
    ]


class _VolumeArguments(ctypes.Structure):
    _fields_ = [
        ("fd", ctypes.c_int64),
        ("transid", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("inherit_size", ctypes.c_uint64),
        ("inherit", ctypes.POINTER(_Inherit)),
        ("unused", ctypes.c_uint64 * 2),
        ("name", ctypes.c_char * 4040),
    ]


class _DestroyArguments(ctypes.Structure):
    """`_VolumeArguments` with its last union read as a subvolume's id."""

    _fields_ = [
        ("fd", ctypes.c_int64),
        ("transid", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("unused", ctypes.c_uint64 * 4),
        ("subvolid", ctypes.c_uint64),
        ("padding", ctypes.c_char * 4032),
    ]


class _QgroupLimit(ctypes.Structure):
    _fields_ = [("qgroupid", ctypes.c_uint64), ("lim", _Limit)]


class _Send(ctypes.Structure):
    _fields_ = [
        ("send_fd", ctypes.c_int64),
        ("clone_sources_count", ctypes.c_uint64),
        ("clone_sources", ctypes.c_void_p),
        ("parent_root", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("version", ctypes.c_uint32),
        ("reserved", ctypes.c_uint8 * 28),
    ]


class _InoLookup(ctypes.Structure):
    _fields_ = [("treeid", ctypes.c_uint64), ("objectid", ctypes.c_uint64), ("name", ctypes.c_char * 4080)]


class _FileHandle(ctypes.Structure):
    """struct file_handle, filled as btrfs does for a file without its parent. Generation 0 matches any."""

    _pack_ = 4
    _fields_ = [
        ("bytes", ctypes.c_uint32),
        ("type", ctypes.c_int32),
        ("inode", ctypes.c_uint64),
        ("tree", ctypes.c_uint64),
        ("generation", ctypes.c_uint32),
    ]


class _Search(ctypes.Structure):
    _fields_ = [
        ("tree_id", ctypes.c_uint64),
        ("min_objectid", ctypes.c_uint64),
        ("max_objectid", ctypes.c_uint64),
        ("min_offset", ctypes.c_uint64),
        ("max_offset", ctypes.c_uint64),
        ("min_transid", ctypes.c_uint64),
        ("max_transid", ctypes.c_uint64),
        ("min_type", ctypes.c_uint32),
        ("max_type", ctypes.c_uint32),
        ("nr_items", ctypes.c_uint32),
        ("unused", ctypes.c_uint32 * 9),
        ("buf_size", ctypes.c_uint64),
        ("buf", ctypes.c_char * _SEARCH_BUFFER_BYTES),
    ]


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a b-tree."""

    objectid: int
    kind: int
    offset: int
    data: bytes


def create_subvolume(host: Host, label: str, directory: int, name: str) -> None:
    arguments = _VolumeArguments(name=name.encode())
    host.ioctl(label, directory, _SUBVOL_CREATE_V2, arguments)


def snapshot(
    host: Host,
    label: str,
    source: int,
    directory: int,
    name: str,
    *,
    read_only: bool,
    limit_bytes: int | None = None,
) -> None:
    """Makes `name` in `directory` a snapshot of the subvolume open as `source`. Commits a transaction.

    The limit is set by the same ioctl, so that there is no moment without it.
    """
    arguments = _VolumeArguments(fd=source, flags=_SUBVOL_READ_ONLY if read_only else 0, name=name.encode())
    if limit_bytes is not None:
        inherit = _Inherit(flags=_INHERIT_SET_LIMITS, lim=_Limit(flags=_LIMIT_MAX_REFERENCED, max_rfer=limit_bytes))
        arguments.flags |= _SUBVOL_QGROUP_INHERIT
        arguments.inherit_size = ctypes.sizeof(inherit)
        arguments.inherit = ctypes.pointer(inherit)
    host.ioctl(label, directory, _SNAP_CREATE_V2, arguments)


def destroy(host: Host, label: str, directory: int, name: str) -> None:
    """Unlinks the subvolume `name`; the kernel frees its extents afterwards. Commits nothing."""
    host.ioctl(label, directory, _SNAP_DESTROY_V2, _VolumeArguments(name=name.encode()))


def destroy_by_id(host: Host, label: str, descriptor: int, subvolume: int) -> None:
    arguments = _DestroyArguments(flags=_SUBVOL_SPEC_BY_ID, subvolid=subvolume)
    host.ioctl(label, descriptor, _SNAP_DESTROY_V2, arguments)


def open_subvolume(host: Host, label: str, descriptor: int, subvolume: int) -> int:
    """A descriptor of a subvolume's root by its id, wherever in the pool it is and however long its path."""
    host.at(label)
    handle = _FileHandle(bytes=20, type=_HANDLE_WITHOUT_PARENT, inode=SUBVOLUME_ROOT_INODE, tree=subvolume)
    opened: int = _libc.open_by_handle_at(descriptor, ctypes.byref(handle), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if opened < 0:
        raise OperationFailed(label, f"open subvolume {subvolume}", ctypes.get_errno())
    return opened


def make_writable(host: Host, label: str, descriptor: int) -> None:
    host.ioctl(label, descriptor, _SUBVOL_SETFLAGS, bytearray(8))


def subvolume_id(host: Host, label: str, descriptor: int) -> int:
    """The tree that the open file or directory lies in."""
    arguments = _InoLookup(treeid=0, objectid=SUBVOLUME_ROOT_INODE)
    host.ioctl(label, descriptor, _INO_LOOKUP, arguments)
    return int(arguments.treeid)


def directory_path(host: Host, label: str, descriptor: int, tree: int, inode: int) -> bytes:
    """Path of a directory from its subvolume's root, "" for the root itself, else with a slash at its end."""
    arguments = _InoLookup(treeid=tree, objectid=inode)
    host.ioctl(label, descriptor, _INO_LOOKUP, arguments)
    return bytes(arguments.name)


def links(host: Host, label: str, descriptor: int, inode: int) -> Iterator[tuple[int, bytes]]:
    """All names of a file in the subvolume of `descriptor`: (inode of the directory, name)."""
    for item in search(host, label, descriptor, 0, (INODE_REF, INODE_EXTREF), (inode, inode)):
        at = 0
        while at < len(item.data):
            if item.kind == INODE_REF:
                parent, (_, length) = item.offset, _REF.unpack_from(item.data, at)
                at += _REF.size
            else:
                parent, _, length = _EXTENDED_REF.unpack_from(item.data, at)
                at += _EXTENDED_REF.size
            yield parent, item.data[at : at + length]
            at += length


def filesystem_id(host: Host, label: str, descriptor: int) -> str:
    """As in /sys/fs/btrfs."""
    information = bytearray(1024)
    host.ioctl(label, descriptor, _FS_INFO, information)
    digits = information[16:32].hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def send_changes(host: Host, label: str, snapshot_descriptor: int, base_tree: int, out: int) -> None:
    """Writes to `out` the stream (version 1, without file data) that turns the base into the snapshot.

    Both must be read-only. While it runs, neither can be deleted.
    """
    arguments = _Send(send_fd=out, parent_root=base_tree, flags=_SEND_NO_FILE_DATA)
    host.ioctl(label, snapshot_descriptor, _SEND, arguments)


def enable_simple_quota(host: Host, label: str, descriptor: int) -> None:
    host.ioctl(label, descriptor, _QUOTA_CTL, bytearray(struct.pack("=QQ", _QUOTA_ENABLE_SIMPLE, 0)))


def limit_qgroup(host: Host, label: str, descriptor: int, subvolume: int, limit_bytes: int | None) -> None:
    limit = _Limit(flags=_LIMIT_MAX_REFERENCED, max_rfer=_NO_LIMIT if limit_bytes is None else limit_bytes)
    host.ioctl(label, descriptor, _QGROUP_LIMIT, _QgroupLimit(qgroupid=subvolume, lim=limit))


def remove_qgroup(host: Host, label: str, descriptor: int, subvolume: int) -> None:
    host.ioctl(label, descriptor, _QGROUP_CREATE, bytearray(struct.pack("=QQ", 0, subvolume)))


def search(
    host: Host, label: str, descriptor: int, tree: int, kinds: tuple[int, int], objectids: tuple[int, int]
) -> Iterator[Item]:
    """Items of a tree with a kind and an objectid within the two (inclusive) ranges, in the order of their keys.

    `tree` 0 is the one that `descriptor` lies in.
    """
    key = (objectids[0], kinds[0], 0)
    while True:
        arguments = _Search(
            tree_id=tree,
            min_objectid=key[0], min_type=key[1], min_offset=key[2],
            max_objectid=objectids[1], max_type=kinds[1], max_offset=_NO_LIMIT,
            max_transid=_NO_LIMIT,
            nr_items=0xFFFFFFFF,
            buf_size=_SEARCH_BUFFER_BYTES,
        )  # fmt: skip
        host.ioctl(label, descriptor, _TREE_SEARCH_V2, arguments)
        if arguments.nr_items == 0:
            return
        buffer = memoryview(arguments).cast("B")[_Search.buf.offset :]
        at = 0
        for _ in range(arguments.nr_items):
            _, objectid, offset, kind, length = _SEARCH_HEADER.unpack_from(buffer, at)
            at += _SEARCH_HEADER.size
            # The range is one of whole keys: between its ends come items of every kind.
            if kinds[0] <= kind <= kinds[1]:
                yield Item(objectid, kind, offset, bytes(buffer[at : at + length]))
            at += length
            key = (objectid, kind, offset)
        key = _after(key)


def _after(key: tuple[int, int, int]) -> tuple[int, int, int]:
    objectid, kind, offset = key
    if offset < _NO_LIMIT:
        return (objectid, kind, offset + 1)
    return (objectid, kind + 1, 0) if kind < 255 else (objectid + 1, 0, 0)

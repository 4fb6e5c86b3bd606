"""The loop device under a pool that lies in an image file.

Guarantees: at most one loop device shows an image (two would be two caches over one file system, and end it);
it does direct I/O, which a snapshot's commit needs to be quick; and it detaches by itself when the last user
has gone (LO_FLAGS_AUTOCLEAR), so that nothing is left of an attach that was cut short.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wye.errors import Unavailable
from wye.host import Host, OperationFailed

_CONTROL = "/dev/loop-control"
_MAJOR = 7
_LOOP_CLR_FD, _LOOP_GET_STATUS64, _LOOP_CONFIGURE, _LOOP_CTL_GET_FREE = 0x4C01, 0x4C05, 0x4C0A, 0x4C82
_AUTOCLEAR, _DIRECT_IO = 4, 16
_BLOCK_BYTES = 4096
_ATTEMPTS = 20
"""Between asking for a free device and taking it, somebody else may take it."""


class _Status(ctypes.Structure):
    _fields_ = [
        ("device", ctypes.c_uint64),
        ("inode", ctypes.c_uint64),
        ("rdevice", ctypes.c_uint64),
        ("offset", ctypes.c_uint64),
        ("sizelimit", ctypes.c_uint64),
        ("number", ctypes.c_uint32),
        ("encrypt_type", ctypes.c_uint32),
        ("encrypt_key_size", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("file_name", ctypes.c_uint8 * 64),
        ("crypt_name", ctypes.c_uint8 * 64),
        ("encrypt_key", ctypes.c_uint8 * 32),
        ("init", ctypes.c_uint64 * 2),
    ]


class _Configuration(ctypes.Structure):
    _fields_ = [
        ("fd", ctypes.c_uint32),
        ("block_size", ctypes.c_uint32),
        ("status", _Status),
        ("reserved", ctypes.c_uint64 * 8),
    ]


@contextmanager
def attached(host: Host, image: Path) -> Iterator[Path]:
    """The loop device that shows `image`, attached if it was not. Detached at the end unless in use by then."""
    device, descriptor = _opened(host, image) or _attach(host, image)
    try:
        yield device
    finally:
        os.close(descriptor)


def find(host: Host, image: Path) -> Path | None:
    """The device that shows `image`, whoever attached it."""
    found = _opened(host, image)
    if found is None:
        return None
    os.close(found[1])
    return found[0]


def detach(host: Host, device: Path) -> None:
    """Detaches what did not detach itself, because somebody else had attached it. Harmless if it is detached."""
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        host.ioctl("pool:detach", descriptor, _LOOP_CLR_FD)
    except OperationFailed as error:
        if error.errno != errno.ENXIO:
            raise
    finally:
        os.close(descriptor)


def does_direct_io(device: Path) -> bool:
    return Path("/sys/block", device.name, "loop/dio").read_text().strip() == "1"


def _shows(host: Host, descriptor: int, image: Path) -> bool:
    status = _Status()
    try:
        host.ioctl("pool:find-loop", descriptor, _LOOP_GET_STATUS64, status)
        found = image.stat()
    except (OperationFailed, FileNotFoundError):
        return False
    return (status.device, status.inode) == (found.st_dev, found.st_ino)


def _opened(host: Host, image: Path) -> tuple[Path, int] | None:
    """The device that shows `image`, and a descriptor that keeps it attached.

    Open for reading only: a kernel may refuse to open a mounted device for more.
    """
    for entry in sorted(Path("/sys/block").glob("loop*/loop/backing_file")):
        device = Path("/dev", entry.parts[3])
        try:
            descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            # No node for it, or gone again: not a device that this process could have mounted.
            continue
        if _shows(host, descriptor, image):
            return device, descriptor
        os.close(descriptor)
    return None


def _attach(host: Host, image: Path) -> tuple[Path, int]:
    """A free device, showing `image`, and a descriptor that keeps it attached."""
    backing = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_ATTEMPTS):
            device = _free_device(host)
            descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            configuration = _Configuration(fd=backing, block_size=_BLOCK_BYTES)
            configuration.status.flags = _AUTOCLEAR | _DIRECT_IO
            name = os.fsencode(image)[:63]
            ctypes.memmove(configuration.status.file_name, name, len(name))
            try:
                host.ioctl("pool:attach", descriptor, _LOOP_CONFIGURE, configuration)
            except OperationFailed as error:
                os.close(descriptor)
                if error.errno != errno.EBUSY:
                    raise
                continue
            return device, descriptor
    finally:
        os.close(backing)
    raise Unavailable(f"pool:attach: no loop device could be had in {_ATTEMPTS} attempts")


def _free_device(host: Host) -> Path:
    control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        number = host.ioctl("pool:free-loop", control, _LOOP_CTL_GET_FREE)
    finally:
        os.close(control)
    device = Path(f"/dev/loop{number}")
    if not device.exists():
        # devtmpfs makes the node; where /dev is something else, nobody does.
        host.at("pool:make-loop-node")
        os.mknod(device, stat.S_IFBLK | 0o600, os.makedev(_MAJOR, number))
    return device

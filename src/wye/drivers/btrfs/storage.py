"""What the pool lies on: the image file, its file system, its mount.

An image is preallocated and never sparse, because a pool that finds the host's disk full loses writes that it
has acknowledged, and because a snapshot on a sparse image is ten times slower. For the same reason the mount
says `nodiscard`: a discard would punch holes into the image. It is formatted under another name and renamed when
whole, so an image that exists is a file system; what a crash leaves is overwritten by the next `open`.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

from wye.drivers.btrfs import loop
from wye.errors import BadRequest, Conflict, Unsupported
from wye.host import MS_NOATIME, DiskFull, Host, OperationFailed

MINIMUM_BYTES = 256 << 20
_SPARE = 0.05
"""What must be left on the host's disk, as a share of the image."""
_FORMAT_TIMEOUT_S = 600.0
_DETACH_TIMEOUT_S = 10.0
_FORMAT = ("-L", "wye", "-m", "single", "-d", "single", "--nodesize", "4096", "--sectorsize", "4096")
"""A snapshot adds a reference to every child of its tree's root node: up to 121 children with nodes of 4 KiB, up to 493
with the 16 KiB that are usual. With 1,000 forks of 3,000 files alive that is 1.7 ms against 13 ms."""
_OPTIONS = "space_cache=v2,nodiscard"
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mounted:
    kind: str
    source: str
    read_only: bool


def mounted_at(path: Path) -> Mounted | None:
    """What is mounted at `path`, the topmost if several are."""
    found, wanted = None, os.path.realpath(path)
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        place = left.split(" ")[4]
        if _ESCAPE.sub(lambda match: chr(int(match[1], 8)), place) == wanted:
            kind, source, options = right.split(" ")[:3]
            found = Mounted(kind, source, read_only="ro" in options.split(","))
    return found


def mount(host: Host, path: Path, image: Path, image_bytes: int | None) -> None:
    """Makes the image if it is missing, and mounts it at `path` unless it is mounted there.

    One at a time: two that attach one image at once would make two loop devices of it.
    """
    host.make_directory("pool:make-directory", path, mode=0o711)
    if _is_mounted(host, path, image):
        return
    _make_image(host, image, image_bytes)
    with loop.attached(host, image) as device:
        try:
            host.mount("pool:mount", device, path, "btrfs", flags=MS_NOATIME, options=_OPTIONS)
        except OperationFailed as error:
            if error.errno == errno.ENODEV:
                raise Unsupported("this kernel has no btrfs", hint="run 'modprobe btrfs'") from error
            raise


def unmount(host: Host, path: Path, image: Path) -> None:
    """Unmounts `path` and waits until the loop device has let go of the image. Raises Conflict while it is in use."""
    in_use = Conflict(f"the pool at {path} is in use", hint="stop what runs in it first")
    try:
        host.unmount("pool:unmount", path)
    except OperationFailed as error:
        if error.errno == errno.EBUSY:
            raise in_use from error
        raise
    device = loop.find(host, image)
    if device is None:
        return
    loop.detach(host, device)
    deadline = host.monotonic() + _DETACH_TIMEOUT_S
    while loop.find(host, image) is not None:
        if host.monotonic() > deadline:
            raise Conflict(
                in_use.message, hint=f"a process has it in a mount namespace: grep -l {path} /proc/[0-9]*/mountinfo"
            )
        host.sleep(0.01)


def _is_mounted(host: Host, path: Path, image: Path) -> bool:
    """Whether the image is mounted at `path` and can be written. One that cannot is unmounted."""
    mounted = mounted_at(path)
    if mounted is None:
        return False
    device = loop.find(host, image)
    if mounted.kind != "btrfs" or device is None or mounted.source != str(device):
        raise Conflict(f"{mounted.source} is mounted at {path}, where the pool should be", hint=f"run 'umount {path}'")
    if not mounted.read_only:
        return True
    try:
        host.unmount("pool:unmount-broken", path)
    except OperationFailed as error:
        raise Conflict(
            f"the pool at {path} went read-only after an error and is in use",
            hint="read the kernel's log, stop what runs in the pool, and try again",
        ) from error
    return False


def _make_image(host: Host, image: Path, image_bytes: int | None) -> None:
    if image.exists():
        return
    if image_bytes is None:
        raise BadRequest(f"there is no pool image at {image}", hint="say how large it shall be")
    if image_bytes < MINIMUM_BYTES:
        raise BadRequest(f"a pool of {image_bytes} bytes is too small", hint=f"at least {MINIMUM_BYTES} bytes")
    partial = image.with_name(f"{image.name}.partial")
    _allocate(host, partial, image_bytes)
    host.run(
        "pool:format",
        ["mkfs.btrfs", "-q", "-f", "--nodiscard", *_FORMAT, str(partial)],
        timeout_s=_FORMAT_TIMEOUT_S,
    )
    _sync(partial)
    host.at("pool:publish-image")
    os.rename(partial, image)
    _sync(image.parent)


def _allocate(host: Host, partial: Path, image_bytes: int) -> None:
    held = partial.stat().st_blocks * 512 if partial.exists() else 0
    disk = os.statvfs(partial.parent)
    room = disk.f_bavail * disk.f_frsize + held
    if room < image_bytes * (1 + _SPARE):
        raise DiskFull(
            f"a pool of {image_bytes} bytes does not fit on the disk of {partial.parent}, which has room for {room}",
            hint="make room, choose a smaller size, or put the pool on another disk",
        )
    host.at("pool:allocate")
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, image_bytes)
        os.posix_fallocate(descriptor, 0, image_bytes)
    except OSError as error:
        partial.unlink()
        raise host.failure("pool:allocate", f"allocate {image_bytes} bytes for {partial}", error) from error
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

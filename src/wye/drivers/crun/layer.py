"""A container's root file system: the image below, the environment's layer above, one overlay mount.

The layer is a directory of the environment's subvolume, so a snapshot of the environment holds it as it was at that
instant, with whatever the overlay had under way in `work`. Nothing in there is ever needed again: each mount begins
with an empty `work`, which also takes away the mark by which a volatile overlay refuses its next mount.

`layers/<name>/upper` and `work` are never visible to a container under these names; what is below `upper` is hostile
and not entered here.

Durable overlays pass fsync through, and for that unmounting one writes back the whole pool: 1 ms when nothing is
dirty, 30 ms and more with 50 MB. Volatile ones ignore fsync on the layer (never on volumes) and unmount in 0.1 ms.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from wye.errors import NotFound
from wye.host import MS_NOATIME, MS_NODEV, Host

_FIXED = "index=off,metacopy=off,redirect_dir=off"
"""Whatever the kernel's defaults: `upper` must be readable by itself, file by file, for diffs."""


def mount(host: Host, *, root: Path, name: str, rootfs: Path, target: Path, owner: int, durable: bool) -> None:
    """Mounts the layer `name` of the environment at `root` over `rootfs` at `target`.

    `owner` is the uid and gid, on the host, of the container's root. Raises NotFound if the environment or the image
    is not there.
    """
    if not rootfs.is_dir():
        raise NotFound(f"no image at {rootfs}", hint="run 'wye up' again to unpack it")
    host.at("start:layer")
    with _made(host, root, name) as layer:
        with contextlib.suppress(FileExistsError):
            os.mkdir("upper", 0o755, dir_fd=layer)
        if os.stat("upper", dir_fd=layer, follow_symlinks=False).st_uid == 0:
            # New: a container's own files never belong to the host's root.
            os.chown("upper", owner, owner, dir_fd=layer, follow_symlinks=False)
    directory = root / "layers" / name
    _empty(host, directory / "work")
    options = (
        f"lowerdir={_escaped(rootfs)},upperdir={_escaped(directory / 'upper')},workdir={_escaped(directory / 'work')}"
    )
    options += f",{_FIXED}" if durable else f",{_FIXED},volatile"
    host.mount("start:mount", "wye", target, "overlay", flags=MS_NOATIME | MS_NODEV, options=options)


@contextlib.contextmanager
def _made(host: Host, root: Path, name: str) -> Iterator[int]:
    """A descriptor of `layers/<name>`, made if it was not there, reached without following a link."""
    with contextlib.ExitStack() as stack:
        try:
            above = host.open_beneath(root, ".", os.O_DIRECTORY)
        except FileNotFoundError as error:
            raise NotFound(f"no environment at {root}", hint="is the pool mounted?") from error
        stack.callback(os.close, above)
        for part in ("layers", name):
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o711, dir_fd=above)
            above = host.open_beneath(above, part, os.O_DIRECTORY)
            stack.callback(os.close, above)
        yield above


def _empty(host: Host, work: Path) -> None:
    try:
        work.mkdir(mode=0o700)
    except FileExistsError:
        host.remove_tree("start:work", work)
        work.mkdir(mode=0o700)


def _escaped(path: Path) -> str:
    """As overlayfs reads its options: commas end one, colons separate lower directories."""
    return str(path).replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")

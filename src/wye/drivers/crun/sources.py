"""What of the host appears in a container: volumes, files, the init program. Each as a path that cannot be swapped.

A volume's own directory (`volumes/<name>`) lies where no container can rename it, so its path is safe to hand over. A
path below that is the containers' to change at any time: it is opened without following links and bound, by its
descriptor, to a mount point of ours, which is what the runtime gets.
"""

from __future__ import annotations

import base64
import errno
import os
import stat
from pathlib import Path, PurePosixPath

from wye.drivers.crun.bundle import Bundle
from wye.drivers.crun.config import Source
from wye.drivers.crun.users import IDS
from wye.errors import BadRequest, NotFound
from wye.host import MS_BIND, MS_REC, Host
from wye.interfaces import Bind
from wye.model import File


def bind(host: Host, bundle: Bundle, number: int, root: Path, wanted: Bind) -> Source:
    """The `number`-th volume of a container. Raises NotFound, or BadRequest for a path that leads elsewhere."""
    parts = PurePosixPath(wanted.source).parts
    if not parts or parts[0] != "volumes" or ".." in parts:
        raise BadRequest(f"{wanted.source!r} is no path of a volume", hint="use volumes/<name> or a path below it")
    opened = _opened(host, root, wanted.source)
    try:
        kind = os.fstat(opened).st_mode
        if not (stat.S_ISDIR(kind) or stat.S_ISREG(kind)):
            raise BadRequest(
                f"{wanted.source!r} is neither a directory nor a file", hint="only these can be mounted in a container"
            )
        if len(parts) == 2:
            return Source(str(root / wanted.source), wanted.target, wanted.read_only)
        point = bundle.bind_point(number)
        host.at("start:bind")
        if stat.S_ISDIR(kind):
            point.mkdir(mode=0o711)
        else:
            point.touch()
        host.mount("start:bind", f"/proc/self/fd/{opened}", point, "none", flags=MS_BIND | MS_REC)
        return Source(str(point), wanted.target, wanted.read_only)
    finally:
        os.close(opened)


def file(host: Host, bundle: Bundle, number: int, uid_base: int, wanted: File) -> Source:
    """The `number`-th file of a container, written into its bundle."""
    if not (0 <= wanted.uid < IDS and 0 <= wanted.gid < IDS):
        raise BadRequest(f"{wanted.name}: owner {wanted.uid}:{wanted.gid} is beyond a container's range")
    path = bundle.file(number)
    host.write_file("start:file", path, base64.b64decode(wanted.content), mode=wanted.mode)
    os.chown(path, uid_base + wanted.uid, uid_base + wanted.gid)
    return Source(str(path), wanted.target, read_only=True)


def _opened(host: Host, root: Path, path: str) -> int:
    try:
        return host.open_beneath(root, path, os.O_PATH)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise NotFound(
                f"nothing at {path!r} in the environment", hint="make the volume or directory first"
            ) from error
        if error.errno in (errno.ELOOP, errno.EXDEV):
            raise BadRequest(
                f"{path!r} leads through a symbolic link", hint="a volume's subpath must be made of directories"
            ) from error
        raise host.failure("start:bind", f"open {path}", error) from error

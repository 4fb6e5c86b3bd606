"""A root file system of two megabytes for tests that start real containers.

It holds a statically linked busybox from Debian's archive, with all its applets linked in /bin, the accounts
`root` and `user` (uid 1000, member of `extra`, gid 50), and the directories that a container needs. Real enough for
a shell, a web server and a fork bomb; made in well under a second once the package has been fetched.
"""

from __future__ import annotations

import os
from pathlib import Path

from wye.host import Host, ProgramFailed

PASSWD = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"
GROUP = "root:x:0:\nextra:x:50:user\nuser:x:1000:\n"
_DIRECTORIES = (
    "bin", "dev", "etc", "home", "home/user", "proc", "root", "run", "sys", "tmp", "usr", "usr/bin", "var",
)  # fmt: skip
_USER = 1000


def debian_package(directory: Path, package: str) -> Path:
    """The unpacked files of a Debian package below `directory`, fetched once. Raises ProgramFailed."""
    host = Host()
    unpacked = directory / package
    if unpacked.is_dir():
        return unpacked
    downloads = directory / f".{package}.{os.getpid()}"
    downloads.mkdir(parents=True, exist_ok=True)
    # Run as root below a private directory, apt needs no user of its own to drop to.
    download = ("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package)
    try:
        host.run("rootfs:download", download, cwd=downloads)
    except ProgramFailed:
        host.run("rootfs:update", ("apt-get", "-q", "update"), timeout_s=300)
        host.run("rootfs:download", download, cwd=downloads)
    (archive,) = downloads.glob("*.deb")
    fresh = downloads / "files"
    host.run("rootfs:unpack", ("dpkg-deb", "-x", str(archive), str(fresh)))
    if not unpacked.is_dir():
        fresh.rename(unpacked)
    host.remove_tree("rootfs:download", downloads)
    return unpacked


def tiny_rootfs(directory: Path, uid_base: int = 200000) -> Path:
    """Makes `directory`/rootfs-<uid_base> unless it is there, and returns it.

    `directory` is a cache that may be kept between runs. Ownership is shifted to `uid_base`, as the image driver
    does it: container uid 0 is `uid_base` on the host.
    """
    rootfs = directory / f"rootfs-{uid_base}"
    if rootfs.is_dir():
        return rootfs
    host = Host()
    package = debian_package(directory, "busybox-static")
    # Debian 13 has it below /usr.
    busybox = next(path for path in (package / "bin/busybox", package / "usr/bin/busybox") if path.exists())
    fresh = directory / f".rootfs-{uid_base}.{os.getpid()}"
    host.remove_tree("rootfs:make", fresh)
    for name in ("", *_DIRECTORIES):
        (fresh / name).mkdir(parents=True)
    (fresh / "tmp").chmod(0o1777)
    (fresh / "bin" / "busybox").write_bytes(busybox.read_bytes())
    (fresh / "bin" / "busybox").chmod(0o755)
    for applet in host.run("rootfs:applets", (str(busybox), "--list")).text.split():
        if applet != "busybox":
            (fresh / "bin" / applet).symlink_to("busybox")
    (fresh / "etc" / "passwd").write_text(PASSWD)
    (fresh / "etc" / "group").write_text(GROUP)
    for path in (fresh, *fresh.rglob("*")):
        os.lchown(path, uid_base, uid_base)
    os.chown(fresh / "home" / "user", uid_base + _USER, uid_base + _USER)
    if rootfs.is_dir():
        host.remove_tree("rootfs:make", fresh)
    else:
        fresh.rename(rootfs)
    return rootfs

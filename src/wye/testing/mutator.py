"""Random changes to a file tree, of every sort that a process can make: what tells changes apart is tried with it.

The same seed makes the same changes. It follows no symbolic link that it made, so it stays below its root.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import shutil
import socket
import stat
import struct
from pathlib import Path

_FICLONERANGE = 0x4020940D
_PUNCH_HOLE_KEEP_SIZE = 3
_NAMES = [b"a", b"b", b"c", b"d", b"o257-9-0", b"o258-10-0", b"new\nline", b"\xff\xfe", b".wh..", b"x" * 200]
_libc = ctypes.CDLL(None, use_errno=True)


class Mutator:
    def __init__(self, root: Path, seed: int) -> None:
        self.root = os.fsencode(root)
        self.random = random.Random(seed)

    def step(self) -> None:
        """One change; impossible ones do nothing."""
        action = self.random.choice(
            [
                self.make_file, self.make_file, self.make_directory, self.make_directory, self.write, self.write,
                self.write, self.truncate, self.punch, self.clone, self.rename, self.rename, self.rename,
                self.exchange, self.exchange, self.link, self.link, self.unlink, self.remove_tree, self.symlink,
                self.special, self.chmod, self.chown, self.xattr, self.utime, self.replace,
            ]
        )  # fmt: skip
        try:
            action()
        except OSError:
            pass

    def every(self) -> list[bytes]:
        found = []
        for directory, directories, files in os.walk(self.root):
            found += [os.path.join(directory, name) for name in directories + files]
        return sorted(found)

    def any(self, wanted: int | None = None) -> bytes:
        kinds = [path for path in self.every() if wanted is None or stat.S_IFMT(os.lstat(path).st_mode) == wanted]
        if not kinds:
            raise FileNotFoundError
        return self.random.choice(kinds)

    def place(self) -> bytes:
        directories = [self.root, *(path for path in self.every() if os.path.isdir(path) and not os.path.islink(path))]
        return os.path.join(self.random.choice(directories), self.random.choice(_NAMES))

    def make_file(self) -> None:
        with open(self.place(), "xb") as file:
            file.write(self.random.randbytes(self.random.choice([0, 1, 100, 5000, 70_000])))

    def make_directory(self) -> None:
        os.mkdir(self.place())

    def write(self) -> None:
        with open(self.any(stat.S_IFREG), "r+b") as file:
            file.seek(self.random.choice([0, 10, 4096, 8000, 100_000]))
            file.write(self.random.randbytes(self.random.choice([1, 4096, 9000])))

    def truncate(self) -> None:
        os.truncate(self.any(stat.S_IFREG), self.random.choice([0, 1, 50, 4096, 6000, 50_000, 150_000]))

    def punch(self) -> None:
        descriptor = os.open(self.any(stat.S_IFREG), os.O_RDWR)
        _libc.fallocate(
            descriptor, _PUNCH_HOLE_KEEP_SIZE, ctypes.c_long(self.random.choice([0, 4096])), ctypes.c_long(8192)
        )
        os.close(descriptor)

    def clone(self) -> None:
        source, target = os.open(self.any(stat.S_IFREG), os.O_RDONLY), os.open(self.any(stat.S_IFREG), os.O_RDWR)
        at = self.random.choice([0, 4096, 65536])
        try:
            fcntl.ioctl(target, _FICLONERANGE, struct.pack("=qQQQ", source, 0, 4096, at))
        finally:
            os.close(source)
            os.close(target)

    def rename(self) -> None:
        os.rename(self.any(), self.place())

    def exchange(self) -> None:
        _libc.renameat2(-100, self.any(), -100, self.any(), 2)

    def link(self) -> None:
        os.link(self.any(stat.S_IFREG), self.place())

    def unlink(self) -> None:
        os.unlink(self.any())

    def remove_tree(self) -> None:
        if self.random.random() < 0.3:
            shutil.rmtree(self.any(stat.S_IFDIR))

    def symlink(self) -> None:
        os.symlink(self.random.choice([b"a", b"/etc", b"../../..", b"b/c"]), self.place())

    def special(self) -> None:
        place, sort = self.place(), self.random.randrange(3)
        if sort == 0:
            os.mknod(place, stat.S_IFCHR | 0o600, 0)
        elif sort == 1:
            os.mkfifo(place)
        else:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(place)

    def chmod(self) -> None:
        os.chmod(self.any(self.random.choice([stat.S_IFREG, stat.S_IFDIR])), self.random.choice([0o600, 0o755, 0o4755]))

    def chown(self) -> None:
        os.chown(self.any(), self.random.choice([0, 200_000]), 0, follow_symlinks=False)

    def xattr(self) -> None:
        path = self.any()
        name = self.random.choice(["trusted.overlay.opaque", "trusted.x"])
        if self.random.random() < 0.3:
            os.removexattr(path, name, follow_symlinks=False)
        else:
            os.setxattr(path, name, self.random.choice([b"y", b"n"]), follow_symlinks=False)

    def utime(self) -> None:
        os.utime(self.any(), (1, self.random.randrange(10)), follow_symlinks=False)

    def replace(self) -> None:
        """As editors and databases do: write beside, rename over."""
        target, temporary = self.any(stat.S_IFREG), self.place()
        with open(temporary, "xb") as file:
            file.write(self.random.randbytes(3000))
        os.rename(temporary, target)

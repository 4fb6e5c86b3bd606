"""Trees to merge: an environment's directory in plain files, copies of it, and what differs between two."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from wye.host import Host
from wye.interfaces import PathChange
from wye.kinds.files.apply import Application, apply
from wye.kinds.files.plan import FilePlan, plan
from wye.kinds.files.tree import Side
from wye.merge.conflict import Decisions
from wye.testing.differences import differences

HOST = Host()
DATA = "volumes/data"


@dataclass
class Three:
    """base, ours and theirs below one directory, each an environment's root with a volume "data"."""

    home: Path
    host: Host = HOST

    def side(self, name: str) -> Path:
        return self.home / name

    def data(self, name: str) -> Path:
        return self.home / name / DATA

    def begin(self) -> None:
        self.data("base").mkdir(parents=True)
        (self.side("base") / "layers/web/upper").mkdir(parents=True)

    def copy(self) -> None:
        for name in ("ours", "theirs"):
            copy(self.side("base"), self.side(name))

    def changes(self) -> list[PathChange]:
        return differences(self.host, self.side("base"), self.side("theirs"))

    @contextmanager
    def sides(self, images: dict[str, Path] | None = None) -> Iterator[tuple[Side, Side, Side]]:
        with ExitStack() as stack:
            base, ours, theirs = (
                stack.enter_context(Side(self.host, self.side(name), images)) for name in ("base", "ours", "theirs")
            )
            yield base, ours, theirs

    def apply(self, planned: FilePlan, host: Host | None = None, images: dict[str, Path] | None = None) -> Application:
        assert not planned.conflicts
        with self.sides(images) as (_, ours, theirs):
            return apply(host or self.host, planned.writes, theirs=theirs, live=ours)

    def picture(self, name: str) -> dict[str, tuple[object, ...]]:
        """Without the environment's root itself, which is the daemon's."""
        found = picture(self.side(name))
        del found["."]
        return found

    def leaves(self, name: str) -> dict[str, tuple[str, bytes, int]]:
        return leaves(self.data(name))

    def plan(self, decisions: Decisions | None = None, images: dict[str, Path] | None = None) -> FilePlan:
        with self.sides(images) as (base, ours, theirs):
            return plan(self.host, base, ours, theirs, self.changes(), decisions)


def copy(source: Path, target: Path) -> None:
    HOST.run("test:copy", ["cp", "-a", "--reflink=auto", str(source), str(target)])


def picture(root: Path, *, times: bool = True) -> dict[str, tuple[object, ...]]:
    """Everything below `root` that an undo has to give back, read in the plainest way."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, directories, files in os.walk(os.fsencode(root)):
        for name in [b".", *directories, *files]:
            path = os.path.normpath(os.path.join(directory, name))
            status = os.lstat(path)
            content: object = None
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            attributes = sorted(
                (key, os.getxattr(path, key, follow_symlinks=False))
                for key in os.listxattr(path, follow_symlinks=False)
            )
            found[os.fsdecode(os.path.relpath(path, os.fsencode(root)))] = (
                status.st_mode, status.st_uid, status.st_gid, status.st_rdev, content, tuple(attributes),
                status.st_mtime_ns if times else 0,
            )  # fmt: skip
    return found


def leaves(root: Path) -> dict[str, tuple[str, bytes, int]]:
    """Path → (type, content, mode) of files and links."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = ("link", os.readlink(os.fsencode(path)), 0o777)
        elif path.is_file():
            found[name] = ("file", path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
    return found


@pytest.fixture
def three(tmp_path: Path) -> Three:
    """Three sides, base begun, not yet copied."""
    made = Three(tmp_path / "sides")
    made.begin()
    return made

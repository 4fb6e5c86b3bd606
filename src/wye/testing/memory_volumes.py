"""A pool without btrfs, for tests that need no root: `wye.interfaces.Volumes` on plain directories.

A snapshot copies every byte, so trees should be small; a limit is remembered and not enforced; a snapshot can be
written to by whoever means harm. All else is as in the real pool, labels of effects included, and held to it by the
same contract suite.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from pathlib import Path

from wye.errors import BadRequest, Conflict, NotFound, Unavailable
from wye.host import Host
from wye.interfaces import PathChange
from wye.model import ID, EnvironmentId, SnapshotId, Usage
from wye.testing.differences import differences


class MemoryVolumes:
    """Keeps everything below `root`; what is there at the start is found again."""

    def __init__(self, root: Path, host: Host | None = None) -> None:
        self._root = root
        self._host = host or Host()
        self._open = False
        self._lock = threading.Lock()
        self._limits: dict[str, int | None] = {}
        self._inherited: dict[str, int] = {}

    def open(self) -> None:
        for name in ("images", "environments", "snapshots", "lent"):
            self._host.make_directory("pool:lay-out", self._root / name, mode=0o711)
            for draft in (self._root / name).glob(".*"):
                shutil.rmtree(draft)
        self._open = True

    def close(self) -> None:
        self._open = False

    def create(self, environment: EnvironmentId) -> None:
        with self._lock:
            place = self._vacant("environment", environment)
            self._host.at("pool:create")
            draft = place.with_name(f".{environment}")
            for name in ("volumes", "layers"):
                (draft / name).mkdir(parents=True)
            draft.rename(place)

    def snapshot(
        self, environment: EnvironmentId, snapshot: SnapshotId, *, lend_to: Collection[EnvironmentId] = ()
    ) -> None:
        with self._lock, ExitStack() as undo:
            source, place = self._there("environment", environment), self._vacant("snapshot", snapshot)
            for each in lend_to:
                self._lend(snapshot, each)
                undo.callback(self._loan(each).unlink)
            self._host.at("pool:snapshot")
            _copy(source, place)
            undo.pop_all()

    def fork(self, snapshot: SnapshotId, environment: EnvironmentId, *, limit_bytes: int | None = None) -> None:
        with self._lock:
            source, place = self._there("snapshot", snapshot), self._vacant("environment", environment)
            self._fork(source, environment, place, limit_bytes)

    def _fork(self, source: Path, environment: EnvironmentId, place: Path, limit_bytes: int | None) -> None:
        self._host.at("pool:fork")
        _copy(source, place)
        self._limits[environment] = limit_bytes
        self._inherited[environment] = _bytes_below(place)

    def lend(self, snapshot: SnapshotId, environment: EnvironmentId) -> None:
        with self._lock:
            self._there("snapshot", snapshot)
            self._lend(snapshot, environment)
            self._host.at("pool:sync-loans")

    def _lend(self, snapshot: SnapshotId, environment: EnvironmentId) -> None:
        self._vacant("environment", environment)
        self._host.at("pool:lend")
        self._loan(environment).symlink_to(snapshot)

    def own(
        self,
        environment: EnvironmentId,
        *,
        limit_bytes: int | None = None,
        settle: Callable[[Path], None] | None = None,
    ) -> None:
        own = self._path("environment", environment)
        self._require_open()
        if not self._loan(environment).is_symlink():
            return
        if not own.exists():
            self._fork(self._there("environment", environment), environment, own, limit_bytes)
        if settle is not None:
            settle(own)
        self._host.at("pool:end-loan")
        self._loan(environment).unlink()

    def lent(self) -> frozenset[EnvironmentId]:
        return frozenset(EnvironmentId(name) for name in {*self._names("lent")} - {*self._names("environments")})

    def delete_environment(self, environment: EnvironmentId) -> None:
        self._loan(environment).unlink(missing_ok=True)
        self._delete("pool:delete-environment", self._path("environment", environment))
        self._limits.pop(environment, None)
        self._inherited.pop(environment, None)

    def delete_snapshot(self, snapshot: SnapshotId) -> None:
        self._require_open()
        if any(loan.readlink().name == snapshot for loan in (self._root / "lent").iterdir()):
            raise Conflict(f"the snapshot {snapshot} has been lent and is not deleted")
        self._delete("pool:delete-snapshot", self.snapshot_path(snapshot))

    def environments(self) -> frozenset[EnvironmentId]:
        return frozenset(EnvironmentId(name) for name in {*self._names("environments"), *self._names("lent")})

    def snapshots(self) -> frozenset[SnapshotId]:
        return frozenset(SnapshotId(name) for name in self._names("snapshots"))

    def environment_path(self, environment: EnvironmentId) -> Path:
        own, loan = self._path("environment", environment), self._loan(environment)
        return self.snapshot_path(SnapshotId(loan.readlink().name)) if loan.is_symlink() and not own.exists() else own

    def snapshot_path(self, snapshot: SnapshotId) -> Path:
        return self._path("snapshot", snapshot)

    def changes(self, base: SnapshotId, new: SnapshotId) -> list[PathChange]:
        return differences(self._host, self._there("snapshot", base), self._there("snapshot", new))

    def usage(self, environment: EnvironmentId) -> Usage:
        place = self._there("environment", environment)
        own = _bytes_below(place) - self._inherited.get(environment, 0) if place.name == environment else 0
        return Usage(exclusive_bytes=max(own, 0), limit_bytes=self._limits.get(environment))

    def limit(self, environment: EnvironmentId, limit_bytes: int | None) -> None:
        if self._there("environment", environment).name != environment:
            raise Conflict(f"the environment {environment} has no bytes of its own that could be limited")
        self._limits[environment] = limit_bytes

    def require_limits(self) -> None:
        pass

    def capacity(self) -> tuple[int, int]:
        self._require_open()
        disk = os.statvfs(self._root)
        return (disk.f_blocks - disk.f_bavail) * disk.f_frsize, disk.f_blocks * disk.f_frsize

    def _require_open(self) -> None:
        if not self._open:
            raise Unavailable(f"the pool is not mounted at {self._root}", hint="start the daemon again")

    def _path(self, noun: str, name: str) -> Path:
        if not ID.fullmatch(name):
            raise BadRequest(f"{noun} {name!r}: an id is 12 lower-case letters and digits")
        return self._root / f"{noun}s" / name

    def _loan(self, environment: EnvironmentId) -> Path:
        return self._root / "lent" / self._path("environment", environment).name

    def _there(self, noun: str, name: str) -> Path:
        place = self.environment_path(EnvironmentId(name)) if noun == "environment" else self._path(noun, name)
        self._require_open()
        if not place.exists():
            raise NotFound(f"there is no {noun} {name} in the pool")
        return place

    def _vacant(self, noun: str, name: str) -> Path:
        place = self._path(noun, name)
        self._require_open()
        if place.exists() or (noun == "environment" and self._loan(EnvironmentId(name)).is_symlink()):
            raise Conflict(f"the {noun} {name} is in the pool already")
        return place

    def _names(self, directory: str) -> list[str]:
        self._require_open()
        return [entry.name for entry in (self._root / directory).iterdir() if ID.fullmatch(entry.name)]

    def _delete(self, label: str, place: Path) -> None:
        self._require_open()
        with self._lock:
            self._host.at(label)
            draft = place.with_name(f".{place.name}")
            with suppress(FileNotFoundError):
                place.rename(draft)
                shutil.rmtree(draft)


def _copy(source: Path, place: Path) -> None:
    """All of a tree, hard links, special files and attributes included, under its name only when it is whole."""
    draft = place.with_name(f".{place.name}")
    linked: dict[int, str] = {}
    draft.mkdir()
    for directory, directories, files in os.walk(source):
        target = draft / Path(directory).relative_to(source)
        for name in (*directories, *files):
            _copy_one(os.path.join(directory, name), os.path.join(target, name), linked)
    for directory, _, _ in os.walk(source, topdown=False):
        shutil.copystat(directory, draft / Path(directory).relative_to(source))
    draft.rename(place)


def _copy_one(source: str, target: str, linked: dict[int, str]) -> None:
    found = os.lstat(source)
    if found.st_ino in linked:
        os.link(linked[found.st_ino], target, follow_symlinks=False)
        return
    if stat.S_ISDIR(found.st_mode):
        os.mkdir(target)
    elif stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode):
        shutil.copyfile(source, target, follow_symlinks=False)
    else:
        os.mknod(target, found.st_mode, found.st_rdev)
    if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
        linked[found.st_ino] = target
    if os.geteuid() == 0:
        os.chown(target, found.st_uid, found.st_gid, follow_symlinks=False)
    shutil.copystat(source, target, follow_symlinks=False)


def _bytes_below(root: Path) -> int:
    return sum(
        os.lstat(os.path.join(directory, name)).st_size for directory, _, files in os.walk(root) for name in files
    )

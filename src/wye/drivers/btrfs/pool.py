"""The pool: keeps `wye.interfaces.Volumes` on btrfs.

    <path>/images/              another driver's
    <path>/environments/<id>/   one writable subvolume, with volumes/ and layers/
    <path>/snapshots/<id>/      a read-only subvolume
    <path>/lent/<id>            a link to the snapshot that an environment has for its bytes until it has its own

Every verb after `open` is one ioctl and the opening of two directories; nothing is kept between calls that a look at
the disk does not confirm, so threads need no lock, and a pool that was detached is noticed by the next call. A new
environment is a snapshot of the empty one, so that it is either there whole or not at all, as a fork is. Each of these
ioctls commits the file system, and all who sync anything meanwhile wait; a link costs a sync of one directory, or
nothing before a snapshot.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from wye.drivers.btrfs import changes, ioctls, loan, loop, nested, quota, storage
from wye.errors import BadRequest, Conflict, NotFound, Unavailable, Unsupported
from wye.host import Host, OperationFailed
from wye.interfaces import PathChange
from wye.model import ID, EnvironmentId, SnapshotId, Usage

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE = 0o711
"""Containers' processes pass through on their way to a mount's source; nobody but root may list."""
_ENVIRONMENT, _SNAPSHOT, _LOAN = "environment", "snapshot", "loan"
_DIRECTORIES = {_ENVIRONMENT: "environments", _SNAPSHOT: "snapshots", _LOAN: "lent"}
_EMPTY, _DRAFT = ".empty", ".empty.draft"
_SWEEP_EVERY = 100
_BUSY_TIMEOUT_S = 10.0


class Pool:
    """See `wye.interfaces.Volumes`. `path` is where the pool is mounted, or with `image` None an existing
    directory on btrfs. A missing `image` is made, `image_bytes` large."""

    def __init__(self, host: Host, *, path: Path, image: Path | None, image_bytes: int | None = None) -> None:
        self._host = host
        self.path = path
        self._image = image
        self._image_bytes = image_bytes
        self._deletions = itertools.count(1)
        self._loans = loan.Lent(host)

    # ------------------------------------------------------------ attach, detach

    def open(self) -> None:
        with self._alone():
            if self._image is not None:
                storage.mount(self._host, self.path, self._image, self._image_bytes)
            descriptor = os.open(self.path, _DIRECTORY)
            try:
                self._identify(descriptor)
                if self._image is not None or self._is_whole_filesystem(descriptor):
                    quota.enable(self._host, descriptor)
                self._lay_out(descriptor)
                if quota.mode(self._host, descriptor) == "squota":
                    quota.sweep(self._host, descriptor)
            finally:
                os.close(descriptor)

    def close(self) -> None:
        if self._image is not None:
            with self._alone():
                storage.unmount(self._host, self.path, self._image)

    def erase(self) -> None:
        """Takes away everything that `open` and others have put here, for those who uninstall. Implies close."""
        if self._image is not None:
            self.close()
            for path in (self._image, self._image.with_name(f"{self._image.name}.partial"), self.path):
                self._host.remove_tree("pool:erase", path)
            self._host.remove_tree("pool:erase", self._image.with_name(f"{self._image.name}.lock"))
            return
        for noun, names in ((_ENVIRONMENT, self._names(_ENVIRONMENT)), (_SNAPSHOT, [*self._names(_SNAPSHOT), _EMPTY])):
            for name in names:
                self._delete("pool:erase", noun, name)
        for name in ("images", *_DIRECTORIES.values(), "scratch", ".lock"):
            self._host.remove_tree("pool:erase", self.path / name)

    @property
    def squota(self) -> bool:
        """Whether usage and limits work here."""
        with self._directory() as descriptor:
            return quota.mode(self._host, descriptor) == "squota"

    def findings(self) -> list[tuple[str, str]]:
        """What is not as it should be, for `wye doctor`: (what, what to do)."""
        found = []
        with self._directory() as descriptor:
            mode = quota.mode(self._host, descriptor)
        if mode is None:
            found.append(("no disk usage and no disk limits: simple quotas are off", self._quota_advice()))
        elif mode != "squota":
            advice = f"run 'btrfs quota disable {self.path}', then start wye again"
            found.append(("the pool has the old quotas, which make snapshots slow and give no limits to forks", advice))
        found += [
            (f"containers cannot reach the pool through {parent}", f"run 'chmod o+x {parent}'")
            for parent in self.path.parents
            if not parent.stat().st_mode & stat.S_IXOTH
        ]
        if self._image is not None:
            device = loop.find(self._host, self._image)
            if device is not None and not loop.does_direct_io(device):
                advice = "put the image on a file system that does direct I/O, such as ext4 or xfs"
                found.append(("the pool's loop device does no direct I/O: snapshots are slow", advice))
            size = self._image.stat()
            if size.st_blocks * 512 < size.st_size:
                advice = f"run 'fallocate -l {size.st_size} {self._image}'"
                found.append(("the pool's image is sparse: the host's disk may fill before the pool does", advice))
        return found

    # ------------------------------------------------------------ environments, snapshots

    def create(self, environment: EnvironmentId) -> None:
        with self._subvolume(_SNAPSHOT, _EMPTY) as empty:
            self._copy("pool:create", empty, _ENVIRONMENT, _checked(_ENVIRONMENT, environment))

    def snapshot(
        self, environment: EnvironmentId, snapshot: SnapshotId, *, lend_to: Collection[EnvironmentId] = ()
    ) -> None:
        with self._bytes(environment) as source, self._directory(_LOAN) as loans, ExitStack() as undo:
            name = _checked(_SNAPSHOT, snapshot)
            for each in lend_to:
                self._lend(loans, snapshot, each)
                undo.callback(loan.end, self._host, loans, each)
            self._copy("pool:snapshot", source, _SNAPSHOT, name)
            undo.pop_all()

    def fork(self, snapshot: SnapshotId, environment: EnvironmentId, *, limit_bytes: int | None = None) -> None:
        if limit_bytes is not None:
            self.require_limits()
        with self._subvolume(_SNAPSHOT, _checked(_SNAPSHOT, snapshot)) as source:
            self._copy("pool:fork", source, _ENVIRONMENT, _checked(_ENVIRONMENT, environment), limit_bytes)

    def lend(self, snapshot: SnapshotId, environment: EnvironmentId) -> None:
        with self._subvolume(_SNAPSHOT, _checked(_SNAPSHOT, snapshot)), self._directory(_LOAN) as loans:
            self._lend(loans, snapshot, environment)
            loan.sync(self._host, loans)

    def own(
        self,
        environment: EnvironmentId,
        *,
        limit_bytes: int | None = None,
        settle: Callable[[Path], None] | None = None,
    ) -> None:
        own = self.path / "environments" / _checked(_ENVIRONMENT, environment)
        with self._directory(_LOAN) as loans:
            snapshot = loan.read(loans, environment)
            if snapshot is None:
                return
            if not own.exists():
                self.fork(snapshot, environment, limit_bytes=limit_bytes)
            if settle is not None:
                settle(own)
            loan.end(self._host, loans, environment)

    def lent(self) -> frozenset[EnvironmentId]:
        return frozenset(EnvironmentId(name) for name in {*self._names(_LOAN)} - {*self._names(_ENVIRONMENT)})

    def delete_environment(self, environment: EnvironmentId) -> None:
        self._delete("pool:delete-environment", _ENVIRONMENT, _checked(_ENVIRONMENT, environment))
        with self._directory(_LOAN) as loans:
            loan.end(self._host, loans, environment)

    def delete_snapshot(self, snapshot: SnapshotId) -> None:
        with self._directory(_LOAN) as loans:
            if _checked(_SNAPSHOT, snapshot) in self._loans.snapshots(loans):
                raise Conflict(f"the snapshot {snapshot} has been lent and is not deleted")
        self._delete("pool:delete-snapshot", _SNAPSHOT, snapshot)

    def environments(self) -> frozenset[EnvironmentId]:
        return frozenset(EnvironmentId(name) for name in {*self._names(_ENVIRONMENT), *self._names(_LOAN)})

    def snapshots(self) -> frozenset[SnapshotId]:
        return frozenset(SnapshotId(name) for name in self._names(_SNAPSHOT))

    def environment_path(self, environment: EnvironmentId) -> Path:
        own = self.path / "environments" / _checked(_ENVIRONMENT, environment)
        if own.exists():
            return own
        try:
            return self.snapshot_path(loan.snapshot_of(os.readlink(self.path / "lent" / environment)))
        except FileNotFoundError:
            return own

    def snapshot_path(self, snapshot: SnapshotId) -> Path:
        return self.path / "snapshots" / _checked(_SNAPSHOT, snapshot)

    # ------------------------------------------------------------ what is in them

    def changes(self, base: SnapshotId, new: SnapshotId) -> list[PathChange]:
        with (
            self._subvolume(_SNAPSHOT, _checked(_SNAPSHOT, base)) as base_root,
            self._subvolume(_SNAPSHOT, _checked(_SNAPSHOT, new)) as new_root,
        ):
            try:
                found = changes.between(self._host, base_root, new_root)
            except OperationFailed as error:
                if error.errno != errno.EPERM:
                    raise self._explained(error) from error
                found = []
        # One that was deleted meanwhile has looked emptier and emptier.
        if not (self.snapshot_path(base).exists() and self.snapshot_path(new).exists()):
            raise NotFound(f"the snapshot {base} or {new} has just been deleted")
        return found

    def usage(self, environment: EnvironmentId) -> Usage:
        if self._is_lent(environment):
            return Usage(exclusive_bytes=0 if self.squota else None)
        with self._subvolume(_ENVIRONMENT, environment) as descriptor:
            return quota.usage(self._host, descriptor)

    def limit(self, environment: EnvironmentId, limit_bytes: int | None) -> None:
        self.require_limits()
        if self._is_lent(environment):
            raise Conflict(f"the environment {environment} has no bytes of its own that could be limited")
        with self._subvolume(_ENVIRONMENT, environment) as descriptor:
            tree = ioctls.subvolume_id(self._host, "pool:identify", descriptor)
            ioctls.limit_qgroup(self._host, "pool:limit", descriptor, tree, limit_bytes)

    def require_limits(self) -> None:
        if not self.squota:
            raise Unsupported("no disk limits: the pool has no simple quotas", hint=self._quota_advice())

    def capacity(self) -> tuple[int, int]:
        with self._directory() as descriptor:
            room = os.fstatvfs(descriptor)
        return (room.f_blocks - room.f_bavail) * room.f_frsize, room.f_blocks * room.f_frsize

    # ------------------------------------------------------------ within

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other thread or process opens or closes this pool meanwhile."""
        if self._image is not None:
            self._host.make_directory("pool:make-directory", self._image.parent, mode=_MODE)
            lock = self._image.with_name(f"{self._image.name}.lock")
        elif self.path.is_dir():
            lock = self.path / ".lock"
        else:
            raise BadRequest(f"there is no directory {self.path}", hint="mount a btrfs file system there")
        with self._host.lock("pool:lock", lock):
            yield

    @contextmanager
    def _directory(self, noun: str = _ENVIRONMENT) -> Iterator[int]:
        try:
            descriptor = os.open(self.path / _DIRECTORIES[noun], _DIRECTORY)
        except FileNotFoundError:
            raise self._not_mounted() from None
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _lend(self, loans: int, snapshot: SnapshotId, environment: EnvironmentId) -> None:
        """Not yet durable."""
        if (self.path / "environments" / _checked(_ENVIRONMENT, environment)).exists():
            raise Conflict(f"the environment {environment} is in the pool already")
        loan.make(self._host, loans, environment, snapshot)

    def _is_lent(self, environment: EnvironmentId) -> bool:
        with self._directory():
            return self.environment_path(environment).parent.name == _DIRECTORIES[_SNAPSHOT]

    @contextmanager
    def _bytes(self, environment: EnvironmentId) -> Iterator[int]:
        """What the environment reads: its own subvolume, or the snapshot that it was lent."""
        noun = _SNAPSHOT if self._is_lent(environment) else _ENVIRONMENT
        with self._subvolume(noun, self.environment_path(environment).name) as descriptor:
            yield descriptor

    @contextmanager
    def _subvolume(self, noun: str, name: str) -> Iterator[int]:
        with self._directory(noun) as directory:
            try:
                descriptor = os.open(name, _DIRECTORY, dir_fd=directory)
            except FileNotFoundError:
                raise NotFound(f"there is no {noun} {name} in the pool") from None
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _copy(self, label: str, source: int, noun: str, name: str, limit_bytes: int | None = None) -> None:
        with self._directory(noun) as directory:
            try:
                ioctls.snapshot(
                    self._host,
                    label,
                    source,
                    directory,
                    name,
                    read_only=noun == _SNAPSHOT,
                    limit_bytes=limit_bytes,
                )
            except OperationFailed as error:
                if error.errno == errno.EEXIST:
                    raise Conflict(f"the {noun} {name} is in the pool already") from error
                raise self._explained(error) from error

    def _delete(self, label: str, noun: str, name: str) -> None:
        with self._directory(noun) as directory:
            deadline = self._host.monotonic() + _BUSY_TIMEOUT_S
            while True:
                try:
                    ioctls.destroy(self._host, label, directory, name)
                except OperationFailed as error:
                    if error.errno == errno.ENOENT:
                        return
                    if error.errno not in (errno.ENOTEMPTY, errno.EPERM):
                        raise self._explained(error) from error
                    if self._host.monotonic() > deadline:
                        raise Conflict(f"the {noun} {name} is in use and cannot be deleted") from error
                    if error.errno == errno.ENOTEMPTY:
                        nested.delete_below(self._host, directory, name)
                    else:
                        # `changes` is reading it, which takes milliseconds.
                        self._host.sleep(0.005)
                else:
                    break
            if next(self._deletions) % _SWEEP_EVERY == 0 and quota.mode(self._host, directory) == "squota":
                quota.sweep(self._host, directory)

    def _names(self, noun: str) -> list[str]:
        with self._directory(noun) as descriptor:
            return [name for name in os.listdir(descriptor) if ID.fullmatch(name)]

    def _lay_out(self, top: int) -> None:
        """Makes what is missing of the layout. Each step leaves nothing that looks whole and is not."""
        os.fchmod(top, _MODE)
        for name in ("images", *_DIRECTORIES.values()):
            self._host.make_directory("pool:lay-out", self.path / name, mode=_MODE)
            os.chmod(name, _MODE, dir_fd=top)
        with self._directory(_SNAPSHOT) as snapshots:
            there = os.listdir(snapshots)
            if _DRAFT in there:
                ioctls.destroy(self._host, "pool:delete-draft", snapshots, _DRAFT)
            if _EMPTY not in there:
                self._make_empty(snapshots)

    def _make_empty(self, snapshots: int) -> None:
        ioctls.create_subvolume(self._host, "pool:make-draft", snapshots, _DRAFT)
        with self._subvolume(_SNAPSHOT, _DRAFT) as empty:
            os.fchmod(empty, _MODE)
            for name in ("volumes", "layers"):
                os.mkdir(name, dir_fd=empty)
                os.chmod(name, _MODE, dir_fd=empty)
            ioctls.snapshot(self._host, "pool:make-empty", empty, snapshots, _EMPTY, read_only=True)
        ioctls.destroy(self._host, "pool:delete-draft", snapshots, _DRAFT)

    def _identify(self, descriptor: int) -> None:
        try:
            ioctls.filesystem_id(self._host, "pool:identify", descriptor)
        except OperationFailed as error:
            if error.errno != errno.ENOTTY:
                raise
            raise BadRequest(f"{self.path} is not on btrfs", hint="give the pool an image file") from error

    def _is_whole_filesystem(self, descriptor: int) -> bool:
        """Quotas are a file system's own affair: they are turned on only where nobody else lives."""
        tree = ioctls.subvolume_id(self._host, "pool:identify", descriptor)
        return tree == ioctls.TOP_LEVEL_TREE and os.fstat(descriptor).st_ino == ioctls.SUBVOLUME_ROOT_INODE

    def _quota_advice(self) -> str:
        return f"on kernel 6.7 or later, run 'btrfs quota enable --simple {self.path}'"

    def _not_mounted(self) -> Unavailable:
        return Unavailable(f"the pool is not mounted at {self.path}", hint="start the daemon again")

    def _explained(self, error: OperationFailed) -> Unavailable:
        if error.errno == errno.ENOTTY:
            return self._not_mounted()
        if error.errno in (errno.EROFS, errno.EIO):
            hint = "read the kernel's log; start the daemon again once the disk is well"
            return Unavailable(f"the pool at {self.path} is broken: {error.message}", hint=hint)
        return error


def _checked(noun: str, name: str) -> str:
    """Ids become names of directories."""
    if not ID.fullmatch(name):
        raise BadRequest(f"{noun} {name!r}: an id is 12 lower-case letters and digits")
    return name

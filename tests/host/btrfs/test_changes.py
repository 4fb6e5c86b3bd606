"""The quick way to tell changes against the slow one, which reads everything."""

from __future__ import annotations

import itertools
import os
import socket
import stat
import threading
from contextlib import closing

import pytest

from wye.drivers.btrfs import compare
from wye.drivers.btrfs.pool import Pool
from wye.drivers.btrfs.tree import Tree
from wye.host import Host
from wye.interfaces import PathChange
from wye.model import SnapshotId
from wye.testing.contracts.volumes import created, environment_id, kept
from wye.testing.mutator import Mutator

pytestmark = pytest.mark.host


def walked(pool: Pool, base: SnapshotId, new: SnapshotId) -> list[PathChange]:
    roots = [os.open(pool.snapshot_path(snapshot), os.O_RDONLY) for snapshot in (base, new)]
    try:
        with closing(Tree(Host(), roots[0])) as before, closing(Tree(Host(), roots[1])) as after:
            return compare.walk(before, after)
    finally:
        for root in roots:
            os.close(root)


def contains(outer: tuple[tuple[int, int], ...], inner: tuple[tuple[int, int], ...]) -> bool:
    return all(any(at <= start and start + length <= at + size for at, size in outer) for start, length in inner)


def assert_agrees(quick: list[PathChange], slow: list[PathChange]) -> None:
    """A file may be said to be written although the same bytes were; everything else is exact."""
    exact = {change.path: change for change in slow}
    assert [change.path for change in quick] == sorted({change.path for change in quick})
    assert exact.keys() <= {change.path for change in quick}
    for change in quick:
        same_bytes = PathChange(path=change.path, kind="modified", metadata_only=not change.extents)
        other = exact.get(change.path, same_bytes)
        assert change.kind == other.kind, change.path
        assert other.metadata_only or not change.metadata_only, change.path
        assert contains(change.extents, other.extents), change.path


@pytest.mark.parametrize("seed", range(12))
def test_random_changes_are_told_as_a_walk_tells_them(pool: Pool, seed: int) -> None:
    environment, volume = created(pool)
    mutator = Mutator(volume, seed)
    snapshots = []
    for steps in (60, 3, 20, 60):
        for _ in range(steps):
            mutator.step()
        snapshots.append(kept(pool, environment))
    fork, (stranger, strange_volume) = environment_id(), created(pool)
    pool.fork(snapshots[1], fork)
    for other, root in ((fork, pool.environment_path(fork)), (stranger, strange_volume)):
        mutator = Mutator(root, seed + 1000)
        for _ in range(30):
            mutator.step()
        snapshots.append(kept(pool, other))
    for base, new in itertools.permutations(snapshots, 2):
        assert_agrees(pool.changes(base, new), walked(pool, base, new))


def test_special_files_and_attributes(pool: Pool) -> None:
    environment, volume = created(pool)
    for name in ("attributed", "owned", "timed", "silent"):
        (volume / name).touch()
    (volume / "directory").mkdir()
    base = kept(pool, environment)
    os.mknod(volume / "whiteout", stat.S_IFCHR | 0o600, os.makedev(0, 0))
    os.mkfifo(volume / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        directory = os.open(volume, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{directory}/socket")
        os.close(directory)
    os.setxattr(volume / "attributed", "user.x", b"y")
    os.setxattr(volume / "directory", "trusted.overlay.opaque", b"y")
    os.chown(volume / "owned", 200_000, 200_000)
    os.utime(volume / "timed", (5, 5))
    (volume / "silent").chmod((volume / "silent").stat().st_mode)
    found = pool.changes(base, kept(pool, environment))
    assert [(change.path.rpartition("/")[2], change.kind, change.metadata_only) for change in found] == [
        ("attributed", "modified", True),
        ("directory", "modified", True),
        ("fifo", "added", False),
        ("owned", "modified", True),
        ("socket", "added", False),
        ("timed", "modified", True),
        ("whiteout", "added", False),
    ]


def test_extents_are_small_and_whole(pool: Pool) -> None:
    environment, volume = created(pool)
    (volume / "file").write_bytes(os.urandom(1 << 20))
    base = kept(pool, environment)
    with (volume / "file").open("r+b") as file:
        for at in (0, 8192, 12288, 500_000):
            file.seek(at)
            file.write(b"!")
        file.truncate((1 << 20) - 100)
    (change,) = pool.changes(base, kept(pool, environment))
    assert change.extents[:3] == ((0, 4096), (8192, 8192), (499_712, 4096))
    assert change.extents[-1][0] + change.extents[-1][1] == 1 << 20
    assert sum(length for _, length in change.extents) < 30_000


def test_paths_longer_than_the_kernel_takes(pool: Pool) -> None:
    """The kernel sends no path beyond 4,096 bytes; the trees are walked then."""
    environment, volume = created(pool)
    base = kept(pool, environment)
    at = os.open(volume, os.O_RDONLY)
    for _ in range(40):
        os.mkdir("n" * 200, dir_fd=at)
        below = os.open("n" * 200, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    deep = kept(pool, environment)
    descriptor = os.open("file", os.O_WRONLY, dir_fd=at)
    os.write(descriptor, b"x")
    os.close(descriptor)
    os.close(at)
    assert len(pool.changes(base, deep)) == 41
    (change,) = pool.changes(deep, kept(pool, environment))
    assert (change.path.endswith("/file"), change.extents) == (True, ((0, 1),))


def test_many_names_of_one_file(pool: Pool) -> None:
    """More than fit into one item of the inode, so that some are extended references."""
    environment, volume = created(pool)
    (volume / "file").write_bytes(b"x")
    for number in range(300):
        os.link(volume / "file", volume / f"{number:03}{'y' * 100}")
    base = kept(pool, environment)
    (volume / "file").write_bytes(b"z")
    assert len(pool.changes(base, kept(pool, environment))) == 301


def test_a_subvolume_made_by_a_process_is_in_no_snapshot(pool: Pool) -> None:
    environment, volume = created(pool)
    base = kept(pool, environment)
    Host().run("test:subvolume", ["btrfs", "subvolume", "create", str(volume / "nested")])
    (volume / "nested" / "file").touch()
    new = kept(pool, environment)
    assert pool.changes(base, new) == walked(pool, base, new) == []


def test_changes_of_one_snapshot_from_several_threads(pool: Pool) -> None:
    environment, volume = created(pool)
    base = kept(pool, environment)
    (volume / "file").touch()
    new = kept(pool, environment)
    found: list[list[PathChange]] = []
    threads = [threading.Thread(target=lambda: found.append(pool.changes(base, new))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [[change.path for change in changes] for changes in found] == [["volumes/data/file"]] * 4

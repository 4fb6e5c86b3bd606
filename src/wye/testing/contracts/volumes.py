"""What every `Volumes` must do. Subclass `VolumesContract` as `Test...` and give it a fixture `volumes`: one, opened.

Only what can be seen through the interface and the paths that it gives out. What only btrfs can do (a writer that
reaches its limit, a full disk) is tried where btrfs is.
"""

from __future__ import annotations

import itertools
import os
import stat
import threading
from pathlib import Path

import pytest

from wye.errors import BadRequest, Conflict, NotFound, Unavailable
from wye.interfaces import PathChange, Volumes
from wye.model import EnvironmentId, SnapshotId

_MIB = 1 << 20
_numbers = itertools.count()


def environment_id() -> EnvironmentId:
    return EnvironmentId(f"e{next(_numbers):011}")


def snapshot_id() -> SnapshotId:
    return SnapshotId(f"s{next(_numbers):011}")


def created(volumes: Volumes) -> tuple[EnvironmentId, Path]:
    """A new environment, and a directory of one of its volumes."""
    environment = environment_id()
    volumes.create(environment)
    volume = volumes.environment_path(environment) / "volumes" / "data"
    volume.mkdir()
    return environment, volume


def kept(volumes: Volumes, environment: EnvironmentId) -> SnapshotId:
    snapshot = snapshot_id()
    volumes.snapshot(environment, snapshot)
    return snapshot


class VolumesContract:
    # ------------------------------------------------------------ environments, snapshots

    def test_a_new_environment_is_empty(self, volumes: Volumes) -> None:
        environment = environment_id()
        volumes.create(environment)
        root = volumes.environment_path(environment)
        assert sorted(os.listdir(root)) == ["layers", "volumes"]
        assert os.listdir(root / "layers") == os.listdir(root / "volumes") == []
        assert environment in volumes.environments()

    def test_a_snapshot_keeps_every_byte_of_its_instant(self, volumes: Volumes) -> None:
        environment, volume = created(volumes)
        (volume / "file").write_bytes(b"then")
        snapshot = kept(volumes, environment)
        (volume / "file").write_bytes(b"now")
        (volume / "more").touch()
        there = volumes.snapshot_path(snapshot) / "volumes" / "data"
        assert (there / "file").read_bytes() == b"then"
        assert os.listdir(there) == ["file"]
        assert snapshot in volumes.snapshots()

    def test_a_fork_and_its_source_do_not_see_each_other(self, volumes: Volumes) -> None:
        environment, volume = created(volumes)
        (volume / "file").write_bytes(b"both")
        snapshot, fork = kept(volumes, environment), environment_id()
        volumes.fork(snapshot, fork)
        forked = volumes.environment_path(fork) / "volumes" / "data"
        assert (forked / "file").read_bytes() == b"both"
        (forked / "file").write_bytes(b"fork")
        (volume / "source").touch()
        assert (volume / "file").read_bytes() == b"both"
        assert os.listdir(forked) == ["file"]
        assert (volumes.snapshot_path(snapshot) / "volumes" / "data" / "file").read_bytes() == b"both"

    def test_links_modes_and_times_are_kept(self, volumes: Volumes) -> None:
        environment, volume = created(volumes)
        (volume / "file").write_bytes(b"x")
        (volume / "file").chmod(0o640)
        os.utime(volume / "file", (1, 2))
        os.link(volume / "file", volume / "same")
        os.symlink("/nowhere", volume / "link")
        os.mkfifo(volume / "fifo")
        there = volumes.snapshot_path(kept(volumes, environment)) / "volumes" / "data"
        found = (there / "file").stat()
        assert (stat.S_IMODE(found.st_mode), found.st_mtime, found.st_nlink) == (0o640, 2, 2)
        assert (there / "same").stat().st_ino == found.st_ino
        assert os.readlink(there / "link") == "/nowhere"
        assert stat.S_ISFIFO((there / "fifo").lstat().st_mode)

    def test_what_is_there_cannot_be_made_again(self, volumes: Volumes) -> None:
        environment, volume = created(volumes)
        snapshot = kept(volumes, environment)
        (volume / "file").touch()
        with pytest.raises(Conflict, match=environment):
            volumes.create(environment)
        with pytest.raises(Conflict, match=snapshot):
            volumes.snapshot(environment, snapshot)
        with pytest.raises(Conflict, match=environment):
            volumes.fork(snapshot, environment)
        assert (volume / "file").exists()
        assert volumes.changes(snapshot, snapshot) == []

    def test_what_is_not_there_is_said_to_be_missing(self, volumes: Volumes) -> None:
        environment, _ = created(volumes)
        snapshot = kept(volumes, environment)
        with pytest.raises(NotFound, match="environment"):
            volumes.snapshot(environment_id(), snapshot_id())
        with pytest.raises(NotFound, match="snapshot"):
            volumes.fork(snapshot_id(), environment_id())
        with pytest.raises(NotFound):
            volumes.usage(environment_id())
        with pytest.raises(NotFound):
            volumes.limit(environment_id(), _MIB)
        for pair in ((snapshot, snapshot_id()), (snapshot_id(), snapshot)):
            with pytest.raises(NotFound, match="snapshot"):
                volumes.changes(*pair)

    @pytest.mark.parametrize(
        "name", ["", ".", "..", "../../../etc", "a/b", "A" * 12, "a" * 11, "a" * 13, "a\0bcdefghijk"]
    )
    def test_an_id_that_is_none_is_refused(self, volumes: Volumes, name: str) -> None:
        environment, _ = created(volumes)
        snapshot = kept(volumes, environment)
        bad_environment, bad_snapshot = EnvironmentId(name), SnapshotId(name)
        for call in (
            lambda: volumes.create(bad_environment),
            lambda: volumes.snapshot(bad_environment, snapshot_id()),
            lambda: volumes.snapshot(environment, bad_snapshot),
            lambda: volumes.fork(bad_snapshot, environment_id()),
            lambda: volumes.fork(snapshot, bad_environment),
            lambda: volumes.lend(snapshot, bad_environment),
            lambda: volumes.lend(bad_snapshot, environment_id()),
            lambda: volumes.own(bad_environment),
            lambda: volumes.delete_environment(bad_environment),
            lambda: volumes.delete_snapshot(bad_snapshot),
            lambda: volumes.environment_path(bad_environment),
            lambda: volumes.snapshot_path(bad_snapshot),
            lambda: volumes.changes(bad_snapshot, snapshot),
            lambda: volumes.usage(bad_environment),
            lambda: volumes.limit(bad_environment, None),
        ):
            with pytest.raises(BadRequest):
                call()

    def test_deleting_removes_it_and_nothing_else(self, volumes: Volumes) -> None:
        environment, volume = created(volumes)
        (volume / "file").write_bytes(b"kept")
        snapshot, fork = kept(volumes, environment), environment_id()
        volumes.fork(snapshot, fork)
        volumes.delete_environment(environment)
        volumes.delete_snapshot(snapshot)
        assert environment not in volumes.environments()
        assert snapshot not in volumes.snapshots()
        assert not volumes.environment_path(environment).exists()
        assert (volumes.environment_path(fork) / "volumes" / "data" / "file").read_bytes() == b"kept"
        volumes.create(environment)
        assert os.listdir(volumes.environment_path(environment) / "volumes") == []

    def test_deleting_what_is_not_there_is_harmless(self, volumes: Volumes) -> None:
        volumes.delete_environment(environment_id())
        volumes.delete_snapshot(snapshot_id())

    def test_one_of_many_at_the_same_time_wins(self, volumes: Volumes) -> None:
        environment, _ = created(volumes)
        snapshot, fork = kept(volumes, environment), environment_id()
        outcomes: list[str] = []
        barrier = threading.Barrier(4)

        def attempt() -> None:
            barrier.wait()
            try:
                volumes.fork(snapshot, fork)
                outcomes.append("forked")
            except Conflict:
                outcomes.append("conflict")

        threads = [threading.Thread(target=attempt) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["conflict", "conflict", "conflict", "forked"]

    # ------------------------------------------------------------ changes

    def test_changes_are_told_by_kind_and_sorted(self, volumes: Volumes) -> None:
        environment, volume = created(volumes)
        for name in ("gone", "same", "written", "mode"):
            (volume / name).write_bytes(bytes(10_000))
        base = kept(volumes, environment)
        (volume / "gone").unlink()
        (volume / "mode").chmod(0o600)
        (volume / "added").mkdir()
        (volume / "added" / "file").touch()
        with (volume / "written").open("r+b") as file:
            file.seek(5000)
            file.write(b"x")
        found = volumes.changes(base, kept(volumes, environment))
        written = next(change for change in found if change.path == "volumes/data/written")
        assert any(start <= 5000 < start + length for start, length in written.extents)
        assert [(change.path, change.kind, change.metadata_only) for change in found] == [
            ("volumes/data/added", "added", False),
            ("volumes/data/added/file", "added", False),
            ("volumes/data/gone", "removed", False),
            ("volumes/data/mode", "modified", True),
            ("volumes/data/written", "modified", False),
        ]

    def test_nothing_changed_is_no_change(self, volumes: Volumes) -> None:
        environment, volume = created(volumes)
        (volume / "file").write_bytes(b"x")
        base = kept(volumes, environment)
        (volume / "brief").touch()
        (volume / "brief").unlink()
        os.link(volume / "file", volume / "other")
        (volume / "other").unlink()
        assert volumes.changes(base, kept(volumes, environment)) == []

    def test_a_rename_is_a_removal_and_an_addition(self, volumes: Volumes) -> None:
        environment, volume = created(volumes)
        (volume / "old" / "inner").mkdir(parents=True)
        (volume / "old" / "inner" / "file").write_bytes(b"x")
        base = kept(volumes, environment)
        (volume / "old").rename(volume / "new")
        found = volumes.changes(base, kept(volumes, environment))
        assert [(change.path.removeprefix("volumes/data/"), change.kind) for change in found] == [
            ("new", "added"),
            ("new/inner", "added"),
            ("new/inner/file", "added"),
            ("old", "removed"),
            ("old/inner", "removed"),
            ("old/inner/file", "removed"),
        ]

    def test_removed_and_made_anew_is_modified(self, volumes: Volumes) -> None:
        environment, volume = created(volumes)
        (volume / "file").write_bytes(b"old")
        (volume / "becomes-directory").write_bytes(b"x")
        (volume / "becomes-link").mkdir()
        base = kept(volumes, environment)
        (volume / "file.new").write_bytes(b"new!!")
        (volume / "file.new").rename(volume / "file")
        (volume / "becomes-directory").unlink()
        (volume / "becomes-directory").mkdir()
        (volume / "becomes-link").rmdir()
        (volume / "becomes-link").symlink_to("/")
        assert volumes.changes(base, kept(volumes, environment)) == [
            PathChange(path="volumes/data/becomes-directory", kind="modified"),
            PathChange(path="volumes/data/becomes-link", kind="modified"),
            PathChange(path="volumes/data/file", kind="modified", extents=((0, 5),)),
        ]

    def test_a_tail_cut_off_is_an_extent(self, volumes: Volumes) -> None:
        environment, volume = created(volumes)
        (volume / "file").write_bytes(b"x" * 100_000)
        base = kept(volumes, environment)
        os.truncate(volume / "file", 65_536)
        (change,) = volumes.changes(base, kept(volumes, environment))
        start, length = change.extents[-1]
        assert start <= 65_536
        assert start + length == 100_000

    def test_every_name_of_a_file_changes_with_it(self, volumes: Volumes) -> None:
        environment, volume = created(volumes)
        (volume / "one").write_bytes(b"x")
        (volume / "deeper").mkdir()
        os.link(volume / "one", volume / "deeper" / "two")
        base = kept(volumes, environment)
        (volume / "one").write_bytes(b"y")
        found = volumes.changes(base, kept(volumes, environment))
        assert [change.path for change in found] == ["volumes/data/deeper/two", "volumes/data/one"]
        assert all(change.extents == ((0, 1),) for change in found)

    def test_names_may_be_any_bytes(self, volumes: Volumes) -> None:
        environment, volume = created(volumes)
        names = [b"\xff\xfe", b"new\nline", b"o257-9-0", b" ", b"\\", "é".encode()]
        base = kept(volumes, environment)
        for name in names:
            with open(os.path.join(os.fsencode(volume), name), "wb"):
                pass
        found = volumes.changes(base, kept(volumes, environment))
        assert {os.fsencode(change.path) for change in found} == {b"volumes/data/" + name for name in names}

    def test_a_link_in_the_other_snapshot_leads_nowhere(self, volumes: Volumes) -> None:
        environment, volume = created(volumes)
        (volume / "place").symlink_to("/etc")
        base = kept(volumes, environment)
        (volume / "place").unlink()
        (volume / "place").mkdir()
        (volume / "place" / "passwd").touch()
        found = volumes.changes(base, kept(volumes, environment))
        assert [(change.path, change.kind) for change in found] == [
            ("volumes/data/place", "modified"),
            ("volumes/data/place/passwd", "added"),
        ]

    def test_changes_go_both_ways_and_between_any_two(self, volumes: Volumes) -> None:
        environment, volume = created(volumes)
        (volume / "file").write_bytes(b"x")
        base = kept(volumes, environment)
        sides = []
        for name in ("left", "right"):
            fork = environment_id()
            volumes.fork(base, fork)
            (volumes.environment_path(fork) / "volumes" / "data" / name).touch()
            sides.append(kept(volumes, fork))
        stranger, strange_volume = created(volumes)
        (strange_volume / "file").write_bytes(b"z")
        unrelated = kept(volumes, stranger)

        def kinds(one: SnapshotId, other: SnapshotId) -> dict[str, str]:
            return {change.path.split("/")[-1]: change.kind for change in volumes.changes(one, other)}

        assert kinds(base, sides[0]) == {"left": "added"}
        assert kinds(sides[0], base) == {"left": "removed"}
        assert kinds(sides[0], sides[1]) == {"left": "removed", "right": "added"}
        assert kinds(base, unrelated)["file"] == "modified"

    # ------------------------------------------------------------ room

    def test_a_fork_uses_what_it_wrote(self, volumes: Volumes) -> None:
        environment, volume = created(volumes)
        (volume / "file").write_bytes(os.urandom(4 * _MIB))
        fork = environment_id()
        volumes.fork(kept(volumes, environment), fork, limit_bytes=64 * _MIB)
        usage = volumes.usage(fork)
        assert usage.exclusive_bytes is not None
        assert usage.exclusive_bytes < _MIB
        assert usage.limit_bytes == 64 * _MIB
        (volumes.environment_path(fork) / "volumes" / "data" / "more").write_bytes(os.urandom(3 * _MIB))
        own = volumes.usage(fork).exclusive_bytes
        assert own is not None
        assert 3 * _MIB <= own < 4 * _MIB

    def test_a_limit_can_be_changed_and_lifted(self, volumes: Volumes) -> None:
        environment, _ = created(volumes)
        assert volumes.usage(environment).limit_bytes is None
        volumes.limit(environment, 32 * _MIB)
        assert volumes.usage(environment).limit_bytes == 32 * _MIB
        volumes.limit(environment, None)
        assert volumes.usage(environment).limit_bytes is None

    def test_capacity_is_what_is_used_of_what_there_is(self, volumes: Volumes) -> None:
        used, total = volumes.capacity()
        assert 0 < used < total

    # ------------------------------------------------------------ open, close

    def test_open_again_changes_nothing(self, volumes: Volumes) -> None:
        environment, volume = created(volumes)
        (volume / "file").write_bytes(b"x")
        snapshot = kept(volumes, environment)
        volumes.open()
        assert (volume / "file").read_bytes() == b"x"
        assert snapshot in volumes.snapshots()

    def test_a_closed_pool_says_so_and_can_be_opened(self, volumes: Volumes) -> None:
        environment, volume = created(volumes)
        (volume / "file").write_bytes(b"x")
        snapshot = kept(volumes, environment)
        volumes.close()
        for call in (
            lambda: volumes.create(environment_id()),
            lambda: volumes.snapshot(environment, snapshot_id()),
            lambda: volumes.fork(snapshot, environment_id()),
            lambda: volumes.lend(snapshot, environment_id()),
            lambda: volumes.own(environment),
            lambda: volumes.delete_environment(environment),
            lambda: volumes.delete_snapshot(snapshot),
            lambda: volumes.changes(snapshot, snapshot),
            lambda: volumes.usage(environment),
            lambda: volumes.limit(environment, None),
            volumes.environments,
            volumes.lent,
            volumes.snapshots,
            volumes.capacity,
        ):
            with pytest.raises(Unavailable, match="not mounted"):
                call()
        volumes.close()
        volumes.open()
        assert (volume / "file").read_bytes() == b"x"
        assert snapshot in volumes.snapshots()

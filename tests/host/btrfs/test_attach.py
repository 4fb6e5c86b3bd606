"""Opening and closing: cut short anywhere, detached behind our back, in use, where there is no room."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from wye.drivers.btrfs import loop, storage
from wye.drivers.btrfs.pool import Pool
from wye.errors import BadRequest, Conflict, Unavailable
from wye.host import MS_RDONLY, MS_REMOUNT, DiskFull, Host, OperationFailed
from wye.model import EnvironmentId, SnapshotId
from wye.testing.contracts.volumes import created, environment_id
from wye.testing.faulty_host import FaultyHost
from wye.testing.loop_pool import loop_pool

pytestmark = pytest.mark.host

_SIZE = 1 << 30


def new_pool(directory: Path, host: Host | None = None, size: int = _SIZE) -> Pool:
    return Pool(host or Host(), path=directory / "pool", image=directory / "pool.img", image_bytes=size)


def showing(image: Path) -> list[str]:
    """Loop devices that show the image, according to the kernel."""
    return [
        entry.parts[3] for entry in Path("/sys/block").glob("loop*/loop/backing_file")
        if entry.read_text().strip().removesuffix(" (deleted)") == str(image)
    ]  # fmt: skip


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Where a test makes its own pool, taken away as `loop_pool` does it."""
    pool = loop_pool(tmp_path)
    with pool as opened:
        opened.close()
        (tmp_path / "pool.img").unlink()
        opened.path.rmdir()
        yield tmp_path


def labels_of_open(directory: Path) -> tuple[list[str], list[str]]:
    host = FaultyHost(record=True)
    pool = new_pool(directory, host)
    pool.open()
    found = list(host.labels), list(host.effects)
    pool.close()
    (directory / "pool.img").unlink()
    return found


def assert_works(directory: Path) -> None:
    pool = new_pool(directory)
    pool.open()
    assert len(showing(directory / "pool.img")) == 1
    environment, volume = created(pool)
    assert os.listdir(pool.path / "snapshots") == [".empty"]
    (volume / "file").touch()
    assert pool.squota
    assert [what for what, _ in pool.findings() if "cannot reach" not in what] == []
    assert pool.environments() == {environment}
    pool.close()
    assert showing(directory / "pool.img") == []
    (directory / "pool.img").unlink()
    assert not (directory / "pool.img.partial").exists()


def test_open_that_fails_anywhere_is_finished_by_the_next(directory: Path) -> None:
    labels, effects = labels_of_open(directory)
    assert {"pool:allocate", "pool:format", "pool:attach", "pool:mount", "pool:enable-quota"} <= set(labels)
    for after, points in ((False, labels), (True, effects)):
        for label in dict.fromkeys(points):
            for nth in range(1, points.count(label) + 1):
                pool = new_pool(directory, FaultyHost(fail_at=label, nth=nth, after=after))
                try:
                    pool.open()
                except OperationFailed:
                    pass
                assert_works(directory)


@pytest.mark.parametrize("verb", ["kill", "kill-after"])
def test_open_that_is_killed_anywhere_is_finished_by_the_next(directory: Path, verb: str) -> None:
    labels, effects = labels_of_open(directory)
    program = (
        "import sys; from pathlib import Path; from wye.drivers.btrfs.pool import Pool;"
        "from wye.testing.faulty_host import FaultyHost;"
        f"Pool(FaultyHost.from_text(sys.argv[1]), path=Path(sys.argv[2], 'pool'),"
        f" image=Path(sys.argv[2], 'pool.img'), image_bytes={_SIZE}).open()"
    )
    for label in dict.fromkeys(effects if verb == "kill-after" else labels):
        done = subprocess.run([sys.executable, "-c", program, f"{verb}:{label}", str(directory)], check=False)
        assert done.returncode == -9, label
        assert_works(directory)


def test_many_open_at_the_same_time(directory: Path) -> None:
    """Two loop devices on one image would be two caches over one file system."""
    pools = [new_pool(directory) for _ in range(4)]
    failures: list[BaseException] = []

    def attempt(pool: Pool) -> None:
        try:
            pool.open()
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=attempt, args=(pool,)) for pool in pools]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    pools[0].close()
    assert_works(directory)


def test_an_image_that_somebody_else_attached_is_used_and_detached(directory: Path) -> None:
    pool = new_pool(directory)
    pool.open()
    pool.close()
    Host().run("test:losetup", ["losetup", "--find", "--direct-io=on", str(directory / "pool.img")])
    assert_works(directory)


def test_a_directory_that_containers_cannot_pass_is_found(pool: Pool, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert any(str(tmp_path) in advice for _, advice in pool.findings())
    tmp_path.chmod(0o711)
    assert not any(f"{tmp_path}'" in advice for _, advice in pool.findings())


def test_a_path_through_a_link(directory: Path) -> None:
    (directory / "way").symlink_to(directory)
    for place in (directory, directory / "way"):
        new_pool(place).open()
    assert_works(directory)


def test_bytes_outlive_close(directory: Path) -> None:
    pool = new_pool(directory)
    pool.open()
    _, volume = created(pool)
    (volume / "file").write_bytes(b"kept")
    pool.close()
    other = new_pool(directory)
    other.open()
    with closing(other):
        assert (volume / "file").read_bytes() == b"kept"


def test_detached_behind_our_back(pool: Pool) -> None:
    _, volume = created(pool)
    (volume / "file").write_bytes(b"kept")
    Host().unmount("test:detach", pool.path, lazy=True)
    with pytest.raises(Unavailable, match="not mounted"):
        pool.create(environment_id())
    pool.open()
    assert (volume / "file").read_bytes() == b"kept"


def test_detached_while_a_process_is_inside(pool: Pool) -> None:
    _, volume = created(pool)
    with (volume / "file").open("wb") as file:
        Host().unmount("test:detach", pool.path, lazy=True)
        with pytest.raises(Conflict, match="in use"):
            pool.close()
        pool.open()
        file.write(b"late")
        file.flush()
        assert (volume / "file").read_bytes() == b"late"


def test_close_while_in_use_changes_nothing(pool: Pool) -> None:
    environment, volume = created(pool)
    with (volume / "file").open("wb"), pytest.raises(Conflict, match="in use"):
        pool.close()
    assert pool.environments() == {environment}
    pool.close()
    with pytest.raises(Unavailable):
        pool.environments()


def test_a_pool_that_went_read_only_is_mended(pool: Pool) -> None:
    _, volume = created(pool)
    handle = os.open(volume, os.O_RDONLY)
    Host().mount("test:break", "none", pool.path, "btrfs", flags=MS_REMOUNT | MS_RDONLY)
    with pytest.raises(Unavailable, match="broken"):
        pool.create(environment_id())
    with pytest.raises(Conflict, match="read-only"):
        pool.open()
    os.close(handle)
    pool.open()
    pool.create(environment_id())


def test_something_else_is_mounted_there(directory: Path) -> None:
    pool = new_pool(directory)
    pool.path.mkdir()
    Host().mount("test:mount", "none", pool.path, "tmpfs")
    try:
        with pytest.raises(Conflict, match="is mounted at"):
            pool.open()
    finally:
        Host().unmount("test:unmount", pool.path)


@pytest.mark.parametrize("size", [1 << 20, storage.MINIMUM_BYTES - 1])
def test_too_small(directory: Path, size: int) -> None:
    with pytest.raises(BadRequest, match="too small"):
        new_pool(directory, size=size).open()
    assert not (directory / "pool.img.partial").exists()


def test_the_smallest(directory: Path) -> None:
    pool = new_pool(directory, size=storage.MINIMUM_BYTES)
    pool.open()
    with closing(pool):
        created(pool)


def test_larger_than_the_disk(directory: Path) -> None:
    room = os.statvfs(directory)
    for size in (1 << 50, room.f_bavail * room.f_frsize):
        with pytest.raises(DiskFull, match="does not fit"):
            new_pool(directory, size=size).open()
    assert not list(directory.glob("pool.img*")) or list(directory.glob("pool.img*")) == [directory / "pool.img.lock"]


def test_the_image_stays_whole(pool: Pool, tmp_path: Path) -> None:
    """Freed room is not given back: the next write must find it."""
    environment, volume = created(pool)
    image = tmp_path / "pool.img"
    before = image.stat().st_blocks
    (volume / "file").write_bytes(bytes(64 << 20))
    os.sync()
    (volume / "file").unlink()
    pool.delete_environment(environment)
    os.sync()
    assert image.stat().st_blocks >= before
    device = loop.find(Host(), image)
    assert device is not None
    assert loop.does_direct_io(device)
    assert "discard" not in (Path("/proc/mounts").read_text().split(str(pool.path))[1].split("\n")[0])


def test_an_existing_directory(pool: Pool, tmp_path: Path) -> None:
    """A pool within a file system that others use: nothing of theirs is touched, close unmounts nothing."""
    inner = Pool(Host(), path=pool.path / "inner", image=None)
    with pytest.raises(BadRequest, match="no directory"):
        inner.open()
    inner.path.mkdir()
    inner.open()
    inner.create(EnvironmentId("a" * 12))
    assert pool.environments() == frozenset()
    inner.close()
    assert inner.environments() == {"a" * 12}
    inner.snapshot(EnvironmentId("a" * 12), SnapshotId("b" * 12))
    (inner.path / "theirs").write_text("file")
    inner.erase()
    assert [path.name for path in inner.path.iterdir()] == ["theirs"]
    with pytest.raises(BadRequest, match="not on btrfs"):
        Pool(Host(), path=tmp_path, image=None).open()

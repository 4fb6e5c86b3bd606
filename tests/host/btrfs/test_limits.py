"""Full disks, disk limits, hostile contents, and a pool that has been used for long."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from wye.drivers.btrfs import quota
from wye.drivers.btrfs.pool import Pool
from wye.errors import NotFound, Unsupported
from wye.host import DiskFull, Host
from wye.testing.contracts.volumes import created, environment_id, kept, snapshot_id
from wye.testing.loop_pool import loop_pool

pytestmark = pytest.mark.host

_MIB = 1 << 20


def fill(path: Path, mode: str = "wb") -> int:
    """Writes from the file's start until there is no room; the errno."""
    with path.open(mode, buffering=0) as file:
        try:
            while True:
                file.write(os.urandom(_MIB))
        except OSError as error:
            return error.errno or 0


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def clean(pool: Pool) -> None:
    """Wakes the kernel's cleaner, which frees what was deleted: it would by itself every 30 seconds."""
    Host().run("test:sync", ["btrfs", "filesystem", "sync", str(pool.path)])


def groups(pool: Pool) -> set[int]:
    descriptor = os.open(pool.path, os.O_RDONLY)
    try:
        return quota.groups(Host(), descriptor)
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------- limits


def test_a_fork_that_fills_its_limit_harms_nobody(pool: Pool) -> None:
    environment, volume = created(pool)
    (volume / "file").write_bytes(os.urandom(8 * _MIB))
    snapshot, fork = kept(pool, environment), environment_id()
    pool.fork(snapshot, fork, limit_bytes=16 * _MIB)
    greedy = pool.environment_path(fork) / "volumes" / "data"
    assert fill(greedy / "more") == errno.EDQUOT
    own = pool.usage(fork).exclusive_bytes
    assert own is not None
    assert 12 * _MIB < own <= 16 * _MIB
    (volume / "more").write_bytes(os.urandom(24 * _MIB))
    full = kept(pool, fork)
    assert pool.changes(snapshot, full) != []
    pool.limit(fork, 64 * _MIB)
    (greedy / "again").write_bytes(os.urandom(8 * _MIB))
    pool.limit(fork, _MIB)
    pool.delete_snapshot(full)
    pool.delete_environment(fork)


def test_what_a_fork_overwrites_counts_and_what_it_inherits_does_not(pool: Pool) -> None:
    environment, volume = created(pool)
    (volume / "file").write_bytes(os.urandom(32 * _MIB))
    fork = environment_id()
    pool.fork(kept(pool, environment), fork, limit_bytes=8 * _MIB)
    file = pool.environment_path(fork) / "volumes" / "data" / "file"
    assert fill(file, "r+b") == errno.EDQUOT
    assert file.stat().st_size == 32 * _MIB


def test_a_full_pool_refuses_and_recovers(tmp_path: Path) -> None:
    """With no room at all: clear errors, nothing half made, and deleting gives the room back."""
    with loop_pool(tmp_path, 256 * _MIB) as pool:
        fill_and_recover(pool)


def fill_and_recover(pool: Pool) -> None:
    environment, volume = created(pool)
    (volume / "precious").write_bytes(b"kept")
    assert fill(volume / "ballast") == errno.ENOSPC
    used, total = pool.capacity()
    assert used > total * 0.9
    made = {snapshot_id() for _ in range(2000)}

    def snapshot_all() -> None:
        for snapshot in made:
            pool.snapshot(environment, snapshot)

    with pytest.raises(DiskFull) as raised:
        snapshot_all()
    assert raised.value.hint
    assert pool.snapshots() < made
    for snapshot in made:
        pool.delete_snapshot(snapshot)
    (volume / "ballast").unlink()

    def has_room() -> bool:
        clean(pool)
        return pool.capacity()[0] < total * 0.9

    wait_until(has_room)
    last = kept(pool, environment)
    assert (pool.snapshot_path(last) / "volumes" / "data" / "precious").read_bytes() == b"kept"


def test_without_simple_quotas(pool: Pool) -> None:
    environment, _ = created(pool)
    snapshot = kept(pool, environment)
    Host().run("test:quota", ["btrfs", "quota", "disable", str(pool.path)])
    assert not pool.squota
    assert pool.usage(environment).exclusive_bytes is None
    finding, advice = pool.findings()[0]
    assert "quotas are off" in finding
    assert str(pool.path) in advice
    pool.fork(snapshot, environment_id())
    with pytest.raises(Unsupported, match="quotas"):
        pool.fork(snapshot, environment_id(), limit_bytes=_MIB)
    with pytest.raises(Unsupported):
        pool.limit(environment, _MIB)


def test_no_quota_group_is_left(pool: Pool) -> None:
    environment, volume = created(pool)
    (volume / "file").write_bytes(os.urandom(_MIB))
    for _ in range(20):
        fork, snapshot = environment_id(), kept(pool, environment)
        pool.fork(snapshot, fork, limit_bytes=64 * _MIB)
        # Its extents outlive it in a snapshot: the kernel keeps its group then, and forgets it.
        (pool.environment_path(fork) / "volumes" / "own").write_bytes(os.urandom(65536))
        heir = kept(pool, fork)
        pool.delete_environment(fork)
        pool.delete_snapshot(snapshot)
        pool.delete_snapshot(heir)

    def is_clean() -> bool:
        clean(pool)
        pool.open()
        # The top level's, the empty environment's and this environment's.
        return len(groups(pool)) == 3

    wait_until(is_clean)


# ---------------------------------------------------------------- hostile contents


def test_subvolumes_within_an_environment_go_with_it(pool: Pool) -> None:
    """Whoever owns a directory on btrfs can make subvolumes in it, nest them, and lock them."""
    environment, volume = created(pool)
    inner = volume / "one" / "two"
    for path in (volume / "one", inner, inner / "three", volume / "other"):
        Host().run("test:subvolume", ["btrfs", "subvolume", "create", str(path)])
    for path in (inner / "three", inner, volume / "one"):
        Host().run("test:lock", ["btrfs", "property", "set", "-ts", str(path), "ro", "true"])
    kept(pool, environment)
    pool.delete_environment(environment)
    assert pool.environments() == frozenset()
    assert Host().run("test:list", ["btrfs", "subvolume", "list", str(pool.path)]).text.count("volumes") == 0


def test_a_process_of_a_container_passes_but_cannot_list(pool: Pool) -> None:
    _, volume = created(pool)
    volume.chmod(0o755)
    (volume / "file").write_text("reached")
    for parent in pool.path.parents:
        if not parent.stat().st_mode & 0o001:
            parent.chmod(0o711)
    program = (
        "import os, sys; os.setgroups([]); os.setgid(200000); os.setuid(200000);"
        "print(open(sys.argv[1]).read());"
        "[print(os.listdir(place)) for place in sys.argv[2:]]"
    )
    run = [sys.executable, "-I", "-c", program, str(volume / "file")]
    assert Host().run("test:pass", run).text == "reached\n"
    for place in (pool.path, pool.path / "environments", pool.path / "snapshots", volume.parent):
        done = Host().run("test:list", [*run, str(place)], check=False)
        assert b"PermissionError" in done.stderr


def test_a_user_namespace_can_mount_what_is_in_the_pool(pool: Pool) -> None:
    """As a container's runtime does: a bind mount made inside the namespace, whose root is uid 200000."""
    _, volume = created(pool)
    os.chown(volume, 200_000, 200_000)
    for parent in pool.path.parents:
        if not parent.stat().st_mode & 0o001:
            parent.chmod(0o711)
    program = (
        "import ctypes, os, sys; libc = ctypes.CDLL(None, use_errno=True); assert libc.unshare(0x10020000) == 0;"
        "print('apart', flush=True); input(); os.setgid(0); os.setuid(0);"
        "assert libc.mount(os.fsencode(sys.argv[1]), b'/mnt', None, 4096, None) == 0, ctypes.get_errno();"
        "open('/mnt/file', 'w').write('x'); print(os.stat('/mnt/file').st_uid)"
    )
    run = [sys.executable, "-I", "-c", program, str(volume)]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "apart\n"
        for kind in ("uid", "gid"):
            Path(f"/proc/{process.pid}/{kind}_map").write_text("0 200000 65536")
        assert process.communicate("go\n", timeout=60)[0] == "0\n"
    assert (volume / "file").stat().st_uid == 200_000


# ---------------------------------------------------------------- long use


def test_a_snapshot_holds_up_no_other_thread(pool: Pool) -> None:
    """The interpreter's lock is free while the kernel commits."""
    environment, volume = created(pool)
    (volume / "file").write_bytes(os.urandom(64 * _MIB))
    beats: list[float] = []
    finished = threading.Event()

    def beat() -> None:
        while not finished.is_set():
            beats.append(time.perf_counter())
            time.sleep(0.0005)

    thread = threading.Thread(target=beat)
    thread.start()
    started = time.perf_counter()
    kept(pool, environment)
    took = time.perf_counter() - started
    finished.set()
    thread.join()
    gaps = [later - earlier for earlier, later in itertools.pairwise(beats)]
    assert max(gaps) < max(took / 2, 0.02)


def test_a_snapshot_being_read_is_deleted_afterwards(pool: Pool) -> None:
    environment, volume = created(pool)
    base = kept(pool, environment)
    for number in range(3000):
        (volume / str(number)).touch()
    new = kept(pool, environment)
    found: list[int] = []

    def read() -> None:
        with contextlib.suppress(NotFound):
            found.append(len(pool.changes(base, new)))

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.005)
    pool.delete_snapshot(new)
    thread.join()
    assert found in ([3000], [])
    assert pool.snapshots() == {base}


def test_the_pool_starts_no_program(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    environment, _ = created(pool)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "run", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    snapshot, fork = kept(pool, environment), environment_id()
    pool.fork(snapshot, fork, limit_bytes=_MIB)
    pool.changes(snapshot, kept(pool, fork))
    pool.usage(fork)
    pool.delete_environment(fork)
    pool.delete_snapshot(snapshot)

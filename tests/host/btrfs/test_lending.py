from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from wye.drivers.btrfs.pool import Pool
from wye.testing.contracts.volumes import created, environment_id, kept, snapshot_id
from wye.testing.loop_pool import loop_pool

pytestmark = pytest.mark.host


def test_a_loan_survives_a_power_failure(tmp_path: Path) -> None:
    """What the disk holds at the instant that it was made is all that there will be."""
    with loop_pool(tmp_path, 256 << 20) as pool:
        environment, volume = created(pool)
        (volume / "file").write_bytes(b"kept")
        snapshot = kept(pool, environment)
        lent = [environment_id() for _ in range(3)]
        for each in lent[1:]:
            pool.lend(snapshot, each)
        pool.snapshot(environment, snapshot_id(), lend_to=lent[:1])
        shutil.copyfile(tmp_path / "pool.img", tmp_path / "then.img")
        pool.close()
        os.replace(tmp_path / "then.img", tmp_path / "pool.img")
        pool.open()
        assert pool.lent() == set(lent)
        for each in lent:
            assert (pool.environment_path(each) / "volumes" / "data" / "file").read_bytes() == b"kept"


def test_nobody_writes_to_what_was_lent(pool: Pool) -> None:
    environment, volume = created(pool)
    (volume / "file").write_bytes(b"kept")
    fork = environment_id()
    pool.lend(kept(pool, environment), fork)
    with pytest.raises(OSError, match="Read-only"):
        (pool.environment_path(fork) / "volumes" / "data" / "file").write_bytes(b"x")


def test_a_loan_that_came_back_does_not_hide_what_was_written(pool: Pool) -> None:
    """A power failure brings back the link that `own` has removed; the subvolume is older than that."""
    environment, volume = created(pool)
    (volume / "file").write_bytes(b"kept")
    snapshot, fork = kept(pool, environment), environment_id()
    pool.lend(snapshot, fork)
    pool.own(fork)
    (pool.environment_path(fork) / "volumes" / "data" / "file").write_bytes(b"mine")
    (pool.path / "lent" / fork).symlink_to(f"../snapshots/{snapshot}")
    pool.open()
    assert pool.lent() == frozenset()
    pool.own(fork)
    assert (pool.environment_path(fork) / "volumes" / "data" / "file").read_bytes() == b"mine"
    assert not (pool.path / "lent" / fork).is_symlink()

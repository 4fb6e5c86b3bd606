"""The listing of loans is kept as long as nothing is lent and nothing given back, and no longer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from wye.drivers.btrfs import loan
from wye.host import Host
from wye.model import EnvironmentId, SnapshotId

HOST = Host()
LONG_AGO_NS = 10**18
FIRST, SECOND = SnapshotId("a" * 12), SnapshotId("b" * 12)


@pytest.fixture
def loans(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def lend(loans: int, environment: str, snapshot: SnapshotId) -> None:
    loan.make(HOST, loans, EnvironmentId(environment), snapshot)


def grow_old(loans: int) -> None:
    """The directory looks as if it had been changed for the last time then."""
    os.utime(loans, ns=(LONG_AGO_NS, LONG_AGO_NS))


def test_every_change_is_seen(loans: int) -> None:
    lent = loan.Lent(HOST)
    assert lent.snapshots(loans) == frozenset()
    lend(loans, "one", FIRST)
    assert lent.snapshots(loans) == {FIRST}
    grow_old(loans)
    assert lent.snapshots(loans) == {FIRST}
    lend(loans, "two", SECOND)
    assert lent.snapshots(loans) == {FIRST, SECOND}
    grow_old(loans)
    assert lent.snapshots(loans) == {FIRST, SECOND}
    loan.end(HOST, loans, EnvironmentId("one"))
    assert lent.snapshots(loans) == {SECOND}


def test_links_are_not_read_again_while_nothing_changes(loans: int) -> None:
    lent = loan.Lent(HOST)
    lend(loans, "one", FIRST)
    grow_old(loans)
    assert lent.snapshots(loans) == {FIRST}
    loan.end(HOST, loans, EnvironmentId("one"))
    grow_old(loans)
    assert lent.snapshots(loans) == {FIRST}, "by its time nothing has happened, so it was not looked at"


def test_a_directory_that_has_just_changed_is_not_believed(loans: int) -> None:
    """A second change within one tick of the clock would not show."""
    lent = loan.Lent(HOST)
    lend(loans, "one", FIRST)
    now = os.fstat(loans)
    assert lent.snapshots(loans) == {FIRST}
    lend(loans, "two", SECOND)
    os.utime(loans, ns=(now.st_atime_ns, now.st_mtime_ns))
    assert lent.snapshots(loans) == {FIRST, SECOND}


def test_another_directory_is_another_pool(loans: int, tmp_path: Path) -> None:
    lent = loan.Lent(HOST)
    lend(loans, "one", FIRST)
    grow_old(loans)
    assert lent.snapshots(loans) == {FIRST}
    (tmp_path / "other").mkdir()
    other = os.open(tmp_path / "other", os.O_RDONLY | os.O_DIRECTORY)
    try:
        grow_old(other)
        assert lent.snapshots(other) == frozenset()
    finally:
        os.close(other)

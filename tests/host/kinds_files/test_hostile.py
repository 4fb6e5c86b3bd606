"""Files that are more than they take: nobody waits for what was never written."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wye.drivers.btrfs.pool import Pool
from wye.host import Host
from wye.kinds.files.inode import copy_content
from wye.kinds.files.tree import WHOLE_LIMIT_BYTES, Side
from wye.model import EnvironmentId
from wye.testing.loop_pool import loop_pool

pytestmark = pytest.mark.host

HOST = Host()
EXABYTE = 1 << 60
FS_IOC_SETFLAGS, FS_NOCOW = 0x40086602, 0x00800000


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with loop_pool(tmp_path_factory.mktemp("pool"), 256 << 20, host=HOST) as pool:
        yield pool


@pytest.fixture
def root(pool: Pool) -> Iterator[Path]:
    environment = EnvironmentId("hostile00000")
    pool.create(environment)
    yield pool.environment_path(environment)
    pool.delete_environment(environment)


def digest(root: Path, name: str) -> str:
    with Side(HOST, root) as side:
        state = side.own(f"volumes/data/{name}")
    assert state is not None
    return state.digest


def write(root: Path, name: str, size: int, *pieces: tuple[int, bytes]) -> Path:
    path = root / "volumes/data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for at, piece in pieces:
            os.pwrite(file.fileno(), piece, at)
        file.truncate(size)
    return path


def test_a_file_of_an_exabyte_is_read_in_a_moment(root: Path) -> None:
    began = time.monotonic()
    one = (EXABYTE - 5, b"end")
    write(root, "a", EXABYTE, (7, b"begin"), one)
    write(root, "b", EXABYTE, (7, b"begin"), one, (1 << 40, b"\0" * 1000))
    write(root, "c", EXABYTE, (8, b"begin"), one)
    write(root, "d", EXABYTE + 1, (7, b"begin"), one)
    write(root, "e", EXABYTE)
    digests = [digest(root, name) for name in "abcde"]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4
    assert time.monotonic() - began < 2


def test_zeros_are_the_same_stored_or_not(root: Path) -> None:
    size = WHOLE_LIMIT_BYTES + 300_000
    pieces = [(5, b"a"), (9_000_000, b"b" * 200_000), (size - 1, b"c")]
    write(root, "holes", size, *pieces)
    write(root, "full", size, (0, b"\0" * size), *pieces)
    assert digest(root, "holes") == digest(root, "full")
    write(root, "other", size, *pieces, (9_100_000, b"x"))
    assert digest(root, "other") != digest(root, "full")


def test_a_copy_that_shares_nothing_keeps_the_holes(root: Path) -> None:
    """Blocks are not shared between a file whose writes are in place and one whose are not."""
    source = root / "volumes/data/source"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.touch()
    with source.open("r+b") as file:
        fcntl.ioctl(file, FS_IOC_SETFLAGS, FS_NOCOW.to_bytes(4, "little") + bytes(4))
        os.pwrite(file.fileno(), b"x" * 100_000, 1 << 50)
        file.truncate(EXABYTE)
    opened = os.open(source, os.O_PATH)
    target = os.open(root / "target", os.O_RDWR | os.O_CREAT)
    try:
        copy_content(HOST, opened, target)
        found = os.fstat(target)
        assert (found.st_size, os.pread(target, 100_002, (1 << 50) - 1)) == (EXABYTE, b"\0" + b"x" * 100_000 + b"\0")
        assert found.st_blocks < 10_000
    finally:
        os.close(opened)
        os.close(target)

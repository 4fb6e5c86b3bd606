"""A real pool for tests: btrfs on a loop image, taken away at the end whatever happened in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wye.drivers.btrfs.pool import Pool
from wye.host import Host


@contextmanager
def loop_pool(directory: Path, size_bytes: int = 1 << 30, *, host: Host | None = None) -> Iterator[Pool]:
    """An opened pool, mounted at `directory`/pool. Needs root. The size is taken from the disk at once."""
    host = host or Host()
    image = directory / "pool.img"
    pool = Pool(host, path=directory / "pool", image=image, image_bytes=size_bytes)
    try:
        pool.open()
        yield pool
    finally:
        # Lazily: what a failed test left running in the pool must not keep the mount for ever.
        while host.unmount("test:unmount-pool", pool.path, lazy=True):
            pass
        for file in (image, image.with_name("pool.img.partial"), image.with_name("pool.img.lock")):
            file.unlink(missing_ok=True)
        shutil.rmtree(pool.path, ignore_errors=True)

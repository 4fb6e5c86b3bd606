from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from wye.drivers.btrfs.pool import Pool
from wye.testing.loop_pool import loop_pool


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with loop_pool(tmp_path) as pool:
        yield pool

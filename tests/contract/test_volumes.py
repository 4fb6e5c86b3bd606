from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from wye.interfaces import Volumes
from wye.testing.contracts.lending import LendingContract
from wye.testing.contracts.volumes import VolumesContract
from wye.testing.loop_pool import loop_pool
from wye.testing.memory_volumes import MemoryVolumes


class TestMemory(VolumesContract, LendingContract):
    @pytest.fixture
    def volumes(self, tmp_path: Path) -> Volumes:
        volumes = MemoryVolumes(tmp_path)
        volumes.open()
        return volumes


@pytest.mark.host
class TestBtrfs(VolumesContract, LendingContract):
    @pytest.fixture
    def volumes(self, tmp_path: Path) -> Iterator[Volumes]:
        with loop_pool(tmp_path) as pool:
            yield pool

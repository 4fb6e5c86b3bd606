from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from wye.testing.containers import UID_BASE, Containers, containers
from wye.testing.tiny_rootfs import debian_package, tiny_rootfs


@pytest.fixture(scope="session")
def tiny(test_root: Path) -> Path:
    return tiny_rootfs(test_root / "tiny", UID_BASE)


@pytest.fixture(scope="session")
def catatonit(test_root: Path) -> Path:
    return debian_package(test_root / "tiny", "catatonit") / "usr" / "bin" / "catatonit"


@pytest.fixture
def place(tiny: Path, catatonit: Path) -> Iterator[Containers]:
    with containers(tiny, (catatonit,)) as place:
        yield place

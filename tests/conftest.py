"""What tests of the whole share: one root on this machine, kept from run to run, so that images are made once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wye.testing.running_daemon import LANE


@pytest.fixture(scope="session")
def test_root() -> Path:
    """The tests' own daemon root: pool, images, database. `bin/test --clean` removes it."""
    root = Path(os.environ.get("WYE_TEST_ROOT") or f"/var/lib/wye-tests{f'-{LANE}' if LANE else ''}")
    root.mkdir(parents=True, exist_ok=True)
    return root

"""What tests of the whole share: one root on this machine, kept from run to run, so that images are made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from wye.testing.running_daemon import ROOT


@pytest.fixture(scope="session")
def test_root() -> Path:
    """The tests' own daemon root: pool, images, database. `bin/test --clean` removes it."""
    ROOT.mkdir(parents=True, exist_ok=True)
    return ROOT

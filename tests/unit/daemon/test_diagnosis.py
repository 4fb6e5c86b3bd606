from __future__ import annotations

import resource
from pathlib import Path

import pytest

from wye.daemon import diagnosis
from wye.daemon.config import Config
from wye.interfaces import Finding

GIB = 1 << 30


@pytest.mark.parametrize(
    ("finding", "level"),
    [
        (diagnosis.open_files(Config(), 1024), "warning"),
        (diagnosis.open_files(Config(), 20000), "ok"),
        (diagnosis.open_files(Config(), resource.RLIM_INFINITY), "ok"),
        (diagnosis.open_files(Config(port_first=20000, port_last=20099), 4096), "ok"),
        (diagnosis.unit(Path("/nowhere/wye.service"), systemd=True), "warning"),
        (diagnosis.unit(Path("/nowhere/wye.service"), systemd=False), "ok"),
        (diagnosis.unit(Path(__file__), systemd=True), "ok"),
        (diagnosis.disk(Path("/"), GIB // 2), "warning"),
        (diagnosis.disk(Path("/"), 2 * GIB), "ok"),
        (diagnosis.pool(95 * GIB, 100 * GIB), "warning"),
        (diagnosis.pool(50 * GIB, 100 * GIB), "ok"),
    ],
)
def test_what_is_no_problem_and_what_is_one(finding: Finding, level: str) -> None:
    assert finding.level == level
    assert bool(finding.fix) == (level != "ok")


def test_this_machine(tmp_path: Path) -> None:
    found = diagnosis.findings(Config(root=tmp_path), (0, GIB))
    assert [finding.subject for finding in found] == [
        "python", "open files", "start with the machine", "disk", "pool space",
    ]  # fmt: skip

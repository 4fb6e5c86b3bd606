"""The faults happen where they should, and only there; everything else is the real host."""

from __future__ import annotations

import inspect
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wye.errors import BadRequest, InvariantError
from wye.host import DiskFull, Host, OperationFailed, ProgramFailed
from wye.testing.faulty_host import FaultyHost
from wye.testing.mock_clock import ClockHost


def test_labels_are_recorded_in_order(tmp_path: Path) -> None:
    host = FaultyHost(record=True)
    host.make_directory("a:directory", tmp_path / "d")
    host.at("b:announced")
    host.write_file("c:file", tmp_path / "d" / "f", b"x")
    with host.lock("d:lock", tmp_path / "lock") as held:
        assert held
    assert host.run("e:program", ["true"]).status == 0
    assert host.labels == ["a:directory", "b:announced", "c:file", "d:lock", "e:program"]
    assert host.effects == ["a:directory", "c:file", "d:lock", "e:program"]


def test_every_labelled_method_of_host_can_fail() -> None:
    """Also those that Host will get: none is forgotten."""
    labelled = [
        name
        for name, method in inspect.getmembers(Host, inspect.isfunction)
        if "label" in inspect.signature(method).parameters and name not in ("at", "failure", "lock")
    ]
    assert {"run", "spawn", "write_file", "ioctl", "mount"} <= set(labelled)
    for name in labelled:
        with pytest.raises(OperationFailed, match=r"x:y: injected"):
            getattr(FaultyHost(fail_at="x:y"), name)("x:y")


def test_before_means_that_nothing_happened(tmp_path: Path) -> None:
    host = FaultyHost(fail_at="x:write", error=DiskFull("full"))
    with pytest.raises(DiskFull, match="full"):
        host.write_file("x:write", tmp_path / "f", b"x")
    assert not (tmp_path / "f").exists()
    assert host.has_fired
    host.write_file("x:write", tmp_path / "f", b"x")


def test_after_means_that_it_happened(tmp_path: Path) -> None:
    host = FaultyHost(fail_at="x:write", after=True)
    with pytest.raises(OperationFailed):
        host.write_file("x:write", tmp_path / "f", b"x")
    assert (tmp_path / "f").read_bytes() == b"x"


def test_what_is_only_announced_cannot_fail_after() -> None:
    with pytest.raises(InvariantError, match="only announced"):
        FaultyHost(fail_at="x:y", after=True).at("x:y")


def test_a_lock_that_failed_after_is_free_again(tmp_path: Path) -> None:
    host = FaultyHost(fail_at="x:lock", after=True)
    with pytest.raises(OperationFailed), host.lock("x:lock", tmp_path / "lock"):
        pytest.fail("not reached")
    with host.lock("x:lock", tmp_path / "lock", wait=False) as held:
        assert held


def test_it_breaks_at_the_nth_time_once() -> None:
    host = FaultyHost(fail_at="x:y", nth=3)
    for _ in range(2):
        host.at("x:y")
        host.at("other")
    with pytest.raises(OperationFailed):
        host.at("x:y")
    host.at("x:y")


def test_threads_share_one_count() -> None:
    host = FaultyHost(fail_at="x:y", nth=500, record=True)

    def reach(_: int) -> int:
        try:
            host.at("x:y")
        except OperationFailed:
            return 1
        return 0

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(reach, range(1000))) == 1
    assert len(host.labels) == 1000


def test_the_rest_is_the_real_hosts(tmp_path: Path) -> None:
    clock = ClockHost(start=100.0)
    host = FaultyHost(clock, fail_at="x:y")
    host.sleep(5)
    assert host.now() == 105.0
    assert clock.monotonic() == 5.0
    with pytest.raises(ProgramFailed):
        host.run("other", ["false"])
    (tmp_path / "f").write_bytes(b"x")
    assert host.read_beneath(tmp_path, "f") == b"x"


KILLED = """
import sys
from pathlib import Path
from wye.testing.faulty_host import FaultyHost
host = FaultyHost.from_text(sys.argv[1])
host.write_file("x:write", Path(sys.argv[2]), b"x")
host.at("x:end")
"""


@pytest.mark.parametrize(
    ("fault", "status", "written"),
    [
        ("kill:x:write", -signal.SIGKILL, False),
        ("kill-after:x:write", -signal.SIGKILL, True),
        ("kill:x:write:2", 0, True),
        ("kill:x:end", -signal.SIGKILL, True),
        ("fail:x:write", 1, False),
    ],
)
def test_a_process_is_killed_where_it_was_told(tmp_path: Path, fault: str, status: int, written: bool) -> None:
    file = tmp_path / "f"
    done = subprocess.run([sys.executable, "-c", KILLED, fault, file], capture_output=True, check=False)
    assert done.returncode == status
    assert file.exists() == written


def test_labels_are_recorded_in_a_file(tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    done = subprocess.run([sys.executable, "-c", KILLED, f"record:{labels}", tmp_path / "f"], check=False)
    assert done.returncode == 0
    assert labels.read_text().splitlines() == ["x:write", "x:end"]


@pytest.mark.parametrize("text", ["", "kill", "kill:", "kill::2", "kill:a:0", "break:a", "kill-before:a", "record:"])
def test_what_is_no_fault_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        FaultyHost.from_text(text)


def test_a_clock_moves_only_when_told() -> None:
    clock = ClockHost(start=100.0)
    assert (clock.now(), clock.monotonic()) == (100.0, 0.0)
    clock.advance(2.5)
    clock.sleep(0.5)
    clock.sleep(-1)
    assert (clock.now(), clock.monotonic()) == (103.0, 3.0)
    clock.set_back(10)
    assert (clock.now(), clock.monotonic()) == (93.0, 3.0)
    with pytest.raises(InvariantError):
        clock.advance(-1)

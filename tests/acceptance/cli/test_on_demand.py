"""The first command starts the daemon: it is there afterwards, once, and says why if it cannot be."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import wye
from wye.errors import Unavailable

pytestmark = pytest.mark.host


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a daemon of this test's own would live. It is ended, and its pool unmounted, afterwards."""
    settings = {"ROOT": tmp_path, "RUN": tmp_path / "run", "LOG": tmp_path / "log", "INSTANCE": "wyecli"}
    settings |= {"UPLINKS": "100.75.0.0/16", "POOL_BYTES": "1GiB", "PORT_FIRST": 29200, "PORT_LAST": 29210}
    for name in [name for name in os.environ if name.startswith("WYE_")]:
        monkeypatch.delenv(name)
    for name, value in settings.items():
        monkeypatch.setenv(f"WYE_{name}", str(value))
    try:
        yield tmp_path
    finally:
        pid = daemon_of(tmp_path)
        if pid is not None:
            stop(pid)
        if os.path.ismount(tmp_path / "pool"):
            subprocess.run(["umount", tmp_path / "pool"], check=True)
        listed = subprocess.run(
            ["losetup", "-n", "-O", "NAME", "-j", tmp_path / "pool.img"], check=False, capture_output=True, text=True
        )
        for device in listed.stdout.split():
            subprocess.run(["losetup", "-d", device], check=True)
        (tmp_path / "pool.img").unlink(missing_ok=True)
        subprocess.run(["nft", "delete", "table", "inet", "wyecli"], check=False, capture_output=True)
        route = ["ip", "route", "delete", "unreachable", "100.75.0.0/16"]
        subprocess.run(route, check=False, capture_output=True)


def daemon_of(root: Path) -> int | None:
    """The pid of who listens there, as the kernel says."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(root / "run" / "wye.sock"))
        except OSError:
            return None
        pid: int = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        return pid


def stop(pid: int) -> None:
    """Ends a process that may be this one's child or not."""
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                return
        except ChildProcessError:
            if not os.path.exists(f"/proc/{pid}"):
                return
        time.sleep(0.02)
    raise AssertionError("it did not end")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("wye")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_the_first_command_starts_it_and_it_stays(root: Path) -> None:
    before = run("daemon", "status")
    assert (before.returncode, "no daemon answers" in before.stderr) == (7, True)
    first = run("ps")
    assert first.returncode == 0, first.stderr
    assert "no environments yet" in first.stdout
    assert first.stderr == "starting the daemon\n"
    pid = daemon_of(root)
    second = run("ps", "--json")
    assert (second.stdout, second.stderr) == ("[]\n", "")
    assert daemon_of(root) == pid
    assert os.getsid(pid or 0) == pid, "it would end with the terminal"


def test_many_first_commands_start_one(root: Path) -> None:
    results: list[str] = []
    threads = [threading.Thread(target=lambda: results.append(run("ps", "--json").stdout)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["[]\n"] * 4
    assert (root / "log" / "daemon.log").read_text().count("runs already") == 0


def test_a_daemon_that_cannot_start_says_why(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WYE_POOL_BYTES", "plenty")
    with pytest.raises(Unavailable, match="ended at once with status 2") as caught:
        wye.connect()
    assert "plenty" in str(caught.value)


def test_nobody_starts_one_elsewhere(root: Path) -> None:
    with pytest.raises(Unavailable, match="no daemon answers"):
        wye.connect(f"unix://{root}/elsewhere.sock")
    with pytest.raises(Unavailable, match="no daemon answers"):
        wye.connect(may_start=False)
    assert daemon_of(root) is None


def test_uninstalling_leaves_nothing_of_ours_and_all_of_others(root: Path) -> None:
    (root / "somebody's").write_text("file")
    assert run("ps").returncode == 0
    pid = daemon_of(root)
    asked = run("daemon", "uninstall")
    assert (asked.returncode, "--yes" in asked.stderr, daemon_of(root)) == (2, True, pid)
    done = run("daemon", "uninstall", "--yes")
    assert done.returncode == 0, done.stderr
    assert daemon_of(root) is None
    assert [path.name for path in root.iterdir()] == ["somebody's"]
    for listing in (["nft", "list", "tables"], ["ip", "link"], ["losetup", "-l"]):
        found = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
        assert "wyecli" not in found
        assert str(root) not in found
    assert "100.75.0.0" not in subprocess.run(["ip", "route"], check=True, capture_output=True, text=True).stdout
    assert run("daemon", "uninstall", "--yes").returncode == 0, "again: nothing is there, and nothing is made"
    assert [path.name for path in root.iterdir()] == ["somebody's"]

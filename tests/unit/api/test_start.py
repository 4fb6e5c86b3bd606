"""How a client ends a daemon that is to be removed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wye.api import start
from wye.api.transport import Address

LISTENS = """
import signal, socket, sys, time
if sys.argv[2] == "busy":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
listening.listen()
print(flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("kind", "by"), [("idle", signal.SIGTERM), ("busy", signal.SIGKILL)])
def test_a_daemon_is_asked_to_end_and_then_made_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, by: signal.Signals
) -> None:
    monkeypatch.setattr(start, "_STOP_TIMEOUT_S", 5.0 if kind == "idle" else 0.2)
    path = str(tmp_path / "sock")
    with subprocess.Popen([sys.executable, "-c", LISTENS, path, kind], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        start.stop(Address(path=path))
        assert process.wait(10) == -by


def test_there_may_be_none(tmp_path: Path) -> None:
    start.stop(Address(path=str(tmp_path / "sock")))

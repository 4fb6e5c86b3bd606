"""The daemon, started by the first client that needs it, and its systemd unit.

A client starts one only at the default address, and only root can. Of several clients at once one starts it and
the others wait: they hold a lock in turn and look first whether somebody answers. The daemon is a session of its
own, so that it outlives the terminal it was started from; where the unit is installed systemd starts it instead.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from wye.api.transport import Address, NotListening, open_socket
from wye.errors import Unavailable
from wye.host import Host

RUN = Path("/run/wye")
LOG = Path("/var/log/wye")
SOCKET = "wye.sock"
LOG_FILE = "daemon.log"
UNIT = Path("/etc/systemd/system/wye.service")
SYSTEMD = Path("/run/systemd/system")
"""Exists where systemd is the init."""

_START_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.02
_LOG_TAIL_LINES = 15

_UNIT_TEXT = """\
[Unit]
Description=wye: forks of a running production
After=network-online.target local-fs.target
Wants=network-online.target

[Service]
Type=exec
ExecStart={python} -m wye.daemon.main
Restart=on-failure
RestartSec=1
# Services outlive the daemon: only its own process is stopped with it.
KillMode=process
Delegate=yes
RuntimeDirectory=wye
RuntimeDirectoryPreserve=yes
LimitNOFILE=1048576
TasksMax=infinity

[Install]
WantedBy=multi-user.target
"""


def answers(address: Address) -> bool:
    """Whether somebody accepts connections there. Raises Denied."""
    try:
        open_socket(address).close()
    except NotListening:
        return False
    return True


def start(host: Host, *, run: Path, log: Path, note: Callable[[str], None]) -> None:
    """Starts the daemon whose socket is in the directory `run` unless it runs; returns once it answers.

    Its output goes to a file in the directory `log`. `note` is told before the wait begins. Raises Unavailable
    with the end of that file.
    """
    address = Address(path=str(run / SOCKET))
    host.make_directory("client:start-daemon", run, mode=0o711)
    host.make_directory("client:start-daemon", log, mode=0o750)
    with host.lock("client:start-daemon", run / "start.lock"):
        if answers(address):
            return
        note("starting the daemon")
        if run == RUN and unit_installed():
            host.run("client:start-daemon", ["systemctl", "start", "wye.service"])
            _wait(host, address, lambda: None, lambda: "  see: journalctl -u wye")
            return
        path = log / LOG_FILE
        with path.open("ab") as output:
            began = output.tell()
            process = host.spawn(
                "client:start-daemon", [sys.executable, "-m", "wye.daemon.main"], stdout=output, stderr=output, cwd="/"
            )
        _wait(host, address, process.poll, lambda: _tail(path, began))


def _wait(host: Host, address: Address, ended: Callable[[], int | None], said: Callable[[], str]) -> None:
    deadline = host.monotonic() + _START_TIMEOUT_S
    while not answers(address):
        status = ended()
        if status is not None:
            raise Unavailable(f"the daemon ended at once with status {status}:\n{said()}")
        if host.monotonic() > deadline:
            raise Unavailable(
                f"the daemon does not answer after {_START_TIMEOUT_S:g} s:\n{said()}",
                hint="it may still be starting: see 'wye daemon status'",
            )
        host.sleep(_POLL_S)


def _tail(path: Path, began: int) -> str:
    """The last lines of the log, but nothing from before byte `began`."""
    with path.open("rb") as file:
        file.seek(began)
        lines = file.read().decode(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    return "\n".join(f"  {line}" for line in lines) or f"  it said nothing in {path}"


def uninstall(run: Path, *, discard_everything: bool) -> None:
    """Stops the daemon whose socket is in the directory `run`, removes the unit if it is that daemon's, and has the
    daemon's program take away all else. Raises Unavailable if it does not end, and what it says if it refuses."""
    host = Host()
    if run == RUN and UNIT.exists():
        if SYSTEMD.is_dir():
            host.run("client:uninstall", ["systemctl", "disable", "--now", "wye.service"])
        host.remove_tree("client:uninstall", UNIT)
        if SYSTEMD.is_dir():
            host.run("client:uninstall", ["systemctl", "daemon-reload"])
    stop(Address(path=str(run / SOCKET)))
    argv = [sys.executable, "-m", "wye.daemon.main", "--erase"]
    if discard_everything:
        argv.append("--discard-everything")
    host.run("client:uninstall", argv, timeout_s=None)


def stop(address: Address) -> None:
    """By the process that listens there, as the kernel knows it. One that is in the midst of something long, such as
    making an image, is killed: whatever a daemon was doing when it was killed, the next one knows how to end."""
    try:
        with open_socket(address) as opened:
            pid, _, _ = struct.unpack("3i", opened.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        ended = os.pidfd_open(pid)
    except (NotListening, ProcessLookupError):
        return
    try:
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        for request in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(ended, request)
            if poll.poll(_STOP_TIMEOUT_S * 1000):
                return
        raise Unavailable(f"the daemon (process {pid}) does not end", hint="see the kernel's log: dmesg")
    finally:
        os.close(ended)


# ---------------------------------------------------------------- systemd


def unit_installed() -> bool:
    return SYSTEMD.is_dir() and UNIT.exists()


def unit_text() -> str:
    """The systemd unit for the wye that runs now."""
    return _UNIT_TEXT.format(python=sys.executable)


def install_unit() -> bool:
    """Writes the unit, and enables and starts it where systemd runs. Returns whether it does."""
    host = Host()
    host.make_directory("client:install-unit", UNIT.parent)
    host.write_file("client:install-unit", UNIT, unit_text().encode())
    if not SYSTEMD.is_dir():
        return False
    host.run("client:install-unit", ["systemctl", "daemon-reload"])
    host.run("client:install-unit", ["systemctl", "enable", "--now", "wye.service"])
    return True

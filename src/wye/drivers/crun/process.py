"""Processes of the host, named so that a reused pid is never taken for the process that had it before.

A pid alone names nothing once its process may have ended. A pid with the process's start time (in clock ticks since
boot, field 22 of /proc/<pid>/stat) does, within one boot. Signals go through pidfds, checked after opening.
"""

from __future__ import annotations

import os
import resource
import select
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_CAP_SYS_RESOURCE = 24


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    ticks: int
    """Start time since boot, in clock ticks. 0: it had ended before anybody looked."""


@dataclass(frozen=True, slots=True)
class Status:
    process: Process
    group: int
    session: int


def status(pid: int) -> Status | None:
    """What /proc says of `pid`, or None if there is none or it has ended (a zombie has ended)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in parentheses, and may hold anything.
    fields = text[text.rindex(b")") + 2 :].split()
    if fields[0] in (b"Z", b"X"):
        return None
    return Status(Process(pid, int(fields[19])), group=int(fields[2]), session=int(fields[3]))


def identify(pid: int) -> Process:
    """Names the process that has `pid` now."""
    found = status(pid)
    return found.process if found else Process(pid, 0)


def is_alive(process: Process) -> bool:
    found = status(process.pid)
    return found is not None and found.process == process


def descriptor(process: Process) -> int | None:
    """A pidfd of exactly this process, readable once it ends; None if it has. The caller closes it."""
    try:
        opened = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if is_alive(process):
        return opened
    os.close(opened)
    return None


def send(process: Process, number: int) -> bool:
    """Signals exactly this process. Whether it was there."""
    opened = descriptor(process)
    if opened is None:
        return False
    try:
        signal.pidfd_send_signal(opened, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(opened)
    return True


def wait(process: Process, timeout_s: float | None) -> bool:
    """Waits for its end. False if the time ran out."""
    opened = descriptor(process)
    if opened is None:
        return True
    try:
        return wait_readable(opened, timeout_s)
    finally:
        os.close(opened)


def wait_readable(opened: int, timeout_s: float | None) -> bool:
    poll = select.poll()
    poll.register(opened, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else max(0.0, timeout_s) * 1000))


def pid_in(path: Path) -> int | None:
    """The pid that a pid file holds; None while there is no such file or it is still being written."""
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        return None
    return int(text) if text.isdigit() else None


def hard_limits(names: Iterable[str]) -> dict[str, int] | None:
    """This process's own hard limits, by ulimit name, -1 for none; None if CAP_SYS_RESOURCE lets it pass them."""
    held = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    if int(held.split()[1], 16) >> _CAP_SYS_RESOURCE & 1:
        return None
    numbers = {name: getattr(resource, f"RLIMIT_{name.upper()}", None) for name in names}
    return {name: resource.getrlimit(number)[1] for name, number in numbers.items() if number is not None}

"""Healthchecks: a short command in a container, its exit code and the beginning of what it said."""

from __future__ import annotations

import os
import select

from wye.drivers.crun.execution import CrunProcess
from wye.host import Host

TIMED_OUT = 124
_BLOCK = 65536
_BLOCKS = 16
"""Read at once: one that writes faster than we read must not keep us from looking at the clock."""


def finish(host: Host, running: CrunProcess, timeout_s: float, output_bytes: int) -> tuple[int, str]:
    """Waits for `running`, whose stdout is all its output, and closes it. (TIMED_OUT, output) if the time ran out."""
    deadline = host.monotonic() + timeout_s
    output = b""
    ended = running.descriptor()
    os.set_blocking(running.stdout, False)
    try:
        poll = select.poll()
        poll.register(running.stdout, select.POLLIN)
        poll.register(ended, select.POLLIN)
        # Reading goes on beyond what is kept, so that a talkative command is not stopped by a full pipe.
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(max(0.0, deadline - host.monotonic()) * 1000)}
            output, at_end = _read(running.stdout, output, output_bytes)
            if at_end and running.stdout in ready:
                poll.unregister(running.stdout)
            if ended in ready:
                code = running.wait()
                return TIMED_OUT if code is None else code, output.decode(errors="replace")
            if not ready:
                return TIMED_OUT, output.decode(errors="replace")
    finally:
        os.close(ended)
        running.close()


def _read(descriptor: int, output: bytes, limit_bytes: int) -> tuple[bytes, bool]:
    """What there is to read now, if it is not very much, added up to `limit_bytes`; whether that was the end."""
    for _ in range(_BLOCKS):
        try:
            got = os.read(descriptor, _BLOCK)
        except BlockingIOError:
            return output, False
        if not got:
            return output, True
        output = (output + got)[:limit_bytes]
    return output, False

"""Runs long programs and reads what they say while they say it.

A program that makes an image must not outlive the daemon that asked for it: it would write on into a
staging directory that the next daemon clears. So each runs in a process-id namespace of its own that the
kernel ends with its parent (`--kill-child`, `--pdeathsig`), with everything it started and mounted.
"""

from __future__ import annotations

import os
import selectors
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from wye.errors import InvariantError
from wye.host import Host, ProgramFailed

CONTAINED = (
    "setpriv", "--pdeathsig", "KILL",
    "unshare", "--mount", "--propagation=slave", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--",
)  # fmt: skip
# subprocess.PIPE and subprocess.STDOUT; only host.py may import subprocess.
_PIPE, _STDOUT = -1, -2
_TAIL_LINES = 30
_LINE_LIMIT = 4096


def stream(
    host: Host,
    label: str,
    argv: Sequence[str],
    on_line: Callable[[str], None],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float = 1800.0,
    check: bool = True,
) -> tuple[int, str]:
    """Runs `argv` and calls `on_line` with each line of its output. Returns (status, the last lines).

    Raises ProgramFailed for a status other than zero if `check`, and with status 124 after `timeout_s`.
    """
    process = host.spawn(
        label,
        [*CONTAINED, *argv],
        stdin=_PIPE,
        stdout=_PIPE,
        stderr=_STDOUT,
        env=env,
        cwd=cwd,
    )
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    try:
        if process.stdin is None or process.stdout is None:
            raise InvariantError("a pipe was asked for and not given")
        # A pipe and not /dev/null: crun gives its standard streams to the container's root, device nodes too.
        process.stdin.close()
        ended = _read_lines(host, process.stdout, host.monotonic() + timeout_s, tail, on_line)
        if not ended:
            raise ProgramFailed(label, argv, 124, "\n".join([*tail, f"no end after {timeout_s:g} s"]))
        status = process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
    output = "\n".join(tail)
    if check and status != 0:
        raise ProgramFailed(label, argv, status, output)
    return status, output


def _read_lines(
    host: Host, source: IO[bytes], deadline: float, tail: deque[str], on_line: Callable[[str], None]
) -> bool:
    """False when the time ran out before the end of the output."""
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, deadline - host.monotonic())):
                return False
            data = os.read(source.fileno(), 65536)
            *lines, pending = (pending + data).replace(b"\r", b"\n").split(b"\n")
            if (not data and pending) or len(pending) > _LINE_LIMIT:
                lines, pending = [*lines, pending], b""
            for line in lines:
                text = line[:_LINE_LIMIT].decode(errors="replace").rstrip()
                if text:
                    tail.append(text)
                    on_line(text)
            if not data:
                return True


def ignore(_: str) -> None:
    """For programs whose output is of interest only when they fail."""

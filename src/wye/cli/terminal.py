"""This terminal, joined to a process in a container until it ends.

With a TTY the terminal here is raw, so that every key, Ctrl-C too, reaches the process, and it is put back as it
was however this ends. Input is read only as fast as the process takes it, output only as fast as it is written.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import tty
from collections.abc import Iterator

from wye.api import wire
from wye.api.process import PENDING_LIMIT_BYTES, Output, RemoteProcess

STDIN, STDOUT, STDERR = 0, 1, 2
_READ_BYTES = 64 * 1024


def is_terminal() -> bool:
    """Whether somebody sits at both ends."""
    return has_keyboard() and os.isatty(STDOUT)


def has_keyboard() -> bool:
    """Whether stdin is a terminal."""
    return has_stdin() and os.isatty(STDIN)


def has_stdin() -> bool:
    """False if this program was started with its stdin closed."""
    try:
        os.fstat(STDIN)
    except OSError:
        return False
    return True


def size() -> tuple[int, int]:
    """(rows, columns)."""
    with contextlib.suppress(OSError):
        found = os.get_terminal_size(STDOUT)
        if found.lines and found.columns:
            return found.lines, found.columns
    return 24, 80


def join(process: RemoteProcess, *, stdin: bool, tty: bool) -> int:
    """Copies until the process ends; returns its exit code."""
    with _raw() if tty and has_keyboard() else contextlib.nullcontext(), _resizes() as resized:
        poll = select.poll()
        poll.register(resized, select.POLLIN)
        while process.exit_code is None:
            poll.register(process, select.POLLIN | (select.POLLOUT if process.pending_bytes else 0))
            listen = stdin and process.pending_bytes < PENDING_LIMIT_BYTES
            poll.register(STDIN, select.POLLIN if listen else 0)
            ready = dict(poll.poll())
            if resized in ready:
                os.read(resized, _READ_BYTES)
                if tty:
                    process.resize(*size())
            if listen and STDIN in ready:
                stdin = _take_input(process)
                if not stdin:
                    poll.unregister(STDIN)
            if process.fileno() in ready:
                for output in process.pump(0):
                    _write(output)
        return process.exit_code


def _take_input(process: RemoteProcess) -> bool:
    """Returns whether more may come."""
    try:
        data = os.read(STDIN, _READ_BYTES)
    except BlockingIOError:
        return True
    except OSError:
        data = b""
    if data:
        process.write(data)
        return True
    process.close_stdin()
    return False


def _write(output: Output) -> None:
    descriptor = STDERR if output.channel == wire.STDERR else STDOUT
    data = memoryview(output.data)
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            waiting = select.poll()
            waiting.register(descriptor, select.POLLOUT)
            waiting.poll()


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    before = termios.tcgetattr(STDIN)
    try:
        tty.setraw(STDIN, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(STDIN, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _resizes() -> Iterator[int]:
    """A descriptor that becomes readable whenever the terminal's size changes."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def tell(*_: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(writer, b"\0")

    before = signal.signal(signal.SIGWINCH, tell)
    try:
        yield reader
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(reader)
        os.close(writer)

"""Further processes in a running container, by `crun exec`, held by this process and not by conmon.

A process is reached in three ways: its pipes or terminal, the exit code that crun takes over from it, and the host pid
that crun writes to a file. Signals go to its process group. Closed while it runs, it is killed with its whole session,
so that a shell's children go with it. What outlives a process that ended by itself runs on, as it would on any machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import termios
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from wye.drivers.crun import process
from wye.drivers.crun.conmon import StartFailed
from wye.host import Host

NOT_FOUND, NOT_EXECUTABLE = 127, 126
_OWN_FAILURE = 255
_LOOK_EVERY_S = 0.001
_STARTS_WITHIN_S = 30.0
_ROUNDS = 50


class Program(Protocol):
    """What is needed of a program that the host spawned."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self) -> int: ...

    def kill(self) -> None: ...


class CrunProcess:
    """Keeps `ExecProcess`. `members` lists the container's pids."""

    def __init__(
        self,
        host: Host,
        program: Program,
        files: Files,
        members: Callable[[], list[int]],
        *,
        stdin: int | None,
        stdout: int,
        stderr: int | None,
    ) -> None:
        self._host = host
        self._program = program
        self._files = files
        self._members = members
        self._tty = stdin == stdout
        self._open = {descriptor for descriptor in (stdin, stdout, stderr) if descriptor is not None}
        self.stdin = -1 if stdin is None else stdin
        self.stdout = stdout
        self.stderr = stderr

    def close_stdin(self) -> None:
        """The process reads end of file. Through a terminal it is the character that says so."""
        if self._tty:
            with contextlib.suppress(OSError):
                os.write(self.stdin, b"\x04")
        else:
            self._close(self.stdin)

    def resize(self, rows: int, columns: int) -> None:
        if self._tty and self.stdout in self._open:
            fcntl.ioctl(self.stdout, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def signal(self, number: int) -> None:
        target = self._target()
        for found in self._living() if target else ():
            if target is not None and found.group == target.group:
                process.send(found.process, number)

    def wait(self, timeout_s: float | None = None) -> int | None:
        if self._program.poll() is None:
            with contextlib.ExitStack() as stack, contextlib.suppress(ProcessLookupError):
                # Gone between the two looks: another thread waited for it too.
                ended = self.descriptor()
                stack.callback(os.close, ended)
                if not process.wait_readable(ended, timeout_s):
                    return None
        code = self._program.wait()
        if code == _OWN_FAILURE and self._files.pid() is None:
            return NOT_FOUND if "not found" in self._files.words() else NOT_EXECUTABLE
        return code if code >= 0 else 128 - code

    def descriptor(self) -> int:
        """Readable once the process has ended; the caller closes it. Only before `wait` or `close`."""
        return os.pidfd_open(self._program.pid)

    def close(self) -> None:
        """Kills what still runs of it, and closes the descriptors. Again: nothing."""
        for descriptor in list(self._open):
            self._close(descriptor)
        target = self._target()
        for _ in range(_ROUNDS if target else 0):
            left = [found for found in self._living() if target is not None and found.session == target.session]
            if not left:
                break
            for found in left:
                process.send(found.process, signal.SIGKILL)
            self._host.sleep(_LOOK_EVERY_S)
        if self._program.poll() is None and target is None:
            self._program.kill()
        self._program.wait()
        self._files.remove()

    def _close(self, descriptor: int) -> None:
        if descriptor in self._open:
            self._open.discard(descriptor)
            os.close(descriptor)

    def _target(self) -> process.Status | None:
        """Its first process on the host; waits until crun has said which. None if it has ended."""
        deadline = self._host.monotonic() + _STARTS_WITHIN_S
        while self._program.poll() is None and self._host.monotonic() < deadline:
            pid = self._files.pid()
            if pid is not None:
                return process.status(pid)
            self._host.sleep(_LOOK_EVERY_S)
        return None

    def _living(self) -> list[process.Status]:
        """The container's processes."""
        return [found for pid in self._members() if (found := process.status(pid)) is not None]


class Files:
    """The files that one exec needs, below the container's bundle."""

    def __init__(self, directory: Path, number: int) -> None:
        stem = f"exec-{os.getpid()}-{number}"
        self._pid = directory / f"{stem}.pid"
        self._log = directory / f"{stem}.log"
        self.socket = directory / f"{stem}.sock"

    def pid(self) -> int | None:
        return process.pid_in(self._pid)

    def words(self) -> str:
        """What crun had to complain about."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def arguments(self) -> tuple[list[str], list[str]]:
        """crun's global options, and those of its exec."""
        return ["--log", str(self._log)], ["--pid-file", str(self._pid)]

    def remove(self) -> None:
        for path in (self._pid, self._log, self.socket):
            path.unlink(missing_ok=True)


def start(
    host: Host,
    *,
    crun: list[str],
    container_id: str,
    process_spec: Mapping[str, Any],
    files: Files,
    members: Callable[[], list[int]],
    one_output: bool = False,
) -> CrunProcess:
    """Runs `process_spec` (an OCI `process`) in a container. `crun`: program and global options.

    With `one_output` there is no stdin, and stdout and stderr are one pipe. Raises StartFailed if a terminal was asked
    for and the process did not start; without one the exit code says so (126, 127) and stderr why.
    """
    spec = os.memfd_create("wye-exec", os.MFD_CLOEXEC)
    try:
        os.write(spec, msgspec.json.encode(process_spec))
        before, after = files.arguments()
        argv = [*crun, *before, "exec", *after, "--process", f"/proc/self/fd/{spec}", container_id]
        if process_spec["terminal"]:
            return _with_terminal(host, argv, spec, files, members)
        return _with_pipes(host, argv, spec, files, members, one_output)
    finally:
        os.close(spec)


def _with_pipes(
    host: Host, argv: list[str], spec: int, files: Files, members: Callable[[], list[int]], one_output: bool
) -> CrunProcess:
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        # Never /dev/null: crun gives its standard streams to the container's root.
        child_in, ours_in = _pipe(theirs, ours)
        stdin: int | None = ours_in
        if one_output:
            os.close(ours_in)
            ours.pop_all()
            stdin = None
        stdout, child_out = _pipe(ours, theirs)
        stderr, child_err = (None, child_out) if one_output else _pipe(ours, theirs)
        program = host.spawn("exec:run", argv, stdin=child_in, stdout=child_out, stderr=child_err, pass_fds=(spec,))
        ours.pop_all()
        return CrunProcess(host, program, files, members, stdin=stdin, stdout=stdout, stderr=stderr)


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    """(read end, write end), each closed by the stack of the side that it belongs to."""
    read, write = os.pipe2(os.O_CLOEXEC)
    # Opened again by way of /dev/stdout, it is checked like a file, and belongs to a root that is not the container's.
    os.fchmod(read, 0o666)
    reader.callback(os.close, read)
    writer.callback(os.close, write)
    return read, write


def _with_terminal(
    host: Host, argv: list[str], spec: int, files: Files, members: Callable[[], list[int]]
) -> CrunProcess:
    """crun makes the terminal inside the container and sends its other end over a socket."""
    with contextlib.ExitStack() as stack:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        stack.callback(listener.close)
        stack.callback(files.socket.unlink, missing_ok=True)
        # A socket's path is limited to 107 characters, a path by way of a descriptor is short.
        directory = os.open(files.socket.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, directory)
        listener.bind(f"/proc/self/fd/{directory}/{files.socket.name}")
        listener.listen(1)
        argv = [*argv[:-1], "--tty", "--console-socket", str(files.socket), argv[-1]]
        # Never /dev/null: crun gives its standard streams to the container's root, also where a terminal replaces them.
        nothing = os.memfd_create("wye-nothing", os.MFD_CLOEXEC)
        try:
            program = host.spawn("exec:run", argv, stdin=nothing, stdout=nothing, stderr=nothing, pass_fds=(spec,))
        finally:
            os.close(nothing)
        terminal = _received(listener, program)
        if terminal is None:
            program.kill()
            program.wait()
            words = files.words().strip()
            files.remove()
            raise StartFailed(f"exec: {words or 'no terminal came'}")
        return CrunProcess(host, program, files, members, stdin=terminal, stdout=terminal, stderr=None)


def _received(listener: socket.socket, program: Program) -> int | None:
    """The terminal, or None if the program ended without sending one, or took too long."""
    ended = os.pidfd_open(program.pid)
    try:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(ended, select.POLLIN)
        ready = [descriptor for descriptor, _ in poll.poll(_STARTS_WITHIN_S * 1000)]
    finally:
        os.close(ended)
    if listener.fileno() not in ready:
        return None
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(_STARTS_WITHIN_S)
        _, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
    return descriptors[0] if descriptors else None

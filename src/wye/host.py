"""The only door to Linux.

Every effect on the machine goes through a `Host`, with a label that says what it is for
("fork:snapshot"). The label appears in errors and logs, and it is where `wye.testing.FaultyHost`
breaks or kills: replace exactly one operation, keep the rest real. What has no method of its own (netlink,
libnftables, SQLite) calls `at(label)` just before it acts.

Nothing else in wye may start a program. Paths below a fork's file trees are hostile: its processes can put
a symbolic link anywhere at any time, so such paths are opened with `open_beneath`, which follows none.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from wye.errors import Exhausted, InvariantError, Unavailable

_libc = ctypes.CDLL(None, use_errno=True)

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 0x1, 0x2, 0x4, 0x8, 0x20
MS_NOATIME, MS_BIND, MS_REC, MS_PRIVATE = 0x400, 0x1000, 0x4000, 0x40000
MNT_DETACH = 0x2

_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH, _RESOLVE_IN_ROOT = 0x02, 0x04, 0x08, 0x10
_OUTPUT_IN_ERRORS = 2000


class ProgramFailed(Unavailable):
    """A program ended with a status other than zero, or could not be started."""

    code = "program_failed"

    def __init__(self, label: str, argv: Sequence[str], status: int, output: str) -> None:
        tail = output.strip()[-_OUTPUT_IN_ERRORS:] or "no output"
        super().__init__(f"{label}: {os.path.basename(argv[0])} ended with status {status}: {tail}")
        self.status = status
        self.output = output


class OperationFailed(Unavailable):
    """A system call failed; `errno` says how."""

    code = "operation_failed"

    def __init__(self, label: str, what: str, number: int) -> None:
        super().__init__(f"{label}: {what}: {os.strerror(number)}")
        self.errno = number


class DiskFull(Exhausted):
    """No room: the pool, an environment's own limit, or the host's disk."""

    code = "disk_full"


@dataclass(frozen=True, slots=True)
class Completed:
    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode(errors="replace")


class Host:
    """The real machine. One per process; safe to use from several threads."""

    # ------------------------------------------------------------ faults, time

    def at(self, label: str) -> None:
        """Names the effect that comes next. Does nothing here; a FaultyHost may raise or end the process."""

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    # ------------------------------------------------------------ programs

    def run(
        self,
        label: str,
        argv: Sequence[str],
        *,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        timeout_s: float | None = 60.0,
        check: bool = True,
        pass_fds: Sequence[int] = (),
    ) -> Completed:
        """Runs a program to its end. Raises ProgramFailed for a status other than zero if `check`."""
        self.at(label)
        try:
            done = subprocess.run(
                list(argv),
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                env=None if env is None else dict(env),
                cwd=cwd,
                timeout=timeout_s,
                pass_fds=tuple(pass_fds),
                check=False,
            )
        except FileNotFoundError as error:
            raise ProgramFailed(label, argv, 127, f"{argv[0]} is not installed") from error
        except subprocess.TimeoutExpired as error:
            raise ProgramFailed(label, argv, 124, f"no end after {timeout_s:g} s") from error
        if check and done.returncode != 0:
            raise ProgramFailed(label, argv, done.returncode, _output(done.stderr, done.stdout))
        return Completed(done.returncode, done.stdout, done.stderr)

    def spawn(
        self,
        label: str,
        argv: Sequence[str],
        *,
        stdin: int | IO[bytes] | None = None,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        pass_fds: Sequence[int] = (),
        new_session: bool = True,
    ) -> subprocess.Popen[bytes]:
        """Starts a program and returns at once. None for a stream means /dev/null."""
        self.at(label)
        null = subprocess.DEVNULL
        try:
            return subprocess.Popen(
                list(argv),
                stdin=null if stdin is None else stdin,
                stdout=null if stdout is None else stdout,
                stderr=null if stderr is None else stderr,
                env=None if env is None else dict(env),
                cwd=cwd,
                pass_fds=tuple(pass_fds),
                start_new_session=new_session,
            )
        except FileNotFoundError as error:
            raise ProgramFailed(label, argv, 127, f"{argv[0]} is not installed") from error

    # ------------------------------------------------------------ files that are ours

    def write_file(self, label: str, path: Path, data: bytes, *, mode: int = 0o644) -> None:
        """Replaces `path` atomically. Not synced: what must survive power loss lives in the store."""
        self.at(label)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, mode)
                file.write(data)
            os.replace(temporary, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise self.failure(label, f"write {path}", error) from error

    def make_directory(self, label: str, path: Path, *, mode: int = 0o755) -> None:
        """Makes `path` and its parents; nothing happens if it is there."""
        self.at(label)
        try:
            path.mkdir(parents=True, exist_ok=True, mode=mode)
        except OSError as error:
            raise self.failure(label, f"make directory {path}", error) from error

    def remove_tree(self, label: str, path: Path) -> None:
        """Removes `path` and all below it, following no link; nothing happens if it is not there."""
        self.at(label)
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self.failure(label, f"remove {path}", error) from error

    @contextlib.contextmanager
    def lock(self, label: str, path: Path, *, wait: bool = True) -> Iterator[bool]:
        """Holds an exclusive lock on the file `path`. Yields False, not held, if not `wait` and taken."""
        self.at(label)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(descriptor)

    # ------------------------------------------------------------ files that are not

    def open_beneath(self, root: int | Path, path: str, flags: int = os.O_RDONLY, mode: int = 0) -> int:
        """Opens `path` below `root` and never outside it, following no symbolic link (openat2(2)).

        Returns a descriptor. Raises OSError as open(2) does: ELOOP for a link, EXDEV for an escape.
        """
        return self._open_at(root, path.lstrip("/") or ".", flags, mode, _RESOLVE_NO_SYMLINKS | _RESOLVE_BENEATH)

    def open_inside(self, root: int | Path, path: str, flags: int = os.O_RDONLY) -> int:
        """Opens `path` as a process whose root directory is `root` would: links are followed, and lead to places
        below `root` only. Raises OSError."""
        return self._open_at(root, path, flags, 0, _RESOLVE_IN_ROOT)

    def _open_at(self, root: int | Path, path: str, flags: int, mode: int, resolve: int) -> int:
        descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if isinstance(root, Path) else root
        try:
            how = (ctypes.c_uint64 * 3)(flags | os.O_CLOEXEC, mode, _RESOLVE_NO_MAGICLINKS | resolve)
            opened: int = _libc.syscall(_SYS_OPENAT2, descriptor, os.fsencode(path), ctypes.byref(how), 24)
            if opened < 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), path)
            return opened
        finally:
            if isinstance(root, Path):
                os.close(descriptor)

    def read_beneath(self, root: int | Path, path: str, *, limit_bytes: int = 1 << 20) -> bytes:
        """The first `limit_bytes` of a regular file below `root`. Raises OSError; EINVAL if it is not regular."""
        descriptor = self.open_beneath(root, path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", path)
            return file.read(limit_bytes)

    # ------------------------------------------------------------ kernel

    def ioctl(self, label: str, descriptor: int, request: int, argument: Any = 0) -> int:
        """ioctl(2). Raises OperationFailed, or DiskFull for ENOSPC and EDQUOT.

        `argument` is a number, a buffer, or a ctypes structure. Other threads run on meanwhile only with a
        structure or with at most 1,024 bytes: for more, fcntl.ioctl keeps the interpreter's lock.
        """
        self.at(label)
        try:
            if isinstance(argument, ctypes.Structure):
                result = _libc.ioctl(descriptor, ctypes.c_ulong(request), ctypes.byref(argument))
                if result < 0:
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number))
            else:
                result = fcntl.ioctl(descriptor, request, argument)
        except OSError as error:
            raise self.failure(label, f"ioctl {request:#x}", error) from error
        return result if isinstance(result, int) else 0

    def mount(
        self, label: str, source: str | Path, target: str | Path, kind: str, *, flags: int = 0, options: str = ""
    ) -> None:
        """mount(2)."""
        self.at(label)
        done = _libc.mount(
            os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), os.fsencode(options)
        )
        if done != 0:
            number = ctypes.get_errno()
            raise OperationFailed(label, f"mount {kind} at {target}", number)

    def unmount(self, label: str, target: str | Path, *, lazy: bool = False) -> bool:
        """umount2(2). Returns whether something was mounted there; that nothing was is no error."""
        self.at(label)
        if _libc.umount2(os.fsencode(target), MNT_DETACH if lazy else 0) == 0:
            return True
        number = ctypes.get_errno()
        if number in (errno.EINVAL, errno.ENOENT):
            return False
        raise OperationFailed(label, f"unmount {target}", number)

    def set_namespace(self, label: str, descriptor: int, kind: int) -> None:
        """setns(2), for the calling thread only. `kind` is a CLONE_NEW* flag."""
        self.at(label)
        if _libc.setns(descriptor, kind) != 0:
            raise OperationFailed(label, "setns", ctypes.get_errno())

    def unshare(self, label: str, kind: int) -> None:
        """unshare(2), for the calling thread only."""
        self.at(label)
        if _libc.unshare(kind) != 0:
            raise OperationFailed(label, "unshare", ctypes.get_errno())

    def failure(self, label: str, what: str, error: OSError) -> Unavailable:
        """The wye error for an OSError."""
        if error.errno is None:
            raise InvariantError(f"{label}: {what}: an OSError without errno") from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return DiskFull(
                f"{label}: {what}: no room left", hint="discard forks, run 'wye collect', or enlarge the pool"
            )
        return OperationFailed(label, what, error.errno)


def _output(*streams: bytes) -> str:
    return "\n".join(stream.decode(errors="replace") for stream in streams if stream)

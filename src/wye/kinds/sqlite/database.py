"""Opening a database file that hostile hands have made, in place or as a private copy.

SQLite opens files by name: the database, and beside it the journal, the write-ahead log and its index, which it
creates, recovers from and deletes. A fork can put links in the way of every one of them, and can name other files in a
journal for SQLite to delete (the super-journal of a transaction over several databases; such a one is refused). So all
names go through a VFS of ours: a name stands for one of the given databases and nothing else, its directory is a
descriptor opened beneath the root, and the last part is opened with O_NOFOLLOW (which SQLite's own VFS always does).
Locks are the usual ones on the usual files, so a service in a container and this process, which share a kernel, keep
each other out as two services would.

Locks of POSIX have a trap: closing any descriptor of the file drops this process's locks on it. And whoever else has
the database open can kill this process, by way of the log's index (see `live`). So what is in use is opened only by a
process that does nothing else.

The application's triggers do not fire here, views and schema are not trusted, nothing can be attached by SQL.
"""

from __future__ import annotations

import errno
import itertools
import os
import posixpath
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import apsw

from wye.errors import Unavailable, Unsupported
from wye.host import Host
from wye.kinds.files.inode import copy_content
from wye.kinds.files.tree import Side

HEADER = b"SQLite format 3\0"
COMPANIONS = ("-wal", "-journal", "-shm")
_COPIED = ("", "-wal", "-journal")
_OPENED = ("", "-wal", "-journal", "-shm")
_STEPS_BETWEEN_CHECKS = 10_000
_VALUE_LIMIT_BYTES = 512 << 20
_NO_COMPANION = (errno.ENOENT, errno.ENAMETOOLONG)
_numbers = itertools.count(1)


class DatabaseFailed(Unavailable):
    """SQLite refused: the file is damaged, locked, or needs what only its application has."""

    code = "sqlite_failed"
    retryable = False


class DatabaseBusy(Unavailable):
    """The application held its lock longer than we wait."""

    code = "sqlite_busy"


class _Beneath(apsw.VFS):
    """Names are "/SCHEMA/db" and that with a companion's ending; anything else does not exist."""

    def __init__(self, name: str, files: Mapping[str, str]) -> None:
        super().__init__(name, "unix")
        self._files = dict(files)

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        return name

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        plain = name.filename() if isinstance(name, apsw.URIFilename) else name
        return apsw.VFSFile("unix", None if plain is None else self._real(plain), flags)

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: N802
        return super().xAccess(self._real(pathname), flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(self._real(filename), syncdir)

    def _real(self, name: str) -> str:
        _, schema, rest = [*name.split("/", 2), "", ""][:3]
        if not name.startswith("/") or schema not in self._files or rest.removeprefix("db") not in _OPENED:
            raise apsw.CantOpenError(f"{name!r} is none of the files to be opened")
        return self._files[schema] + rest.removeprefix("db")


@contextmanager
def opened(
    host: Host, files: Mapping[str, tuple[Path, str]], *, busy_s: float = 5.0, limit_s: float = 600.0
) -> Iterator[apsw.Connection]:
    """A connection to `files["main"]` with the others attached under their names; each is (root, path beneath it).

    Waits `busy_s` for the application's locks. Work is interrupted after `limit_s`. Raises DatabaseFailed and
    DatabaseBusy, also for errors of SQLite inside the context, and Unsupported for a name that is not UTF-8.
    """
    vfs_name = f"wye-{next(_numbers)}"
    with ExitStack() as stack:
        vfs = _Beneath(vfs_name, {schema: _place(host, stack, *file) for schema, file in files.items()})
        stack.callback(vfs.unregister)
        with translated(", ".join(path for _, path in files.values())):
            host.at("sqlite:open")
            flags = apsw.SQLITE_OPEN_READWRITE
            connection = apsw.Connection("/main/db", flags=flags, vfs=vfs_name, statementcachesize=500)
            stack.callback(connection.close, True)
            connection.set_busy_timeout(int(busy_s * 1000))
            _harden(connection)
            for schema in files:
                if schema != "main":
                    connection.execute("ATTACH ? AS " + quoted(schema), (f"/{schema}/db",))
            connection.set_authorizer(_no_attaching)
            deadline = host.monotonic() + limit_s
            connection.set_progress_handler(_expiry(host, deadline), _STEPS_BETWEEN_CHECKS)
            yield connection


@contextmanager
def translated(subject: str) -> Iterator[None]:
    """Turns SQLite's errors into ours."""
    try:
        yield
    except (apsw.BusyError, apsw.LockedError) as error:
        raise DatabaseBusy(f"{subject} is locked by its application: {error}") from error
    except apsw.InterruptError as error:
        raise DatabaseFailed(f"{subject} took too long to read or write") from error
    except (apsw.Error, UnicodeError) as error:
        raise DatabaseFailed(f"sqlite cannot do this in {subject}: {error}") from error


def is_database(side: Side, path: str) -> bool:
    """Whether a regular file with SQLite's header is seen at `path`."""
    try:
        return side.read_seen(path, len(HEADER)) == HEADER
    except OSError:
        return False


def copy(host: Host, side: Side, path: str, target: Path) -> Path:
    """A private copy of the database seen at `path`, with what has to be recovered, as "db" in the directory `target`,
    which is made. `side` must be a snapshot: all files of one instant. Raises DatabaseFailed if one of them is no file.
    """
    host.make_directory("sqlite:copy", target, mode=0o700)
    for ending in _COPIED:
        try:
            source = side.open_seen(path + ending)
        except OSError as error:
            if ending and error.errno in _NO_COMPANION:
                continue
            raise DatabaseFailed(f"{path}{ending} cannot be opened: {error.strerror}") from error
        try:
            if not stat.S_ISREG(os.fstat(source).st_mode):
                raise DatabaseFailed(f"{path}{ending} is no regular file")
            made = os.open(target / f"db{ending}", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                copy_content(host, source, made)
            finally:
                os.close(made)
        finally:
            os.close(source)
    return target


def quoted(name: str) -> str:
    """An identifier."""
    return '"' + name.replace('"', '""') + '"'


def _place(host: Host, stack: ExitStack, root: Path, path: str) -> str:
    """Where SQLite's own VFS finds it: a name in a directory that is open, so no one can put another in its place."""
    parent, name = posixpath.split(path)
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise Unsupported(f"{path!r} is a database whose name is not UTF-8") from error
    directory = host.open_beneath(root, parent or ".", os.O_PATH | os.O_DIRECTORY)
    stack.callback(os.close, directory)
    return f"/proc/self/fd/{directory}/{name}"


def _harden(connection: apsw.Connection) -> None:
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_FKEY, 0)
    connection.limit(apsw.SQLITE_LIMIT_LENGTH, _VALUE_LIMIT_BYTES)
    for pragma in ("cell_size_check = ON", "temp_store = MEMORY", "mmap_size = 0"):
        connection.execute(f"PRAGMA {pragma}")


def _no_attaching(operation: int, first: Any, second: Any, database: Any, trigger: Any) -> int:
    """Statements from a fork's schema run here: they may define, not reach out."""
    denied = operation in (apsw.SQLITE_ATTACH, apsw.SQLITE_DETACH) or (
        operation == apsw.SQLITE_FUNCTION and second == "load_extension"
    )
    return apsw.SQLITE_DENY if denied else apsw.SQLITE_OK


def _expiry(host: Host, deadline: float) -> Callable[[], bool]:
    return lambda: host.monotonic() > deadline

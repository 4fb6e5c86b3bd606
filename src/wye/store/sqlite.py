"""Objects and refs in one SQLite file, for one machine.

Guarantees: a compare-and-swap is one transaction and on disk when it returns; a put, or a swap with
`durable=False`, survives the death of the process at once and a power failure as soon as any later durable
swap has returned.

Why that holds: in WAL mode a commit appends its pages to one file. With `synchronous=FULL` SQLite calls
fdatasync on that file after the commit, which carries every byte appended before; with NORMAL it does not.
Frames have chained checksums, so recovery keeps an unbroken run from the start: never a later commit
without the earlier ones. A checkpoint syncs the log before it moves pages and the database before the log is
used again. So it is enough to switch `PRAGMA synchronous` between transactions (inside one it is refused).
Sources: sqlite.org/pragma.html#pragma_synchronous, sqlite.org/wal.html, sqlite.org/fileformat2.html#walformat.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wye.errors import InvariantError, Unavailable, Unsupported, WyeError
from wye.host import DiskFull, Host
from wye.model import ObjectId
from wye.store import objects, refs

APPLICATION_ID = 0x77796531
""""wye1", in the file's header: tells a store from any other SQLite file."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE objects (id TEXT PRIMARY KEY, data BLOB NOT NULL)",
        "CREATE TABLE refs (name TEXT PRIMARY KEY, object TEXT NOT NULL) WITHOUT ROWID",
    ),
)
"""What leads from each schema version to the next; `PRAGMA user_version` counts those done."""

CHECKPOINT_PAGES = 1000
"""SQLite's default. Measured: fewer pages sync more often, more make the swap that checkpoints wait longer."""

BUSY_S = 10.0
_ID_BATCH = 5000
_AFTER_HEX = "g"
_AFTER_ASCII = "\x7f"

_FULL = {sqlite3.SQLITE_FULL}
_NO_ROOM_FOR_INDEX = {sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP, sqlite3.SQLITE_CANTOPEN}
_SYNC_FAILED = {sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC}


class StoreDamaged(WyeError):
    """The file is not a sound wye store."""

    code = "store_damaged"


class SqliteStore:
    """Objects and Refs in the file `path` (and `path`-wal, `path`-shm beside it), made if it is not there.

    Safe to use from several threads, and by several processes at once: one connection writes and one reads, each
    behind a lock, so that a reader never waits for somebody's disk. The file is readable by its owner only: specs
    hold secrets. Raises StoreDamaged, DiskFull, Unsupported for a newer schema, and Unavailable when another
    process holds the file for more than 10 s.
    """

    def __init__(self, host: Host, path: Path) -> None:
        self._host = host
        self._path = path
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._sync_failed = False
        with self._failures("open"):
            host.at("store:open")
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            with contextlib.ExitStack() as undo:
                self._writer = self._connect()
                undo.callback(self._writer.close)
                self._prepare()
                self._reader = self._connect()
                undo.callback(self._reader.close)
                self._reader.execute("PRAGMA query_only = ON")
                undo.pop_all()

    def close(self) -> None:
        with self._write_lock, self._read_lock:
            self._reader.close()
            self._writer.close()

    # ------------------------------------------------------------ objects

    def put(self, data: bytes) -> ObjectId:
        object_id = objects.object_id(data)
        with self._writing("store:put", durable=False) as connection:
            connection.execute("INSERT OR IGNORE INTO objects VALUES (?, ?)", (object_id, data))
        return object_id

    def get(self, object_id: ObjectId) -> bytes:
        rows = self._read("SELECT CAST(data AS BLOB) FROM objects WHERE id = ?", object_id)
        if not rows:
            raise objects.missing(object_id)
        data: bytes = rows[0][0]
        return data

    def delete(self, object_id: ObjectId) -> None:
        with self._writing("store:delete", durable=False) as connection:
            connection.execute("DELETE FROM objects WHERE id = ?", (object_id,))

    def ids(self, prefix: str = "") -> Iterator[ObjectId]:
        """In order, read in batches: a long transaction would keep the log from being used again."""
        after, end = prefix, prefix + _AFTER_HEX
        while True:
            rows = self._read(
                "SELECT id FROM objects WHERE id >= ? AND id < ? ORDER BY id LIMIT ?", after, end, _ID_BATCH
            )
            yield from (ObjectId(row[0]) for row in rows)
            if len(rows) < _ID_BATCH:
                return
            after = rows[-1][0] + "0"

    # ------------------------------------------------------------ refs

    def read(self, ref: str) -> ObjectId | None:
        rows = self._read("SELECT object FROM refs WHERE name = ?", refs.checked(ref))
        return ObjectId(rows[0][0]) if rows else None

    def list(self, prefix: str) -> dict[str, ObjectId]:
        rows = self._read(
            "SELECT name, object FROM refs WHERE name >= ? AND name < ? ORDER BY name", prefix, prefix + _AFTER_ASCII
        )
        return {name: ObjectId(object_id) for name, object_id in rows}

    def compare_and_swap(
        self, ref: str, *, expected: ObjectId | None, new: ObjectId | None, durable: bool = True
    ) -> None:
        refs.checked(ref)
        with self._writing("store:swap", durable=durable) as connection, _transaction(connection, "BEGIN IMMEDIATE"):
            _swap(connection, ref, expected, new)

    # ------------------------------------------------------------ connections

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        return connection

    def _prepare(self) -> None:
        """Checks that the file is a sound store, and brings it to today's schema."""
        connection = self._writer
        problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise self._damaged(problem)
        with _transaction(connection, "BEGIN"):
            is_ours = _number(connection, "PRAGMA application_id") == APPLICATION_ID
            if not is_ours and _number(connection, "SELECT count(*) FROM sqlite_schema") > 0:
                raise StoreDamaged(
                    f"{self._path} is a SQLite file, but not a wye store", hint="give wye a state directory of its own"
                )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        with _transaction(connection, "BEGIN IMMEDIATE"):
            version = _number(connection, "PRAGMA user_version")
            if version > len(MIGRATIONS):
                raise Unsupported(f"{self._path} was written by a newer wye", hint="upgrade wye")
            for migration in MIGRATIONS[version:]:
                for statement in migration:
                    connection.execute(statement)
            if version < len(MIGRATIONS):
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def _read(self, statement: str, *arguments: object) -> Sequence[tuple[Any, ...]]:
        with self._failures("read"), self._read_lock:
            return self._reader.execute(statement, arguments).fetchall()

    @contextlib.contextmanager
    def _writing(self, label: str, *, durable: bool) -> Iterator[sqlite3.Connection]:
        """The writing connection, for one transaction; its commit is synced if `durable`."""
        with self._failures(label), self._write_lock:
            if self._sync_failed:
                raise Unavailable(
                    f"{self._path} takes no more writes since the disk failed to sync", hint="restart the daemon"
                )
            self._host.at(label)
            self._writer.execute("PRAGMA synchronous = FULL" if durable else "PRAGMA synchronous = NORMAL")
            yield self._writer

    # ------------------------------------------------------------ errors

    @contextlib.contextmanager
    def _failures(self, label: str) -> Iterator[None]:
        """Turns SQLite's errors into ours."""
        try:
            yield
        except OSError as error:
            raise self._host.failure(label, f"open {self._path}", error) from error
        except sqlite3.Error as error:
            raise self._failure(label, error) from error

    def _failure(self, label: str, error: sqlite3.Error) -> Exception:
        number = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE)
        if number in _SYNC_FAILED:
            # The kernel may have dropped the pages: a later sync would say yes to a log with a hole in it.
            self._sync_failed = True
        if number in _FULL or (number in _NO_ROOM_FOR_INDEX and self._has_no_room()):
            return DiskFull(f"{label}: {self._path}: no room left", hint="make room on the disk of the state directory")
        match number & 0xFF:
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return Unavailable(f"{label}: {self._path} has been held by another process for {BUSY_S:g} s")
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                return self._damaged(str(error))
            case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
                return Unavailable(f"{label}: {self._path}: {error}", hint="look at the disk and its permissions")
        return InvariantError(f"{label}: {self._path}: {error}")

    def _damaged(self, problem: str) -> StoreDamaged:
        return StoreDamaged(
            f"{self._path} is damaged: {problem}",
            hint=f"stop the daemon, keep a copy of {self._path}*, and put a backup in its place",
        )

    def _has_no_room(self) -> bool:
        return os.statvfs(self._path).f_bavail == 0


def _swap(connection: sqlite3.Connection, ref: str, expected: ObjectId | None, new: ObjectId | None) -> None:
    row = connection.execute("SELECT object FROM refs WHERE name = ?", (ref,)).fetchone()
    found = ObjectId(row[0]) if row else None
    if found != expected:
        raise refs.RefConflict(ref, expected=expected, found=found)
    # Written even where it is to go or stays as it is: SQLite syncs only a commit that changes a page, drops an
    # UPDATE to the same value, and this commit must carry those before it.
    connection.execute("INSERT OR REPLACE INTO refs VALUES (?, ?)", (ref, new or ""))
    if new is None:
        connection.execute("DELETE FROM refs WHERE name = ?", (ref,))


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _number(connection: sqlite3.Connection, query: str) -> int:
    number: int = connection.execute(query).fetchone()[0]
    return number

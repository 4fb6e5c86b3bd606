"""Which keys a fork may have touched, read from the end of its append-only file.

A server that starts on a copied directory goes on with the same increment file: what the fork wrote is what follows the
base's last byte. Every command in it names its keys, scripts and expiries included, because the server writes their
effects. The answer is a superset of what changed, in time proportional to what the fork wrote.

There is no answer (None: scan everything) when the file was rewritten or its tail cut, when a command touches more than
its keys (FLUSHALL, SWAPDB), or when it is unknown. The file is the fork's and hostile: at worst a fork hides its own
changes from a merge.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from wye.host import Host
from wye.kinds.redis import told
from wye.kinds.redis.connection import Connection, ServerRefused

READ_LIMIT_BYTES = 1 << 30
KEYS_LIMIT = 2_000_000
_COMPARED_BYTES = 1 << 20
_MANIFEST_LIMIT_BYTES = 1 << 20
_ARGUMENT_LIMIT_BYTES = 512 << 20
_ARGUMENTS_LIMIT = 1_000_000
_DIGITS = 30
_ASKED, _ASKED_BYTES = 1000, 64 << 20
"""Commands that the server is asked about at a time."""
_EVERYTHING = frozenset({b"flushall", b"flushdb", b"swapdb", b"debug", b"function", b"script", b"migrate"})
_HARMLESS = frozenset({b"multi", b"exec", b"publish", b"spublish", b"ping", b"replconf"})

Keys = dict[int, set[bytes]]


class _NoAnswer(Exception):
    """Only a scan can tell."""


@dataclass(frozen=True, slots=True)
class _Positions:
    """Where a command's keys are among its arguments; `first` 0: only the server can tell."""

    first: int
    last: int
    step: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """A server that has loaded what is in a volume, at `root` here and at `target` there."""

    connection: Connection
    root: Path
    target: str


def touched_keys(host: Host, base: Loaded, theirs: Loaded) -> Keys | None:
    """`candidates`, if the append-only file is what both have loaded."""
    old, new = (told.ask(side.connection) for side in (base, theirs))
    folders = told.folder(old, base.target), told.folder(new, theirs.target)
    if not (old.appends and new.appends) or old.manifest != new.manifest or None in folders:
        return None
    first, second = base.root / str(folders[0]), theirs.root / str(folders[1])
    names = {"directory": new.append_directory, "name": new.append_name}
    return candidates(host, first, second, theirs.connection, **names)


def candidates(
    host: Host,
    base: Path,
    theirs: Path,
    server: Connection,
    *,
    directory: str = "appendonlydir",
    name: str = "appendonly.aof",
) -> Keys | None:
    """Keys by database that the commands since `base` name. Both are data directories that nobody writes to; `server`
    is any server of the fork's version, asked about commands. `directory` and `name` are the service's settings
    `appenddirname` and `appendfilename`."""
    try:
        manifest = f"{directory}/{name}.manifest"
        old, new = (_increments(host, root, manifest) for root in (base, theirs))
        if not old or new[: len(old)] != old:
            return None
        reader = _Collector(server)
        for number, file in enumerate(new[len(old) - 1 :]):
            path = f"{directory}/{file.decode()}"
            start = _size(host, base, path) if number == 0 else 0
            if start and not _is_continued(host, base, theirs, path, start):
                return None
            with os.fdopen(host.open_beneath(theirs, path, os.O_RDONLY | os.O_NONBLOCK), "rb") as opened:
                if os.fstat(opened.fileno()).st_size - start > READ_LIMIT_BYTES:
                    return None
                opened.seek(start)
                reader.read(opened)
    except (_NoAnswer, OSError, ValueError, IndexError):
        return None
    return reader.keys


def _increments(host: Host, root: Path, manifest: str) -> list[bytes]:
    """The manifest's base and increment files, in their order."""
    text = host.read_beneath(root, manifest, limit_bytes=_MANIFEST_LIMIT_BYTES)
    found: list[tuple[int, bytes]] = []
    base: list[bytes] = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith(b"#"):
            continue
        entry = dict(zip(words[::2], words[1::2], strict=False))
        file = entry.get(b"file", b"")
        if not file or b"/" in file or file.startswith(b'"'):
            raise _NoAnswer
        if entry.get(b"type") == b"b":
            base.append(file)
        elif entry.get(b"type") == b"i":
            found.append((int(entry.get(b"seq", b"0")), file))
    if not found:
        raise _NoAnswer
    return [*base, *(file for _, file in sorted(found))]


def _size(host: Host, root: Path, path: str) -> int:
    descriptor = host.open_beneath(root, path, os.O_PATH)
    try:
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _is_continued(host: Host, base: Path, theirs: Path, path: str, size: int) -> bool:
    """Whether theirs's file goes on where base's ends. A server that finds half a command at the end cuts it off first:
    then what precedes the end differs."""
    ends = []
    start = max(0, size - _COMPARED_BYTES)
    for root in (base, theirs):
        with os.fdopen(host.open_beneath(root, path, os.O_RDONLY | os.O_NONBLOCK), "rb") as opened:
            opened.seek(start)
            ends.append(opened.read(size - start))
    return ends[0] == ends[1] and ends[0].endswith(b"\r\n")


class _Collector:
    """Reads commands and notes their keys."""

    def __init__(self, server: Connection) -> None:
        self.keys: Keys = {}
        self._server = server
        self._positions = _command_table(server)
        self._database: int | None = None
        self._count = 0

    def read(self, file: IO[bytes]) -> None:
        asked: list[tuple[int, list[bytes]]] = []
        size = 0
        for command in _commands(file):
            name = command[0].lower()
            if name == b"select" and len(command) == 2:
                self._database = int(command[1])
            elif name in _EVERYTHING:
                raise _NoAnswer
            elif name not in _HARMLESS:
                before = len(asked)
                self._command(name, command, asked)
                size += sum(map(len, command)) * (len(asked) - before)
            if len(asked) >= _ASKED or size >= _ASKED_BYTES:
                self._ask(asked)
                asked, size = [], 0
        self._ask(asked)

    def _command(self, name: bytes, command: list[bytes], asked: list[tuple[int, list[bytes]]]) -> None:
        if self._database is None or name not in self._positions:
            raise _NoAnswer
        positions = self._positions[name]
        if name in (b"move", b"copy"):
            self._elsewhere(name, command)
        if positions.first == 0:
            asked.append((self._database, command))
            return
        last = positions.last if positions.last > 0 else len(command) + positions.last
        self._note(self._database, command[positions.first : last + 1 : max(positions.step, 1)])

    def _elsewhere(self, name: bytes, command: list[bytes]) -> None:
        """Commands that write to another database than the selected one."""
        if name == b"move" and len(command) == 3:
            self._note(int(command[2]), [command[1]])
        options = [word.lower() for word in command[3:]]
        if name == b"copy" and b"db" in options:
            self._note(int(command[3 + options.index(b"db") + 1]), [command[2]])

    def _ask(self, asked: list[tuple[int, list[bytes]]]) -> None:
        try:
            replies = self._server.execute_all([("COMMAND", "GETKEYS", *command) for _, command in asked])
        except ServerRefused as error:
            raise _NoAnswer from error
        for (database, _), keys in zip(asked, replies, strict=True):
            self._note(database, keys)

    def _note(self, database: int, keys: Iterable[bytes]) -> None:
        known = self.keys.setdefault(database, set())
        before = len(known)
        known.update(keys)
        self._count += len(known) - before
        if self._count > KEYS_LIMIT:
            raise _NoAnswer


def _command_table(server: Connection) -> dict[bytes, _Positions]:
    table = {}
    for entry in server.execute("COMMAND"):
        name, _, flags, first, last, step = entry[:6]
        movable = b"movablekeys" in flags
        table[name.lower()] = _Positions(0 if movable else int(first), int(last), int(step))
    return table


def _commands(file: IO[bytes]) -> Iterator[list[bytes]]:
    """Until the end; half a command at the end was never acknowledged."""
    while line := file.readline(_MANIFEST_LIMIT_BYTES):
        if line.startswith(b"#"):
            continue
        try:
            count = _number(line, b"*")
            if count > _ARGUMENTS_LIMIT:
                raise _NoAnswer
            command = [_argument(file) for _ in range(count)]
        except EOFError:
            return
        if command:
            yield command


def _argument(file: IO[bytes]) -> bytes:
    length = _number(file.readline(64), b"$")
    if not 0 <= length <= _ARGUMENT_LIMIT_BYTES:
        raise _NoAnswer
    data = file.read(length + 2)
    if len(data) < length + 2:
        raise EOFError
    return data[:length]


def _number(line: bytes, mark: bytes) -> int:
    if not line.endswith(b"\r\n"):
        raise EOFError
    if not line.startswith(mark) or not line[1:-2].isdigit() or len(line) > _DIGITS:
        raise _NoAnswer
    return int(line[1:-2])

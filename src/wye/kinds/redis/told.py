"""Which of the files in a directory a server goes by: names, and whether the append-only file or the dump counts.

The files do not say: an append-only file may be left from other days, a dump may have any name. A running server says
it (`ask`); what it says is kept with the snapshot that is taken next. Of a server that was never asked its command
says something (`from_command`), and one that was asked elsewhere, with the same settings, knows the names.

What was said holds as long as the dump is the one that was there: a server that has started since may have begun with
other files.
"""

from __future__ import annotations

import itertools
import os
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from wye.errors import Unavailable
from wye.host import Host
from wye.interfaces import Served
from wye.kinds.redis.connection import Connection
from wye.merge.conflict import NONE, Conflict
from wye.merge.refused import Refused

SERVERS = ("valkey-server", "redis-server")
"""An image of Valkey may have both names; its entrypoint knows its own."""
_OPTIONS = {
    "--dir": "directory",
    "--dbfilename": "dump",
    "--appenddirname": "append_directory",
    "--appendfilename": "append_name",
}
_NAME = re.compile(r"[\w.][\w.@+ -]{0,200}")
_OTHERS_DATA = frozenset({"--sentinel", "--replicaof", "--slaveof"})
_END = frozenset({"&&", "||", ";", "|", "&"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """`directory`: in the container, empty if it is not known. `appends` None: it is not known. `saved`: what the dump
    was like when this was said, empty for none."""

    directory: str = ""
    appends: bool | None = None
    dump: str = "dump.rdb"
    append_directory: str = "appendonlydir"
    append_name: str = "appendonly.aof"
    saved: str = ""

    @property
    def manifest(self) -> str:
        return f"{self.append_directory}/{self.append_name}.manifest"

    def is_own(self, path: str) -> bool:
        """Whether a path in its directory is one that the server writes."""
        top, _, rest = path.partition("/")
        if top == self.append_directory:
            return True
        temporary = top.startswith("temp-") and top.endswith((".rdb", ".aof"))
        logs = re.fullmatch(r".*\.(?:log|pid)(?:\.\d+)?", top) is not None
        return not rest and (top in (self.dump, self.append_name, "nodes.conf") or temporary or logs)


def ask(connection: Connection) -> Files:
    """What a server says of itself. Raises Unavailable for names that no server has."""
    names = ("dir", "dbfilename", "appendonly", "appenddirname", "appendfilename")
    values = [setting(connection, name) for name in names]
    found = Files(
        directory=values[0],
        dump=values[1],
        appends=values[2] == "yes",
        append_directory=values[3],
        append_name=values[4],
    )
    if not _is_sound(found):
        raise Unavailable(f"redis keeps its data in files of odd names: {values!r}")
    return found


def setting(connection: Connection, name: str) -> str:
    """As the server has it now. Raises Unavailable."""
    match connection.execute("CONFIG", "GET", name):
        case [_, bytes(value)]:
            return value.decode("utf-8", "replace")
    raise Unavailable(f"redis does not say its {name}")


def is_server(argv: Sequence[str]) -> bool:
    """Whether a command starts a server with data of its own, of an image that has one."""
    words = _words(argv)
    if not words or not _OTHERS_DATA.isdisjoint(words):
        return False
    return words[0].startswith("-") or words[0].endswith(".conf") or _program(words) is not None


def to_json(files: Files) -> bytes:
    return msgspec.json.encode(files)


def from_json(data: bytes) -> Files | None:
    """None for nothing, and for what nobody said."""
    try:
        found = msgspec.json.decode(data, type=Files)
    except msgspec.DecodeError:
        return None
    return found if _is_sound(found) else None


def from_command(argv: Sequence[str]) -> Files:
    """What a service's command says. A file of settings is not read: then what the command leaves open is not known."""
    words = _words(argv)
    start = _program(words)
    if start is None and not (words and words[0].startswith("-")):
        return Files()
    options = words[0 if start is None else start + 1 :]
    options = options[: next((n for n, word in enumerate(options) if word in _END), len(options))]
    found: dict[str, Any] = {"appends": None if options and not options[0].startswith("-") else False}
    for name, value in itertools.pairwise(options):
        if name == "--appendonly":
            found["appends"] = value.strip("'\"").lower() == "yes"
        elif name in _OPTIONS:
            found[_OPTIONS[name]] = value.strip("'\"")
    said = Files(**found)
    return said if _is_sound(said) else Files()


def resolve(host: Host, root: Path, served: Served) -> Files:
    """Of a copy of the volume at `root`, with `appends` known."""
    plain, told, other = from_command(served.argv), from_json(served.told), from_json(served.told_elsewhere)
    found = plain
    if told is not None:
        is_valid = told.appends or told.saved == dump_of(host, root, told, served.target)
        found = told if is_valid else replace(told, appends=plain.appends)
    elif other is not None:
        found = replace(other, appends=other.appends if plain.appends is None else plain.appends)
    found = replace(found, directory=found.directory or served.target)
    if found.appends is not False:
        # One that finds no append-only file where it looks for it is better read by its dump than not at all.
        found = replace(found, appends=exists(host, root, found, served.target, found.manifest))
    return found


def folder(files: Files, target: str) -> str | None:
    """Its directory relative to the volume that is mounted at `target`; None: it lies elsewhere."""
    if not target or not files.directory:
        return ""
    relative = posixpath.relpath(files.directory, target)
    return None if relative.startswith("..") else "" if relative == "." else relative


def refuse_elsewhere(files: Files, served: Served) -> None:
    """Raises Refused if the server's directory is not in the volume: then no copy of the volume has its keys."""
    if folder(files, served.target) is None:
        detail = f"its directory is {files.directory}, but its volume is at {served.target}: mount the volume there"
        raise Refused([Conflict(kind="elsewhere", place=served.place, key=(), choices=NONE, detail=detail)])


def dump_of(host: Host, root: Path, files: Files, target: str) -> str:
    """What tells this dump from another; empty for none."""
    try:
        descriptor = host.open_beneath(root, f"{folder(files, target) or ''}/{files.dump}", os.O_PATH)
    except OSError:
        return ""
    try:
        found = os.fstat(descriptor)
        return f"{found.st_size} {found.st_mtime_ns}"
    finally:
        os.close(descriptor)


def exists(host: Host, root: Path, files: Files, target: str, path: str) -> bool:
    """Whether `path`, relative to the server's directory, is there."""
    try:
        os.close(host.open_beneath(root, f"{folder(files, target) or ''}/{path}", os.O_PATH))
    except OSError:
        return False
    return True


def _words(argv: Sequence[str]) -> list[str]:
    """Those of a shell's command line too."""
    return [word for each in argv for word in (each.split() if any(name in each for name in SERVERS) else [each])]


def _program(words: Sequence[str]) -> int | None:
    return next((n for n, word in enumerate(words) if posixpath.basename(word) in SERVERS), None)


def _is_sound(files: Files) -> bool:
    names = (files.dump, files.append_directory, files.append_name)
    return all(_NAME.fullmatch(name) for name in names) and "\0" not in files.directory

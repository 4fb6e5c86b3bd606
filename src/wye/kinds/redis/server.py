"""Throw-away servers: a snapshot's directory, loaded by a server that nobody else talks to.

Only a server can read its own files. The engine decides where it runs (a container of the fork's image, without
network), so it gives a `Launcher`; what the server must be told is decided here, so that it loads everything, evicts
nothing and saves nothing.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from wye.host import Host
from wye.kinds.redis import told
from wye.kinds.redis.connection import Connection, ServerRefused, info
from wye.kinds.redis.told import Files

_DATABASES = 1024
"""More than anybody configures; an unused one costs next to nothing."""
_SAVED_S = 120.0
_WRITTEN_S = 5.0
_LOOK_AGAIN_S = 0.02


class Server(Protocol):
    """A running throw-away server."""

    connection: Connection

    def stop(self) -> None:
        """Kills it. The directory is the caller's."""
        ...


class Launcher(Protocol):
    def launch(self, directory: Path, settings: tuple[str, ...]) -> Server:
        """Starts a server on `directory`, a private writable copy, with `settings` as its command line and nothing
        else of the service's configuration; returns when it has loaded everything and answers.

        Raises Unavailable with its log if it does not come up."""
        ...


def settings(files: Files) -> tuple[str, ...]:
    """The command line for a server on a copy of a data directory (`told.resolve`). A service with modules needs its
    `--loadmodule` added."""
    return (
        *(("--dir", files.directory) if files.directory else ()), "--dbfilename", files.dump,
        "--save", "", "--appendonly", "yes" if files.appends else "no",
        "--appenddirname", files.append_directory, "--appendfilename", files.append_name,
        "--appendfsync", "no", "--auto-aof-rewrite-percentage", "0", "--aof-load-truncated", "yes",
        "--databases", str(_DATABASES), "--maxmemory", "0", "--notify-keyspace-events", "",
    )  # fmt: skip


def settle(host: Host, connection: Connection, root: Path, target: str) -> Files:
    """Call on a server just before a snapshot: with an append-only file this waits until every write that was answered
    is there; without one the data is in memory alone, and this saves it. Returns which of the files below the volume's
    `root` have it.

    A server that was told to keep nothing, and has no file, keeps nothing: a cache must not come back after a restart
    because somebody looked at it. Raises Unavailable."""
    found = told.ask(connection)
    if told.folder(found, target) is None:
        return found
    if found.appends and not _is_turning_on(host, root, found, target):
        _await_written(connection)
        return found
    found = replace(found, appends=False)
    if told.dump_of(host, root, found, target) or _keeps_anything(host, connection, root, found, target):
        _save(connection)
    return replace(found, saved=told.dump_of(host, root, found, target))


def _await_written(connection: Connection) -> None:
    """While the disk syncs what it wrote, a server holds back up to two seconds of writes that it has answered. One
    that does not sync as it answers this has written all of them before its answer goes out."""
    until = time.monotonic() + _WRITTEN_S
    while time.monotonic() < until:
        found = info(connection, "persistence")
        if "0" in (found.get("aof_pending_bio_fsync", "0"), found.get("aof_buffer_length", "0")):
            return
        time.sleep(_LOOK_AGAIN_S)


def _is_turning_on(host: Host, root: Path, files: Files, target: str) -> bool:
    """Whether the append-only file was switched on a moment ago: until the first one is whole, an older one or none is
    in its place."""
    temporary = f"{files.append_directory}/temp-{files.append_name}.incr"
    exists = (told.exists(host, root, files, target, path) for path in (temporary, files.manifest))
    return next(exists) or not next(exists)


def _keeps_anything(host: Host, connection: Connection, root: Path, files: Files, target: str) -> bool:
    if told.exists(host, root, files, target, files.manifest):
        return True
    return bool(told.setting(connection, "save"))


def _save(connection: Connection) -> None:
    """Waits for a saving that the server has begun by itself."""
    until = time.monotonic() + _SAVED_S
    while True:
        try:
            connection.execute("SAVE")
            return
        except ServerRefused as error:
            if "in progress" not in error.message or time.monotonic() > until:
                raise
        time.sleep(_LOOK_AGAIN_S)

"""Throw-away servers: a snapshot's directory, loaded by a server that nobody else talks to.

Only a server can read its own files. The engine decides where it runs (a container of the fork's image, without
network), so it gives a `Launcher`; what the server must be told is decided here, so that it loads everything, evicts
nothing and saves nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from wye.host import Host
from wye.kinds.redis.aof import DIRECTORY, NAME
from wye.kinds.redis.connection import Connection

_DATABASES = 1024
"""More than anybody configures; an unused one costs next to nothing."""


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


def settings(
    host: Host, directory: Path, *, append_directory: str = DIRECTORY, append_name: str = NAME
) -> tuple[str, ...]:
    """The command line for a server on a copy of a data directory. `append_directory` and `append_name`: the service's
    `appenddirname` and `appendfilename`. A service with modules needs its `--loadmodule` added."""
    try:
        os.close(host.open_beneath(directory, f"{append_directory}/{append_name}.manifest", os.O_PATH))
        appends = "yes"
    except OSError:
        appends = "no"
    return (
        "--save", "", "--appendonly", appends, "--appenddirname", append_directory, "--appendfilename", append_name,
        "--appendfsync", "no", "--auto-aof-rewrite-percentage", "0", "--aof-load-truncated", "yes",
        "--databases", str(_DATABASES), "--maxmemory", "0", "--notify-keyspace-events", "",
    )  # fmt: skip


def settle(connection: Connection) -> None:
    """Call on a fork's own server just before its last snapshot: with an append-only file every write is there already;
    without one the data is in memory alone, and this saves it."""
    answer = connection.execute("CONFIG", "GET", "appendonly")
    if answer[1] != b"yes":
        connection.execute("SAVE")

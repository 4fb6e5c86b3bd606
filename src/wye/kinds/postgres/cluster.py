"""A cluster's data directory on disk, and what a server has to be for this room.

A copied data directory still holds its source's `postmaster.pid`. Whoever trusts it signals the source: so `clean`
removes it before anything else happens to a copy. A copy must not act on the world either: `FENCE` keeps a throwaway
server from archiving, replicating and running jobs. Files are reached without following links: a fork's processes
wrote them.

This room starts no server. The engine starts them where their image is; it hands over a `Server`.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from wye.errors import NotFound, Unsupported
from wye.host import Host
from wye.kinds.postgres.session import Connection

OLDEST, NEWEST = 14, 18
"""Major versions whose catalogs this room knows: 14 brought the scan of a range of row addresses."""

FENCE: Mapping[str, str] = {
    "archive_mode": "off",
    "archive_command": "",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "synchronous_standby_names": "",
    "max_logical_replication_workers": "0",
    "logging_collector": "off",
    "cron.launch_active_jobs": "off",
    "autovacuum": "off",
    "listen_addresses": "",
    "ssl": "off",
}
"""For every throwaway server. Not for a fork's own, which runs as its compose file says."""

KEPT: Mapping[str, str] = {**FENCE, "fsync": "off"}
"""For a server that is stopped cleanly and whose bytes then come into a snapshot: that syncs them."""

THROWAWAY: Mapping[str, str] = {
    **FENCE,
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_init_zero": "off",
    "wal_recycle": "off",
}
"""For a server whose bytes nobody keeps: the base while it is read, the rehearsal."""

LEFT_BY_A_SERVER = ("postmaster.pid", "postmaster.opts", "standby.signal", "recovery.signal", "backup_label.old")
_STATUS = 7
"""The line of the pid file, from 0, that says what the server is doing."""
_DEPTH = 2
_MOST_FOLDERS = 16


class Server(Protocol):
    """A running cluster that somebody else started and will stop."""

    def connect(self, database: str) -> Connection:
        """A new connection as a superuser. Raises Unavailable."""
        ...


def find_data(host: Host, root: Path) -> str | None:
    """The data directory in the volume at `root`, relative to it ("" for the volume itself); None: there is none.

    Asked for every volume at every turn, so it is quick for volumes of other things: it tries the few names that an
    upper directory has, and gives up where there are more than anybody puts above a data directory.
    """
    folders = [""]
    for _ in range(_DEPTH + 1):
        for folder in folders:
            if _is_data(host, root, folder):
                return folder
        folders = [f"{folder}/{name}".lstrip("/") for folder in folders for name in _folders(host, root, folder)]
        if len(folders) > _MOST_FOLDERS:
            return None
    return None


def version(host: Host, data: Path) -> int:
    """The major version. Raises NotFound if `data` is no data directory, Unsupported for one too old or new."""
    try:
        text = host.read_beneath(data, "PG_VERSION", limit_bytes=16).decode(errors="replace").strip()
    except OSError as error:
        raise NotFound(f"{data} is no PostgreSQL data directory") from error
    if not re.fullmatch(r"\d+", text) or not OLDEST <= int(text) <= NEWEST:
        raise Unsupported(f"PostgreSQL {text} cannot be merged: versions {OLDEST} to {NEWEST} can")
    return int(text)


def clean(host: Host, data: Path) -> None:
    """Removes what ties a copied data directory to its source. `postmaster.pid` goes first."""
    descriptor = host.open_beneath(data, "", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in LEFT_BY_A_SERVER:
            host.at("postgres:clean")
            try:
                os.unlink(name, dir_fd=descriptor)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise host.failure("postgres:clean", f"remove {name}", error) from error
    finally:
        os.close(descriptor)


def is_starting(host: Host, data: Path) -> bool:
    """Whether a server says in its pid file that it does not take connections yet."""
    try:
        lines = host.read_beneath(data, "postmaster.pid", limit_bytes=4096).splitlines()
    except OSError:
        return False
    return len(lines) > _STATUS and lines[_STATUS].strip() == b"starting"


def has_unlogged(host: Host, data: Path) -> bool:
    """Whether there are tables that recovery empties: what they are like when empty lies beside each in a file."""
    databases = _entries(host, data, "base")
    return any(name.endswith("_init") for database in databases for name in _entries(host, data, f"base/{database}"))


def refuse_tablespaces(host: Host, data: Path) -> None:
    """Raises Unsupported if the cluster keeps data outside its volume: no snapshot of the volume holds it."""
    found = _entries(host, data, "pg_tblspc")
    if found:
        raise Unsupported(
            f"the cluster has tablespaces outside its volume ({', '.join(sorted(found))})",
            hint="move their tables into the default tablespace",
        )


def _is_data(host: Host, root: Path, folder: str) -> bool:
    for name, flags in (("PG_VERSION", 0), ("global", os.O_DIRECTORY), ("base", os.O_DIRECTORY)):
        try:
            os.close(host.open_beneath(root, f"{folder}/{name}", os.O_PATH | flags))
        except OSError:
            return False
    return True


def _folders(host: Host, root: Path, folder: str) -> list[str]:
    """Directories in a directory; none of one that holds more than a few entries."""
    try:
        descriptor = host.open_beneath(root, folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return []
    try:
        with os.scandir(descriptor) as entries:
            found = list(itertools.islice(entries, _MOST_FOLDERS + 1))
            if len(found) > _MOST_FOLDERS:
                return []
            return sorted(entry.name for entry in found if entry.is_dir(follow_symlinks=False))
    finally:
        os.close(descriptor)


def _entries(host: Host, root: Path, folder: str) -> dict[str, int]:
    """Names in a directory, each with its mode; empty if it cannot be opened."""
    try:
        descriptor = host.open_beneath(root, folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return {}
    try:
        with os.scandir(descriptor) as entries:
            return {entry.name: entry.stat(follow_symlinks=False).st_mode for entry in entries}
    finally:
        os.close(descriptor)

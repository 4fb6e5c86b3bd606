"""Servers that need not sync what they write, because a snapshot is about to do it for them.

A fork begins with a recovery, which syncs every file of the cluster one by one: two thirds of a start's time, for bytes
that the base snapshot puts on disk in one go a moment later. So the server of a fresh fork starts with fsync off, and
turns it on before that snapshot is taken. What is written after it is synced as ever.

The setting is a line at the end of `postgresql.auto.conf`, which a server reads however it was started; one on its
command line could not be taken back while it runs. Whoever calls `begin` remembers, durably, that these bytes are
worth nothing until the snapshot is there: what a power failure leaves of them may be torn.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from wye.errors import Unavailable
from wye.host import Host
from wye.kinds.postgres.session import Connection, value

_FILE = "postgresql.auto.conf"
_LINES = b"\n# Until the fork is ready:\nfsync = off\n"
_MOST_BYTES = 1 << 20
_RELOAD_S = 10.0


def begin(host: Host, data: Path) -> None:
    """For the server that is started next over `data`. Does nothing to a cluster without that file."""
    descriptor = _open(host, data)
    if descriptor is None:
        return
    with os.fdopen(descriptor, "r+b") as file:
        if not file.read(_MOST_BYTES).endswith(_LINES):
            host.at("postgres:unsynced:begin")
            file.seek(0, os.SEEK_END)
            file.write(_LINES)


def end(host: Host, data: Path) -> bool:
    """Takes the line back; whether it was there. A running server notices at `reload`."""
    descriptor = _open(host, data)
    if descriptor is None:
        return False
    with os.fdopen(descriptor, "r+b") as file:
        found = file.read(_MOST_BYTES)
        if not found.endswith(_LINES):
            return False
        host.at("postgres:unsynced:end")
        file.truncate(len(found) - len(_LINES))
        return True


def reload(host: Host, connection: Connection) -> None:
    """Returns once the server has read its settings again. Raises Unavailable.

    The postmaster tells all its processes at once and before any of them could notice, so what any of them
    writes after a snapshot that is taken now is synced. What they wrote before, that snapshot puts on disk.
    """
    asked = "select pg_conf_load_time()"
    before = value(connection, asked)
    host.at("postgres:unsynced:reload")
    connection.execute("select pg_reload_conf()")
    deadline = host.monotonic() + _RELOAD_S
    while value(connection, asked) == before:
        if host.monotonic() > deadline:
            raise Unavailable(f"postgres did not read its settings again in {_RELOAD_S:g} s")
        host.sleep(0.0005)


def _open(host: Host, data: Path) -> int | None:
    """Through no link: a fork's processes may have put one there."""
    try:
        descriptor = host.open_beneath(data, _FILE, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return descriptor

"""A volume that holds a PostgreSQL data directory: recognised, and made safe to start from a snapshot.

What is in the volume is hostile, and what ties the copy to its source goes before anything else: see `cluster`.
"""

from __future__ import annotations

from pathlib import Path

from wye.host import Host
from wye.interfaces import Served
from wye.kinds.postgres import unsynced
from wye.kinds.postgres.cluster import NEWEST, OLDEST, clean, find_data
from wye.kinds.programs import has_program

PROGRAM = "postgres"
_DEBIAN = "/usr/lib/postgresql"


class PostgresVolume:
    """Satisfies `interfaces.Kind`."""

    name = "postgres"
    is_unmistakable = True

    def __init__(self, host: Host) -> None:
        self._host = host

    def claims(self, root: Path) -> bool:
        """Whether a data directory is the volume itself, or lies in it (PGDATA=.../pgdata, or .../18/docker)."""
        return find_data(self._host, root) is not None

    def folder(self, root: Path) -> str:
        return find_data(self._host, root) or ""

    def serves(self, served: Served) -> bool:
        """The first thing that a server does is to make its data directory."""
        return False

    def prepare(self, root: Path) -> None:
        folder = find_data(self._host, root)
        if folder is not None:
            clean(self._host, root / folder)
            unsynced.end(self._host, root / folder)

    def program(self, rootfs: Path, search_path: str) -> str | None:
        homes = [f"{_DEBIAN}/{version}/bin" for version in range(OLDEST, NEWEST + 1)]
        found = has_program(self._host, rootfs, ":".join([search_path, *homes]), PROGRAM)
        return PROGRAM if found else None

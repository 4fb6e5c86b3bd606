"""A volume that holds Redis or Valkey data: recognised by its files. Nothing in it ties it to a process."""

from __future__ import annotations

import os
from pathlib import Path

from wye.host import Host
from wye.kinds.programs import has_program

_SERVERS = ("valkey-server", "redis-server")
"""An image of Valkey may have both names; its entrypoint knows its own."""
_MARKS = ("appendonlydir", "appendonly.aof", "dump.rdb")


class RedisVolume:
    """Satisfies `interfaces.Kind`."""

    name = "redis"
    is_unmistakable = False

    def __init__(self, host: Host) -> None:
        self._host = host

    def claims(self, root: Path) -> bool:
        for mark in _MARKS:
            try:
                os.close(self._host.open_beneath(root, mark, os.O_PATH))
            except OSError:
                continue
            return True
        return False

    def prepare(self, root: Path) -> None:
        """A snapshot of a running Redis needs nothing: with AOF it holds every write that was answered."""

    def program(self, rootfs: Path, search_path: str) -> str | None:
        return next((name for name in _SERVERS if has_program(self._host, rootfs, search_path, name)), None)

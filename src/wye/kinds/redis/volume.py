"""A volume that holds Redis or Valkey data: recognised by its files, and before there are any by its service, whose
data would else be in no diff until its first saving. Nothing in it ties it to a process."""

from __future__ import annotations

import os
from pathlib import Path

from wye.host import Host
from wye.interfaces import Served
from wye.kinds.programs import has_program
from wye.kinds.redis.told import SERVERS, Files, folder, from_command, is_server

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

    def folder(self, root: Path) -> str:
        return ""

    def serves(self, served: Served) -> bool:
        if not is_server(served.argv):
            return False
        directory = from_command(served.argv).directory or served.working_dir
        return bool(directory) and folder(Files(directory=directory), served.target) is not None

    def prepare(self, root: Path) -> None:
        """A snapshot of a running Redis needs nothing: with AOF it holds every write that was answered."""

    def program(self, rootfs: Path, search_path: str) -> str | None:
        return next((name for name in SERVERS if has_program(self._host, rootfs, search_path, name)), None)

"""A volume that holds a Postgres data directory: recognised, and made safe to start from a snapshot.

A snapshot of a running Postgres holds its `postmaster.pid`. That file names a process id and a shared memory
segment of the source: acting on it from a fork can stop the source. It is removed before anything else touches the
copy. What is in the volume is hostile: nothing here follows a link.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from wye.host import Host

_TIED_TO_PROCESSES = ("postmaster.pid", "postmaster.opts")
_MOST_DIRECTORIES = 64


class PostgresVolume:
    """Satisfies `interfaces.Kind`."""

    name = "postgres"

    def __init__(self, host: Host) -> None:
        self._host = host

    def claims(self, root: Path) -> bool:
        """Whether a data directory is the volume itself, or lies directly in it (PGDATA=.../pgdata)."""
        return next(self._data_directories(root), None) is not None

    def prepare(self, root: Path) -> None:
        for data in list(self._data_directories(root)):
            directory = self._open(root, data)
            if directory is None:
                continue
            try:
                for name in _TIED_TO_PROCESSES:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=directory)
            finally:
                os.close(directory)

    def _data_directories(self, root: Path) -> Iterator[str]:
        top = self._open(root, ".")
        if top is None:
            return
        try:
            names = [".", *sorted(os.listdir(top))[:_MOST_DIRECTORIES]]
            for name in names:
                directory = self._open(top, name)
                if directory is None:
                    continue
                try:
                    present = set(os.listdir(directory))
                finally:
                    os.close(directory)
                if {"PG_VERSION", "global", "base"} <= present:
                    yield name
        finally:
            os.close(top)

    def _open(self, root: int | Path, name: str) -> int | None:
        try:
            return self._host.open_beneath(root, name, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return None  # not a directory, a link, or gone: nothing of ours

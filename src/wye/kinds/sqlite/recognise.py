"""Which of the changed paths belong to SQLite databases, so that they merge by rows and not as files.

A database is a regular file with SQLite's header on both sides, under one name; one that the fork added or removed is
a file like any other. Its journal, write-ahead log and index belong to it.
"""

from __future__ import annotations

from collections.abc import Iterable

from wye.interfaces import PathChange
from wye.kinds.files.tree import Side
from wye.kinds.sqlite.database import COMPANIONS, is_database


def split(changes: Iterable[PathChange], base: Side, theirs: Side) -> tuple[list[str], list[PathChange]]:
    """(paths of databases, changes that remain for the files), both in order."""
    found: dict[str, bool] = {}
    rest = []
    for change in changes:
        main = _main(change.path)
        for path in {change.path, main}:
            if path not in found:
                found[path] = is_database(base, path) and is_database(theirs, path)
        if not found[change.path] and not found[main]:
            rest.append(change)
    return sorted(path for path, is_one in found.items() if is_one), rest


def _main(path: str) -> str:
    """The database that a file would belong to by its name."""
    for ending in COMPANIONS:
        if path.endswith(ending):
            return path.removesuffix(ending)
    return path

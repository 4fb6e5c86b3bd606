"""Compares two trees: one path at a time, or all of both.

`judge` has the last word on what happened to a path, whoever asks: what a stream of changes mentions is only a
candidate. `walk` compares everything, file contents included. It needs no help from the file system, so it is the
oracle for the quick way, and what remains when the kernel will not send.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from wye.drivers.btrfs.tree import Tree
from wye.interfaces import PathChange

_READ_BYTES = 1 << 20
_BLOCK_BYTES = 4096

Extents = Sequence[tuple[int, int]]
Candidates = dict[bytes, tuple[Extents | None, bool | None]]
"""Paths to look at, with what `judge` may be told of them: `written` and `attributes`."""


def judge(
    path: bytes, base: Tree, new: Tree, *, written: Extents | None = None, attributes: bool | None = None
) -> PathChange | None:
    """What happened to `path`, None if nothing.

    `written`: byte ranges that may differ if it is a regular file in both; None: read it. `attributes`: whether
    extended attributes differ; None: look. Extents come out sorted, apart from each other, and within the larger of
    the two sizes; the range between the sizes is one of them.
    """
    before, after = base.lstat(path), new.lstat(path)
    if before is None or after is None:
        if before is after:
            return None
        return PathChange(path=os.fsdecode(path), kind="added" if before is None else "removed")
    if stat.S_IFMT(before.st_mode) != stat.S_IFMT(after.st_mode) or before.st_rdev != after.st_rdev:
        return PathChange(path=os.fsdecode(path), kind="modified")
    if stat.S_ISLNK(after.st_mode) and base.link_target(path) != new.link_target(path):
        return PathChange(path=os.fsdecode(path), kind="modified")
    if stat.S_ISREG(after.st_mode):
        sizes = sorted((before.st_size, after.st_size))
        ranges = _differing(path, base, new, sizes[0]) if written is None else list(written)
        extents = _tidied([*ranges, (sizes[0], sizes[1] - sizes[0])], sizes[1])
        if extents:
            return PathChange(path=os.fsdecode(path), kind="modified", extents=extents)
    if attributes is None:
        attributes = base.attributes(path) != new.attributes(path)
    if attributes or _metadata(before) != _metadata(after):
        return PathChange(path=os.fsdecode(path), kind="modified", metadata_only=True)
    return None


def walk(base: Tree, new: Tree) -> list[PathChange]:
    """All that differs, sorted by path, by reading both."""
    paths = {*base.below(b""), *new.below(b"")}
    return judged(base, new, dict.fromkeys(paths, (None, None)))


def judged(base: Tree, new: Tree, candidates: Candidates) -> list[PathChange]:
    """The candidates that did change, sorted by path."""
    changes = []
    for path in sorted(candidates, key=lambda path: path.rpartition(b"/")[::2]):
        written, attributes = candidates[path]
        change = judge(path, base, new, written=written, attributes=attributes)
        if change is not None:
            changes.append(change)
    return sorted(changes, key=lambda change: change.path)


def _metadata(found: os.stat_result) -> tuple[int, ...]:
    """A directory's times change with its entries, which are reported themselves."""
    times = () if stat.S_ISDIR(found.st_mode) else (found.st_mtime_ns,)
    return (found.st_mode, found.st_uid, found.st_gid, *times)


def _differing(path: bytes, base: Tree, new: Tree, size: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    with base.regular(path) as before, new.regular(path) as after:
        for start in range(0, size, _READ_BYTES):
            length = min(_READ_BYTES, size - start)
            left, right = os.pread(before, length, start), os.pread(after, length, start)
            if left == right:
                continue
            found += [
                (start + at, _BLOCK_BYTES)
                for at in range(0, length, _BLOCK_BYTES)
                if left[at : at + _BLOCK_BYTES] != right[at : at + _BLOCK_BYTES]
            ]
    return found


def _tidied(ranges: Extents, size: int) -> tuple[tuple[int, int], ...]:
    """Sorted, merged where they touch, cut at `size`."""
    merged: list[tuple[int, int]] = []
    for start, length in sorted(ranges):
        end = min(start + length, size)
        if start >= end:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return tuple((start, end - start) for start, end in merged)

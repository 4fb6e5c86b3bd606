"""From changed byte ranges of files to changed blocks of relations.

The pool says which bytes of which files differ between two snapshots. A relation's main fork is a file named by its
relfilenode, cut into segments ("16384", "16384.1"); its other forks (free space, visibility) and everything else in
the data directory say nothing about rows. Blocks that a VACUUM cut off at the tail are in no list: whoever reads
compares the lengths as well (`Ranges.with_tail`), or those deletions would be lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from wye.interfaces import PathChange
from wye.kinds.postgres.cluster import LEFT_BY_A_SERVER
from wye.merge.foreign import is_passing

_MAIN_FORK = re.compile(r"((?:base/\d+|global|pg_tblspc/\d+/[^/]+/\d+)/\d+)(?:\.(\d+))?")
_OWN = re.compile(
    # What a server makes, its start, its end, its crash, a backup of it, its upgrade, and Patroni.
    r"(?:base|global|pg_[a-z_]+|log|pgsql_tmp|pg_upgrade_output\.d)(?:/.*)?"
    r"|PG_VERSION|postmaster\.(?:pid|opts)|current_logfiles(?:\.tmp)?|postgresql\.auto\.conf\.tmp"
    r"|(?:backup_label|tablespace_map|backup_manifest|recovery)(?:\.(?:old|done|tmp))?"
    r"|core(?:\.\d+)?|\.s\.PGSQL\..*|[^/]*\.log|[^/]*\.pid|patroni\.dynamic\.json"
)
CONFIGURATION = frozenset({"postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf"})


@dataclass(frozen=True, slots=True)
class Ranges:
    """Blocks as sorted, disjoint, half-open ranges."""

    spans: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, spans: Iterable[tuple[int, int]]) -> Ranges:
        merged: list[tuple[int, int]] = []
        for first, end in sorted(span for span in spans if span[0] < span[1]):
            if merged and first <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((first, end))
        return cls(tuple(merged))

    def with_tail(self, old_blocks: int, new_blocks: int) -> Ranges:
        """Adds the blocks that only the longer of two files has."""
        return Ranges.of([*self.spans, (min(old_blocks, new_blocks), max(old_blocks, new_blocks))])

    def pieces(self, blocks: int) -> Iterator[tuple[int, int]]:
        """The ranges, cut so that each has at most `blocks` blocks."""
        for first, end in self.spans:
            for start in range(first, end, blocks):
                yield start, min(start + blocks, end)

    def count(self) -> int:
        return sum(end - first for first, end in self.spans)

    def __bool__(self) -> bool:
        return bool(self.spans)


EVERYTHING = Ranges(((0, 2**32 - 1),))
"""All the blocks that a relation can have."""


@dataclass(frozen=True, slots=True)
class ChangedBlocks:
    """By relation file ("base/5/16384"): its changed blocks. `configuration`: changed server settings files. `foreign`:
    what else changed in the data directory and is no server's own."""

    relations: dict[str, Ranges] = field(default_factory=dict)
    configuration: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()

    def of(self, file: str | None) -> Ranges:
        return self.relations.get(file or "", Ranges())

    def touched(self, file: str | None) -> bool:
        """Whether a file differs at all, if only in length."""
        return file in self.relations

    def has_database(self, oid: int) -> bool:
        """Whether any file of a database differs."""
        return any(file.startswith(f"base/{oid}/") for file in self.relations)


def is_foreign(path: str) -> bool:
    """Whether a path in a data directory is of something that no server makes there by itself, unless it is told to
    keep its logs there."""
    return not (path in CONFIGURATION or _OWN.fullmatch(path) or is_passing(path))


def changed_blocks(
    changes: Iterable[PathChange], data: str, *, block_bytes: int = 8192, segment_blocks: int = 131072
) -> ChangedBlocks:
    """Reads the pool's changes below the data directory `data` (a path relative to the environment's root)."""
    prefix = data.rstrip("/") + "/" if data else ""
    spans: dict[str, list[tuple[int, int]]] = {}
    configuration, foreign = [], []
    for change in changes:
        if not change.path.startswith(prefix) or change.metadata_only:
            continue
        path = change.path[len(prefix) :]
        if path in CONFIGURATION:
            configuration.append(path)
        elif is_foreign(path) and not (change.kind == "removed" and path in LEFT_BY_A_SERVER):
            foreign.append(path)
        matched = _MAIN_FORK.fullmatch(path)
        if matched is None:
            continue
        segment = int(matched[2] or 0) * segment_blocks
        found = spans.setdefault(matched[1], [])
        if change.kind == "added":
            found.append((segment, segment + segment_blocks))
        found.extend(
            (segment + offset // block_bytes, segment + -(-(offset + length) // block_bytes))
            for offset, length in change.extents
        )
    relations = {file: Ranges.of(found) for file, found in spans.items()}
    return ChangedBlocks(relations, tuple(sorted(configuration)), tuple(sorted(foreign)))

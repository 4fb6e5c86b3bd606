"""What a merge would do to the databases that lie in files, tried on private copies; nothing is changed.

A database merges by rows if base, theirs and the target have one under its name. One that is only in some of them is a
file like any other, but a fork that deletes a database whose rows the target has changed is in conflict, wherever the
rows may lie (its log is a file of its own). One that cannot be read is refused by name: to merge it as a file would be
to mix one side's pages with the other's log.

Copies are made in a directory of their own that is gone afterwards, of one database at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wye.errors import BadRequest, Unsupported, WyeError
from wye.host import Host
from wye.interfaces import PathChange
from wye.kinds.files.plan import PlannedWrite
from wye.kinds.files.tree import Place, Side, place_of
from wye.kinds.sqlite.apply import Rules, merged
from wye.kinds.sqlite.changes import Refusal, SqliteChanges, changes, page, stat, to_json
from wye.kinds.sqlite.database import COMPANIONS, DatabaseBusy, DatabaseFailed, copy, is_database
from wye.kinds.sqlite.recognise import split
from wye.merge.conflict import BOTH, NONE, Conflict, Decisions
from wye.merge.conflict import Side as Chosen
from wye.merge.files import ATTRIBUTES
from wye.merge.rows import Grain

_CONTENT = ("", "-wal", "-journal")
_UNREADABLE = (DatabaseFailed, DatabaseBusy, Unsupported, UnicodeError)


@dataclass(frozen=True, slots=True)
class DatabaseChanges:
    """Satisfies `interfaces.Changes`."""

    place: str
    found: SqliteChanges
    kind: str = "sqlite"

    def __bool__(self) -> bool:
        return bool(self.found)

    def stat(self) -> dict[str, Any]:
        told = dict(stat(self.found))
        pragmas = [
            {"type": "pragma", "name": name, "before": f"PRAGMA {name} = {was}", "after": f"PRAGMA {name} = {now}"}
            for name, was, now in self.found.pragmas
        ]
        return {**told, "schema": [*told["schema"], *pragmas], **self.found.counters.told()}

    def page(self, offset: int, limit: int) -> dict[str, Any]:
        """Rows of all tables, counted through from 0."""
        tables, begin, left = [], offset, limit
        for table in self.found.tables:
            size = len(table.keyed) + len(table.loose)
            rows = page(table, begin, left) if begin < size and left > 0 else []
            left -= len(rows)
            begin = max(0, begin - size)
            tables.append({"table": table.table, "rows": rows, "total": size})
        return {"tables": tables}

    def to_json(self) -> bytes:
        return to_json(self.found)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedDatabase:
    """`path` below the target's root; `rows`: how many were written when it was tried."""

    path: str
    place: str
    found: SqliteChanges
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabasePlan:
    """`rest`: what merges as files; `writes`: owners and modes of database files, whose content is not touched."""

    databases: tuple[PlannedDatabase, ...]
    rest: tuple[PathChange, ...]
    writes: tuple[PlannedWrite, ...]
    conflicts: tuple[Conflict, ...]


def place_name(path: str) -> str:
    """ "sqlite volume data:/app.db", whatever bytes the name has."""
    place = place_of(path)
    told = path if place is None else f"{place.name}:/{place.inner(path)}"
    return "sqlite " + told.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def rules_of(settings: Mapping[str, Any]) -> dict[str, Rules]:
    """`x-wye: merge: {table: {orders: row}, delta: [orders.total]}`, by table in lower case, as SQLite takes names.

    Raises BadRequest."""
    try:
        grain = {str(name).lower(): Grain(str(given)) for name, given in dict(settings.get("table") or {}).items()}
    except ValueError as error:
        raise BadRequest(f"x-wye: merge: table: {error}", hint="cell, row or table") from error
    delta: dict[str, frozenset[str]] = {}
    for name in settings.get("delta") or ():
        table, _, column = str(name).rpartition(".")
        delta[table.lower()] = delta.get(table.lower(), frozenset()) | {column}
    return {
        table: Rules(grain=grain.get(table, Grain.CELL), delta=delta.get(table, frozenset()))
        for table in grain.keys() | delta.keys()
    }


def as_files(base: Side, theirs: Side, paths: Sequence[PathChange]) -> list[PathChange]:
    """What changed in files as such: all but databases, of which only owners and modes are told."""
    databases, rest = split(paths, base, theirs)
    for path in databases:
        before, after = (side.seen(path, digest=False) for side in (base, theirs))
        if any(getattr(before, name) != getattr(after, name) for name in ATTRIBUTES):
            rest.append(PathChange(path=path, kind="modified", metadata_only=True))
    return rest


def read_databases(
    host: Host, scratch: Path | None, base: Side, theirs: Side, paths: Sequence[PathChange]
) -> list[DatabaseChanges]:
    """What happened in databases that are on both sides. One that cannot be read says so itself."""
    found = []
    for path in _changed(paths, split(paths, base, theirs)[0]):
        with _room(scratch) as room:
            try:
                difference = _compare(host, room, path, base, theirs)
            except _UNREADABLE as error:
                difference = SqliteChanges(refused=(Refusal(kind="unreadable", name=path, detail=_why(error)),))
        found.append(DatabaseChanges(place_name(path), difference))
    return [each for each in found if each]


class DatabasePlanner:
    """Of one merge. `base`, `ours` and `theirs` are snapshots."""

    def __init__(
        self,
        host: Host,
        scratch: Path | None,
        sides: tuple[Side, Side, Side],
        decisions: Decisions,
        rules: Mapping[str, Rules],
    ) -> None:
        self._host = host
        self._scratch = scratch
        self._base, self._ours, self._theirs = sides
        self._decisions = decisions
        self._rules = rules
        self._conflicts: list[Conflict] = []

    def plan(self, paths: Sequence[PathChange], known: Mapping[str, SqliteChanges]) -> DatabasePlan:
        """`known`: changes by path that need not be read."""
        mine = [path for path in split(paths, self._base, self._theirs)[0] if self._is_ours(path)]
        taken = {path + ending for path in mine for ending in ("", *COMPANIONS)}
        rest = self._without_kept([change for change in paths if change.path not in taken])
        writes = [write for path in mine if (write := self._attributes(path)) is not None]
        due = sorted({*_changed(paths, mine), *(path for path in mine if path in known)})
        planned = [found for path in due if (found := self._database(path, known.get(path))) is not None]
        return DatabasePlan(
            databases=tuple(planned), rest=tuple(rest), writes=tuple(writes),
            conflicts=(*self._decisions.open, *self._conflicts),
        )  # fmt: skip

    def _is_ours(self, path: str) -> bool:
        """Whether the target has stored a database there; what shines through from an image is nobody's yet."""
        return self._ours.own(path, digest=False) is not None and is_database(self._ours, path)

    def _database(self, path: str, found: SqliteChanges | None) -> PlannedDatabase | None:
        place = place_name(path)
        if self._ours.links(path) > 1:
            detail = "the target's file has other names, under which SQLite would not find its log"
            self._conflicts.append(Conflict(kind="hard-link", place=place, choices=NONE, detail=detail))
            return None
        with _room(self._scratch) as room:
            try:
                path.encode()
                if found is None:
                    watched = {name for name, each in self._rules.items() if each.grain is Grain.TABLE}
                    found = _compare(self._host, room, path, self._base, self._theirs, watched)
                return self._try(room, path, place, found) if found else None
            except _UNREADABLE as error:
                choices = frozenset({Chosen.OURS})
                self._decisions.of(Conflict(kind="unreadable", place=place, choices=choices, detail=_why(error)))
                return None

    def _try(self, room: Path, path: str, place: str, found: SqliteChanges) -> PlannedDatabase | None:
        mine = copy(self._host, self._ours, path, room / "ours")
        with merged(self._host, place, mine, "db", found, self._decisions, self._rules) as application:
            known = {conflict.id for conflict in self._decisions.open}
            self._conflicts += [each for each in application.conflicts if each.id not in known]
            if application.is_empty and not application.conflicts:
                return None
            return PlannedDatabase(path=path, place=place, found=found, rows=application.written)

    def _attributes(self, path: str) -> PlannedWrite | None:
        """Who owns the file and may open it merges as with any file, its content aside."""
        base, ours, theirs = (side.seen(path, digest=False) for side in (self._base, self._ours, self._theirs))
        if base is None or ours is None or theirs is None:
            return None
        after = ours
        for name in ATTRIBUTES:
            was, mine, other = (getattr(state, name) for state in (base, ours, theirs))
            change: dict[str, Any] = {name: other}
            if other not in (was, mine) and (was == mine or self._theirs_wins(path, name, was, mine, other)):
                after = replace(after, **change)
        return None if after == ours else PlannedWrite(path=path, before=ours, after=after)

    def _theirs_wins(self, path: str, column: str, base: Any, ours: Any, theirs: Any) -> bool:
        place = _place(path)
        chosen = self._decisions.of(
            Conflict(
                kind="update/update", place=place.name, key=(place.inner(path),), column=column, base=base, ours=ours,
                theirs=theirs, choices=BOTH,
            )
        )  # fmt: skip
        return chosen is not None and chosen.side is Chosen.THEIRS

    def _without_kept(self, rest: list[PathChange]) -> list[PathChange]:
        """Without databases that the fork deleted and the target keeps, because it has changed their rows."""
        kept: set[str] = set()
        for change in rest:
            path = change.path
            if change.kind == "added" or change.metadata_only or is_database(self._theirs, path):
                continue
            if is_database(self._base, path) and self._is_ours(path) and self._keeps(path):
                kept |= {path + ending for ending in ("", *COMPANIONS)}
        return [change for change in rest if change.path not in kept]

    def _keeps(self, path: str) -> bool:
        with _room(self._scratch) as room:
            try:
                mine = _compare(self._host, room, path, self._base, self._ours)
            except _UNREADABLE as error:
                mine = SqliteChanges(refused=(Refusal(kind="unreadable", name=path, detail=_why(error)),))
        if not mine:
            return False
        conflict = Conflict(
            kind="delete/update", place=place_name(path), ours=stat(mine), choices=BOTH,
            detail="the fork deleted the database, the target changed it",
        )  # fmt: skip
        chosen = self._decisions.of(conflict)
        return chosen is None or chosen.side is Chosen.OURS


def _changed(paths: Sequence[PathChange], databases: Sequence[str]) -> list[str]:
    """Those whose rows may have changed: more than their owner, or the index of the log."""
    written = {change.path for change in paths if not change.metadata_only}
    return [path for path in databases if any(path + ending in written for ending in _CONTENT)]


def _compare(
    host: Host, room: Path, path: str, base: Side, other: Side, watched: Collection[str] = ()
) -> SqliteChanges:
    return changes(host, copy(host, base, path, room / "base"), copy(host, other, path, room / "other"), watched)


@contextmanager
def _room(scratch: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="wye-sqlite-", dir=scratch) as name:
        yield Path(name)


def _place(path: str) -> Place:
    place = place_of(path)
    assert place is not None, "the engine hands out paths in volumes and layers alone"
    return place


def _why(error: Exception) -> str:
    return error.message if isinstance(error, WyeError) else str(error)

"""All that lies below an environment's root and needs no server, behind `interfaces.FileKind`: files merge as files,
the SQLite databases among them by rows.

A service may have a database open while it is merged into: locks go through the file. That holds in a volume; in a
layer the service sees the file through an overlay, whose locks are others, so it must not run then. Databases are
locked last and briefly: after every file has been swapped, and until `release`, before any service starts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wye.errors import InvariantError
from wye.host import Host
from wye.interfaces import Bytes, Changes, FileApplication, FileDelta, FilePlan, PathChange
from wye.kinds.files import apply as file_writes
from wye.kinds.files.kind import Files
from wye.kinds.files.plan import FilePlan as Planned
from wye.kinds.files.plan import plan
from wye.kinds.files.tree import Side, place_of
from wye.kinds.sqlite.apply import Rules
from wye.kinds.sqlite.database import COMPANIONS
from wye.kinds.trees import landing
from wye.kinds.trees.landing import DatabaseApplications
from wye.kinds.trees.planning import DatabasePlan, DatabasePlanner, as_files, read_databases, rules_of
from wye.merge.conflict import Conflict, Decisions, Resolution, resolutions_from_json


@dataclass(frozen=True, slots=True)
class _Plan:
    """Satisfies `interfaces.FilePlan`."""

    files: Planned
    databases: DatabasePlan
    rules: Mapping[str, Rules]
    resolutions: Mapping[str, Resolution]
    settled: frozenset[str]

    @property
    def conflicts(self) -> list[Conflict]:
        return [*self.files.conflicts, *self.databases.conflicts]

    def places(self) -> dict[str, int]:
        places = (place_of(write.path) for write in self.files.writes)
        counts = Counter(place.name for place in places if place is not None)
        return {**counts, **{each.place: each.rows for each in self.databases.databases}}

    def paths(self) -> frozenset[str]:
        databases = {each.path + ending for each in self.databases.databases for ending in ("", *COMPANIONS)}
        return frozenset({write.path for write in self.files.writes} | databases)

    def disturbed(self) -> frozenset[str]:
        paths = [write.path for write in self.files.writes]
        paths += [each.path for each in self.databases.databases if each.path.startswith("layers/")]
        return frozenset(place.name for path in paths if (place := place_of(path)) is not None)


class _Application:
    """Satisfies `interfaces.FileApplication`."""

    def __init__(self, files: file_writes.Application | None, databases: DatabaseApplications) -> None:
        self._files = files
        self._databases = databases

    def check(self) -> list[Conflict]:
        return [] if self._files is None else self._files.check()

    def release(self) -> None:
        self._databases.commit()

    def commit(self) -> None:
        self.release()
        self._databases.close()
        if self._files is not None:
            self._files.commit()

    def undo(self) -> list[str]:
        """Files also if a database cannot be had."""
        surprises: list[str] = []
        try:
            surprises += self._databases.undo()
        finally:
            if self._files is not None:
                surprises += self._files.undo()
        return surprises


class Trees:
    """Satisfies `interfaces.FileKind`. `uid_base`: the host's id of the containers' root. `scratch`: where private
    copies of databases are made, best on the file system that they are on; None: where temporary files go."""

    def __init__(self, host: Host, *, uid_base: int, scratch: Path | None = None) -> None:
        self._host = host
        self._files = Files(host, uid_base=uid_base)
        self._scratch = scratch

    def changes(
        self, base: Bytes, theirs: Bytes, paths: Sequence[PathChange], *, text: bool, whole: bool = False
    ) -> list[FileDelta]:
        with self._sides(base, theirs) as (before, after):
            told = paths if whole else as_files(before, after, paths)
        return self._files.changes(base, theirs, told, text=text)

    def databases(self, base: Bytes, theirs: Bytes, paths: Sequence[PathChange]) -> list[Changes]:
        with self._sides(base, theirs) as (before, after):
            return list(read_databases(self._host, self._scratch, before, after, paths))

    def patch(self, base: Bytes, theirs: Bytes, paths: Sequence[PathChange]) -> bytes:
        return self._files.patch(base, theirs, paths)

    def plan(
        self,
        base: Bytes,
        ours: Bytes,
        theirs: Bytes,
        paths: Sequence[PathChange],
        resolutions: Mapping[str, Any],
        settings: Mapping[str, Any] | None = None,
        *,
        back: bool = False,
    ) -> FilePlan:
        given = resolutions_from_json(resolutions)
        rules = rules_of(settings or {})
        with self._sides(base, ours, theirs) as (before, mine, other):
            rows, texts = Decisions(given), Decisions(given)
            planner = DatabasePlanner(self._host, self._scratch, (before, mine, other), rows, rules)
            databases = planner.plan(paths, landing.read_journal(base.root) if back else {})
            files = plan(self._host, before, mine, other, databases.rest, texts)
        files = replace(files, writes=[*files.writes, *databases.writes])
        return _Plan(files, databases, rules, given, frozenset(rows.settled | texts.settled))

    def apply(self, plan: FilePlan, theirs: Bytes, live: Bytes) -> FileApplication:
        if not isinstance(plan, _Plan):
            raise InvariantError("this plan is of another kind")
        databases = DatabaseApplications(self._host, live.root, plan.rules)
        files = None
        try:
            if plan.databases.databases:
                databases.start()
            if plan.files.writes:
                with self._sides(theirs, live) as (other, target):
                    files = file_writes.apply(self._host, plan.files.writes, theirs=other, live=target)
            databases.begin(plan.databases.databases, plan.resolutions)
        except BaseException:
            databases.drop()
            if files is not None:
                files.undo()
            raise
        return _Application(files, databases)

    def recover(self, root: Path, *, finish: bool = False) -> bool:
        databases = landing.recover(self._host, root, finish=finish)
        return self._files.recover(root, finish=finish) or databases

    @contextmanager
    def _sides(self, *given: Bytes) -> Iterator[list[Side]]:
        with ExitStack() as opened:
            yield [opened.enter_context(Side(self._host, each.root, each.images)) for each in given]

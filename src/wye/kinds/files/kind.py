"""Files as the engine knows them: this room's parts behind `interfaces.FileKind`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wye.errors import InvariantError
from wye.host import Host
from wye.interfaces import Bytes, FileApplication, FileDelta, FilePlan, PathChange
from wye.kinds.files.apply import apply
from wye.kinds.files.changes import changes
from wye.kinds.files.patch import git_patch
from wye.kinds.files.plan import FilePlan as Planned
from wye.kinds.files.plan import plan
from wye.kinds.files.tree import Side, place_of
from wye.kinds.files.undo import Recovered, recover
from wye.merge.conflict import Conflict, Decisions, resolution_from_json
from wye.merge.files import FileState


@dataclass(frozen=True, slots=True)
class _Plan:
    planned: Planned

    @property
    def conflicts(self) -> list[Conflict]:
        return self.planned.conflicts

    def places(self) -> dict[str, int]:
        places = (place_of(write.path) for write in self.planned.writes)
        return dict(Counter(place.name for place in places if place is not None))

    def paths(self) -> frozenset[str]:
        return frozenset(write.path for write in self.planned.writes)


class Files:
    """Satisfies `interfaces.FileKind`. `uid_base`: the host's id of the containers' root."""

    def __init__(self, host: Host, *, uid_base: int) -> None:
        self._host = host
        self._uid_base = uid_base

    def changes(self, base: Bytes, theirs: Bytes, paths: Sequence[PathChange], *, text: bool) -> list[FileDelta]:
        with self._sides(base, theirs) as (before, after):
            found = changes(self._host, before, after, paths, with_diffs=text)
        return [
            FileDelta(
                place=each.place,
                path="/" if each.path == "." else f"/{each.path}",
                change=each.change,
                before=self._told(each.before),
                after=self._told(each.after),
                text=None if each.diff is None else each.diff.decode(errors="replace"),
            )
            for each in found
        ]

    def patch(self, base: Bytes, theirs: Bytes, paths: Sequence[PathChange]) -> bytes:
        with self._sides(base, theirs) as (before, after):
            return git_patch(changes(self._host, before, after, paths))

    def plan(
        self, base: Bytes, ours: Bytes, theirs: Bytes, paths: Sequence[PathChange], resolutions: Mapping[str, Any]
    ) -> FilePlan:
        decisions = Decisions({identity: resolution_from_json(value) for identity, value in resolutions.items()})
        with self._sides(base, ours, theirs) as (before, mine, other):
            return _Plan(plan(self._host, before, mine, other, paths, decisions))

    def apply(self, plan: FilePlan, theirs: Bytes, live: Bytes) -> FileApplication:
        if not isinstance(plan, _Plan):
            raise InvariantError("this plan is not of files")
        with self._sides(theirs, live) as (other, target):
            return apply(self._host, plan.planned.writes, theirs=other, live=target)

    def recover(self, root: Path, *, finish: bool = False) -> bool:
        return recover(self._host, root, finish=finish) is not Recovered.NOTHING

    @contextmanager
    def _sides(self, *given: Bytes) -> Iterator[list[Side]]:
        with ExitStack() as opened:
            yield [opened.enter_context(Side(self._host, each.root, each.images)) for each in given]

    def _told(self, state: FileState | None) -> tuple[str, int, int, int, int, str] | None:
        if state is None:
            return None
        uid, gid = state.uid - self._uid_base, state.gid - self._uid_base
        return (str(state.type), state.size, state.mode, uid, gid, state.target)

"""Files as people are told of them, and their recovery: what `interfaces.FileKind` asks of files alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from wye.host import Host
from wye.interfaces import Bytes, FileDelta, PathChange
from wye.kinds.files.changes import changes
from wye.kinds.files.patch import git_patch
from wye.kinds.files.tree import Side
from wye.kinds.files.undo import Recovered, recover
from wye.merge.files import FileState


class Files:
    """`uid_base`: the host's id of the containers' root."""

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

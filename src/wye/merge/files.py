"""Three-way merge of file trees: which paths change, which texts must be merged, what is in conflict.

A tree is a mapping from relative path to `FileState`. Content and attributes (mode, owner, extended attributes) merge
apart: one side may edit a file while the other makes it executable. Two edits of one text are handed back as a
`TextMerge`; two edits of anything else are a conflict. Directories are as in git: one that the fork removed stays
while the target has something in it, and one that the target removed comes back when the fork put
something there. A rename is a removal and an addition.

The trees need not be whole. `theirs` and `base` must hold every path that differs between them and the directories
above; `ours` those paths, the directories above them, and all below any directory that theirs removed or replaced.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from wye.merge.conflict import BOTH, Conflict, Decisions, Json, Side


class FileType(StrEnum):
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    WHITEOUT = "whiteout"
    """Of an overlay's upper layer: the image's path is deleted."""
    OTHER = "other"
    """Devices, pipes, sockets: `target` says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileState:
    """All that matters of one path. `digest` and `size` are of a regular file's content: equal for equal contents, and
    the SHA-256 of those that are not large; `target` is what a link points to; `xattrs` is a digest of the extended
    attributes; `text`: the content qualifies for a merge by lines."""

    type: FileType
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    digest: str = ""
    target: str = ""
    xattrs: str = ""
    opaque: bool = False
    """Of an overlay's upper layer: hides all that the image has in this directory."""
    text: bool = False

    @property
    def content(self) -> tuple[FileType, int, str, str]:
        return (self.type, self.size, self.digest, self.target)


Tree = Mapping[str, FileState]
ATTRIBUTES = ("mode", "uid", "gid", "xattrs", "opaque")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileWrite:
    """The target's `path` goes from `before` to `after`; None: not there. The content is theirs's if it differs from
    before's."""

    path: str
    before: FileState | None
    after: FileState | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextMerge:
    """Both sides edited this text. `after` has the attributes to give it; its digest and size are theirs's and become
    those of the merged text."""

    path: str
    base: FileState
    ours: FileState
    theirs: FileState
    after: FileState


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedTree:
    """`writes` in an order that can be carried out: removals from the leaves up, then the rest from the root down."""

    writes: list[FileWrite] = field(default_factory=list)
    texts: list[TextMerge] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)


def merge_trees(place: str, base: Tree, ours: Tree, theirs: Tree, decisions: Decisions | None = None) -> MergedTree:
    """Merges what theirs changed since base into ours. `place` names the tree in conflicts."""
    decisions = Decisions() if decisions is None else decisions
    merge = _Merge(place, base, ours, theirs, decisions)
    for path in sorted(base.keys() | theirs.keys()):
        merge.path(path)
    merge.settle_directories()
    return merge.result()


class _Merge:
    def __init__(self, place: str, base: Tree, ours: Tree, theirs: Tree, decisions: Decisions) -> None:
        self.place = place
        self.base, self.ours, self.theirs = base, ours, theirs
        self.decisions = decisions
        self.after: dict[str, FileState | None] = {}
        self.texts: dict[str, TextMerge] = {}

    def path(self, path: str) -> None:
        base, ours, theirs = self.base.get(path), self.ours.get(path), self.theirs.get(path)
        if theirs in (base, ours):
            return
        if base == ours:
            self.after[path] = theirs
        elif ours is None or theirs is None:
            self._whole(path, "update/delete" if ours is None else "delete/update")
        elif base is None and not ours.type == theirs.type == FileType.DIRECTORY and ours.content != theirs.content:
            self._whole(path, "add/add")
        else:
            self._both(path, base, ours, theirs)

    def _both(self, path: str, base: FileState | None, ours: FileState, theirs: FileState) -> None:
        after = self._attributes(path, base, ours, theirs)
        was = base.content if base else None
        if theirs.content in (was, ours.content):
            pass
        elif was == ours.content:
            after = _with_content(after, theirs)
        elif (
            base and base.type == ours.type == theirs.type == FileType.FILE and base.text and ours.text and theirs.text
        ):
            after = _with_content(after, theirs)
            self.texts[path] = TextMerge(path=path, base=base, ours=ours, theirs=theirs, after=after)
            return
        elif self._theirs_wins(path, "type/type" if ours.type != theirs.type else "update/update", "content"):
            after = _with_content(after, theirs)
        if after != ours:
            self.after[path] = after

    def _attributes(self, path: str, base: FileState | None, ours: FileState, theirs: FileState) -> FileState:
        after = ours
        for name in ATTRIBUTES:
            was, mine, other = (getattr(side, name, None) for side in (base, ours, theirs))
            attribute: dict[str, Any] = {name: other}
            if other in (was, mine):
                continue
            if was == mine or self._theirs_wins(path, "update/update", name):
                after = replace(after, **attribute)
        return after

    def _whole(self, path: str, kind: str) -> None:
        if self._theirs_wins(path, kind, ""):
            self.after[path] = self.theirs.get(path)

    def settle_directories(self) -> None:
        """Brings back directories that something needs and keeps those that are not empty."""
        for path in sorted(path for path, after in self.after.items() if after is not None):
            self._ensure_parents(path)
        for path in sorted(self.after, reverse=True):
            before, after = self.ours.get(path), self.after[path]
            if before is None or before.type is not FileType.DIRECTORY:
                continue
            if after is not None and after.type is FileType.DIRECTORY:
                continue
            below = [child for child in self.ours if child.startswith(path + "/") and self._result(child) is not None]
            if not below:
                continue
            if after is not None and self._theirs_wins(path, "type/child", "content"):
                self.after.update(dict.fromkeys(below))
            else:
                del self.after[path]

    def _ensure_parents(self, path: str) -> None:
        parent = posixpath.dirname(path)
        while parent:
            there = self._result(parent)
            if there is None and parent in self.theirs:
                self.after[parent] = self.theirs[parent]
            elif there is not None and there.type is not FileType.DIRECTORY:
                conflict = self._conflict(path, "child/type", "parent", choices=frozenset({Side.OURS}))
                self.decisions.of(conflict)
                del self.after[path]
                return
            parent = posixpath.dirname(parent)

    def result(self) -> MergedTree:
        writes = [
            FileWrite(path=path, before=self.ours.get(path), after=after)
            for path, after in self.after.items()
            if self.ours.get(path) != after
        ]
        removals = sorted((w for w in writes if w.after is None), key=lambda w: w.path, reverse=True)
        rest = sorted((w for w in writes if w.after is not None), key=lambda w: w.path)
        return MergedTree(writes=removals + rest, texts=list(self.texts.values()), conflicts=self.decisions.open)

    def _result(self, path: str) -> FileState | None:
        return self.after[path] if path in self.after else self.ours.get(path)

    def _theirs_wins(self, path: str, kind: str, column: str) -> bool:
        chosen = self.decisions.of(self._conflict(path, kind, column))
        return chosen is not None and chosen.side is Side.THEIRS

    def _conflict(self, path: str, kind: str, column: str, choices: frozenset[Side] = BOTH) -> Conflict:
        base, ours, theirs = (
            _to_json(side.get(path), column if column in ATTRIBUTES else "")
            for side in (self.base, self.ours, self.theirs)
        )
        return Conflict(
            kind=kind,
            place=self.place,
            key=(path,),
            column=column,
            base=base,
            ours=ours,
            theirs=theirs,
            choices=choices,
        )


def _with_content(state: FileState, other: FileState) -> FileState:
    return replace(state, type=other.type, size=other.size, digest=other.digest, target=other.target, text=other.text)


def _to_json(state: FileState | None, attribute: str) -> Json:
    if state is None:
        return None
    return getattr(state, attribute) if attribute else asdict(state)

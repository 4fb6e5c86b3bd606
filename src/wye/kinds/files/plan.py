"""The three-way merge of files, decided: what to write into the target, or the complete list of conflicts.

`merge.files` decides by paths, `merge.text` and git by lines; here both are given what they need, and the outcome is
brought to what is stored: in a layer, a write is about the upper entry, and a file that shone through from the image is
nothing there. A plan names for every path the state that the target must still have (`before`), so whoever applies it
can prove that nothing was overwritten unseen.

Reverting is the same plan with the roles swapped: base is the state after the merge, theirs the one before it.

Refused by name: devices, entries whose content overlay keeps elsewhere, and replacing or changing a file of the
target that has several names (its other names would keep the old content). Pipes and sockets are made anew. Several
names of one file in the fork arrive as separate files.
"""

from __future__ import annotations

import hashlib
import posixpath
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from wye.errors import InvariantError
from wye.host import Host
from wye.interfaces import PathChange
from wye.kinds.files.changes import GIT_ENVIRONMENT
from wye.kinds.files.sides import PlaceChanges, Trees, read_trees, sort_out
from wye.kinds.files.tree import FIFO, SOCKET, Place, Side
from wye.merge.conflict import NONE, Conflict, Decisions
from wye.merge.files import FileState, FileType, TextMerge, merge_trees
from wye.merge.text import assemble, git_command, hunks, is_verdict, marker_size


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedWrite:
    """`path`, below the target's root, goes from `before` to `after`; None: not there. `text`: the merged content;
    None: theirs's, if the content changes at all."""

    path: str
    before: FileState | None
    after: FileState | None
    text: bytes | None = None

    @property
    def attributes_only(self) -> bool:
        """The inode stays: owner, mode or attributes change, content does not."""
        before, after = self.before, self.after
        return before is not None and after is not None and before.content == after.content


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePlan:
    """`writes` can be carried out in their order; meaningless while `conflicts` is not empty."""

    writes: list[PlannedWrite] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)


def plan(
    host: Host,
    base: Side,
    ours: Side,
    theirs: Side,
    path_changes: Iterable[PathChange],
    decisions: Decisions | None = None,
) -> FilePlan:
    """Merges into `ours` what `path_changes` say differs between `base` and `theirs`. Changes nothing."""
    decisions = Decisions() if decisions is None else decisions
    known = len(decisions.open)
    writes: list[PlannedWrite] = []
    refused: list[Conflict] = []
    for group in sort_out(path_changes):
        trees = read_trees(group, base, ours, theirs)
        merged = merge_trees(group.place.name, trees.base, trees.ours, trees.theirs, decisions)
        planned = [
            PlannedWrite(path=group.place.path(write.path), before=write.before, after=write.after)
            for write in merged.writes
            if write.path != "." or write.after is not None  # a volume goes away with the spec, not with its files
        ]
        planned += [_merged(host, group.place, text, base, ours, theirs, decisions) for text in merged.texts]
        planned = [_stored(write, ours) for write in planned]
        planned = _with_directories(group.place, [write for write in planned if write.before != write.after], ours)
        refused += [conflict for write in planned for conflict in _refusals(group.place, write, ours)]
        refused += _moved_images(group, trees, base, ours)
        writes += planned
    return FilePlan(writes=writes, conflicts=[*decisions.open[known:], *refused])


def _merged(
    host: Host, place: Place, merge: TextMerge, base: Side, ours: Side, theirs: Side, decisions: Decisions
) -> PlannedWrite:
    path = place.path(merge.path)
    texts = [side.read_seen(path) for side in (ours, base, theirs)]
    size = marker_size(texts)
    with tempfile.TemporaryDirectory(prefix="wye-merge-") as name:
        files = [Path(name) / side for side in ("ours", "base", "theirs")]
        for file, text in zip(files, texts, strict=True):
            file.write_bytes(text)
        command = git_command(str(files[0]), str(files[1]), str(files[2]), size)
        done = host.run("files:merge-text", command, env=GIT_ENVIRONMENT, check=False)
    if not is_verdict(done.status):
        raise InvariantError(f"git merge-file failed: {done.stderr.decode(errors='replace')}")
    text = assemble(f"{place.name}: {merge.path}", hunks(done.stdout, size), decisions)
    after = replace(merge.after, size=len(text), digest=hashlib.sha256(text).hexdigest())
    return PlannedWrite(path=path, before=merge.ours, after=after, text=text)


def _stored(write: PlannedWrite, ours: Side) -> PlannedWrite:
    """About the entry itself: what the target shows from its image is not stored, so there it is nothing yet."""
    if write.before is None or ours.own(write.path, digest=False) is not None:
        return write
    return replace(write, before=None)


def _with_directories(place: Place, planned: list[PlannedWrite], ours: Side) -> list[PlannedWrite]:
    """In a layer a directory may be the image's alone: it has to be stored before something can be stored in it."""
    known = {write.path for write in planned if write.after is not None}
    missing: dict[str, PlannedWrite] = {}
    for write in planned:
        above = posixpath.dirname(write.path)
        while write.after is not None and len(above) > len(place.prefix) and above not in known | missing.keys():
            if ours.own(above, digest=False) is None:
                seen = ours.seen(above, digest=False)
                if seen is None:
                    raise InvariantError(f"nothing is planned for {above!r}, where {write.path!r} is to go")
                missing[above] = PlannedWrite(path=above, before=None, after=seen)
            above = posixpath.dirname(above)
    removals = [write for write in planned if write.after is None]
    rest = [write for write in planned if write.after is not None]
    return removals + sorted([*rest, *missing.values()], key=lambda write: write.path)


def _refusals(place: Place, write: PlannedWrite, ours: Side) -> list[Conflict]:
    def refusal(kind: str, detail: str) -> Conflict:
        return Conflict(kind=kind, place=place.name, key=(place.inner(write.path),), choices=NONE, detail=detail)

    after = write.after
    if after is not None and after.type is FileType.OTHER and after.target not in (FIFO, SOCKET):
        return [refusal("special-file", f"a {after.target} is not merged")]
    is_change = write.before is not None and after is not None
    if is_change and ours.links(write.path) > 1:
        return [refusal("hard-link", "the target's file has other names, which would not follow")]
    return []


def _moved_images(group: PlaceChanges, trees: Trees, base: Side, ours: Side) -> list[Conflict]:
    """Whiteouts and opaque directories say nothing of what they hide: where the target's image has something else there
    than the base's, the fork deleted what it never saw."""
    found = []
    for path, state in trees.theirs.items():
        was, mine = trees.base.get(path), trees.ours.get(path)
        hides = state.type is FileType.WHITEOUT or (state.opaque and not (was and was.opaque))
        if not hides or was is None or mine is None or was.type is not FileType.DIRECTORY or mine != was:
            continue
        if base.image_of(group.place) != ours.image_of(group.place):
            detail = "the fork deleted a directory of an image that the target no longer runs"
            found.append(
                Conflict(kind="image-changed", place=group.place.name, key=(path,), choices=NONE, detail=detail)
            )
    return found

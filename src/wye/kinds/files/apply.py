"""Carries a plan of file writes out on a live tree, wholly or not at all.

All new contents are staged first, on the same file system. Then every path is swapped with its staged counterpart by
one rename, so a reader sees the old file or the new one, and what was replaced stays at hand. Nothing that the plan did
not see is overwritten: every path is compared with the plan before the first swap, and what a swap brought out is
compared once more, by content; a mismatch undoes everything. A process that holds a replaced file open can still write
to it where nobody will look: `check` finds that, until the caller commits.

Attributes of a file whose content stays are changed in place. An undo gives back the same inodes, so content, owner,
mode, times and attributes are the old ones, those of the directories above included; only ctime moves. New content gets
the time of its merge as its mtime. A layer must not be mounted meanwhile: overlay's answers are undefined then.
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from wye.errors import Conflict as InUse
from wye.errors import InvariantError, WyeError
from wye.host import Host
from wye.kinds.files import journal, undo
from wye.kinds.files.inode import attributes_of, create, exchange, inode_of, move, set_attributes, sync
from wye.kinds.files.journal import STAGING, Attributes, Journal, Step
from wye.kinds.files.plan import PlannedWrite
from wye.kinds.files.tree import Side, open_below, place_of, state_of
from wye.merge.conflict import NONE, Conflict
from wye.merge.files import FileState, FileType
from wye.merge.refused import Refused

_GONE = (errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.ELOOP, errno.ENOTEMPTY)
_O_LOOK = os.O_PATH | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class _Replaced:
    """What a swap brought out, as it was then."""

    step: Step
    write: PlannedWrite
    times: tuple[int, int]
    """(mtime in nanoseconds, size)."""


class Application:
    """A plan that has been carried out and can still be undone."""

    def __init__(self, host: Host, root: Path, done: Journal, replaced: list[_Replaced]) -> None:
        self._host = host
        self._root = root
        self._journal = done
        self._replaced = replaced

    def check(self) -> list[Conflict]:
        """Files that were written to through a descriptor after they had been replaced. Undo if there is one."""
        found = []
        staging = os.open(self._root / STAGING, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for replaced in self._replaced:
                now = os.stat(replaced.step.slot, dir_fd=staging, follow_symlinks=False)
                if (now.st_mtime_ns, now.st_size) != replaced.times:
                    found.append(_changed_since(replaced.write, None, "it was written to while it was being replaced"))
        finally:
            os.close(staging)
        return found

    def commit(self) -> None:
        """The outcome stands; what was replaced is deleted. Repeating it is harmless."""
        journal.close(self._host, self._root / STAGING)

    def undo(self) -> list[str]:
        """Everything as it was. Returns the paths where somebody had put something else since: that is replaced by what
        was there before the merge, or left alone where nothing was."""
        return undo.undo(self._host, self._root, self._journal)


def apply(host: Host, writes: Iterable[PlannedWrite], *, theirs: Side, live: Side) -> Application:
    """Carries out a plan's `writes` below `live`'s root. `theirs` is the plan's.

    Raises Refused with every path that is not as the plan expects it, and then nothing has changed; Conflict if
    another application has been neither committed nor undone (`undo.recover`).
    """
    planned = list(writes)
    root, staging = live.root, live.root / STAGING
    if staging.exists():
        raise InUse(f"a merge of files into {root.name} was cut short", hint="recover it first")
    _refuse(conflict for write in planned for conflict in _unexpected(live, write))
    with ExitStack() as stack:
        host.make_directory("files:make-staging", staging, mode=0o700)
        try:
            slots = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, slots)
            steps = [_stage(host, slots, f"{n:08d}", write, theirs, live) for n, write in enumerate(planned)]
            done = Journal(steps=tuple(steps), times=_times(host, live, planned))
            sync(host, "files:sync-staged", slots)
            journal.write(host, staging, done)
            sync(host, "files:sync-journal", slots)
        except OSError as error:
            journal.close(host, staging)
            raise host.failure("files:stage", f"stage changes of {root.name}", error) from error
        except WyeError:
            journal.close(host, staging)
            raise
        try:
            replaced = _carry_out(host, live, slots, steps, planned)
            journal.mark_applied(host, staging)
            sync(host, "files:sync-applied", slots)
        except OSError as error:
            undo.undo(host, root, done)
            raise host.failure("files:apply", f"apply changes to {root.name}", error) from error
        except WyeError:
            undo.undo(host, root, done)
            raise
    return Application(host, root, done, replaced)


def _unexpected(live: Side, write: PlannedWrite) -> list[Conflict]:
    """A conflict if the target's path is not what the plan saw."""
    before = write.before
    found = live.own(write.path, digest=before is not None and bool(before.digest) and not write.attributes_only)
    if _matches(write, found):
        if before is None or write.after is None or live.links(write.path) <= 1:
            return []
        return [_changed_since(write, found, "the target's file has got other names")]
    return [_changed_since(write, found, "the target has changed since the merge was planned")]


def _matches(write: PlannedWrite, found: FileState | None) -> bool:
    before = write.before
    if before is None or found is None:
        return before is found
    if write.attributes_only:
        before = replace(before, size=found.size)
    if write.attributes_only or not before.digest:
        before = replace(before, digest=found.digest)
    return replace(before, text=False) == replace(found, text=False)


def _changed_since(write: PlannedWrite, found: FileState | None, detail: str) -> Conflict:
    place = place_of(write.path)
    if place is None:
        raise InvariantError(f"{write.path!r} lies in no volume and no layer")
    return Conflict(
        kind="changed-since",
        place=place.name,
        key=(place.inner(write.path),),
        base=asdict(write.before) if write.before else None,
        ours=asdict(found) if found else None,
        theirs=asdict(write.after) if write.after else None,
        choices=NONE,
        detail=detail,
    )


def _refuse(conflicts: Iterable[Conflict]) -> None:
    found = list(conflicts)
    if found:
        raise Refused(found)


def _stage(host: Host, slots: int, slot: str, write: PlannedWrite, theirs: Side, live: Side) -> Step:
    before, after = write.before, write.after
    old_inode = _inode(host, live, write.path) if before is not None else None
    if before is not None and after is not None and write.attributes_only:
        with _Opened(host, live.descriptor, write.path) as opened:
            was = attributes_of(opened)
        will = _attributes(write.path, after, theirs, live)
        return Step(path=write.path, slot="", old_inode=old_inode, new_inode=old_inode, before=was, after=will)
    new_inode = None
    if after is not None:
        host.at("files:stage")
        needs_source = after.type is FileType.FILE and write.text is None
        source = theirs.open_seen(write.path) if needs_source else None
        try:
            create(host, slots, slot, after, source, write.text)
        finally:
            if source is not None:
                os.close(source)
        with _Opened(host, slots, slot) as opened:
            if after.type is not FileType.WHITEOUT:
                set_attributes(opened, _attributes(write.path, after, theirs, live))
            _verify_staged(write, after, state_of(opened, digest=bool(after.digest)))
            new_inode = os.fstat(opened).st_ino
    return Step(path=write.path, slot=slot, old_inode=old_inode, new_inode=new_inode)


def _verify_staged(write: PlannedWrite, after: FileState, staged: FileState) -> None:
    if not after.digest:
        after = replace(after, size=staged.size, digest=staged.digest)
    if replace(after, text=False) != replace(staged, text=False):
        raise InvariantError(f"staged {staged} for {write.path!r}, planned {after}")


def _attributes(path: str, wanted: FileState, theirs: Side, live: Side) -> Attributes:
    """With the extended attributes of whichever side the plan took them from."""
    xattrs: dict[str, str] | None = None if wanted.xattrs else {}
    for side in (theirs, live):
        seen = side.seen(path, digest=False)
        if xattrs is None and seen is not None and seen.xattrs == wanted.xattrs:
            descriptor = side.open_seen(path)
            try:
                xattrs = attributes_of(descriptor).xattrs
            finally:
                os.close(descriptor)
    if xattrs is None:
        raise InvariantError(f"neither side has the extended attributes planned for {path!r}")
    return Attributes(mode=wanted.mode, uid=wanted.uid, gid=wanted.gid, xattrs=xattrs, opaque=wanted.opaque)


def _times(host: Host, live: Side, planned: list[PlannedWrite]) -> dict[str, tuple[int, int]]:
    """Of the directories whose entries will change and that are there now."""
    found = {}
    for path in {posixpath.dirname(write.path) for write in planned if not write.attributes_only}:
        state = live.own(path, digest=False)
        if state is None or state.type is not FileType.DIRECTORY:
            continue
        with _Opened(host, live.descriptor, path) as opened:
            status = os.fstat(opened)
        found[path] = (status.st_atime_ns, status.st_mtime_ns)
    return found


def _carry_out(host: Host, live: Side, slots: int, steps: list[Step], planned: list[PlannedWrite]) -> list[_Replaced]:
    replaced = []
    conflicts: list[Conflict] = []
    for step, write in zip(steps, planned, strict=True):
        try:
            if step.after is not None:
                with _Opened(host, live.descriptor, step.path) as opened:
                    if os.fstat(opened).st_ino != step.old_inode:
                        raise OSError(errno.ENOENT, "another file has taken its place")
                    host.at("files:set-attributes")
                    set_attributes(opened, step.after)
                continue
            _swap(host, live, slots, step)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            conflicts.append(_changed_since(write, live.own(write.path), f"it changed at the last moment: {error}"))
            break
        if write.before is None:
            continue
        with _Opened(host, slots, step.slot) as opened:
            status = os.fstat(opened)
            brought_out = state_of(opened, digest=bool(write.before.digest))
        if not _matches(write, brought_out) or not _is_empty(slots, step, write.before):
            conflicts.append(_changed_since(write, brought_out, "it changed at the last moment"))
            break
        if write.before.type is FileType.FILE:
            replaced.append(_Replaced(step, write, (status.st_mtime_ns, status.st_size)))
    _refuse(conflicts)
    return replaced


def _swap(host: Host, live: Side, slots: int, step: Step) -> None:
    parent, name = posixpath.split(step.path)
    with _Opened(host, live.descriptor, parent) as directory:
        if step.old_inode is None:
            move(host, "files:swap", (slots, step.slot), (directory, name))
        elif step.new_inode is None:
            move(host, "files:swap", (directory, name), (slots, step.slot))
        else:
            exchange(host, "files:swap", (slots, step.slot), (directory, name))


def _is_empty(slots: int, step: Step, state: FileState) -> bool:
    if state.type is not FileType.DIRECTORY:
        return True
    descriptor = os.open(step.slot, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=slots)
    try:
        return not os.listdir(descriptor)
    finally:
        os.close(descriptor)


def _inode(host: Host, live: Side, path: str) -> int | None:
    parent, name = posixpath.split(path)
    with _Opened(host, live.descriptor, parent) as directory:
        return inode_of(directory, name)


class _Opened:
    """An O_PATH descriptor of a path beneath a directory, for a while."""

    def __init__(self, host: Host, root: int, path: str) -> None:
        self._host, self._root, self._path = host, root, path

    def __enter__(self) -> int:
        self._descriptor = open_below(self._host, self._root, self._path, _O_LOOK)
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

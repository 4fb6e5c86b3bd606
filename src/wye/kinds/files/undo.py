"""Takes an application of a plan back, or finishes it, also when the process that began it is gone.

A step's slot tells whether the step was done: until then it holds the staged inode, from then on what was there
before. So undo and finish can themselves be killed and started again any number of times.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from enum import StrEnum
from pathlib import Path

from wye.host import Host
from wye.kinds.files import journal
from wye.kinds.files.inode import exchange, inode_of, move, set_attributes, sync
from wye.kinds.files.journal import STAGING, Journal, Step
from wye.kinds.files.tree import open_below

_LOST = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Recovered(StrEnum):
    NOTHING = "nothing"
    """No application was under way."""
    UNDONE = "undone"
    FINISHED = "finished"


def recover(host: Host, root: Path, *, finish: bool = False) -> Recovered:
    """After a crash: undoes what an application did below `root`, or with `finish` keeps it if every step of it was
    done and checked. One that was not is undone in either case, because nobody has compared the rest with the plan."""
    staging = root / STAGING
    if not staging.exists():
        return Recovered.NOTHING
    begun = journal.read(staging)
    if begun is None:
        journal.close(host, staging)
        return Recovered.UNDONE
    if finish and journal.is_applied(staging):
        journal.close(host, staging)
        return Recovered.FINISHED
    undo(host, root, begun)
    return Recovered.UNDONE


def undo(host: Host, root: Path, begun: Journal) -> list[str]:
    """See `Application.undo`."""
    surprises = []
    live = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    slots = os.open(root / STAGING, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for step in reversed(begun.steps):
            try:
                if not _undo_step(host, live, slots, step):
                    surprises.append(step.path)
            except OSError as error:
                if error.errno not in _LOST:
                    raise host.failure("files:undo", f"give {step.path!r} back", error) from error
                surprises.append(step.path)
        _restore_times(host, live, begun)
        sync(host, "files:sync-undone", slots)
    finally:
        os.close(live)
        os.close(slots)
    journal.close(host, root / STAGING)
    return surprises


def _undo_step(host: Host, live: int, slots: int, step: Step) -> bool:
    """False if somebody had changed the path since."""
    if step.before is not None:
        return _undo_attributes(host, live, step)
    in_slot = inode_of(slots, step.slot)
    if in_slot == step.new_inode:
        return True  # not done, or undone before
    parent, name = posixpath.split(step.path)
    directory = open_below(host, live, parent, os.O_PATH | os.O_DIRECTORY)
    try:
        here, slot = (directory, name), (slots, step.slot)
        now = inode_of(directory, name)
        if in_slot is None:
            if now is not None and now == step.new_inode and not _is_filled(directory, name):
                move(host, "files:unswap", here, slot)
                return True
            return False
        if now is None:
            move(host, "files:unswap", slot, here)
            return step.new_inode is None
        exchange(host, "files:unswap", slot, here)
        return now == step.new_inode
    finally:
        os.close(directory)


def _is_filled(directory: int, name: str) -> bool:
    """Whether it is a directory with something in it: all that the merge had put there is gone by now."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        return False
    opened = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        return bool(os.listdir(opened))
    finally:
        os.close(opened)


def _undo_attributes(host: Host, live: int, step: Step) -> bool:
    opened = open_below(host, live, step.path, os.O_PATH | os.O_NOFOLLOW)
    try:
        if os.fstat(opened).st_ino != step.old_inode or step.before is None:
            return False
        host.at("files:restore-attributes")
        set_attributes(opened, step.before)
        return True
    finally:
        os.close(opened)


def _restore_times(host: Host, live: int, begun: Journal) -> None:
    for path in sorted(begun.times, reverse=True):
        try:
            opened = open_below(host, live, path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            if error.errno in _LOST:
                continue
            raise
        try:
            os.utime(opened, ns=begun.times[path])
        finally:
            os.close(opened)

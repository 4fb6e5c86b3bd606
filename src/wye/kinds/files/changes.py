"""What a fork changed in its files, as people read it: states before and after, and unified diffs of text.

Diffs are git's own (`git diff --no-index` over private copies with names of ours): its algorithm stays quick on
the texts that make a plain one quadratic, which a fork could choose on purpose, and what it prints is what `git apply`
takes. A diff is bytes, because a text need not be UTF-8.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from wye.errors import InvariantError
from wye.host import Host
from wye.interfaces import PathChange
from wye.kinds.files.sides import PlaceChanges, sort_out
from wye.kinds.files.tree import Side
from wye.merge.files import FileState, FileType

DIFF_LIMIT_BYTES = 16 << 20
"""Of text on both sides in one answer; what comes after goes without a diff. At worst git takes a second for each."""

GIT_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_DIR": "/nonexistent",
}
_DIFF = (
    "git", "diff", "--no-index", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--text",
    "--no-prefix", "--unified=3", "--diff-algorithm=myers", "--", "a", "b",
)  # fmt: skip
_HEAD = re.compile(rb"^diff --git [ab]/(\d{8}) [ab]/(\d{8})\n", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """One path. `place` is "volume NAME" or "layer SERVICE", `path` is relative to it ("." is the volume's own root),
    `stored` is relative to the environment's root. `change`: "added", "removed" or "modified", as the service sees it.

    `diff`: the hunks of a unified diff, for text (a missing side counts as empty text); None: no text, or too much of
    it. Digest and size are of the content; a digest is empty where only metadata changed.
    """

    place: str
    path: str
    stored: str
    change: str
    before: FileState | None
    after: FileState | None
    diff: bytes | None = None
    note: str = ""


def changes(
    host: Host, base: Side, theirs: Side, path_changes: Iterable[PathChange], *, with_diffs: bool = True
) -> list[FileChange]:
    """What differs between two sides, by place and path. Paths whose states are equal (only times differ) are left out.

    In a layer, "before" is what the image has where the layer had nothing, and a whiteout is an absence. Without
    `with_diffs` no text is compared, which saves a run of git.
    """
    found = [change for group in sort_out(path_changes) for change in _of_place(group, base, theirs)]
    return _with_diffs(host, base, theirs, found) if with_diffs else found


def is_text_change(change: FileChange) -> bool:
    """Whether the content differs and is text, or no file, on both sides."""
    files = [
        state if state is not None and state.type is FileType.FILE else None for state in (change.before, change.after)
    ]
    digests = {state.digest if state else None for state in files}
    return len(digests) > 1 and all(state.text for state in files if state)


def _of_place(group: PlaceChanges, base: Side, theirs: Side) -> list[FileChange]:
    found = []
    for path in sorted(group.paths):
        stored = group.place.path(path)
        digest = not group.paths[path]
        before = _unless_whiteout(base.seen(stored, digest=digest))
        after = _unless_whiteout(theirs.seen(stored, digest=digest))
        if before == after:
            continue
        change = "added" if before is None else "removed" if after is None else "modified"
        note = "hides all that the image has in this directory" if after and after.opaque else ""
        found.append(
            FileChange(
                place=group.place.name, path=path, stored=stored, change=change, before=before, after=after, note=note
            )
        )
    return found


def _unless_whiteout(state: FileState | None) -> FileState | None:
    return None if state is not None and state.type is FileType.WHITEOUT else state


def _with_diffs(host: Host, base: Side, theirs: Side, found: list[FileChange]) -> list[FileChange]:
    left = DIFF_LIMIT_BYTES
    chosen: dict[int, FileChange] = {}
    for index, change in enumerate(found):
        if not is_text_change(change):
            continue
        left -= sum(state.size for state in (change.before, change.after) if state is not None)
        if left < 0:
            break
        chosen[index] = change
    hunks = _diffs(host, base, theirs, chosen)
    return [
        replace(change, diff=hunks.get(index, b""))
        if index in chosen
        else replace(change, note="too much text for one answer")
        if is_text_change(change)
        else change
        for index, change in enumerate(found)
    ]


def _diffs(host: Host, base: Side, theirs: Side, chosen: dict[int, FileChange]) -> dict[int, bytes]:
    """One run of git for all of them: starting it costs more than most diffs."""
    if not chosen:
        return {}
    with tempfile.TemporaryDirectory(prefix="wye-diff-") as name:
        directory = Path(name)
        for side, letter in ((base, "a"), (theirs, "b")):
            (directory / letter).mkdir()
            for index, change in chosen.items():
                state = change.before if letter == "a" else change.after
                text = side.read_seen(change.stored) if state and state.type is FileType.FILE else b""
                (directory / letter / f"{index:08d}").write_bytes(text)
        done = host.run("files:diff", _DIFF, cwd=directory, env=GIT_ENVIRONMENT, check=False)
    if done.status not in (0, 1):
        raise InvariantError(f"git diff failed with {done.status}: {done.stderr.decode(errors='replace')}")
    return _split(done.stdout)


def _split(output: bytes) -> dict[int, bytes]:
    """By file number. A line of a text begins with a space, a sign or a backslash, so none can pass for a head."""
    heads = list(_HEAD.finditer(output))
    if not heads:
        return {}
    ends = [*(head.start() for head in heads[1:]), len(output)]
    found = {}
    for head, end in zip(heads, ends, strict=True):
        section = output[head.end() : end]
        start = section.find(b"@@ ")
        found[int(head[1])] = section[start:] if start >= 0 else b""
    return found

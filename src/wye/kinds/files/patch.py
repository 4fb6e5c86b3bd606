"""A patch of a fork's text files that `git apply` takes.

The same changes give the same bytes. Nothing in a name or a content can add to the patch what is not there: names are
quoted as git quotes them, contents are lines that begin with a sign. What a patch cannot carry (binary content, pipes)
or what git refuses to touch (anything named .git) is listed in comment lines at its head, so that no content is left
out in silence. Owners and modes are git's: of the mode, whether it is executable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from wye.kinds.files.changes import FileChange
from wye.merge.files import FileState, FileType

_PLAIN = re.compile(rb"[A-Za-z0-9._/+@,=-]+")
_ESCAPES = {7: b"\\a", 8: b"\\b", 9: b"\\t", 10: b"\\n", 11: b"\\v", 12: b"\\f", 13: b"\\r", 34: b'\\"', 92: b"\\\\"}
_FORBIDDEN = re.compile(
    r"(?i)(?:^|/)(?:\.git|git~[0-9])(?:[ .:\\][^/]*)?(?:/|$)|[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]"
)
"""What git refuses: .git, its names on other file systems, and characters that some of those ignore."""


def git_patch(changes: Iterable[FileChange], *, place: str | None = None) -> bytes:
    """The patch. Paths are those below the environment's root; with `place`, only its files, relative to it."""
    left_out: list[bytes] = []
    removals: list[bytes] = []
    rest: list[bytes] = []
    for change in sorted(changes, key=lambda change: os.fsencode(change.stored)):
        states = {state.type for state in (change.before, change.after) if state is not None}
        if states <= {FileType.DIRECTORY} or (place is not None and change.place != place):
            continue
        path = change.stored if place is None else change.path
        reason = _unfit(change, path)
        if reason:
            left_out.append(b"# left out: " + quoted(path) + b" (" + reason.encode() + b")\n")
            continue
        before, after = _carried(change.before), _carried(change.after)
        if before and (after is None or before.type is not after.type):
            removals.append(_file(path, change, before, None))
            before = None
        if after and before != after:
            rest.append(_file(path, change, before, after))
    return b"".join(left_out + removals + rest)


def quoted(name: str, prefix: str = "") -> bytes:
    """As git prints it: plain if it is plain, else in double quotes with octal escapes."""
    raw = os.fsencode(prefix + name)
    if _PLAIN.fullmatch(raw):
        return raw
    escaped = b"".join(_ESCAPES.get(byte) or (bytes([byte]) if 32 <= byte < 127 else b"\\%03o" % byte) for byte in raw)
    return b'"' + escaped + b'"'


def _carried(state: FileState | None) -> FileState | None:
    """git knows files and links; a directory is there when something is in it."""
    return state if state is not None and state.type in (FileType.FILE, FileType.SYMLINK) else None


def _unfit(change: FileChange, path: str) -> str:
    states = [state for state in (change.before, change.after) if state is not None]
    if _FORBIDDEN.search(path):
        return "git does not touch such a name"
    if any(state.type is FileType.OTHER for state in states):
        return "not a file"
    if change.diff is None and _content_differs(change):
        return "binary, or too large"
    return ""


def _content_differs(change: FileChange) -> bool:
    before, after = _carried(change.before), _carried(change.after)
    contents = [state.digest if state and state.type is FileType.FILE else None for state in (before, after)]
    return contents[0] != contents[1]


def _file(path: str, change: FileChange, before: FileState | None, after: FileState | None) -> bytes:
    lines = [b"diff --git " + quoted(path, "a/") + b" " + quoted(path, "b/") + b"\n"]
    if before is None and after is not None:
        lines.append(b"new file mode " + _mode(after) + b"\n")
    elif after is None and before is not None:
        lines.append(b"deleted file mode " + _mode(before) + b"\n")
    elif before and after and _mode(before) != _mode(after):
        lines.append(b"old mode " + _mode(before) + b"\nnew mode " + _mode(after) + b"\n")
    hunks = _hunks(change, before, after)
    if hunks:
        lines.append(b"--- " + (quoted(path, "a/") if before else b"/dev/null") + b"\n")
        lines.append(b"+++ " + (quoted(path, "b/") if after else b"/dev/null") + b"\n")
        lines.append(hunks)
    return b"".join(lines) if len(lines) > 1 else b""


def _mode(state: FileState) -> bytes:
    if state.type is FileType.SYMLINK:
        return b"120000"
    return b"100755" if state.mode & 0o100 else b"100644"


def _hunks(change: FileChange, before: FileState | None, after: FileState | None) -> bytes:
    kinds = {state.type for state in (before, after) if state is not None}
    if kinds == {FileType.FILE}:
        return change.diff or b""
    old, new = (os.fsencode(state.target) if state else b"" for state in (before, after))
    if old == new:
        return b""
    minus, plus = _signed(b"-", old), _signed(b"+", new)
    return b"@@ -" + _span(old) + b" +" + _span(new) + b" @@\n" + minus + plus


def _signed(sign: bytes, text: bytes) -> bytes:
    """A link's target as lines; the last one never ends with a line feed of its own."""
    if not text:
        return b""
    ended = b"" if text.endswith(b"\n") else b"\n\\ No newline at end of file\n"
    return b"".join(sign + line for line in re.findall(rb"[^\n]*\n|[^\n]+$", text)) + ended


def _span(text: bytes) -> bytes:
    lines = len(re.findall(rb"[^\n]*\n|[^\n]+$", text))
    return b"1,%d" % lines if lines else b"0,0"

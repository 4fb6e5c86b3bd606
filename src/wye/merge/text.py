"""The pure half of a three-way merge of texts; `git merge-file` is the other half.

Whether two edits touch is decided by the diff algorithm, so only git itself gives git's answers: merge3 conflicts on
repeated lines where git merges cleanly. The caller writes the three texts to files and runs `git_command`; here is
which texts qualify, how the markers are made unmistakable, and what a file with conflicts becomes when each of
them is resolved.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wye.errors import BadRequest, InvariantError
from wye.merge.conflict import Conflict, Decisions, Resolution, Side

_SNIFFED = 8000
_TOO_MANY_CONFLICTS = 127
_OURS, _BASE, _THEIRS = "ours", "base", "theirs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hunk:
    """One place where both sides changed the same lines; each text is whole lines."""

    ours: bytes
    base: bytes
    theirs: bytes


def is_text(data: bytes) -> bool:
    """git's rule: no NUL in the first 8000 bytes."""
    return b"\0" not in data[:_SNIFFED]


def marker_size(texts: Sequence[bytes]) -> int:
    """A length for conflict markers that no line of `texts` can be mistaken for."""
    longest = max((len(run) for text in texts for run in re.findall(rb"(?m)^(?:<+|=+|>+|\|+)", text)), default=0)
    return max(7, longest + 1)


def git_command(ours: str, base: str, theirs: str, size: int) -> list[str]:
    """The program that prints the merge of three files. See `outcome` for its status."""
    labels = [argument for label in (_OURS, _BASE, _THEIRS) for argument in ("-L", label)]
    return ["git", "merge-file", "-p", "--zdiff3", f"--marker-size={size}", *labels, ours, base, theirs]


def is_verdict(status: int) -> bool:
    """Whether git's exit status is a verdict (0: clean, else the number of conflicts) and not a failure."""
    return 0 <= status <= _TOO_MANY_CONFLICTS


def hunks(merged: bytes, size: int) -> list[bytes | Hunk]:
    """Splits git's output into what is settled and what is not."""
    marks = [mark * size for mark in (b"<", b"|", b"=", b">")]
    parts: list[bytes | Hunk] = []
    sections: list[list[bytes]] = [[], [], [], []]
    section = 0
    for line in _lines(merged):
        opens = section < len(marks) and line.startswith(marks[section]) and line[size : size + 1] in b" \r\n"
        if not opens:
            sections[section].append(line)
            continue
        section += 1
        if section == 1 and sections[0]:
            parts.append(b"".join(sections[0]))
        if section == len(marks):
            ours, base, theirs = (b"".join(lines) for lines in sections[1:])
            parts.append(Hunk(ours=ours, base=base, theirs=theirs))
            sections, section = [[], [], [], []], 0
    if section:
        raise InvariantError("a conflict in git's output has no end")
    if sections[0]:
        parts.append(b"".join(sections[0]))
    return parts


def conflicts(place: str, parts: Sequence[bytes | Hunk]) -> list[Conflict]:
    """One conflict per hunk. Its key is made of the three texts: a resolution must never slide to another hunk because
    the target grew a conflict further up. Identical hunks are numbered."""
    seen: Counter[str] = Counter()
    found = []
    for hunk in parts:
        if isinstance(hunk, bytes):
            continue
        digest = hashlib.sha256(repr((hunk.ours, hunk.base, hunk.theirs)).encode()).hexdigest()[:16]
        seen[digest] += 1
        found.append(
            Conflict(
                kind="text",
                place=place,
                key=(digest, str(seen[digest])),
                base=_to_json(hunk.base),
                ours=_to_json(hunk.ours),
                theirs=_to_json(hunk.theirs),
            )
        )
    return found


def assemble(place: str, parts: Sequence[bytes | Hunk], decisions: Decisions) -> bytes:
    """The text with every hunk resolved; an open one keeps ours and is noted with `decisions`."""
    numbered = iter(conflicts(place, parts))
    text: list[bytes] = []
    for part in parts:
        if isinstance(part, bytes):
            text.append(part)
            continue
        chosen = decisions.of(next(numbered))
        text.append(_chosen(part, chosen))
    return b"".join(text)


def resolved(place: str, merged: bytes, size: int, resolutions: Mapping[str, Resolution]) -> bytes | None:
    """git's output with `resolutions` in place; None if they leave a conflict open."""
    decisions = Decisions(resolutions)
    text = assemble(place, hunks(merged, size), decisions)
    return None if decisions.open else text


def _chosen(hunk: Hunk, resolution: Resolution | None) -> bytes:
    if resolution is None or resolution.side is Side.OURS:
        return hunk.ours
    if resolution.side is Side.THEIRS:
        return hunk.theirs
    if not isinstance(resolution.value, str):
        raise BadRequest(
            f"the value for a text must be text, not {str(resolution.value)[:40]!r}",
            hint='the lines that shall stand there, for example {value: "one\ntwo\n"}',
        )
    return resolution.value.encode()


def _to_json(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def _lines(text: bytes) -> list[bytes]:
    """Lines as git has them: a line ends with a line feed and nothing else does."""
    return [line for line in re.findall(rb"[^\n]*\n?", text) if line]

"""The pure half of text merges, against git itself on random texts."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from wye.errors import BadRequest
from wye.merge.conflict import Decisions, Resolution, Side
from wye.merge.text import Hunk, assemble, conflicts, git_command, hunks, is_text, is_verdict, marker_size, resolved

ROUNDS = 60


def git(folder: Path, ours: bytes, base: bytes, theirs: bytes, *options: str) -> tuple[int, bytes, int]:
    for name, data in (("ours", ours), ("base", base), ("theirs", theirs)):
        (folder / name).write_bytes(data)
    size = marker_size([ours, base, theirs])
    command = git_command("ours", "base", "theirs", size)
    done = subprocess.run([*command[:2], *options, *command[2:]], cwd=folder, capture_output=True, check=False)
    return done.returncode, done.stdout, size


def sides(seed: int) -> tuple[bytes, bytes, bytes]:
    random_ = random.Random(seed)
    words = [b"a\n", b"b\n", b"\n", b"<<<<<<< ours\n", b"=======\n", b"c\r\n", b"caf\xc3\xa9\n", b"\xff\n"]

    def edit(lines: list[bytes]) -> list[bytes]:
        lines = list(lines)
        for _ in range(random_.randint(0, 4)):
            at = random_.randint(0, len(lines))
            lines[at : at + random_.randint(0, 2)] = random_.choices(words, k=random_.randint(0, 2))
        return lines

    base = random_.choices(words, k=random_.randint(0, 12))
    return b"".join(edit(base)), b"".join(base), b"".join(edit(base))


@pytest.mark.parametrize("start", range(0, ROUNDS, 20))
def test_hunks_agree_with_git(tmp_path: Path, start: int) -> None:
    for seed in range(start, start + 20):
        ours, base, theirs = sides(seed)
        status, merged, size = git(tmp_path, ours, base, theirs)
        assert is_verdict(status)
        parts = hunks(merged, size)
        assert len([part for part in parts if isinstance(part, Hunk)]) == status
        for side in (Side.OURS, Side.THEIRS):
            resolutions = {c.id: Resolution(side=side) for c in conflicts("f", parts)}
            expected = git(tmp_path, ours, base, theirs, f"--{side}")[1]
            assert resolved("f", merged, size, resolutions) == expected, seed


def test_clean_where_lines_repeat(tmp_path: Path) -> None:
    base = b"x\n" * 6
    status, merged, size = git(tmp_path, b"top\n" + base, base, base + b"end\n")
    assert (status, hunks(merged, size)) == (0, [b"top\n" + base + b"end\n"])


def test_failure_is_no_verdict(tmp_path: Path) -> None:
    status, _, _ = git(tmp_path, b"\0", b"", b"\0\0")
    assert not is_verdict(status)


def test_value_and_open_conflicts() -> None:
    hunk = Hunk(ours=b"o\n", base=b"b\n", theirs=b"t\n")
    parts = [b"a\n", hunk, b"m\n", hunk]
    first, second = conflicts("f", parts)
    assert first.id != second.id
    decisions = Decisions({first.id: Resolution(side=Side.VALUE, value="v\n")})
    assert assemble("f", parts, decisions) == b"a\nv\nm\no\n"
    assert decisions.open == [second]


@pytest.mark.parametrize("given", [None, 5, True, {"a": 1}, ["x"]])
def test_a_value_that_is_no_text(given: object) -> None:
    parts = [Hunk(ours=b"a\n", base=b"b\n", theirs=b"c\n")]
    (conflict,) = conflicts("t", parts)
    with pytest.raises(BadRequest, match="must be text"):
        assemble("t", parts, Decisions({conflict.id: Resolution(side=Side.VALUE, value=given)}))


def test_a_resolution_stays_with_its_hunk() -> None:
    hunk, other = Hunk(ours=b"o", base=b"b", theirs=b"t"), Hunk(ours=b"1", base=b"2", theirs=b"3")
    assert conflicts("f", [hunk])[0].id == conflicts("f", [other, b"x", hunk])[1].id


@pytest.mark.parametrize(
    ("data", "text"), [(b"", True), (b"\xff\n", True), (b"a\0", False), (b"a" * 8000 + b"\0", True)]
)
def test_is_text(data: bytes, text: bool) -> None:
    assert is_text(data) is text


def test_marker_size_exceeds_what_the_texts_hold() -> None:
    assert marker_size([b"a\n"]) == 7
    assert marker_size([b"a\n<<<<<<<<<< x\n", b"==\n"]) == 11

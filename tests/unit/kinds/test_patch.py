"""A patch from changes alone: quoting, order, and nothing in it that was not put there."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from wye.kinds.files.changes import FileChange, is_text_change
from wye.kinds.files.patch import git_patch, quoted
from wye.merge.files import FileState, FileType

NAMES = st.binary(min_size=1, max_size=20).filter(lambda raw: b"\0" not in raw and b"/" not in raw).map(os.fsdecode)


def file(digest: str, mode: int = 0o644) -> FileState:
    return FileState(type=FileType.FILE, digest=digest, size=len(digest), text=True, mode=mode)


def changed(path: str, before: FileState | None, after: FileState | None, diff: bytes | None = b"") -> FileChange:
    change = "added" if before is None else "removed" if after is None else "modified"
    return FileChange(
        place="volume data",
        path=path,
        stored=f"volumes/data/{path}",
        change=change,
        before=before,
        after=after,
        diff=diff,
    )


@given(NAMES)
def test_a_quoted_name_is_one_line_of_ascii_and_comes_back(name: str) -> None:
    text = quoted(name)
    assert b"\n" not in text
    assert text.isascii()
    raw = text
    if text.startswith(b'"'):
        raw = text[1:-1].decode("unicode_escape").encode("latin-1")
    assert raw == os.fsencode(name)


@given(st.lists(st.tuples(NAMES, st.sampled_from("+-~")), max_size=6, unique_by=lambda item: item[0]))
def test_every_line_is_accounted_for(items: list[tuple[str, str]]) -> None:
    sides = {"+": (None, file("b")), "-": (file("a"), None), "~": (file("a"), file("b"))}
    changes = [changed(name, *sides[kind], diff=b"@@ -1 +1 @@\n-a\n+b\n") for name, kind in items]
    patch = git_patch(changes)
    assert patch == git_patch(reversed(changes))
    heads = sum(line.startswith(b"diff --git ") for line in patch.split(b"\n"))
    left_out = sum(line.startswith(b"# left out: ") for line in patch.split(b"\n"))
    assert heads + left_out == len(changes)


def test_a_link_in_place_of_a_file_is_a_removal_and_an_addition() -> None:
    link = FileState(type=FileType.SYMLINK, target="x\ny", mode=0o777)
    patch = git_patch([changed("a", file("a"), link, diff=b"@@ -1 +0,0 @@\n-a\n")], place="volume data")
    assert patch.decode() == (
        "diff --git a/a b/a\ndeleted file mode 100644\n--- a/a\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n"
        "diff --git a/a b/a\nnew file mode 120000\n--- /dev/null\n+++ b/a\n@@ -0,0 +1,2 @@\n+x\n+y\n"
        "\\ No newline at end of file\n"
    )


def test_a_mode_that_git_does_not_keep_is_no_patch() -> None:
    assert git_patch([changed("a", file("a"), file("a", 0o600))]) == b""
    assert b"new mode 100755" in git_patch([changed("a", file("a"), file("a", 0o755))])


def test_only_a_changed_text_has_a_diff() -> None:
    assert is_text_change(changed("a", file("a"), file("b")))
    assert is_text_change(changed("a", None, file("")))
    assert not is_text_change(changed("a", file("a"), file("a", 0o755)))
    assert not is_text_change(changed("a", file("a"), FileState(type=FileType.FILE, digest="b")))

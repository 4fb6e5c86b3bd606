"""Trees of files: outcomes by hand, and what must hold for any trees."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wye.merge.conflict import Decisions, Resolution, Side
from wye.merge.files import FileState, FileType, FileWrite, MergedTree, Tree, merge_trees

F = FileState(type=FileType.FILE, size=1, digest="1")
T = replace(F, text=True)
D = FileState(type=FileType.DIRECTORY, mode=0o755)
L = FileState(type=FileType.SYMLINK, target="x")


def edited(state: FileState, digest: str = "2") -> FileState:
    return replace(state, digest=digest, size=2)


def merge(base: Tree, ours: Tree, theirs: Tree, decisions: Decisions | None = None) -> MergedTree:
    return merge_trees("files", base, ours, theirs, decisions)


def test_content_and_mode_merge_apart() -> None:
    ours, theirs = replace(F, mode=0o755), edited(F)
    assert merge({"f": F}, {"f": ours}, {"f": theirs}).writes == [
        FileWrite(path="f", before=ours, after=replace(theirs, mode=0o755))
    ]


def test_two_edits_of_a_text_are_handed_back() -> None:
    merged = merge({"f": T}, {"f": edited(T)}, {"f": replace(edited(T, "3"), mode=0o600)})
    assert merged.conflicts == []
    (text,) = merged.texts
    assert (text.path, text.ours.digest, text.theirs.digest, text.after.mode) == ("f", "2", "3", 0o600)


CONFLICTS = {
    "two edits of a binary": ("update/update", F, edited(F), edited(F, "3")),
    "two modes": ("update/update", F, replace(F, mode=0o600), replace(F, mode=0o755)),
    "edited and removed": ("update/delete", F, None, edited(F)),
    "removed and edited": ("delete/update", F, edited(F), None),
    "added twice": ("add/add", None, F, edited(F)),
    "two targets": ("update/update", L, replace(L, target="y"), replace(L, target="z")),
    "file against link": ("type/type", F, edited(F), L),
    "removed from the image and edited": (
        "type/type", F, edited(F), FileState(type=FileType.WHITEOUT, mode=F.mode),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "base", "ours", "theirs"), CONFLICTS.values(), ids=CONFLICTS)
def test_conflict(kind: str, base: FileState | None, ours: FileState | None, theirs: FileState | None) -> None:
    def tree(state: FileState | None) -> Tree:
        return {"f": state} if state else {}

    (conflict,) = merge(tree(base), tree(ours), tree(theirs)).conflicts
    assert (conflict.kind, conflict.key) == (kind, ("f",))
    decisions = Decisions({conflict.id: Resolution(side=Side.THEIRS)})
    merged = merge(tree(base), tree(ours), tree(theirs), decisions)
    assert merged.conflicts == []
    assert [w.after for w in merged.writes] == [theirs]


def test_added_alike() -> None:
    assert merge({}, {"f": F}, {"f": F}).writes == []


def test_a_removed_directory_stays_while_there_is_something_in_it() -> None:
    base = {"d": D, "d/f": F}
    assert merge(base, {**base, "d/new": F}, {}).writes == [FileWrite(path="d/f", before=F, after=None)]


def test_a_removed_directory_comes_back_for_what_is_put_in_it() -> None:
    base = {"d": D, "d/f": F}
    assert merge(base, {}, {**base, "d/new": F}).writes == [
        FileWrite(path="d", before=None, after=D),
        FileWrite(path="d/new", before=None, after=F),
    ]


def test_removals_go_from_the_leaves_up() -> None:
    base = {"d": D, "d/e": D, "d/e/f": F}
    assert [w.path for w in merge(base, base, {}).writes] == ["d/e/f", "d/e", "d"]


def test_a_file_cannot_be_put_below_a_file() -> None:
    (conflict,) = merge({"d": D}, {"d": F}, {"d": D, "d/new": F}).conflicts
    assert (conflict.kind, conflict.choices) == ("child/type", frozenset({Side.OURS}))
    merged = merge({"d": D}, {"d": F}, {"d": D, "d/new": F}, Decisions({conflict.id: Resolution(side=Side.OURS)}))
    assert (merged.writes, merged.conflicts) == ([], [])


def test_a_directory_with_news_is_not_replaced_by_a_file() -> None:
    base, ours, theirs = {"d": D}, {"d": D, "d/new": F}, {"d": F}
    (conflict,) = merge(base, ours, theirs).conflicts
    assert conflict.kind == "type/child"
    merged = merge(base, ours, theirs, Decisions({conflict.id: Resolution(side=Side.THEIRS)}))
    assert [(w.path, w.after) for w in merged.writes] == [("d/new", None), ("d", F)]


def test_a_rename_is_a_removal_and_an_addition() -> None:
    merged = merge({"a": F}, {"a": edited(F)}, {"b": F})
    assert [c.kind for c in merged.conflicts] == ["delete/update"]
    assert [w.path for w in merged.writes] == ["b"]


STATES = st.sampled_from([F, T, edited(T), edited(T, "3"), L, replace(F, mode=0o755)])


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    tree: dict[str, FileState] = {}
    for top in draw(st.sets(st.sampled_from("ab"))):
        tree[top] = draw(st.just(D) | STATES)
        if tree[top] == D:
            for leaf in draw(st.sets(st.sampled_from("xy"))):
                tree[f"{top}/{leaf}"] = draw(STATES)
    return tree


def carried_out(ours: Tree, merged: MergedTree) -> Tree:
    """What the writes make of `ours`, checked as a file system would."""
    tree = dict(ours)
    for write in merged.writes:
        assert tree.get(write.path) == write.before
        below = any(path.startswith(write.path + "/") for path in tree)
        assert not below or (write.after is not None and write.after.type is FileType.DIRECTORY)
        if write.after is None:
            del tree[write.path]
            continue
        parent = write.path.rpartition("/")[0]
        assert not parent or tree[parent].type is FileType.DIRECTORY
        tree[write.path] = write.after
    return tree


@given(trees(), trees())
def test_an_unchanged_side_gives_the_other(base: Tree, other: Tree) -> None:
    for ours, theirs in ((base, other), (other, base), (other, other)):
        merged = merge(base, ours, theirs)
        assert (merged.conflicts, merged.texts) == ([], [])
        assert carried_out(ours, merged) == other


@given(trees(), trees(), trees(), st.sampled_from([Side.OURS, Side.THEIRS]))
def test_every_conflict_can_be_resolved_and_the_writes_carried_out(
    base: Tree, ours: Tree, theirs: Tree, side: Side
) -> None:
    resolutions: dict[str, Resolution] = {}
    for _ in range(10):
        merged = merge(base, ours, theirs, Decisions(resolutions))
        if not merged.conflicts:
            break
        for conflict in merged.conflicts:
            resolutions[conflict.id] = Resolution(side=side if side in conflict.choices else Side.OURS)
    assert merged.conflicts == []
    carried_out(ours, merged)

"""Merge bases of histories, small ones by hand and random ones against the definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wye.merge.graph import ancestors, is_ancestor, merge_base
from wye.model import RevisionId

Graph = dict[str, tuple[str, ...]]


def base(graph: Graph, a: str, b: str) -> str | None:
    return merge_base(lambda r: tuple(map(RevisionId, graph.get(r, ()))), RevisionId(a), RevisionId(b))


LINE = {"b": ("a",), "c": ("b",)}
FORKED = {**LINE, "x": ("b",), "y": ("x",)}
MERGED = {**FORKED, "m": ("c", "y"), "z": ("y",), "n": ("m",)}
CROSSED = {"l": ("o",), "r": ("o",), "l2": ("l", "r"), "r2": ("r", "l")}


def test_line() -> None:
    assert base(LINE, "c", "a") == "a"
    assert base(LINE, "c", "c") == "c"


def test_fork() -> None:
    assert base(FORKED, "c", "y") == "b"


def test_after_a_merge_the_base_is_what_was_merged() -> None:
    assert base(MERGED, "n", "z") == "y"


def test_no_common_history() -> None:
    assert base({"a": ("o",), "b": ("p",)}, "a", "b") is None


def test_crossed_histories_give_one_answer_for_all() -> None:
    assert base(CROSSED, "l2", "r2") == base(CROSSED, "r2", "l2") == "l"


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    size = draw(st.integers(2, 12))
    return {
        f"{n:02}": tuple(sorted(draw(st.sets(st.sampled_from([f"{m:02}" for m in range(n)]), max_size=2))) if n else ())
        for n in range(size)
    }


@given(graphs(), st.data())
def test_base_is_a_common_ancestor_below_no_other(graph: Graph, data: st.DataObject) -> None:
    def parents(revision: RevisionId) -> tuple[RevisionId, ...]:
        return tuple(map(RevisionId, graph[revision]))

    a, b = (RevisionId(data.draw(st.sampled_from(sorted(graph)))) for _ in "ab")
    found = merge_base(parents, a, b)
    common = {r for r, _ in ancestors(parents, a)} & {r for r, _ in ancestors(parents, b)}
    assert (found is None) == (not common)
    assert found == merge_base(parents, b, a)
    if found is not None:
        assert found in common
        assert not any(is_ancestor(parents, found, other) for other in common - {found})

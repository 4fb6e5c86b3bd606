"""Counters: outcomes by hand, and what must hold for any numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wye.merge.conflict import BOTH, Conflict, Decisions, Favouring, Side
from wye.merge.counters import merge_counter

NUMBERS = st.none() | st.integers(0, 6)


def merged(base: int | None, ours: int | None, theirs: int | None) -> tuple[int | None, list[Conflict]]:
    decisions = Decisions()
    return merge_counter("db", "t", base, ours, theirs, decisions), decisions.open


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "result"),
    [
        (10, 10, 15, 15), (10, 12, 15, 15), (10, 15, 12, 15), (None, None, 5, 5), (None, 7, 5, 7),
        (10, 10, 3, 3), (10, 10, None, None), (10, 10, 0, 0), (10, 3, 10, 3), (10, None, 10, None),
        (10, 3, 3, 3), (10, None, 0, None),
    ],
)  # fmt: skip
def test_no_conflict(base: int | None, ours: int | None, theirs: int | None, result: int | None) -> None:
    assert merged(base, ours, theirs) == (result, [])


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "detail"),
    [
        (10, 12, 3, "the fork set it back, the target moved it on"),
        (10, 12, None, "the fork set it back, the target moved it on"),
        (10, 3, 12, "the fork moved it on, the target set it back"),
        (10, None, 12, "the fork moved it on, the target set it back"),
        (10, 3, 5, "both sides set it back"),
    ],
)
def test_conflict(base: int | None, ours: int | None, theirs: int | None, detail: str) -> None:
    number, (conflict,) = merged(base, ours, theirs)
    assert (number, conflict.kind, conflict.place, conflict.key) == (ours, "sequence-set-back", "db", ("t",))
    assert (conflict.base, conflict.ours, conflict.theirs, conflict.choices) == (base, ours, theirs, BOTH)
    assert detail in conflict.detail
    for side, chosen in ((Side.OURS, ours), (Side.THEIRS, theirs)):
        assert merge_counter("db", "t", base, ours, theirs, Favouring(Decisions(), side)) == chosen


@given(NUMBERS, NUMBERS, NUMBERS)
def test_what_holds_for_any_numbers(base: int | None, ours: int | None, theirs: int | None) -> None:
    assert (merged(base, base, theirs)[0] or 0) == (theirs or 0)
    assert merged(base, base, theirs)[1] == []
    assert merged(base, ours, base) == (ours, [])
    assert merged(base, ours, ours) == (ours, [])
    one, other = merged(base, ours, theirs), merged(base, theirs, ours)
    assert [each.id for each in one[1]] == [each.id for each in other[1]]
    if not one[1]:
        assert (one[0] or 0) == (other[0] or 0)
        assert merged(base, one[0], theirs)[1] == [], "once more changes nothing"
        assert (merged(base, one[0], theirs)[0] or 0) == (one[0] or 0)

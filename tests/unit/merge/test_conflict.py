"""Conflicts keep their identity, and resolutions are checked against them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wye.errors import BadRequest, NotFound
from wye.merge.conflict import (
    BOTH,
    NONE,
    Conflict,
    Decisions,
    Favouring,
    Resolution,
    Side,
    check_resolutions,
    conflict_from_json,
    conflict_to_json,
    resolution_from_json,
    resolution_to_json,
    resolutions_from_json,
)

TEXT = st.text(max_size=5)
CONFLICTS = st.builds(
    Conflict,
    kind=TEXT,
    place=TEXT,
    key=st.lists(st.none() | TEXT, max_size=3).map(tuple),
    column=TEXT,
    base=st.none() | TEXT,
    ours=st.none() | TEXT,
    theirs=st.none() | TEXT,
    choices=st.frozensets(st.sampled_from(Side)),
    detail=TEXT,
)


def conflict(**changes: object) -> Conflict:
    return Conflict(**{"kind": "k", "place": "p", "key": ("1",), "base": 1, "ours": 2, "theirs": 3, **changes})  # type: ignore[arg-type]


def test_identity_ignores_the_values() -> None:
    assert conflict().id == conflict(base=9, ours=8, theirs=7, detail="x").id


@pytest.mark.parametrize("change", [{"kind": "l"}, {"place": "q"}, {"key": ("2",)}, {"key": (None,)}, {"column": "c"}])
def test_identity_tells_things_apart(change: dict[str, object]) -> None:
    assert conflict(**change).id != conflict().id


@given(CONFLICTS)
def test_json_round_trip(value: Conflict) -> None:
    assert conflict_from_json(conflict_to_json(value)) == value


@pytest.mark.parametrize("data", ["ours", "theirs", {"value": None}, {"value": {"a": "1"}}])
def test_resolution_round_trip(data: object) -> None:
    assert resolution_to_json(resolution_from_json(data)) == data


@pytest.mark.parametrize("data", ["mine", None, 3, {}, {"value": 1, "other": 2}, ["ours"]])
def test_bad_resolution(data: object) -> None:
    with pytest.raises(BadRequest):
        resolution_from_json(data)


def test_bad_conflict() -> None:
    with pytest.raises(BadRequest):
        conflict_from_json({"kind": "k"})


@pytest.mark.parametrize(("resolution", "value"), [("ours", 2), ("theirs", 3), ({"value": 4}, 4)])
def test_choice(resolution: object, value: int) -> None:
    assert resolution_from_json(resolution).choose(conflict()) == value


def test_a_resolution_of_nothing_is_a_mistake() -> None:
    ours = Resolution(side=Side.OURS)
    check_resolutions({conflict().id: ours}, {conflict().id}, [])
    with pytest.raises(NotFound, match="nonesuch"):
        check_resolutions({"nonesuch": ours, conflict().id: ours}, {conflict().id}, [])
    check_resolutions({"nonesuch": ours}, (), [conflict()])  # what is open may hide what it is about


@pytest.mark.parametrize(("choices", "side"), [(BOTH, Side.VALUE), (NONE, Side.OURS)])
def test_a_resolution_that_is_not_offered_is_refused_with_the_reason(choices: frozenset[Side], side: Side) -> None:
    found = conflict(choices=choices, detail="because of this")
    with pytest.raises(BadRequest, match=f"{found.id}.*{side}.*because of this"):
        check_resolutions({found.id: Resolution(side=side)}, (), [found])


def test_what_is_no_resolution_is_named() -> None:
    with pytest.raises(BadRequest, match="abc"):
        resolutions_from_json({"def": "ours", "abc": {"valu": 1}})


def test_favouring_one_side_leaves_what_was_said_and_what_cannot_be() -> None:
    said, other, cannot = conflict(column="a"), conflict(column="b"), conflict(column="c", choices=NONE)
    decisions = Decisions({said.id: Resolution(side=Side.OURS)})
    favouring = Favouring(decisions, Side.THEIRS)
    found = [favouring.of(each) for each in (said, other, cannot)]
    assert [each and each.side for each in found] == [Side.OURS, Side.THEIRS, None]
    assert (decisions.open, decisions.settled) == ([cannot], {said.id})


def test_decisions_note_what_they_cannot_settle() -> None:
    limited = conflict(choices=frozenset({Side.OURS}))
    decisions = Decisions({limited.id: Resolution(side=Side.THEIRS)})
    assert decisions.of(limited) is None
    assert decisions.open == [limited]

"""What every implementation of Refs keeps. Subclass, and give the `refs` fixture an empty store."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from wye.errors import BadRequest
from wye.interfaces import Refs
from wye.model import ObjectId
from wye.store.refs import RefConflict

A, B, C = (ObjectId(digit * 64) for digit in "abc")
REF = "environments/production"

BAD_REFS = (
    "", "environments", "environments/", "environments//x", "environments/../x", "environments/.", "environments/a.b",
    "environments/a/b", "environments/A", "environments/-a", "environments/a-", "environments/a\n",
    "environments/a\x00", "environments/" + "a" * 64, "/environments/a", "other/a", "intents/short",
    "intents/aaaaaaaaaaaa/b", "discarded/a/123", "requests/..", "requests/a b", "requests/" + "a" * 300,
    "environments/ä", "environments/a ",
)  # fmt: skip


class RefsContract:
    @pytest.fixture
    def refs(self) -> Refs:
        raise NotImplementedError

    def test_absent_ref_points_at_nothing(self, refs: Refs) -> None:
        assert refs.read(REF) is None
        assert refs.list("") == {}

    @pytest.mark.parametrize("durable", [True, False])
    def test_ref_is_made_moved_and_removed(self, refs: Refs, durable: bool) -> None:
        refs.compare_and_swap(REF, expected=None, new=A, durable=durable)
        assert refs.read(REF) == A
        refs.compare_and_swap(REF, expected=A, new=B, durable=durable)
        assert refs.read(REF) == B
        refs.compare_and_swap(REF, expected=B, new=None, durable=durable)
        assert refs.read(REF) is None
        assert refs.list("") == {}

    @pytest.mark.parametrize(
        ("there", "expected", "new"),
        [(None, A, B), (None, A, None), (A, None, B), (A, None, None), (A, B, C), (A, B, A), (A, B, None)],
    )
    def test_ref_elsewhere_is_a_conflict_and_stays(
        self, refs: Refs, there: ObjectId | None, expected: ObjectId | None, new: ObjectId | None
    ) -> None:
        if there is not None:
            refs.compare_and_swap(REF, expected=None, new=there)
        with pytest.raises(RefConflict) as raised:
            refs.compare_and_swap(REF, expected=expected, new=new)
        assert raised.value.found == there
        assert raised.value.code == "ref_conflict"
        assert refs.read(REF) == there

    def test_swap_for_the_same_is_allowed(self, refs: Refs) -> None:
        refs.compare_and_swap(REF, expected=None, new=None)
        assert refs.read(REF) is None
        refs.compare_and_swap(REF, expected=None, new=A)
        refs.compare_and_swap(REF, expected=A, new=A)
        assert refs.read(REF) == A

    def test_refs_are_listed_by_prefix_in_order(self, refs: Refs) -> None:
        there = ("environments/a", "environments/a-b", "environments/ab", "intents/abcdefghijkl", "requests/K-1/x")
        for ref in reversed(there):
            refs.compare_and_swap(ref, expected=None, new=A)
        assert list(refs.list("")) == sorted(there)
        assert list(refs.list("environments/")) == ["environments/a", "environments/a-b", "environments/ab"]
        assert refs.list("intents/") == {"intents/abcdefghijkl": A}
        assert refs.list("discarded/") == {}

    @pytest.mark.parametrize("ref", BAD_REFS, ids=repr)
    def test_bad_name_is_refused(self, refs: Refs, ref: str) -> None:
        with pytest.raises(BadRequest):
            refs.compare_and_swap(ref, expected=None, new=A)
        with pytest.raises(BadRequest):
            refs.read(ref)
        assert refs.list("") == {}

    def test_one_of_eight_threads_wins_every_round(self, refs: Refs) -> None:
        rounds, width = 50, 8
        gate = threading.Barrier(width, timeout=30)
        there: list[ObjectId | None] = [None]

        def race(me: int) -> list[int]:
            won = []
            for n in range(rounds):
                gate.wait()
                expected = there[0]
                gate.wait()
                new = ObjectId(f"{n:032x}{me:032x}")
                try:
                    refs.compare_and_swap(REF, expected=expected, new=new)
                except RefConflict:
                    continue
                won.append(n)
                there[0] = new
            return won

        with ThreadPoolExecutor(width) as threads:
            won = [n for rounds_won in threads.map(race, range(width)) for n in rounds_won]
        assert sorted(won) == list(range(rounds))
        assert refs.read(REF) == there[0]

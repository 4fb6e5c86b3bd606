"""Rounds of decisions, on a table in memory with a unique column and a check, for any writes and any answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wye.errors import BadRequest
from wye.merge.conflict import NONE, Conflict, Decisions, Resolution, Side
from wye.merge.rows import Row, Write
from wye.merge.settling import CHOICES, Settling, Violation, amended, named_cells

COLUMNS = ("id", "u", "n")
OURS = Resolution(side=Side.OURS)


def value(cells: object) -> Resolution:
    return Resolution(side=Side.VALUE, value=cells)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Violation):
    key: str


class Memory:
    """A target whose `u` is unique and whose `n` is not "bad"; `writes` by key."""

    def __init__(self, rows: dict[str, Row], writes: dict[str, Write]) -> None:
        self.rows = dict(rows)
        self.writes = dict(writes)

    def attempt(self) -> tuple[dict[str, Row], list[Found]]:
        """The rows afterwards, and what was refused."""
        rows = {key: row for key, row in self.rows.items() if key not in self.writes}
        refused = []
        for key, write in self.writes.items():
            if write.after is None:
                continue
            holder = next((row for row in rows.values() if row[1] == write.after[1]), None)
            if holder is not None:
                refused.append(self.found(key, "unique", ("u",), (holder[0] or "",), holder))
            elif write.after[2] == "bad":
                refused.append(self.found(key, "check", (), (), None))
            else:
                rows[key] = write.after
        return rows, refused

    def found(self, key: str, kind: str, columns: tuple[str, ...], about: Row, holder: Row | None) -> Found:
        shown = None if holder is None else dict(zip(COLUMNS, holder, strict=True))
        conflict = Conflict(
            kind=kind, place="t", key=(key,), column=", ".join(columns) or "good", ours=shown, choices=CHOICES
        )
        others = (("t", ("id",), about),) if about else ()
        return Found(conflict=conflict, key=key, columns=columns, own=("t", (key,)), about=others)

    def settle(self, decisions: Decisions) -> dict[str, Row]:
        """The rows at the end; what is undecided is left with `decisions`."""
        rounds = iter(range(4 * len(self.writes) + 2))

        def attempt() -> list[Found]:
            assert next(rounds, None) is not None, "it does not come to an end"
            return self.attempt()[1]

        Settling(decisions).settle(attempt, self.amend)
        return self.attempt()[0]

    def amend(self, violation: Found, chosen: Resolution) -> bool:
        write = self.writes.pop(violation.key, None)
        instead = write and amended(violation, chosen, write, COLUMNS)
        if instead is not None:
            self.writes[violation.key] = instead
        return write is not None


@st.composite
def memories(draw: st.DrawFn) -> Memory:
    numbers = st.sampled_from("123456")
    rows: dict[str, Row] = {
        key: (key, f"u{key}", draw(st.sampled_from("xy"))) for key in draw(st.lists(numbers, unique=True))
    }
    writes = {}
    for key in draw(st.lists(st.sampled_from("12345678"), unique=True)):
        before = rows.get(key)
        u, n = draw(st.sampled_from([f"u{k}" for k in "123456789"])), draw(st.sampled_from(["x", "z", "bad"]))
        after = None if before and draw(st.booleans()) and draw(st.booleans()) else (key, u, n)
        if after != before:
            writes[key] = Write(before=before, after=after)
    return Memory(rows, writes)


@given(memories())
def test_what_is_undecided_counts_as_ours(memory: Memory) -> None:
    asked, decisions = Memory(memory.rows, memory.writes), Decisions()
    rows = asked.settle(decisions)
    told = decisions.open
    assert len({conflict.id for conflict in told}) == len(told), "each is told once"
    assert bool(told) == bool(memory.attempt()[1]), "what is refused is told, and nothing else"
    for key in memory.rows.keys() - memory.writes.keys():
        assert rows[key] == memory.rows[key], "nobody's row was touched"
    for key, write in memory.writes.items():
        if key in asked.writes and asked.writes[key] == write:
            assert rows.get(key) == write.after
        elif key not in asked.writes:
            assert rows.get(key) == write.before
    again = Decisions()
    Memory(memory.rows, memory.writes).settle(again)
    assert again.open == told, "asked again, the same is told"


@given(memories(), st.lists(st.sampled_from([OURS, value("free"), value("u9"), value("u1"), value({"n": "x"})])))
def test_every_answer_leads_to_an_end(memory: Memory, answers: list[Resolution]) -> None:
    """Whatever is answered, what is open gets answered in the end, and then no constraint is broken."""
    decided: dict[str, Resolution] = {}
    refused_too: set[str] = set()
    for _ in range(6 * len(memory.writes) + 6):
        tried, decisions = Memory(memory.rows, memory.writes), Decisions(decided)
        try:
            rows = tried.settle(decisions)
        except BadRequest:  # a cell for a check, of which nobody knows which cell it is about
            decided = {key: OURS if each.side is Side.VALUE else each for key, each in decided.items()}
            continue
        if not decisions.open:
            break
        for conflict in decisions.open:
            if conflict.id in decided:
                assert decided[conflict.id].side is Side.VALUE, "what was settled with ours is not asked again"
                assert "refused too" in conflict.detail
                refused_too.add(conflict.id)
            answer = answers.pop() if answers and conflict.id not in refused_too else OURS
            decided[conflict.id] = answer
    else:
        raise AssertionError("there is no end of asking")
    assert decisions.settled <= decided.keys()
    uniques = [row[1] for row in rows.values()]
    assert len(set(uniques)) == len(uniques)
    assert all(row[2] != "bad" or row == memory.rows.get(row[0] or "") for row in rows.values())
    for key in memory.rows.keys() - memory.writes.keys():
        assert rows[key] == memory.rows[key]


def test_what_hangs_on_something_undecided_is_told_after_it() -> None:
    rows: dict[str, Row] = {key: (key, f"u{key}", "x") for key in "125"}
    writes = {
        "2": Write(before=rows["2"], after=("2", "u5", "x")),
        "1": Write(before=rows["1"], after=("1", "u2", "x")),
    }
    first = Decisions()
    Memory(rows, writes).settle(first)
    (told,) = first.open
    assert (told.key, told.ours["id"]) == (("2",), "5")
    second = Decisions({told.id: OURS})
    Memory(rows, writes).settle(second)
    assert [conflict.key for conflict in second.open] == [("1",)]
    free = Decisions({told.id: value("free")})
    assert Memory(rows, writes).settle(free)["1"] == ("1", "u2", "x")
    assert not free.open


def test_what_has_no_choice_is_open_whatever_was_decided() -> None:
    conflict = Conflict(kind="unique", place="t", key=("1",), choices=NONE)
    decisions = Decisions({conflict.id: OURS})
    settled = Settling(decisions).round([Violation(conflict=conflict)] * 2)
    assert [chosen.side for _, chosen in settled] == [Side.OURS, Side.OURS]
    assert decisions.open == [conflict]


AMENDED: list[tuple[Row | None, Row | None, tuple[str, ...], Resolution, Row | None]] = [
    (("1", "a", "b"), ("1", "x", "y"), ("u",), OURS, ("1", "a", "y")),
    (("1", "a", "b"), ("1", "x", "b"), ("u",), OURS, None),
    (("1", "a", "b"), ("1", "a", "y"), ("u",), OURS, None),
    (("1", "a", "b"), ("1", "x", "y"), (), OURS, None),
    (("1", "a", "b"), None, ("u",), OURS, None),
    (None, ("1", "x", "y"), ("u",), OURS, None),
    (None, ("1", "x", "y"), ("u",), value("z"), ("1", "z", "y")),
    (None, ("1", "x", "y"), (), value({"u": "z", "n": None}), ("1", "z", None)),
    (("1", "a", "b"), ("1", "x", "b"), ("u",), value("a"), None),
]


@pytest.mark.parametrize(("before", "after", "columns", "chosen", "expected"), AMENDED)
def test_amended(
    before: Row | None, after: Row | None, columns: tuple[str, ...], chosen: Resolution, expected: Row | None
) -> None:
    conflict = Conflict(kind="unique", place="t", choices=CHOICES)
    write = Write(before=before, after=after)
    found = amended(Violation(conflict=conflict, columns=columns), chosen, write, COLUMNS)
    assert found == (None if expected is None else replace(write, after=expected))


def test_values_that_do_not_fit_and_cells_by_name() -> None:
    violation = Violation(conflict=Conflict(kind="unique", place="t", choices=CHOICES), columns=("u", "n"))
    with pytest.raises(BadRequest, match="must name columns"):
        amended(violation, value("x"), Write(before=None, after=("1", "x", "y")), COLUMNS)
    assert named_cells(("u",), ("x",)) == "x"
    assert named_cells(("u", "n"), ("x", None)) == {"u": "x", "n": None}

"""Rows: the table of outcomes by hand, and what must hold for any rows at all."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wye.errors import BadRequest
from wye.merge.conflict import Decisions, Resolution, Side
from wye.merge.rows import Grain, MergedRows, Row, Table, Triple, Write, merge_keyed, merge_multiset

TABLE = Table(place="public.t", columns=("id", "a", "b"), key=("id",))
BASE: Row = ("1", "a", "b")


def row(a: str | None = "a", b: str | None = "b") -> Row:
    return ("1", a, b)


MERGES: list[tuple[str, Row | None, Row | None, Row | None, Row | None]] = [
    ("theirs unchanged", BASE, row("x"), BASE, row("x")),
    ("ours unchanged", BASE, BASE, row("x"), row("x")),
    ("different cells", BASE, row(a="x"), row(b="y"), row("x", "y")),
    ("same cell, same value", BASE, row(a="x"), row(a="x"), row("x")),
    ("same cell alike, another differs", BASE, row("x", "b"), row("x", "y"), row("x", "y")),
    ("null is a value", BASE, row(a=None), row(b=None), row(None, None)),
    ("both deleted", BASE, None, None, None),
    ("theirs deleted", BASE, BASE, None, None),
    ("ours deleted", BASE, None, BASE, None),
    ("theirs inserted", None, None, BASE, BASE),
    ("ours inserted", None, BASE, None, BASE),
    ("both inserted the same", None, BASE, BASE, BASE),
]


@pytest.mark.parametrize(("base", "ours", "theirs", "after"), [m[1:] for m in MERGES], ids=[m[0] for m in MERGES])
def test_clean(base: Row | None, ours: Row | None, theirs: Row | None, after: Row | None) -> None:
    merged = merge_keyed(TABLE, [Triple(base=base, ours=ours, theirs=theirs)])
    assert merged.conflicts == []
    assert merged.writes == ([] if after == ours else [Write(before=ours, after=after)])


CONFLICTS: list[tuple[str, str, Row | None, Row | None, Row | None]] = [
    ("update/update", "a", BASE, row("x"), row("y")),
    ("update/update", "a", BASE, row(None), row("")),
    ("update/delete", "", BASE, None, row("x")),
    ("delete/update", "", BASE, row("x"), None),
    ("insert/insert", "", None, row("x"), row("y")),
]


@pytest.mark.parametrize(("kind", "column", "base", "ours", "theirs"), CONFLICTS)
def test_conflict(kind: str, column: str, base: Row | None, ours: Row | None, theirs: Row | None) -> None:
    (conflict,) = merge_keyed(TABLE, [Triple(base=base, ours=ours, theirs=theirs)]).conflicts
    assert (conflict.kind, conflict.column, conflict.key) == (kind, column, ("1",))


def test_row_grain_forbids_two_changes_of_one_row() -> None:
    table = Table(place="t", columns=TABLE.columns, key=("id",), grain=Grain.ROW)
    (conflict,) = merge_keyed(table, [Triple(base=BASE, ours=row(a="x"), theirs=row(b="y"))]).conflicts
    assert (conflict.column, conflict.ours) == ("", {"id": "1", "a": "x", "b": "b"})


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "total"),
    [
        ("10", "15", "7", "12"),
        ("10", "9", "9", "8"),
        ("1.50", "1.75", "1.60", "1.85"),
        ("0", "99999999999999999999999999999999999999", "1", "100000000000000000000000000000000000000"),
        ("1e3", "2e3", "1.5e3", "2500"),
    ],
)
def test_delta_adds_both_changes(base: str, ours: str, theirs: str, total: str) -> None:
    table = Table(place="t", columns=TABLE.columns, key=("id",), delta=frozenset({"a"}))
    merged = merge_keyed(table, [Triple(base=row(base), ours=row(ours), theirs=row(theirs))])
    assert merged.writes == [Write(before=row(ours), after=row(total))]


@pytest.mark.parametrize("theirs", ["NaN", "Infinity", None, "x"])
def test_delta_of_what_is_no_number_is_a_conflict(theirs: str | None) -> None:
    table = Table(place="t", columns=TABLE.columns, key=("id",), delta=frozenset({"a"}))
    assert merge_keyed(table, [Triple(base=row("1"), ours=row("2"), theirs=row(theirs))]).conflicts


def test_a_column_that_is_new_takes_theirs() -> None:
    table = Table(place="t", columns=TABLE.columns, key=("id",), new=frozenset({"b"}))
    merged = merge_keyed(table, [Triple(base=row(b="1"), ours=row(b="2"), theirs=row(b="3"))])
    assert merged.writes == [Write(before=row(b="2"), after=row(b="3"))]


def test_a_deletion_does_not_mind_the_default_of_a_new_column() -> None:
    table = Table(place="t", columns=TABLE.columns, key=("id",), new=frozenset({"b"}))
    merged = merge_keyed(table, [Triple(base=row(b="1"), ours=row(b="2"), theirs=None)])
    assert merged.writes == [Write(before=row(b="2"), after=None)]
    assert merge_keyed(table, [Triple(base=row(b="1"), ours=row("x", "2"), theirs=None)]).conflicts


def test_a_row_as_a_whole_does_not_mind_the_default_of_a_new_column() -> None:
    table = Table(place="t", columns=TABLE.columns, key=("id",), new=frozenset({"b"}), grain=Grain.ROW)
    merged = merge_keyed(table, [Triple(base=row("x", "1"), ours=row("x", "2"), theirs=row("y", "3"))])
    assert merged.writes == [Write(before=row("x", "2"), after=row("y", "3"))]
    assert merge_keyed(table, [Triple(base=row("x", "1"), ours=row("z", "2"), theirs=row("y", "3"))]).conflicts


@pytest.mark.parametrize("base", [None, "3"])
def test_a_deletion_does_not_mind_a_value_that_the_server_gave(base: str | None) -> None:
    table = Table(place="t", columns=TABLE.columns, key=("id",), new=frozenset({"b"}), given=frozenset({"b"}))
    numbered, changed = (Triple(base=row("x", base), ours=None, theirs=row(a, "7")) for a in ("x", "y"))
    assert merge_keyed(table, [numbered]) == MergedRows()
    assert [conflict.kind for conflict in merge_keyed(table, [changed]).conflicts] == ["update/delete"]


def test_keyless_rows_are_counted() -> None:
    x, y, z = ("x",), ("y",), ("z",)
    table = Table(place="t", columns=("v",))
    merged = merge_multiset(table, Counter({x: 3, y: 1}), Counter({x: 3, z: 1}), Counter({x: 1, y: 1, z: 2}))
    assert merged.conflicts == []
    assert Counter((w.before, w.after) for w in merged.writes) == {(x, None): 2, (None, z): 2}


def test_keyless_removal_needs_the_count_of_the_base() -> None:
    x = ("x",)
    table = Table(place="t", columns=("v",))
    (conflict,) = merge_multiset(table, Counter({x: 3}), Counter({x: 4}), Counter({x: 2})).conflicts
    assert (conflict.kind, conflict.base, conflict.ours, conflict.theirs) == ("keyless-row-count", 3, 4, 2)
    decisions = Decisions({conflict.id: Resolution(side=Side.THEIRS)})
    merged = merge_multiset(table, Counter({x: 3}), Counter({x: 4}), Counter({x: 2}), decisions)
    assert merged.writes == [Write(before=x, after=None)] * 2


@pytest.mark.parametrize(
    ("value", "cell"), [("t", "t"), (None, None), (True, "t"), (False, "f"), (5, "5"), (1.5, "1.5")]
)
def test_a_given_value(value: object, cell: str | None) -> None:
    triple = Triple(base=row("0"), ours=row("1"), theirs=row("2"))
    (conflict,) = merge_keyed(TABLE, [triple]).conflicts
    decisions = Decisions({conflict.id: Resolution(side=Side.VALUE, value=value)})
    assert merge_keyed(TABLE, [triple], decisions).writes == [Write(before=row("1"), after=row(cell))]


@pytest.mark.parametrize("value", [{"id": "1"}, "x", [1]])
def test_a_given_row_must_be_whole(value: object) -> None:
    triple = Triple(base=None, ours=row("1"), theirs=row("2"))
    (conflict,) = merge_keyed(TABLE, [triple]).conflicts
    with pytest.raises(BadRequest):
        merge_keyed(TABLE, [triple], Decisions({conflict.id: Resolution(side=Side.VALUE, value=value)}))


CELLS = st.sampled_from([None, "", "0", "1", "2.5"])
ROWS = st.none() | st.tuples(st.just("1"), CELLS, CELLS)
TRIPLES = st.builds(Triple, base=ROWS, ours=ROWS, theirs=ROWS)
TABLES = st.builds(
    Table,
    place=st.just("t"),
    columns=st.just(TABLE.columns),
    key=st.just(("id",)),
    grain=st.sampled_from([Grain.CELL, Grain.ROW]),
    delta=st.sampled_from([frozenset(), frozenset({"a"})]),
)


def result(table: Table, triple: Triple) -> Row | None:
    merged = merge_keyed(table, [triple])
    assert merged.conflicts == []
    return merged.writes[0].after if merged.writes else triple.ours


@given(TABLES, ROWS, ROWS)
def test_an_unchanged_side_gives_the_other(table: Table, base: Row | None, other: Row | None) -> None:
    assert result(table, Triple(base=base, ours=base, theirs=other)) == other
    assert result(table, Triple(base=base, ours=other, theirs=base)) == other
    if not table.delta:
        assert result(table, Triple(base=base, ours=other, theirs=other)) == other


@given(TABLES, TRIPLES)
def test_conflicts_are_symmetric(table: Table, triple: Triple) -> None:
    mirrored = Triple(base=triple.base, ours=triple.theirs, theirs=triple.ours)
    there, back = (merge_keyed(table, [t]).conflicts for t in (triple, mirrored))
    assert [(c.column, c.key, c.ours, c.theirs) for c in there] == [(c.column, c.key, c.theirs, c.ours) for c in back]


@given(TABLES, TRIPLES)
def test_merging_again_changes_nothing(table: Table, triple: Triple) -> None:
    merged = merge_keyed(table, [triple])
    if not merged.conflicts and not table.delta:
        after = merged.writes[0].after if merged.writes else triple.ours
        assert merge_keyed(table, [Triple(base=triple.theirs, ours=after, theirs=triple.theirs)]).writes == []


@given(TABLES, TRIPLES, st.sampled_from(["ours", "theirs"]))
def test_every_conflict_can_be_resolved(table: Table, triple: Triple, side: str) -> None:
    conflicts = merge_keyed(table, [triple]).conflicts
    resolution = Resolution(side=Side(side))
    decisions = Decisions({c.id: resolution for c in conflicts})
    assert merge_keyed(table, [triple], decisions).conflicts == []


MULTISETS = st.dictionaries(st.tuples(CELLS), st.integers(1, 3), max_size=3).map(Counter)


@given(MULTISETS, MULTISETS)
def test_multiset_with_an_unchanged_side(base: Counter[Row], other: Counter[Row]) -> None:
    table = Table(place="t", columns=("v",))
    assert merge_multiset(table, base, other, base).writes == []
    merged = merge_multiset(table, base, base, other)
    assert merged.conflicts == []
    after = Counter(base)
    for write in merged.writes:
        if write.before is None:
            assert write.after is not None
            after[write.after] += 1
        else:
            after[write.before] -= 1
    assert +after == other

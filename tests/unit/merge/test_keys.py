"""Keys: outcomes by hand, and what must hold for any values."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wye.merge.conflict import Decisions, Resolution, Side
from wye.merge.keys import KeyTriple, KeyValue, KeyWrite, merge_keys

V = KeyValue(type="string", digest="1")


def triple(base: KeyValue | None, ours: KeyValue | None, theirs: KeyValue | None) -> KeyTriple:
    return KeyTriple(place="redis:0", key="k", base=base, ours=ours, theirs=theirs)


def write(expected: KeyValue | None, content: str, **rest: object) -> KeyWrite:
    return KeyWrite(place="redis:0", key="k", expected=expected, content=content, **rest)  # type: ignore[arg-type]


def test_content_and_expiry_merge_apart() -> None:
    ours, theirs = replace(V, digest="2"), replace(V, expires_ms=5)
    assert merge_keys([triple(V, ours, theirs)]).writes == [write(ours, "ours", expires_ms=5)]
    assert merge_keys([triple(V, theirs, ours)]).writes == [write(theirs, "theirs", expires_ms=5)]


def test_deleted_in_the_fork() -> None:
    assert merge_keys([triple(V, V, None)]).writes == [write(V, "delete")]


@pytest.mark.parametrize(
    ("kind", "base", "ours", "theirs"),
    [
        ("update/update", V, replace(V, digest="2"), replace(V, digest="3")),
        ("update/update", V, replace(V, digest="2"), replace(V, type="list")),
        ("expiry/expiry", V, replace(V, expires_ms=1), replace(V, expires_ms=2)),
        ("delete/update", V, replace(V, digest="2"), None),
        ("update/delete", V, None, replace(V, digest="2")),
        ("insert/insert", None, V, replace(V, digest="2")),
    ],
)
def test_conflict(kind: str, base: KeyValue | None, ours: KeyValue | None, theirs: KeyValue | None) -> None:
    (conflict,) = merge_keys([triple(base, ours, theirs)]).conflicts
    assert conflict.kind == kind


def hashed(digest: str, **fields: str) -> KeyValue:
    return KeyValue(type="hash", digest=digest, fields=tuple(sorted(fields.items())))


def test_fields() -> None:
    base, ours = hashed("b", a="1", b="1", c="1", d="1"), hashed("o", a="2", b="1", c="1", d="2")
    theirs = hashed("t", a="1", b="2", d="2", e="1")
    assert merge_keys([triple(base, ours, theirs)]).writes == [
        write(ours, "fields", set_fields=(("b", "2"), ("e", "1")), unset_fields=("c",))
    ]


def test_field_conflict() -> None:
    sides = hashed("b", a="1"), hashed("o", a="2"), hashed("t", a="3")
    (conflict,) = merge_keys([triple(*sides)]).conflicts
    assert (conflict.column, conflict.base, conflict.ours, conflict.theirs) == ("a", "1", "2", "3")
    decisions = Decisions({conflict.id: Resolution(side=Side.THEIRS)})
    assert merge_keys([triple(*sides)], decisions).writes == [write(sides[1], "fields", set_fields=(("a", "3"),))]


VALUES = st.none() | st.builds(
    KeyValue,
    type=st.sampled_from(["string", "hash"]),
    digest=st.sampled_from("123"),
    expires_ms=st.sampled_from([None, 1, 2]),
)


def result(value: KeyTriple) -> KeyValue | None:
    merged = merge_keys([value])
    assert merged.conflicts == []
    if not merged.writes:
        return value.ours
    (done,) = merged.writes
    if done.content == "delete":
        return None
    content = value.theirs if done.content == "theirs" else value.ours
    assert content is not None
    return replace(content, expires_ms=done.expires_ms)


@given(VALUES, VALUES)
def test_an_unchanged_side_gives_the_other(base: KeyValue | None, other: KeyValue | None) -> None:
    assert result(triple(base, base, other)) == other
    assert result(triple(base, other, base)) == other
    assert result(triple(base, other, other)) == other


@given(VALUES, VALUES, VALUES)
def test_conflicts_are_symmetric_and_can_be_resolved(
    a: KeyValue | None, b: KeyValue | None, c: KeyValue | None
) -> None:
    there, back = (merge_keys([t]).conflicts for t in (triple(a, b, c), triple(a, c, b)))
    assert [(x.column, x.ours, x.theirs) for x in there] == [(x.column, x.theirs, x.ours) for x in back]
    for side in (Side.OURS, Side.THEIRS):
        decisions = Decisions({x.id: Resolution(side=side) for x in there})
        assert merge_keys([triple(a, b, c)], decisions).conflicts == []

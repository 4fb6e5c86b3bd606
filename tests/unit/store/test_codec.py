"""Round trip, canonical form, and refusal of everything that is not a stored value."""

from __future__ import annotations

import dataclasses
import enum
import math
import types
import typing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wye.errors import BadRequest, InvariantError
from wye.model import (
    Entry,
    EntryId,
    Environment,
    EnvironmentId,
    EnvironmentName,
    Image,
    ImageConfig,
    Intent,
    IntentId,
    ObjectId,
    Revision,
    RevisionId,
    Service,
    ServiceName,
    Spec,
    Verb,
)
from wye.store import codec

STORED = (Entry, Revision, Spec, Intent)


def strategy(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type that the model uses."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hasattr(hint, "__supertype__"):
        return strategy(hint.__supertype__)
    if hint is type(None):
        return st.none()
    if origin in (types.UnionType, typing.Union):
        return st.one_of([strategy(argument) for argument in arguments])
    if origin is dict:
        return st.dictionaries(strategy(arguments[0]), strategy(arguments[1]), max_size=3)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(strategy(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(strategy, arguments))
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        fields = {field.name: strategy(hints[field.name]) for field in dataclasses.fields(hint)}
        return st.builds(hint, **fields)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return st.sampled_from(list(hint))
    if hint is bool:
        return st.booleans()
    simple: dict[Any, st.SearchStrategy[Any]] = {
        str: st.text(max_size=20),
        int: st.integers(-(2**63), 2**63 - 1),
        float: st.floats(-1e300, 1e300),
    }
    return simple[hint]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e300, 1e300) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def entry(**changes: Any) -> Entry:
    environment = Environment(
        name=EnvironmentName("production"),
        id=EnvironmentId("abcdefghijkl"),
        project="shop",
        spec=ObjectId("b" * 64),
        images={"db": Image(reference="postgres:16", digest="sha256:" + "a" * 64, config=ImageConfig())},
        revision=RevisionId("c" * 64),
    )
    values: dict[str, Any] = {"previous": None, "verb": Verb.UP, "actor": "ada", "at": 1.5, "environment": environment}
    return Entry(**(values | changes))


@pytest.mark.parametrize("stored", STORED, ids=lambda stored: stored.__name__)
def test_everything_comes_back(stored: Any) -> None:
    @given(strategy(stored))
    def comes_back(value: Any) -> None:
        data = codec.encode(value)
        assert codec.decode(data, stored) == value
        assert codec.encode(codec.decode(data, stored)) == data

    comes_back()


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4))
def test_evidence_comes_back(value: dict[str, Any]) -> None:
    assert codec.decode(codec.encode(value), dict) == value


def test_equal_values_give_equal_bytes() -> None:
    one = Spec(project="shop", services={}, settings={"a": "1", "b": "2"})
    two = Spec(project="shop", services={}, settings={"b": "2", "a": "1"})
    assert codec.encode(one) == codec.encode(two)
    assert codec.encode({"a": 1, "b": {"c": 2, "d": 3}}) == codec.encode({"b": {"d": 3, "c": 2}, "a": 1})
    assert codec.encode(entry(at=3)) == codec.encode(entry(at=3.0))


def test_bytes_are_these() -> None:
    """Ids depend on them: a change here makes every id of a stored value another one."""
    intent = Intent(
        id=IntentId("abcdefghijkl"), verb=Verb.FORK, environment=EnvironmentName("fix-1"), actor="ada", at=1700000000.25
    )
    assert codec.encode(intent) == (
        b"intent 1\n"
        b'{"actor":"ada","arguments":{},"at":1700000000.25,"environment":"fix-1","id":"abcdefghijkl","verb":"fork"}'
    )
    assert codec.encode({"b": [1, 2.5, None], "a": "ä"}) == 'value 1\n{"a":"ä","b":[1,2.5,null]}'.encode()


@pytest.mark.parametrize(
    "value",
    [
        entry(at=math.nan),
        entry(at=math.inf),
        entry(at="soon"),
        entry(actor=None),
        entry(verb="conquer"),
        entry(arguments={"n": 1}),
        entry(environment=None),
        Spec(project="shop", services={"db": Service(name=ServiceName("db"), init=typing.cast(bool, 2))}),
        {"n": math.nan},
        {"n": b"bytes"},
        {"n": (1, 2)},
        {1: "n"},
        {"n": object()},
        object(),
    ],
    ids=repr,
)
def test_what_could_not_be_read_again_is_refused(value: Any) -> None:
    with pytest.raises(InvariantError):
        codec.encode(value)


def test_endless_evidence_is_refused() -> None:
    endless: dict[str, Any] = {}
    endless["self"] = endless
    with pytest.raises(InvariantError):
        codec.encode(endless)


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(BadRequest, match="not Unicode"):
        codec.encode(entry(message="\ud800"))


GOOD = codec.encode(entry())


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "what it is"),
        (b"\n{}", "what it is"),
        (b"entry\n{}", "what it is"),
        (b"entry 1", "what it is"),
        (b"Entry 1\n{}", "what it is"),
        (b"\xff\xfe 1\n{}", "what it is"),
        (b"x" * 100 + b" 1\n{}", "what it is"),
        (b"revision 1\n{}", "'revision', not 'entry'"),
        (b"entry 2\n{}", "format 2"),
        (b"entry 0\n{}", "no longer"),
        (b"entry 1\n", "cannot be read"),
        (b"entry 1\n{}", "cannot be read"),
        (b"entry 1\n[]", "cannot be read"),
        (b"entry 1\nnull", "cannot be read"),
        (b"entry 1\n" + b"[" * 100_000, "cannot be read"),
        (GOOD + b"}", "cannot be read"),
        (GOOD[:-1], "cannot be read"),
        (GOOD.replace(b'"ada"', b"7"), "cannot be read"),
        (GOOD.replace(b'"ada"', b'"\xff"'), "cannot be read"),
        (GOOD.replace(b'"actor"', b'"color":1,"actor"'), "unknown field `color`"),
        (GOOD.replace(b'"awake"', b'"color":1,"awake"'), "unknown field `color`"),
        (GOOD.replace(b'"verb":"up"', b'"verb":"conquer"'), "cannot be read"),
    ],
    ids=lambda part: repr(part)[:40],
)
def test_what_is_no_entry_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(codec.Unreadable, match=says):
        codec.decode(data, Entry)


@given(st.binary(max_size=60))
def test_no_bytes_break_it(data: bytes) -> None:
    for prefix in (b"", b"entry 1\n", b"value 1\n"):
        for stored in (Entry, dict):
            try:
                codec.decode(prefix + data, stored)
            except codec.Unreadable:
                pass


def test_a_newer_wye_is_named_as_the_reason() -> None:
    with pytest.raises(codec.Unreadable) as raised:
        codec.decode(b"spec 9\n{}", Spec)
    assert raised.value.hint == "upgrade wye"


def test_a_missing_field_gets_its_default() -> None:
    assert codec.decode(GOOD.replace(b'"message":"",', b""), Entry) == entry()


def test_older_formats_are_upgraded_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    old = codec.encode(entry(message="hello")).replace(b'"message"', b'"note"')
    monkeypatch.setitem(codec.VERSIONS, "entry", 3)
    monkeypatch.setitem(
        codec.UPGRADES, ("entry", 1), lambda body: {("text" if k == "note" else k): v for k, v in body.items()}
    )
    monkeypatch.setitem(
        codec.UPGRADES, ("entry", 2), lambda body: {("message" if k == "text" else k): v for k, v in body.items()}
    )
    assert codec.decode(old, Entry) == entry(message="hello")
    assert codec.encode(entry()).startswith(b"entry 3\n")
    with pytest.raises(codec.Unreadable, match="unknown field"):
        codec.decode(old.replace(b'"note"', b'"color":1,"note"'), Entry)


def test_ids_stay_strings_of_their_kind() -> None:
    back = codec.decode(codec.encode(entry(previous=EntryId("d" * 64))), Entry)
    assert back.previous == "d" * 64
    assert back.verb is Verb.UP

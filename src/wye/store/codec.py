"""Canonical bytes for the values that are stored. Pure.

An object is a line that says what it is, and JSON with sorted keys: `entry 1`, newline, `{"actor":...}`. The
first line is the value's type and the version of its format. Equal values give equal bytes, whatever
order their mappings were filled in.

Both directions go through structs that mirror the model's dataclasses and allow no other field, because a
field that this wye does not know may matter: it refuses, and never drops it silently. They also make encoding
strict, so that nothing is stored that could not be read again (a wrong type, NaN).

When the model changes: a new field with a default needs nothing, since old bytes get the default (compare
values, not ids, across releases). Everything else (a name, a meaning, a default) needs a new version in
`VERSIONS` and a function in `UPGRADES` that turns the old JSON into the new one.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec

from wye.errors import BadRequest, InvariantError, WyeError
from wye.model import Entry, Intent, Revision, Spec

Evidence = dict[str, Any]
"""Plain JSON that a verb wants to keep: numbers, strings, booleans, None, lists, dicts with string keys."""

Stored = Entry | Revision | Spec | Intent | Evidence
T = TypeVar("T", Entry, Revision, Spec, Intent, dict[str, Any])

NAMES: dict[type, str] = {Entry: "entry", Revision: "revision", Spec: "spec", Intent: "intent", dict: "value"}
VERSIONS: dict[str, int] = dict.fromkeys(NAMES.values(), 1)
UPGRADES: dict[tuple[str, int], Callable[[Any], Any]] = {}
"""(type, old version) → a function from that version's JSON to the next one's."""

_FINITE = Annotated[float, msgspec.Meta(ge=-1e300, le=1e300)]


class Unreadable(WyeError):
    """Bytes that are not a stored value of the wanted type, or not one that this wye knows how to read."""

    code = "object_unreadable"


def encode(value: Stored) -> bytes:
    """The canonical bytes of `value`.

    Raises BadRequest for text that is no Unicode (lone surrogates), InvariantError for what the model forbids."""
    name = NAMES.get(type(value))
    if name is None:
        raise InvariantError(f"a {type(value).__name__} cannot be stored")
    try:
        data = _encoder.encode(msgspec.convert(value, _shape(type(value)), from_attributes=True))
        if isinstance(value, dict) and msgspec.json.decode(data) != value:
            raise InvariantError("evidence must be plain JSON: it would not come back as it is")
    except UnicodeEncodeError as error:
        raise BadRequest(f"the {name} holds text that is not Unicode") from error
    except (msgspec.MsgspecError, TypeError, OverflowError, RecursionError) as error:
        raise InvariantError(f"this {name} cannot be stored: {error}") from error
    return b"%s %d\n%s" % (name.encode(), VERSIONS[name], data)


def decode(data: bytes, wanted: type[T]) -> T:
    """The value that `data` holds. Raises Unreadable if it is no `wanted`, or one of a newer wye."""
    name = NAMES[wanted]
    found, version = header(data)
    if found != name:
        raise Unreadable(f"the object is of type {found!r}, not {name!r}")
    if version > VERSIONS[name]:
        raise Unreadable(
            f"the {name} has format {version}; this wye knows formats up to {VERSIONS[name]}", hint="upgrade wye"
        )
    shape = _shape(wanted)
    body = memoryview(data)[data.index(b"\n") + 1 :]
    try:
        if version == VERSIONS[name]:
            mirror = _decoder(shape).decode(body)
        else:
            mirror = msgspec.convert(_upgraded(name, version, msgspec.json.decode(body)), shape)
        value: T = msgspec.convert(mirror, wanted, from_attributes=True)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"the {name} cannot be read: {error}") from error
    return value


def header(data: bytes) -> tuple[str, int]:
    """(type, format version) of an object. Raises Unreadable if it has no header."""
    name, _, version = bytes(data[:40]).partition(b"\n")[0].partition(b" ")
    if not (name.isalpha() and name.islower() and version.isdigit()) or b"\n" not in data[:40]:
        raise Unreadable("the object does not say what it is")
    return name.decode(), int(version)


_encoder = msgspec.json.Encoder(order="sorted")


def _upgraded(name: str, version: int, body: Any) -> Any:
    for old in range(version, VERSIONS[name]):
        upgrade = UPGRADES.get((name, old))
        if upgrade is None:
            raise Unreadable(f"this wye no longer reads {name} format {version}")
        body = upgrade(body)
    return body


def _shape(stored: Any) -> Any:
    """What to encode and decode a value of type `stored` as."""
    return stored if stored is dict else _mirror(stored)


_decoder = functools.cache(msgspec.json.Decoder)


@functools.cache
def _mirror(dataclass: Any) -> Any:
    """A struct with the fields of `dataclass` that allows no others."""
    hints = typing.get_type_hints(dataclass)
    fields: list[Any] = []
    for field in dataclasses.fields(dataclass):
        shape, default = _mirrored(hints[field.name]), field.default
        if field.default_factory is not dataclasses.MISSING:
            fields.append((field.name, shape, msgspec.field(default_factory=field.default_factory)))
        elif default is dataclasses.MISSING:
            fields.append((field.name, shape))
        elif dataclasses.is_dataclass(default):
            fields.append((field.name, shape, msgspec.convert(default, shape, from_attributes=True)))
        else:
            fields.append((field.name, shape, default))
    return msgspec.defstruct(dataclass.__name__, fields, forbid_unknown_fields=True, frozen=True, kw_only=True)


def _mirrored(hint: Any) -> Any:
    """A type hint, with its dataclasses replaced by their mirrors and its floats finite."""
    if hint is float:
        return _FINITE
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _mirror(hint)
    arguments = typing.get_args(hint)
    if not arguments:
        return hint
    parts = tuple(_mirrored(argument) for argument in arguments)
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return functools.reduce(lambda left, right: left | right, parts)
    return origin[parts]

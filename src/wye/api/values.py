"""Requests from what a caller gives, answers from what a daemon sends.

Both are checked here and nowhere else: a caller's mistake becomes a BadRequest that names the field before
anything is sent, and an answer that is not what the protocol says becomes a BadAnswer instead of a surprise later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from wye.api import faults, wire
from wye.errors import BadRequest

if TYPE_CHECKING:
    from pydantic import BaseModel

_A = TypeVar("_A", bound="BaseModel")
_V = TypeVar("_V", bound="wire.View")

_PARTS = ("body", "query", "path")
"""Where FastAPI says that a field was."""


def made(kind: type[_A], **fields: Any) -> _A:
    """A request. Raises BadRequest where a field is not what it must be."""
    try:
        return kind.model_validate(fields)
    except wire.ValidationError as error:
        raise BadRequest(complaint(error)) from error


def read(kind: type[_A], data: bytes) -> _A:
    """An answer. Raises BadAnswer."""
    try:
        return kind.model_validate_json(data)
    except wire.ValidationError as error:
        raise _senseless(error, data) from error


def read_all(kind: type[_V], data: bytes) -> tuple[_V, ...]:
    """An answer that is a list. Raises BadAnswer."""
    try:
        return wire.several(kind).validate_json(data)
    except wire.ValidationError as error:
        raise _senseless(error, data) from error


def validated(kind: type[_A], value: Any) -> _A:
    """An answer that was part of a larger one. Raises BadAnswer."""
    try:
        return kind.model_validate(value)
    except wire.ValidationError as error:
        raise _senseless(error, str(value).encode()) from error


def news(kind: type[_A], line: bytes) -> _A:
    """A line of logs or events. Raises the error that the line may be instead."""
    if line.startswith(b'{"error":'):
        raise faults.from_answer(500, line)
    return read(kind, line)


def complaint(error: wire.ValidationError | Mapping[str, Any]) -> str:
    """The first thing that is wrong, or the one given, as "field: why"."""
    first = error.errors(include_url=False)[0] if isinstance(error, wire.ValidationError) else error
    where = ".".join(str(part) for part in first["loc"] if part not in _PARTS)
    what: str = first["msg"]
    if what[1:2].islower():
        what = what[0].lower() + what[1:]
    return f"{where}: {what}" if where else what


def _senseless(error: wire.ValidationError, data: bytes) -> faults.BadAnswer:
    return faults.BadAnswer(
        f"the daemon's answer makes no sense: {complaint(error)}: {data[:200]!r}",
        hint="are client and daemon of one version? see 'wye version'",
    )

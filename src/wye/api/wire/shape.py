"""What all values on the wire have in common.

Text that comes from a fork (a file's name, a key, a cell) need not be Unicode: there it has lone surrogates, which JSON
cannot carry. `Text` and `Data` show such bytes as escapes, so that a fork cannot make its own diff unreadable.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError

_V = TypeVar("_V", bound="View")


__all__ = ["Data", "Request", "Text", "ValidationError", "View", "several"]


class Request(BaseModel):
    """What a client sends. Unknown fields are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class View(BaseModel):
    """What a daemon answers with. Unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", from_attributes=True, defer_build=True)


@cache
def several(kind: type[_V]) -> TypeAdapter[tuple[_V, ...]]:
    """What reads a list of them."""
    return TypeAdapter(tuple[kind, ...])  # type: ignore[valid-type]


def readable(text: str) -> str:
    """`text` as Unicode: a byte that is none as "\\xff", any other lone surrogate as "\\ud800"."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join(_escaped(each) if "\ud800" <= each <= "\udfff" else each for each in text)
    return text


def readable_data(data: Any) -> Any:
    """The same for every string in JSON data."""
    match data:
        case str():
            return readable(data)
        case dict():
            return {readable(str(key)): readable_data(value) for key, value in data.items()}
        case list() | tuple():
            return [readable_data(item) for item in data]
        case _:
            return data


def _escaped(surrogate: str) -> str:
    number = ord(surrogate)
    return f"\\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else f"\\u{number:04x}"


Text = Annotated[str, AfterValidator(readable)]
Data = Annotated[Any, AfterValidator(readable_data)]

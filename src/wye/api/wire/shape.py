"""What all values on the wire have in common.

Text that comes from a fork (a file's name, a key, a cell) need not be Unicode: there it has lone surrogates, which JSON
cannot carry. `Text` and `Data` show such bytes as escapes, so that a fork cannot make its own diff unreadable.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

API = 1
"""The number in `/v1`. A change that breaks an older client raises it."""

STDIN, STDOUT, STDERR = 0, 1, 2
"""The first byte of a binary frame of exec."""

FRAME_BYTES = 64 * 1024
"""The most that one frame of exec carries."""


class Request(BaseModel):
    """What a client sends. Unknown fields are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class View(BaseModel):
    """What a daemon answers with. Unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", from_attributes=True, defer_build=True)


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

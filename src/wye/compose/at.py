"""A node together with its key path: what the readers of this room pass around.

`At` turns nodes into Python values and refuses the wrong kind in the user's terms. A string is accepted wherever a
boolean or a number is wanted, because a variable may have put it there; a number is not accepted where the
compose specification wants a string. `Fields` is a mapping of which the known keys have been sorted from the others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from wye.compose.nodes import ComposeError, Items, Kind, Mark, Node, Scalar, Table, describe, is_null
from wye.compose.sizes import parse_bytes, parse_duration

T = TypeVar("T")

_BOOLEANS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False, "1": True, "0": False}
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class At:
    """`mark` is where the key stands, or the value itself in a list."""

    key: str
    node: Node
    mark: Mark

    def error(self, message: str, *, hint: str | None = None) -> ComposeError:
        return ComposeError(message, self.mark, key=self.key, hint=hint)

    def wrong(self, wanted: str) -> ComposeError:
        return self.error(f"must be {wanted}, not {describe(self.node)}")

    @property
    def is_null(self) -> bool:
        return is_null(self.node)

    @property
    def is_text(self) -> bool:
        return isinstance(self.node, Scalar) and self.node.kind is Kind.STRING

    def child(self, name: str) -> At:
        """The entry `name` if this is a mapping that has it, else this place itself: for messages."""
        if isinstance(self.node, Table) and name in self.node.entries:
            mark, node = self.node.entries[name]
            return At(f"{self.key}.{name}" if self.key else name, node, mark)
        return self

    def string(self) -> str:
        if not isinstance(self.node, Scalar) or self.node.kind is not Kind.STRING:
            hint = "put it in quotes" if isinstance(self.node, Scalar) and not self.is_null else None
            raise self.error(f"must be a string, not {describe(self.node)}", hint=hint)
        return self.node.text

    def filled(self) -> str:
        """A string that is not empty."""
        text = self.string()
        if not text:
            raise self.error("must not be empty")
        return text

    def text(self) -> str:
        """Any scalar but null, as it is written; booleans in lower case."""
        if not isinstance(self.node, Scalar) or self.is_null:
            raise self.wrong("a string or a number")
        return self.node.text.lower() if self.node.kind is Kind.BOOLEAN else self.node.text

    def number_text(self) -> str:
        """A string or a number, as it is written."""
        if isinstance(self.node, Scalar) and self.node.kind is Kind.BOOLEAN:
            raise self.wrong("a number or a string")
        return self.text()

    def boolean(self) -> bool:
        if isinstance(self.node, Scalar) and self.node.kind in (Kind.BOOLEAN, Kind.STRING):
            value = _BOOLEANS.get(self.node.text.lower())
            if value is not None:
                return value
            raise self.error(f'must be true or false, not "{self.node.text}"')
        raise self.wrong("true or false")

    def integer(self, low: int | None = None, high: int | None = None) -> int:
        text = self.number_text()
        if not _INTEGER.fullmatch(text):
            raise self.error(f'must be an integer, not "{text}"')
        value = int(text)
        if (low is not None and value < low) or (high is not None and value > high):
            raise self.error(_out_of_range(value, low, high))
        return value

    def number(self) -> float:
        text = self.number_text()
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(f'must be a number, not "{text}"')
        return value

    def size(self) -> int:
        """Bytes."""
        if isinstance(self.node, Scalar) and self.node.kind is Kind.FLOAT:
            raise self.wrong("whole bytes or a size like 1.5g")
        return self._parsed(parse_bytes, self.number_text())

    def duration(self) -> float:
        """Seconds."""
        return self._parsed(parse_duration, self.string())

    def _parsed(self, parse: Callable[[str], T], text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise self.error(str(error)) from None

    def items(self) -> tuple[At, ...]:
        if not isinstance(self.node, Items):
            raise self.wrong("a list")
        return tuple(At(f"{self.key}[{n}]", value, value.mark) for n, value in enumerate(self.node.values))

    def strings(self) -> tuple[At, ...]:
        """A list of strings, the second of two equal ones left out."""
        first: dict[str, At] = {}
        for item in self.items():
            first.setdefault(item.string(), item)
        return tuple(first.values())

    def one_or_more(self) -> tuple[At, ...]:
        """A string, or a list of strings."""
        if self.is_text:
            return (self,)
        if not isinstance(self.node, Items):
            raise self.wrong("a string or a list")
        return self.strings()

    def entries(self) -> dict[str, At]:
        if not isinstance(self.node, Table):
            raise self.wrong("a mapping")
        return {name: self.child(name) for name in self.node.entries}

    def pairs(self) -> dict[str, tuple[At, str | None]]:
        """A mapping of scalars or a list of `KEY=VALUE`; None is a key without a value. Values are texts."""
        if isinstance(self.node, Table):
            return {name: (at, None if at.is_null else at.text()) for name, at in self._named()}
        if not isinstance(self.node, Items):
            raise self.wrong('a mapping or a list of "KEY=VALUE"')
        found: dict[str, tuple[At, str | None]] = {}
        for item in self.items():
            name, equals, value = item.string().partition("=")
            if not name:
                raise item.error("has no name before the =")
            found[name] = (item, value if equals else None)
        return found

    def _named(self) -> Iterator[tuple[str, At]]:
        for name, at in self.entries().items():
            if not name:
                raise at.error("has no name")
            yield name, at


def _out_of_range(value: int, low: int | None, high: int | None) -> str:
    if low is not None and high is not None:
        return f"{value} is not within {low} and {high}"
    return f"must be at least {low}, not {value}" if low is not None else f"must be at most {high}, not {value}"


@dataclass(frozen=True, slots=True)
class Fields:
    """The known entries of a mapping; what is absent reads as None or as the default."""

    at: At
    known: dict[str, At]

    def get(self, name: str) -> At | None:
        return self.known.get(name)

    def read(self, name: str, reader: Callable[[At], T]) -> T | None:
        at = self.known.get(name)
        return None if at is None else reader(at)

    def string(self, name: str) -> str | None:
        return self.read(name, At.string)

    def filled(self, name: str) -> str | None:
        return self.read(name, At.filled)

    def boolean(self, name: str, default: bool = False) -> bool:
        value = self.read(name, At.boolean)
        return default if value is None else value

    def duration(self, name: str, default: float) -> float:
        value = self.read(name, At.duration)
        return default if value is None else value

    def size(self, name: str) -> int | None:
        return self.read(name, At.size)

    def integer(self, name: str, low: int | None = None, high: int | None = None) -> int | None:
        return self.read(name, lambda at: at.integer(low, high))

    def required(self, name: str) -> At:
        at = self.known.get(name)
        if at is None:
            raise self.at.error(f'"{name}" is missing')
        return at

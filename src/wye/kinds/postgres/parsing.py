"""PostgreSQL's grammar on text that a fork has written.

The parser is C: it goes as deep into its own stack as an expression is nested, and takes time by the square of that.
60 KB of "1+1+1+..." would end this process, where PostgreSQL itself only refuses them; and a fork's log can say that
they were run. So a text that is long enough for that is counted through first, by tokens, which costs little.
"""

from __future__ import annotations

import postgast
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

LIMIT_BYTES = 1 << 20
_SHALLOW_BYTES = 16 << 10
"""Half as many levels at most: a usual stack has room for three times that."""
_DEPTH = 8000
_OPENING, _CLOSING, _SEPARATING = (b"(", b"["), (b")", b"]"), (b",", b";")


class Unparsable(Exception):
    """Says why, in a few words."""


def parse(text: str) -> postgast.ParseResult:
    """Raises Unparsable: no SQL, too long, or nested more deeply than a parse tree can be read here."""
    try:
        data = text.encode()
        if b"\0" in data:
            raise Unparsable("it is no text")  # the parser would stop there, and the rest go on unread
        if len(data) > LIMIT_BYTES:
            raise Unparsable(f"{len(data)} bytes in one message are more than are read")
        if len(data) > _SHALLOW_BYTES and _depth(data, text) > _DEPTH:
            raise Unparsable("it is nested too deeply")
        return postgast.parse(text)
    except postgast.PgQueryError as error:
        raise Unparsable(str(error)) from error
    except DecodeError as error:
        raise Unparsable("it is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise Unparsable("it is no text") from error


def enum_name(kind: str, number: int) -> str:
    """Of a value of one of the parser's enumerations."""
    return str(getattr(postgast.pg_query_pb2, kind).Name(number))


def _depth(data: bytes, text: str) -> int:
    """No parse tree is deeper: an item of a list is as deep as it has tokens, those in brackets as far as they are."""
    levels = [0]
    deepest = [0]
    for token in postgast.scan(text).tokens:
        sign = data[token.start : token.end]
        if sign in _OPENING:
            levels.append(0)
            deepest.append(0)
        elif sign in _CLOSING and len(levels) > 1:
            inner = max(deepest.pop(), levels.pop())
            levels[-1] = max(levels[-1], inner) + 1
        elif sign in _SEPARATING:
            deepest[-1] = max(deepest[-1], levels[-1])
            levels[-1] = 0
        else:
            levels[-1] += 1
    return sum(map(max, levels, deepest))

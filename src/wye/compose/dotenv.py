"""`.env` files → variables.

The dialect is compose's: `KEY=value` or `KEY: value`, an optional `export`, `#` comments (inside an unquoted value only
after a space), single quotes for text as it is, double quotes for text with escapes, both over several lines; variables
are put into unquoted and double-quoted values. A bare `KEY` takes the caller's value. `format: raw` takes every line
after its `=` as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from wye.compose.interpolate import Expander, TemplateError
from wye.compose.nodes import ComposeError, Mark, Origin

_KEY = re.compile(r"(?:export[ \t]+)?(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)[ \t]*(?P<separator>[=:]|(?=[#\n])|\Z)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "$": "$$"}
_COMMENT = re.compile(r"(?:^|[ \t])#.*")
_REST_OF_LINE = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")


def parse(text: str, origin: Origin, *, raw: bool = False) -> dict[str, str]:
    """The file's variables. `origin.variables` are the caller's: they are seen by `$V`, and win there.

    Raises ComposeError."""
    reader = _Reader(text.replace("\r\n", "\n"), origin)
    return reader.raw() if raw else reader.all()


class _Seen(Mapping[str, str]):
    """The caller's variables over those that the file has set so far."""

    def __init__(self, outer: Mapping[str, str], inner: Mapping[str, str]) -> None:
        self._layers = (outer, inner)

    def __getitem__(self, name: str) -> str:
        outer, inner = self._layers
        return outer[name] if name in outer else inner[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._layers[1], **self._layers[0]})

    def __len__(self) -> int:
        return len({**self._layers[1], **self._layers[0]})


class _Reader:
    def __init__(self, text: str, origin: Origin) -> None:
        self._text = text
        self._origin = origin
        self._position = 0
        self._found: dict[str, str] = {}
        self._expander = Expander(_Seen(origin.variables, self._found), lambda name: None)

    def _error(self, position: int, message: str, *, key: str = "", hint: str | None = None) -> ComposeError:
        mark = Mark(self._origin, self._text.count("\n", 0, position) + 1)
        return ComposeError(message, mark, key=key, hint=hint)

    def raw(self) -> dict[str, str]:
        for line in self._text.split("\n"):
            bare = line.strip()
            if not bare or bare.startswith("#"):
                continue
            name, equals, value = line.partition("=")
            if equals:
                self._found[name.strip()] = value
            elif bare in self._origin.variables:
                self._found[bare] = self._origin.variables[bare]
        return self._found

    def all(self) -> dict[str, str]:
        while self._skip_blank():
            self._assignment()
        return self._found

    def _skip_blank(self) -> bool:
        """Moves to the next assignment; False at the end."""
        while self._position < len(self._text):
            if self._text[self._position] == "#":
                self._position = self._end_of_line()
            elif self._text[self._position].isspace() or self._text[self._position] == "\ufeff":
                self._position += 1
            else:
                return True
        return False

    def _end_of_line(self) -> int:
        end = self._text.find("\n", self._position)
        return len(self._text) if end < 0 else end

    def _assignment(self) -> None:
        start = self._position
        match = _KEY.match(self._text, start)
        if match is None:
            line = self._text[start : self._end_of_line()]
            raise self._error(start, f'"{line[:40]}" is not KEY=value', hint="comments start with #")
        name = match["name"]
        self._position = match.end()
        if not match["separator"]:
            if name in self._origin.variables:
                self._found[name] = self._origin.variables[name]
            self._position = self._end_of_line()
            return
        while self._text[self._position : self._position + 1] in (" ", "\t"):
            self._position += 1
        quote = self._text[self._position : self._position + 1]
        if quote in ("'", '"'):
            self._found[name] = self._quoted(name, quote)
        else:
            end = self._end_of_line()
            value = _COMMENT.sub("", self._text[self._position : end], count=1).strip()
            self._position = end
            self._found[name] = self._expanded(name, start, value)

    def _quoted(self, name: str, quote: str) -> str:
        start = self._position
        end = start + 1
        while end < len(self._text) and self._text[end] != quote:
            end += 2 if self._text[end] == "\\" else 1
        if end >= len(self._text):
            raise self._error(start, f"the {quote} is not closed", key=name)
        body = self._text[start + 1 : end]
        rest = _REST_OF_LINE.match(self._text, end + 1)
        if rest is None:
            raise self._error(start, "text after the closing quote", key=name)
        self._position = rest.end()
        if quote == "'":
            return body.replace("\\'", "'")
        return self._expanded(name, start, _ESCAPE.sub(lambda m: _ESCAPES.get(m[1], m[1]), body))

    def _expanded(self, name: str, position: int, value: str) -> str:
        try:
            return self._expander.expand(value)
        except TemplateError as error:
            hint = error.hint or "put the value in single quotes to keep it as it is"
            raise self._error(position, error.message, key=name, hint=hint) from None

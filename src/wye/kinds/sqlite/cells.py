"""Values of SQLite as cells for `merge.rows`: the literal that SQL has for them, None for NULL.

SQLite's types belong to values, not columns, and 1, 1.0 and '1' are three different ones, as are texts that a
collation takes for equal: literals keep them apart. A text need not be valid Unicode, so it is read as bytes; one that
is not becomes a CAST of its bytes, as it would have to be written in SQL.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import apsw

from wye.kinds.sqlite.database import quoted
from wye.merge.rows import Cell, Row

LIMIT_BYTES = 1 << 30
Value = None | int | float | str | bytes

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_REAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_BLOB = re.compile(r"[xX]'((?:[0-9a-fA-F]{2})*)'")
_RAW = re.compile(r"CAST\(X'((?:[0-9A-F]{2})*)' AS TEXT\)")
_CODECS = {"UTF-8": "utf-8", "UTF-16le": "utf-16-le", "UTF-16be": "utf-16-be"}


class Cells:
    """Reads and writes cells of a database with the given text encoding (`PRAGMA encoding`). Raises apsw.TooBigError
    when it has given out more than `limit_bytes`, for those who keep what they get: a file full of holes is larger than
    the disk that it lies on."""

    def __init__(self, encoding: str, *, limit_bytes: int | None = LIMIT_BYTES) -> None:
        self._codec = _CODECS[encoding]
        self._left = limit_bytes

    def selected(self, columns: Sequence[str], alias: str = "") -> str:
        """The select list whose rows `row` understands: two columns for each."""
        prefix = f"{alias}." if alias else ""
        return ", ".join(_typed(prefix + quoted(column)) for column in columns)

    def row(self, values: Sequence[Value]) -> Row:
        row = tuple(self.cell(str(kind), value) for kind, value in zip(values[::2], values[1::2], strict=True))
        if self._left is not None:
            self._left -= sum(map(len, filter(None, row)))
            if self._left < 0:
                raise apsw.TooBigError("its changes are more than are read at once")
        return row

    def cell(self, kind: str, value: Value) -> Cell:
        if value is None or kind == "null":
            return None
        if kind == "text":
            return self._text(value if isinstance(value, bytes) else str(value).encode(self._codec))
        if isinstance(value, bytes):
            return f"X'{value.hex().upper()}'"
        if isinstance(value, float):
            return _real(value)
        return str(value)

    def bound(self, cell: Cell) -> tuple[str, Value]:
        """SQL for a cell, with one parameter, and the parameter. What is no literal (a person's resolution) is text."""
        if cell is not None and (raw := _RAW.fullmatch(cell)) is not None:
            return "CAST(? AS TEXT)", bytes.fromhex(raw[1])
        value = parsed(cell)
        return ("CAST(? AS TEXT)", value.encode(self._codec)) if isinstance(value, str) else ("?", value)

    def _text(self, raw: bytes) -> str:
        try:
            return "'" + raw.decode(self._codec).replace("'", "''") + "'"
        except UnicodeDecodeError:
            return f"CAST(X'{raw.hex().upper()}' AS TEXT)"


def parsed(cell: Cell) -> Value:
    """The value of a literal."""
    if cell is None:
        return None
    if len(cell) >= 2 and cell.startswith("'") and cell.endswith("'"):
        return cell[1:-1].replace("''", "'")
    if (blob := _BLOB.fullmatch(cell)) is not None:
        return bytes.fromhex(blob[1])
    if _INTEGER.fullmatch(cell) and -(1 << 63) <= int(cell) < 1 << 63:
        return int(cell)
    return float(cell) if _REAL.fullmatch(cell) else cell


def differs(left: str, right: str) -> str:
    """SQL: whether two columns hold different values, whatever their collation and affinity."""
    return f"(typeof({left}) IS NOT typeof({right}) OR {left} IS NOT {right} COLLATE BINARY)"


def _typed(column: str) -> str:
    return f"typeof({column}), CASE typeof({column}) WHEN 'text' THEN CAST({column} AS BLOB) ELSE {column} END"


def _real(value: float) -> str:
    if math.isinf(value):
        return "9e999" if value > 0 else "-9e999"
    text = repr(value)
    return text if "." in text or "e" in text else f"{text}.0"

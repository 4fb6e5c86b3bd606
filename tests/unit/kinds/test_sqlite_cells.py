"""Cells of SQLite: every value has its own literal, and SQLite reads the literal back as the value."""

from __future__ import annotations

from typing import Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wye.kinds.sqlite.cells import Cells, parsed
from wye.kinds.sqlite.schema import changed_objects

INTEGERS = st.integers(-(1 << 63), (1 << 63) - 1)
VALUES = (
    st.none() | INTEGERS | st.floats(allow_nan=False) | st.binary() | st.text(st.characters(exclude_categories=["Cs"]))
)


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
@given(st.data())
def test_cells_go_in_and_come_out(encoding: str, data: st.DataObject) -> None:
    connection = apsw.Connection(":memory:")
    connection.execute(f"PRAGMA encoding = '{encoding}'; CREATE TABLE t (id, v)")
    cells = Cells(encoding)

    def read() -> Any:
        return [cells.row(row)[0] for row in connection.execute(f"SELECT {cells.selected(['v'])} FROM t ORDER BY id")]

    value = data.draw(VALUES)
    connection.execute("INSERT INTO t VALUES (1, ?)", (value,))
    (cell,) = read()
    sql, bound = cells.bound(cell)
    connection.execute(f"INSERT INTO t VALUES (2, {sql})", (bound,))
    assert read() == [cell, cell]
    if cell is not None and "\0" not in cell:
        connection.execute(f"INSERT INTO t VALUES (3, {cell})")
        assert read()[2] == cell
    assert isinstance(value, bytes) or parsed(cell) == value


@given(VALUES, VALUES)
def test_values_that_differ_have_cells_that_differ(left: Any, right: Any) -> None:
    cells = Cells("UTF-8")
    kinds = {type(None): "null", int: "integer", float: "real", bytes: "blob", str: "text"}

    def cell(value: Any) -> Any:
        return cells.cell(kinds[type(value)], value)

    same = type(left) is type(right) and left == right
    assert (cell(left) == cell(right)) == same or (left == right == 0.0)


@given(st.binary())
def test_what_is_no_text_is_a_cast_of_its_bytes(raw: bytes) -> None:
    connection = apsw.Connection(":memory:")
    cells = Cells("UTF-8")
    cell = cells.cell("text", raw)
    assert cell is not None
    sql, bound = cells.bound(cell)
    assert connection.execute(f"SELECT CAST({sql} AS BLOB)", (bound,)).fetchall() == [(raw,)]


@pytest.mark.parametrize(
    ("before", "after", "statements"),
    [
        ("CREATE TABLE t (a)", "CREATE TABLE t (a, b TEXT)", ['ALTER TABLE "t" ADD COLUMN b TEXT']),
        (
            "CREATE TABLE t (a, CHECK (a > 0))",
            "CREATE TABLE t (a, b DEFAULT 'x,)', c CHECK (c IN (1, 2)), CHECK (a > 0))",
            ["ALTER TABLE \"t\" ADD COLUMN b DEFAULT 'x,)'", 'ALTER TABLE "t" ADD COLUMN c CHECK (c IN (1, 2))'],
        ),
        ("CREATE TABLE t (a, a2)", "CREATE TABLE t (a, a1, a2)", None),
        ("CREATE TABLE t (a)", "CREATE TABLE t (b)", None),
        ("CREATE TABLE t (a, b)", "CREATE TABLE t (a)", ['ALTER TABLE "t" DROP COLUMN "b"']),
        (None, "CREATE VIRTUAL TABLE t USING fts5 (a)", None),
    ],
)
def test_only_what_can_be_repeated_is_taken_over(before: str | None, after: str, statements: list[str] | None) -> None:
    base = {} if before is None else {("table", "t"): before}
    changes, refused = changed_objects(base, {("table", "t"): after})
    if statements is None and not refused:  # then SQLite's own text of the outcome will differ, and the merge refuses
        connection = apsw.Connection(":memory:")
        connection.execute(str(before))
        for statement in changes[0].statements:
            connection.execute(statement)
        assert connection.execute("SELECT sql FROM sqlite_schema").fetchall() != [(after,)]
    elif statements is None:
        assert refused == [("table", "t")]
    else:
        assert list(changes[0].statements) == statements

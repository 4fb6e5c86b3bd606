"""Databases, merges and conflicts: real values in, the text that people see out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from wye.api import wire
from wye.cli import differences, outcome, stores, tables, text, words


def plain(shown: Iterable[tables.Shown], capsys: pytest.CaptureFixture[str]) -> list[str]:
    tables.show(*shown)
    return capsys.readouterr().out.splitlines()


def lines_of(found: Iterable[Text]) -> list[str]:
    return [line.plain for line in found]


# ---------------------------------------------------------------- databases

ROWS = [
    {"change": "delete", "row": {"id": "5", "name": "o'x", "note": None}},
    {"change": "update", "key": {"id": "7"}, "cells": {"status": ["new", "shipped"], "total": ["1.10", "-2"]}},
    {"change": "insert", "row": {"id": "9", "name": "a\x1b[2Jb", "note": "x" * 100}},
]
ORDERS = {"table": "public.orders", "inserted": 10, "deleted": 10, "updated": 80, "columns": ["status", "total"]}
DATABASE = {
    "database": "shop",
    "ddl": ["ALTER TABLE orders\n  ADD COLUMN note text"],
    "tables": [ORDERS, {"table": "public.c", "inserted": 1, "deleted": 0, "updated": 0, "columns": []}],
    "sequences": {"public.orders_id_seq": 1000},
    "views": ["public.totals"],
}
POSTGRES = wire.StoreChange(
    place="postgres db",
    kind="postgres",
    service="db",
    stat={"databases": [DATABASE]},
    page={"databases": [{**DATABASE, "tables": [{"table": "public.orders", "rows": ROWS, "total": 100}]}]},
)


def test_a_sql_database() -> None:
    assert lines_of(stores.lines(POSTGRES, sample=2)) == [
        "postgres db",
        "  database shop",
        "  + ALTER TABLE orders",
        "  +   ADD COLUMN note text",
        "  public.orders  +10 -10 ~80  cells: status, total",
        "  public.c       +1",
        "  sequence public.orders_id_seq: at 1000",
        "  materialized view public.totals: is refreshed",
        "  public.orders",
        "    - id=5 name='o''x' note=NULL",
        "    ~ id=7  status: 'new' → 'shipped', total: 1.10 → -2",
        "    ... and 98 rows more",
    ]
    assert lines_of(stores.lines(POSTGRES, sample=None))[-1] == f"    + id=9 name='a\\x1b[2Jb' note='{'x' * 59}…'"
    assert stores.count(POSTGRES) == 101
    assert stores.is_cut(POSTGRES, 20)


def test_a_sqlite_file() -> None:
    table = {"table": "t", "rows": [
        {"change": "count", "row": {"a": "'x'", "b": "1"}, "before": 0, "after": 2},
        {"change": "insert", "row": {"a": "NULL", "b": "x'00'"}},
    ]}  # fmt: skip
    found = wire.StoreChange(
        place="sqlite data",
        kind="sqlite",
        service="",
        stat={"files": [{
            "path": "app.db",
            "schema": [{"type": "table", "before": "CREATE TABLE t (a)", "after": "CREATE TABLE t (a, b)"}],
            "tables": [{"table": "t", "inserted": 3, "deleted": 0, "updated": 0}],
            "sequences": {"t": 7, "u": 3, "v": None},
            "sequences_set_back": {"u": 9, "v": 12},
            "refused": [{"kind": "virtual-table", "name": "docs", "detail": "it is not compared"}],
        }]},
        page={"files": [{"tables": [table]}]},
    )  # fmt: skip
    assert lines_of(stores.lines(found)) == [
        "sqlite data",
        "  database app.db",
        "  - CREATE TABLE t (a)",
        "  + CREATE TABLE t (a, b)",
        "  t  +3",
        "  sequence t: at 7",
        "  sequence u: at 3, set back from 9",
        "  sequence v: gone, set back from 12",
        "  ! virtual-table docs it is not compared",
        "  t",
        "    + a='x' b=1  0 → 2 times",
        "    + a=NULL b=x'00'",
        "    ... and 1 row more",
    ]


def test_keys() -> None:
    def side(kind: str, value: Any, expires_ms: int | None = None) -> dict[str, Any]:
        return {"type": kind, "length": 1, "expires_ms": expires_ms, "value": value}

    found = wire.StoreChange(
        place="redis cache",
        kind="redis",
        service="cache",
        stat={"databases": {"0": {"added": 1, "removed": 1, "modified": 2}}, "functions_differ": True},
        page={"keys": [
            {"database": 0, "key": "a", "change": "added", "before": None, "after": side("string", "x")},
            {"database": 3, "key": "b", "change": "modified", "before": side("string", "1"),
             "after": side("hash", {"f": "1"})},
            {"database": 0, "key": "c\x1b", "change": "removed", "before": side("set", ["m"]), "after": None},
        ]},
    )  # fmt: skip
    assert lines_of(stores.lines(found)) == [
        "redis cache",
        "  db0: keys: 1 added, 1 removed, 2 modified",
        "  libraries of functions differ",
        "  A a  string  'x'",
        '  M db3 b  string → hash  1 → {"f": "1"}',
        '  D c\\x1b  set  ["m"]',
        "  ... and 1 key more",
    ]
    assert stores.is_cut(found, 20)
    later = side("string", "x", 1_000_000_000_000)
    change = {"database": 0, "key": "a", "change": "modified", "before": side("string", "x"), "after": later}
    expiring = found.model_copy(update={"page": {"keys": [change]}})
    assert f"expires {words.moment(1_000_000_000)}" in lines_of(stores.lines(expiring))[3]


def test_refusals_and_kinds_that_nobody_knows() -> None:
    refusal = conflict(kind="unsupported", place="mysql db", key=(), column="", choices=(), detail="MySQL: not merged")
    found = wire.StoreChange(place="mysql db", kind="mysql", service="db", stat={}, refused=(refusal,))
    assert lines_of(stores.lines(found)) == ["mysql db", "  ! unsupported mysql db: MySQL: not merged"]
    odd = wire.StoreChange(place="volume x", kind="graph", service="g", stat={"nodes": 3})
    assert lines_of(stores.lines(odd)) == ["volume x (graph, service g)", '  {"nodes": 3}']


LEAF = st.none() | st.integers() | st.text(max_size=8)
SHAPES = st.dictionaries(
    st.sampled_from(["databases", "tables", "rows", "keys", "key", "change", "row", "cells", "ddl", "schema", "stat"])
    | st.text(max_size=4),
    st.recursive(
        LEAF,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["table", "tables", "rows", "key", "change", "before", "after", "cells", "row", "value"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ),
    max_size=4,
)


@given(SHAPES, SHAPES, st.text())
def test_no_shape_breaks_it_and_nothing_controls_the_terminal(stat: Any, page: Any, name: str) -> None:
    found = wire.StoreChange(place=name, kind=name, service=name, stat=stat, page=page)
    for line in (*stores.lines(found), *stores.stat_lines(found), *text.lines(name)):
        assert all(each.isprintable() or each in "\t " for each in line.plain)
    assert stores.count(found) >= 0 or stat


def test_a_diff_with_databases_and_text() -> None:
    view = wire.FileView(kind="file", size_bytes=4, mode=0o644, uid=0, gid=0)
    changed = wire.FileChange(
        place="layer web", path="/app.py", change="modified", before=view, after=view, text="@@ -1 +1 @@\n-a\n+b\x07\n"
    )
    result = wire.DiffResult(
        environment="fix-1", against="production", base="c" * 64, spec=(), places=(), files=(changed,), total_files=1,
        file_counts={"layer web": {"modified": 1}}, stores=(POSTGRES,),
    )  # fmt: skip
    shown = lines_of(differences.lines(result, 1000, sample=20))
    assert shown[-5:] == [
        "M layer web /app.py  (4 B)",
        "@@ -1 +1 @@",
        "-a",
        "+b\\x07",
        "in full, in pages: --offset 0 --limit 1000",
    ]
    assert lines_of(differences.lines(result, 50))[-1] == "... and 51 rows or keys more: --offset 50"
    assert lines_of(differences.lines(result, 1000))[-1] == "+b\\x07"
    assert lines_of(differences.stat_lines(result))[-2:] == [
        "  materialized view public.totals: is refreshed",
        "layer web: 1 modified",
    ]


def test_text_diffs_are_cut_and_coloured_as_git_does() -> None:
    found = list(text.lines("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n--- a\n+b\n c\n", limit=6))
    assert [str(line.style) for line in found] == ["bold", "bold", "bold", "cyan", "red", "green", "dim"]
    assert found[-1].plain == "... and 1 line more: --patch"


# ---------------------------------------------------------------- merges


def conflict(**changes: Any) -> wire.ConflictView:
    fields = {
        "id": "3f9c0a1b2c3d", "kind": "update/update", "place": "postgres db/public.orders", "key": ("7", None),
        "column": "status", "base": "new", "ours": None, "theirs": "x\x1b[2J", "choices": ("ours", "theirs", "value"),
        "detail": "",
    }  # fmt: skip
    return wire.ConflictView.model_validate({**fields, **changes})


def result(**changes: Any) -> wire.MergeResult:
    fields: dict[str, Any] = {"source": "fix-1", "into": "production", "merged": False, "rehearsed": True}
    return wire.MergeResult.model_validate({**fields, "steps": {"read changes": 0.07, "rehearse": 0.4}, **changes})


FAILED = wire.CheckView(name="pytest -q", passed=False, seconds=1.25, output="E  x\x1b[31m\r\n\nfailed\n")
PASSED = wire.CheckView(name="GET /health", passed=True, seconds=0.012, output="ok")


def test_a_merge(capsys: pytest.CaptureFixture[str]) -> None:
    merged = result(
        merged=True, entry="a" * 64, applied={"postgres db": 1200, "layer web": 3}, restarted=("web",), checks=(PASSED,)
    )
    assert plain(outcome.lines(merged, "merge"), capsys) == [
        "✓ GET /health  12 ms",
        "",
        "APPLIED       CHANGES",
        "postgres db   1,200",
        "layer web     3",
        "",
        "restarted: web",
        "",
        "STEP           TIME",
        "read changes   70 ms",
        "rehearse       400 ms",
        "",
        "merge of fix-1 into production is done: entry aaaaaaaaaaaa, in 470 ms",
    ]
    assert list(outcome.advice(merged, "merge", "wye merge fix-1")) == [
        "hint: take it back with: wye revert aaaaaaaaaaaa"
    ]
    assert not outcome.refused(merged)


def test_conflicts_and_checks_that_failed(capsys: pytest.CaptureFixture[str]) -> None:
    bare = conflict(id="8a7b6c5d4e3f", kind="role", key=(), column="", base=None, theirs=None, choices=(), detail="no")
    refused = result(conflicts=(conflict(), bare), checks=(FAILED, PASSED))
    shown = plain(outcome.lines(refused, "merge"), capsys)
    assert [re.split(" {3,}", line) for line in shown[:3]] == [
        ["ID", "KIND", "PLACE", "KEY", "COLUMN", "BASE", "OURS", "THEIRS", "CHOICES", "WHY"],
        ["3f9c0a1b2c3d", "update/update", "postgres db/public.orders", "7, NULL", "status", '"new"', "null",
         '"x\\u001b[2J"', "ours theirs value"],
        ["8a7b6c5d4e3f", "role", "postgres db/public.orders", "none", "no"],
    ]  # fmt: skip
    assert shown[3:] == [
        "",
        "✗ pytest -q  1.2 s",
        "    E  x\\x1b[31m",
        "",
        "    failed",
        "✓ GET /health  12 ms",
        "",
        "STEP           TIME",
        "read changes   70 ms",
        "rehearse       400 ms",
        "",
        "merge of fix-1 into production: 2 conflicts and 1 of 2 checks failed; production is as it was",
    ]
    assert list(outcome.advice(refused, "merge", "wye merge fix-1")) == [
        "hint: what has no choices must be changed on one of the sides; then try again",
        "hint: write down what to take, a line for each, for example in resolve.yaml:",
        "    3f9c0a1b2c3d: theirs",
        "    default: ours        # for all others",
        "  and then: wye merge fix-1 --resolve resolve.yaml",
        "  or have a file written to fill in: wye conflicts fix-1 --template resolve.yaml",
    ]
    assert outcome.refused(refused)


def test_the_parts_of_a_step_are_below_it_and_counted_once(capsys: pytest.CaptureFixture[str]) -> None:
    steps = {"read changes": 0.07, "postgres db: write": 0.02, "postgres db: commit": 0.01, "apply": 0.04}
    assert plain([outcome.step_table(steps)], capsys)[1:] == [
        "read changes            70 ms",
        "apply                   40 ms",
        "  postgres db: write    20 ms",
        "  postgres db: commit   10 ms",
    ]
    assert outcome.ending(result(merged=True, steps=steps), "merge").plain.endswith("in 110 ms")


def test_of_rows_only_what_differs_is_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"id": "9", "status": "new", "total": "1"}
    changed = conflict(column="", base=row, ours=None, theirs={**row, "status": "x"})
    (_, shown) = plain([outcome.conflict_table([changed])], capsys)
    assert '{"status": "new"}   null   {"status": "x"}' in shown
    same = conflict(column="", base=None, ours=None, theirs={"id": "9"})
    assert '{"id": "9"}' in plain([outcome.conflict_table([same])], capsys)[1]


@pytest.mark.parametrize(
    ("verb", "changes", "rehearsal", "line"),
    [
        ("merge", {}, False, "merge of fix-1 into production: there was nothing to do"),
        ("merge", {}, True, "merge of fix-1 into production was rehearsed: nothing is in conflict"),
        ("merge", {"checks": (PASSED,)}, True,
         "merge of fix-1 into production was rehearsed: nothing is in conflict, and 1 check passed"),
        ("merge", {"conflicts": (conflict(),)}, True,
         "merge of fix-1 into production: 1 conflict; production is as it was"),
        ("revert", {"merged": True, "source": "abc", "entry": "e" * 64}, False,
         "revert of abc in production is done: entry eeeeeeeeeeee, in 470 ms"),
        ("update", {"merged": True, "source": "production", "into": "fix-1", "entry": "e" * 64}, False,
         "update of fix-1 from production is done: entry eeeeeeeeeeee, in 470 ms"),
    ],
)  # fmt: skip
def test_one_line_says_how_it_ended(verb: str, changes: dict[str, Any], rehearsal: bool, line: str) -> None:
    assert outcome.ending(result(**changes), verb, rehearsal=rehearsal).plain == line


def test_a_failed_checks_output_is_cut_at_its_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    long = FAILED.model_copy(update={"output": "".join(f"{n}\n" for n in range(150))})
    shown = plain(outcome.check_lines([long], all_output=False), capsys)
    assert shown[1:3] == ["    ... 50 lines before: --json", "    50"]
    assert len(plain(outcome.check_lines([long], all_output=True), capsys)) == 152


def test_evidence(capsys: pytest.CaptureFixture[str]) -> None:
    stat = {"databases": [{"database": "shop", "tables": [{"table": "public.orders", "inserted": 3}]}]}
    evidence = {
        "source": "fix-1",
        "changes": {"databases": {"postgres db": stat}, "files": {"layer web": 1}},
        "applied": {"postgres db": 3, "layer web": 1},
        "restarted": ["web"],
        "steps": [["read changes", 0.07], ["apply", 0.038]],
        "checks": [PASSED.model_dump()],
        "approved": {"by": "a\x1bb"},
    }
    assert plain(outcome.evidence_lines(evidence), capsys) == [
        'approved     {"by": "a\\u001bb"}',
        "",
        "postgres db",
        "  database shop",
        "  public.orders  +3",
        "",
        "✓ GET /health  12 ms",
        "    ok",
        "",
        "APPLIED       CHANGES",
        "postgres db   3",
        "layer web     1",
        "",
        "restarted: web",
        "",
        "STEP           TIME",
        "read changes   70 ms",
        "apply          38 ms",
    ]
    assert plain(outcome.evidence_lines({"steps": {"apply": 0.038}}), capsys) == ["STEP    TIME", "apply   38 ms"]
    assert plain(outcome.evidence_lines({"steps": ["odd"]}), capsys) == ['steps        ["odd"]', ""]

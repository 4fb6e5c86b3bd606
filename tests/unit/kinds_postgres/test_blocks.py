"""From byte ranges of files to blocks of relations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wye.interfaces import PathChange
from wye.kinds.postgres.blocks import Ranges, changed_blocks

SPANS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=8)


def changed(path: str, *extents: tuple[int, int], kind: str = "modified", data: str = "volumes/db") -> Ranges:
    blocks = changed_blocks([PathChange(path=path, kind=kind, extents=extents)], data, segment_blocks=100)
    return blocks.of("base/5/16384")


def test_extents_are_rounded_out_to_blocks() -> None:
    assert changed("volumes/db/base/5/16384", (8192, 8192)).spans == ((1, 2),)
    assert changed("volumes/db/base/5/16384", (8191, 2), (30000, 1)).spans == ((0, 2), (3, 4))


def test_segments_count_on() -> None:
    assert changed("volumes/db/base/5/16384.2", (0, 4096)).spans == ((200, 201),)
    assert changed("volumes/db/base/5/16384.3", kind="added").spans == ((300, 400),)


def test_other_files_say_nothing() -> None:
    for name in ("16384_vm", "16384_fsm", "16384_init", "pg_internal.init", "t3_16384", "16384.x", "PG_VERSION"):
        assert not changed(f"volumes/db/base/5/{name}", (0, 8192))
    assert not changed("volumes/database/base/5/16384", (0, 8192))
    assert not changed("base/5/16384", (0, 8192))
    assert changed("base/5/16384", (0, 8192), data="")


def test_a_file_that_only_shrank_is_touched() -> None:
    blocks = changed_blocks([PathChange(path="d/base/5/16384", kind="modified")], "d")
    assert blocks.touched("base/5/16384")
    assert not blocks.of("base/5/16384")
    assert blocks.of("base/5/16384").with_tail(10, 4).spans == ((4, 10),)


def test_metadata_is_no_change() -> None:
    change = PathChange(path="d/base/5/16384", kind="modified", metadata_only=True)
    assert not changed_blocks([change], "d").touched("base/5/16384")


def test_settings_files() -> None:
    names = ("postgresql.auto.conf", "pg_hba.conf", "pg_wal/pg_hba.conf")
    changes = [PathChange(path=f"d/{name}", kind="modified", extents=((0, 1),)) for name in names]
    assert changed_blocks(changes, "d").configuration == ("pg_hba.conf", "postgresql.auto.conf")


def blocks_of(spans: list[tuple[int, int]]) -> set[int]:
    return {block for first, end in spans for block in range(first, end)}


@given(SPANS, st.integers(1, 5))
def test_ranges_hold_what_was_put_in(spans: list[tuple[int, int]], size: int) -> None:
    ranges = Ranges.of(spans)
    assert blocks_of(list(ranges.spans)) == blocks_of(spans)
    assert ranges.count() == len(blocks_of(spans))
    assert all(a[1] < b[0] for a, b in zip(ranges.spans, ranges.spans[1:], strict=False))
    pieces = list(ranges.pieces(size))
    assert blocks_of(pieces) == blocks_of(spans)
    assert all(end - first <= size for first, end in pieces)
    assert len(blocks_of(pieces)) == sum(end - first for first, end in pieces)


@given(SPANS, st.integers(0, 50), st.integers(0, 50))
def test_the_tail_is_added(spans: list[tuple[int, int]], old: int, new: int) -> None:
    tail = set(range(min(old, new), max(old, new)))
    assert blocks_of(list(Ranges.of(spans).with_tail(old, new).spans)) == blocks_of(spans) | tail


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("conf.d/more.conf", True), ("server.key", True), ("scripts", True), ("standby.signal", True),
        ("base/5/16384", False), ("pg_wal/000000010000000000000001", False), ("pg_stat/pg_stat_statements.stat", False),
        ("postgresql.auto.conf", False), ("postgresql.auto.conf.tmp", False), ("log/postgresql.csv", False),
        ("postmaster.pid", False), ("backup_label.old", False), ("core.17", False), (".psql_history", False),
        ("pg_ident.conf", False), ("pg_ident.conf.d/x", True), ("pg_extra.conf", True), ("current_logfiles", False),
    ],
)  # fmt: skip
def test_what_no_server_writes_in_its_directory(path: str, expected: bool) -> None:
    change = PathChange(path=f"d/{path}", kind="added")
    assert bool(changed_blocks([change], "d").foreign) is expected


def test_what_wye_takes_out_of_a_copy_is_nobodys() -> None:
    changes = [
        PathChange(path="d/standby.signal", kind="removed"),
        PathChange(path="d/x", kind="modified", metadata_only=True),
    ]
    assert changed_blocks(changes, "d").foreign == ()

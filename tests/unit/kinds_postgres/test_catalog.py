"""Which catalogs a fork may have changed, from the files that differ."""

from __future__ import annotations

from typing import Any

import pytest

from wye.interfaces import PathChange
from wye.kinds.postgres.blocks import EVERYTHING, Ranges, changed_blocks
from wye.kinds.postgres.catalog import changed_catalogs

PATHS = {"pg_class": "base/5/1259", "pg_proc": "base/5/1255"}


def changed(*changes: PathChange, fork: dict[str, str] | None = None) -> dict[str, Ranges]:
    return changed_catalogs(PATHS, fork or PATHS, changed_blocks(changes, ""), PATHS)


def modified(path: str, **more: Any) -> PathChange:
    return PathChange(path=path, kind="modified", **more)


def test_an_unchanged_file_need_not_be_read() -> None:
    assert changed() == {}
    assert changed(modified("base/5/1259_vm"), modified("base/4/1259"), modified("base/5/12590")) == {}


def test_a_changed_one_is_read_where_it_differs() -> None:
    found = changed(modified("base/5/1259", extents=((8192 * 7, 4096), (8192 * 3, 8192))))
    assert found == {"pg_class": Ranges(((3, 4), (7, 8)))}


@pytest.mark.parametrize("kind", ["modified", "removed"])
def test_one_that_only_became_shorter_is_read_behind_its_end(kind: Any) -> None:
    assert changed(PathChange(path="base/5/1255", kind=kind)) == {"pg_proc": Ranges()}


def test_one_that_was_rewritten_is_another_file() -> None:
    assert changed(fork={**PATHS, "pg_class": "base/5/20000"}) == {"pg_class": EVERYTHING}

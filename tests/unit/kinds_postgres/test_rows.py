"""Which rows one side has and the other has not, from the hashes of both."""

from __future__ import annotations

import struct
from array import array
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from wye.kinds.postgres.rows import Hashed, missing

SIDE = st.lists(st.lists(st.integers(-3, 12), max_size=6), max_size=4)


def hashed(pieces: list[list[int]]) -> Hashed:
    """Row r of piece p lies at (p, r)."""
    return Hashed([
        (b"".join(struct.pack(">IH", p, r) for r in range(len(piece))), array("q", piece))
        for p, piece in enumerate(pieces)
    ])  # fmt: skip


@given(SIDE, SIDE)
def test_as_often_as_the_other_side_lacks_them(mine: list[list[int]], others: list[list[int]]) -> None:
    found = missing(hashed(mine), hashed(others))
    assert len(found) == len(set(found))
    digests = Counter(mine[block][row] for block, row in found)
    assert digests == Counter(sum(mine, [])) - Counter(sum(others, []))

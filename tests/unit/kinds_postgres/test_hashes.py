"""Which rows one side has and the other has not, from the hashes of both."""

from __future__ import annotations

import random
import struct
from array import array
from collections import Counter
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wye.errors import Unavailable
from wye.kinds.postgres.hashes import Address, Piece, differing, piece_of

Side = dict[int, list[int]]
SIDE = st.dictionaries(st.integers(0, 3), st.lists(st.integers(-3, 12), max_size=6), max_size=4)


def pieces(side: Side) -> dict[int, Piece]:
    """Row r of piece p lies at (p, r)."""
    return {
        p: piece_of(b"".join(struct.pack(">IH", p, r) for r in range(len(rows))), array("q", rows).tobytes())
        for p, rows in side.items()
    }


def only_in(side: Side, other: Side) -> Counter[int]:
    return Counter(chain.from_iterable(side.values())) - Counter(chain.from_iterable(other.values()))


def digests(side: Side, found: list[Address]) -> Counter[int]:
    assert len(found) == len(set(found))
    return Counter(side[block][row] for block, row in found)


@given(SIDE, SIDE)
def test_as_often_as_the_other_side_lacks_them(before: Side, after: Side) -> None:
    gone, come = differing(pieces(before), pieces(after))
    assert digests(before, gone) == only_in(before, after)
    assert digests(after, come) == only_in(after, before)


def test_a_few_in_many() -> None:
    dice = random.Random(1)
    before = {p: [dice.getrandbits(62) for _ in range(100)] for p in range(50)}
    after = {p: list(rows) for p, rows in before.items()}
    after[7][3], after[8][50] = after[30][1], after[7][3]
    after[49] = after[49][:40]
    gone, come = differing(pieces(before), pieces(after))
    assert digests(before, gone) == only_in(before, after)
    assert digests(after, come) == only_in(after, before)


@pytest.mark.parametrize(("places", "hashes"), [(b"123456", b""), (b"", b"12345678"), (b"123", b"1234")])
def test_a_server_that_talks_nonsense(places: bytes, hashes: bytes) -> None:
    with pytest.raises(Unavailable):
        piece_of(places, hashes)

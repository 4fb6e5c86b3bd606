"""Which rows may differ, from the versions of rows that each side has."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wye.errors import Unavailable
from wye.kinds.postgres.hashes import Address
from wye.kinds.postgres.versions import PIECE_BLOCKS, Versions, changed_versions, versions_of

Rows = dict[Address, int]
"""By address the transaction that made the row."""
FIRSTS = (0, PIECE_BLOCKS, 65_530, 10 * 65_536 + 7)
ADDRESS = st.tuples(
    st.sampled_from(FIRSTS).flatmap(lambda first: st.integers(first, first + PIECE_BLOCKS - 1)), st.integers(1, 291)
)
ROWS = st.dictionaries(ADDRESS, st.sampled_from([2, 3, 70_000, 2**32 - 1]), max_size=8)


def pieces(rows: Rows) -> dict[int, Versions]:
    """By number, as a server answers: pieces without rows are not there."""
    found = {}
    for number, first in enumerate(FIRSTS, 1):
        inside = {at: rows[at] for at in sorted(rows) if first <= at[0] < first + PIECE_BLOCKS}
        if inside:
            places = b"".join(struct.pack(">IH", *at) for at in inside)
            found[number] = versions_of(first, places, b"".join(struct.pack(">I", by) for by in inside.values()))
    return found


@given(ROWS, ROWS, ROWS)
def test_what_only_one_side_has(same: Rows, before: Rows, after: Rows) -> None:
    before, after = before | same, after | same
    gone, come = changed_versions(pieces(before), pieces(after))
    assert sorted(gone) == sorted(at for at, _ in before.items() - after.items())
    assert sorted(come) == sorted(at for at, _ in after.items() - before.items())


def test_in_the_order_in_which_they_lie() -> None:
    rows = {(block, row): 7 for block in (300 * 65_536, 70, 3) for row in (258, 2, 1)}
    sides = {n: versions_of(first, *side) for n, (first, side) in enumerate(by_piece(rows).items(), 1)}
    assert changed_versions({}, sides) == ([], sorted(rows))


def by_piece(rows: Rows) -> dict[int, tuple[bytes, bytes]]:
    found: dict[int, tuple[bytes, bytes]] = {}
    for at in sorted(rows):
        first = at[0] - at[0] % PIECE_BLOCKS
        places, transactions = found.get(first, (b"", b""))
        found[first] = places + struct.pack(">IH", *at), transactions + struct.pack(">I", rows[at])
    return found


@pytest.mark.parametrize(("places", "transactions"), [(b"123456", b""), (b"", b"1234"), (b"123456", b"12345")])
def test_a_server_that_talks_nonsense(places: bytes, transactions: bytes) -> None:
    with pytest.raises(Unavailable):
        versions_of(0, places, transactions)

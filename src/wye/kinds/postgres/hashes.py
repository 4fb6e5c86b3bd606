"""Which rows one side of a table has and the other has not, from the hashes of both. Pure.

There may be millions of rows and only a few that differ. So the sides are first compared piece by piece (the same
blocks on both), which leaves little; only then whole, because a row may have moved to another piece. Nothing here is
done for each row in Python where all of a piece can be taken at once.
"""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, compress

from wye.errors import Unavailable

Address = tuple[int, int]
"""Block, and row within it."""
_ADDRESS = struct.Struct(">IH")


@dataclass(frozen=True, slots=True)
class Piece:
    """The rows of some blocks: their addresses, packed, and in the same order the hashes of their text."""

    places: bytes
    hashes: array[int]

    def only(self, digests: set[int]) -> Piece:
        """Its rows with these hashes."""
        chosen = list(compress(range(len(self.hashes)), map(digests.__contains__, self.hashes)))
        places = b"".join(self.places[i * _ADDRESS.size : (i + 1) * _ADDRESS.size] for i in chosen)
        return Piece(places, array("q", [self.hashes[i] for i in chosen]))

    def addresses(self) -> list[Address]:
        return [(block, row) for block, row in _ADDRESS.iter_unpack(self.places)]


NOTHING = Piece(b"", array("q"))
Pieces = Mapping[int, Piece]
"""By number, which is that of the same blocks on both sides."""


def piece_of(places: bytes, hashes: bytes) -> Piece:
    """From what a server says. Raises Unavailable if the two do not belong together."""
    if len(places) * 8 != len(hashes) * _ADDRESS.size or len(hashes) % 8:
        raise Unavailable("postgres answers with addresses and hashes that do not match")
    return Piece(places, array("q", hashes))


def differing(before: Pieces, after: Pieces) -> tuple[list[Address], list[Address]]:
    """Addresses of the rows that only `before` has, or has more often, and of those that only `after` has."""
    old, new = [], []
    for number in before.keys() | after.keys():
        mine, other = _narrowed(before.get(number, NOTHING), after.get(number, NOTHING))
        old.append(mine)
        new.append(other)
    return _missing(old, new), _missing(new, old)


def _narrowed(old: Piece, new: Piece) -> tuple[Piece, Piece]:
    """Without the rows that both have; as they are if rows of a piece are equal, for then they have to be counted."""
    if old.hashes == new.hashes:
        return NOTHING, NOTHING
    mine, other = set(old.hashes), set(new.hashes)
    if len(mine) < len(old.hashes) or len(other) < len(new.hashes) or mine.isdisjoint(other):
        return old, new
    return old.only(mine - other), new.only(other - mine)


def _missing(side: list[Piece], other: list[Piece]) -> list[Address]:
    mine = set(chain.from_iterable(piece.hashes for piece in side))
    lacking = mine.difference(*(piece.hashes for piece in other))
    if len(mine) == sum(len(piece.hashes) for piece in side):
        return [address for piece in side for address in piece.only(lacking).addresses()]
    # Some rows are equal: how many of them there are on each side has to be counted.
    surplus = Counter(chain.from_iterable(piece.hashes for piece in side))
    surplus.subtract(digest for piece in other for digest in piece.hashes if digest in mine)
    addresses = []
    for piece in side:
        for address, digest in zip(piece.addresses(), piece.hashes, strict=True):
            if surplus[digest] > 0:
                surplus[digest] -= 1
                addresses.append(address)
    return addresses

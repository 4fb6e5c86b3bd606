"""Which rows may differ, from which versions of rows each side has. Pure.

A server never writes into the cells of a row that is there: who changes a row makes a new version of it, under the
number of his transaction, somewhere else. So if one side began with the other's bytes, and both read the same file with
the same columns, a version that both have (at one address, by one transaction) holds the same on both. Only the others
have to be looked at, and to find them no cell is printed: a quarter of what hashing the text of all rows costs.

It holds only for a past in common, in which a number means one transaction: the caller knows whether there is one. A
version of a transaction that was under way when the past ended is seen by nobody on the side where it was cut short.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Mapping
from dataclasses import dataclass

from wye.errors import Unavailable
from wye.kinds.postgres.hashes import Address

PIECE_BLOCKS = 64
"""Blocks that are read as one: some 50 KiB of an answer. Far below 65,536, so that the lower half of a block's number
tells the blocks of a piece apart."""

_ADDRESS_BYTES, _TRANSACTION_BYTES = 6, 4
_SHORT = struct.Struct(">HH")


@dataclass(frozen=True, slots=True)
class Versions:
    """The rows of a piece that begins with block `first`, each as one number: the lower half of its block's number, its
    place in the block, and its transaction."""

    first: int
    keys: array[int]

    def address(self, key: int) -> Address:
        block, row = _SHORT.unpack_from(key.to_bytes(8, sys.byteorder))
        return self.first + ((block - self.first) & 0xFFFF), row


def versions_of(first: int, places: bytes, transactions: bytes) -> Versions:
    """From what a server says: of each row its address and its transaction, as it sends them. Raises Unavailable if the
    two do not belong together."""
    count, rest = divmod(len(transactions), _TRANSACTION_BYTES)
    if rest or len(places) != count * _ADDRESS_BYTES:
        raise Unavailable("postgres answers with addresses and transactions that do not match")
    # In strides and not row by row: there may be millions. The numbers' order does not matter, so neither does the
    # machine's order of bytes.
    address, transaction, keys = array("H", places), array("H", transactions), array("H", bytes(8 * count))
    keys[0::4], keys[1::4] = address[1::3], address[2::3]
    keys[2::4], keys[3::4] = transaction[0::2], transaction[1::2]
    return Versions(first, array("Q", keys.tobytes()))


def changed_versions(
    before: Mapping[int, Versions], after: Mapping[int, Versions]
) -> tuple[list[Address], list[Address]]:
    """Addresses of the rows whose version only `before` has, and of those whose version only `after` has, by pieces of
    the same blocks on both sides; in the order in which they lie."""
    gone: list[Address] = []
    come: list[Address] = []
    for number in sorted(before.keys() | after.keys()):
        old, new = before.get(number), after.get(number)
        if old is not None and new is not None and old.keys == new.keys:
            continue
        had, has = (set(side.keys) if side is not None else set() for side in (old, new))
        if old is not None:
            gone += sorted(map(old.address, had - has))
        if new is not None:
            come += sorted(map(new.address, has - had))
    return gone, come

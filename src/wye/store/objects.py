"""Names of immutable bytes.

An object is named by the SHA-256 of its bytes, so equal bytes are stored once, a name can never come to mean
something else, and whoever reads can tell that what came back is what was put. That check is made here, once
for every implementation, by `checked`; nothing above trusts bytes that did not pass it.
"""

from __future__ import annotations

import hashlib

from wye.errors import NotFound, WyeError
from wye.model import ObjectId


class ObjectMissing(NotFound):
    """No object of that name is in the store."""

    code = "object_missing"


class ObjectDamaged(WyeError):
    """An object's bytes are not those that were put: the disk or somebody changed them."""

    code = "object_damaged"


def object_id(data: bytes) -> ObjectId:
    """The name of `data`: SHA-256, 64 lower-case hex digits."""
    return ObjectId(hashlib.sha256(data).hexdigest())


def missing(wanted: str) -> ObjectMissing:
    return ObjectMissing(f"object {wanted} is not in the store")


def checked(wanted: ObjectId, data: bytes) -> bytes:
    """`data`, if it is what `wanted` names. Raises ObjectDamaged."""
    found = object_id(data)
    if found != wanted:
        raise ObjectDamaged(
            f"object {wanted} holds other bytes (SHA-256 {found})",
            hint="the store was changed or damaged from outside; restore it from a backup",
        )
    return data

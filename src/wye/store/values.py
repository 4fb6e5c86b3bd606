"""Model values over Objects: encoded and decoded, checked against their names, kept in memory, found by prefix.

Objects never change, so what was decoded once is right for ever: `get` costs a dictionary look-up. What is
kept is bounded by the size of its bytes. Every object that comes from the store is hashed before it is used;
`fresh` reads past the memory, for those who ask whether the disk still holds what was put.

Here is also the rule that makes deleting safe while verbs run: a verb puts its objects first and moves
its ref last, so for a while nothing reaches them. Whatever was put in the last `GRACE_S`, new or again, is
not deleted. A restart forgets those times, which is right: no verb of the earlier process can still move a ref.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from wye.errors import BadRequest, NotFound
from wye.interfaces import Objects
from wye.model import Entry, Intent, ObjectId, Revision, Spec
from wye.store import codec, objects

GRACE_S = 6 * 3600.0
"""Longer than any verb takes between its first put and its last swap (`up` pulls images in between)."""

KEPT_BYTES = 4 << 20
"""Encoded; decoded values take about six times that."""

MIN_PREFIX = 4

T = TypeVar("T", Entry, Revision, Spec, Intent, dict[str, Any])


class Values:
    """Safe to use from several threads. Values that come back are shared: nobody changes them."""

    def __init__(
        self, store: Objects, *, kept_bytes: int = KEPT_BYTES, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._kept_bytes = kept_bytes
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._kept: OrderedDict[ObjectId, tuple[codec.Stored, int]] = OrderedDict()
        self._kept_size = 0
        self._young_lock = threading.Lock()
        self._young: OrderedDict[ObjectId, float] = OrderedDict()

    def put(self, value: codec.Stored) -> ObjectId:
        """Stores `value`. Durable with the next durable swap of a ref."""
        data = codec.encode(value)
        object_id = objects.object_id(data)
        # In this order and under the lock that deleting takes: it either sees that the object is wanted or is over.
        with self._young_lock:
            self._note_young(object_id)
        return self._store.put(data)

    def get(self, object_id: ObjectId, wanted: type[T]) -> T:
        """Raises ObjectMissing, ObjectDamaged, Unreadable. Evidence comes as a new dict each time."""
        with self._lock:
            kept = self._kept.get(object_id)
            if kept is not None and type(kept[0]) is wanted:
                self._kept.move_to_end(object_id)
                return kept[0]
        value, size = self.fresh(object_id, wanted)
        if wanted is not dict:
            self._keep(object_id, value, size)
        return value

    def fresh(self, object_id: ObjectId, wanted: type[T]) -> tuple[T, int]:
        """(value, size of its bytes), read from the store itself. Raises as `get` does."""
        data = objects.checked(object_id, self._store.get(object_id))
        try:
            return codec.decode(data, wanted), len(data)
        except codec.Unreadable as error:
            raise codec.Unreadable(f"object {object_id}: {error.message}", hint=error.hint) from error

    def find(self, prefix: str, wanted: type[T]) -> ObjectId:
        """The one object of that type whose id begins with `prefix` (at least 4 hex digits, either case).

        Raises BadRequest, NotFound, and Ambiguous if there are several."""
        name = codec.NAMES[wanted]
        digits = prefix.strip().lower()
        if not MIN_PREFIX <= len(digits) <= 64 or not set(digits) <= set("0123456789abcdef"):
            raise BadRequest(
                f"{prefix[:80]!r} is no {name} id", hint=f"give at least {MIN_PREFIX} of its hex digits (see 'wye log')"
            )
        found = [object_id for object_id in self._store.ids(digits) if self._is_a(object_id, name)]
        if not found:
            raise NotFound(f"no {name} begins with {digits}", hint="'wye log' lists them")
        if len(found) > 1:
            some = ", ".join(object_id[: len(digits) + 4] for object_id in found[:5])
            raise Ambiguous(f"{len(found)} {name} ids begin with {digits}: {some}", hint="give more digits")
        return found[0]

    def ids(self) -> frozenset[ObjectId]:
        """All that the store holds, of any type."""
        return frozenset(self._store.ids())

    def young(self) -> frozenset[ObjectId]:
        """What was put so lately that a running verb may still be going to point at it."""
        with self._young_lock:
            self._forget_old()
            return frozenset(self._young)

    def delete(self, unreached: Iterable[ObjectId]) -> int:
        """Deletes those of them that are not young; how many."""
        deleted = 0
        for object_id in unreached:
            with self._young_lock:
                self._forget_old()
                if object_id in self._young:
                    continue
                self._store.delete(object_id)
            with self._lock:
                self._kept_size -= self._kept.pop(object_id, (None, 0))[1]
            deleted += 1
        return deleted

    def _is_a(self, object_id: ObjectId, name: str) -> bool:
        return codec.header(self._store.get(object_id))[0] == name

    def _keep(self, object_id: ObjectId, value: codec.Stored, size: int) -> None:
        with self._lock:
            self._kept_size += size - self._kept.pop(object_id, (None, 0))[1]
            self._kept[object_id] = (value, size)
            while self._kept_size > self._kept_bytes:
                self._kept_size -= self._kept.popitem(last=False)[1][1]

    def _note_young(self, object_id: ObjectId) -> None:
        self._forget_old()
        self._young[object_id] = self._monotonic()
        self._young.move_to_end(object_id)

    def _forget_old(self) -> None:
        until = self._monotonic() - GRACE_S
        while self._young and next(iter(self._young.values())) < until:
            self._young.popitem(last=False)


class Ambiguous(BadRequest):
    """A prefix that several ids share."""

    code = "ambiguous"

"""Objects and refs in memory: the same contract as `store.sqlite`, gone with the process. For tests and trials."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from wye.model import ObjectId
from wye.store import objects, refs


class MemoryStore:
    """Objects and Refs in dictionaries. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[ObjectId, bytes] = {}
        self._refs: dict[str, ObjectId] = {}

    def put(self, data: bytes) -> ObjectId:
        object_id = objects.object_id(data)
        with self._lock:
            self._objects[object_id] = bytes(data)
        return object_id

    def get(self, object_id: ObjectId) -> bytes:
        with self._lock:
            data = self._objects.get(object_id)
        if data is None:
            raise objects.missing(object_id)
        return data

    def delete(self, object_id: ObjectId) -> None:
        with self._lock:
            self._objects.pop(object_id, None)

    def ids(self, prefix: str = "") -> Iterator[ObjectId]:
        with self._lock:
            found = sorted(object_id for object_id in self._objects if object_id.startswith(prefix))
        return iter(found)

    def read(self, ref: str) -> ObjectId | None:
        refs.checked(ref)
        with self._lock:
            return self._refs.get(ref)

    def list(self, prefix: str) -> dict[str, ObjectId]:
        with self._lock:
            return {ref: self._refs[ref] for ref in sorted(self._refs) if ref.startswith(prefix)}

    def compare_and_swap(
        self, ref: str, *, expected: ObjectId | None, new: ObjectId | None, durable: bool = True
    ) -> None:
        refs.checked(ref)
        with self._lock:
            found = self._refs.get(ref)
            if found != expected:
                raise refs.RefConflict(ref, expected=expected, found=found)
            if new is None:
                self._refs.pop(ref, None)
            else:
                self._refs[ref] = new

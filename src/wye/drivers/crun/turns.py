"""One at a time per container: a start and a delete of the same id never overlap, those of others do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}
        self._starting: set[str] = set()

    @contextmanager
    def of(self, container_id: str, *, starting: bool = False) -> Iterator[None]:
        """Waits for the turn of `container_id`, and holds it."""
        with self._guard:
            lock, waiting = self._locks.get(container_id, (threading.Lock(), 0))
            self._locks[container_id] = (lock, waiting + 1)
        try:
            with lock:
                if starting:
                    self._starting.add(container_id)
                try:
                    yield
                finally:
                    self._starting.discard(container_id)
        finally:
            with self._guard:
                lock, waiting = self._locks.pop(container_id)
                if waiting > 1:
                    self._locks[container_id] = (lock, waiting - 1)

    def is_starting(self, container_id: str) -> bool:
        return container_id in self._starting

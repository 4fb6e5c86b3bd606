"""Who may change what, when: one change per environment at a time, and now and then everybody waits.

Locks of this process only. Between processes the compare-and-swap decides; there is one daemon per pool.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    def __init__(self) -> None:
        self._guard = threading.Condition()
        self._locks: dict[str, threading.RLock] = {}
        self._held = threading.local()
        self._changing = 0
        self._quiet = False

    @contextmanager
    def one(self, name: str) -> Iterator[None]:
        """Holds `name`. Reentrant in a thread. Take several in sorted order."""
        depth = getattr(self._held, "depth", 0)
        with self._guard:
            if depth == 0:
                self._guard.wait_for(lambda: not self._quiet)
                self._changing += 1
        self._held.depth = depth + 1
        try:
            with self._lock(name):
                yield
        finally:
            self._held.depth = depth
            if depth == 0:
                with self._guard:
                    self._changing -= 1
                    self._guard.notify_all()

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """Who waited for a lock that was forgotten meanwhile queues up again, at the one that others take now."""
        while True:
            with self._guard:
                lock = self._locks.setdefault(name, threading.RLock())
            with lock:
                with self._guard:
                    current = self._locks.get(name) is lock
                if current:
                    yield
                    return

    @contextmanager
    def all(self) -> Iterator[None]:
        """Waits until nobody changes anything, and keeps it so."""
        with self._guard:
            self._guard.wait_for(lambda: not self._quiet)
            self._quiet = True
            self._guard.wait_for(lambda: self._changing == 0)
        try:
            yield
        finally:
            with self._guard:
                self._quiet = False
                self._guard.notify_all()

    def forget(self, name: str) -> None:
        """A name that is gone needs no lock any more. Call while holding it."""
        with self._guard:
            self._locks.pop(name, None)

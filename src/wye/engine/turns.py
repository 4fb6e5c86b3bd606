"""Who may change what, when: one change per environment at a time, and now and then everybody waits.

Locks of this process only. Between processes the compare-and-swap decides; there is one daemon per pool.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from wye.errors import Unavailable

_HELD_UP_S = 1.0


class Turns:
    def __init__(self) -> None:
        self._guard = threading.Condition()
        self._locks: dict[str, threading.RLock] = {}
        self._held = threading.local()
        self._looking: Counter[str] = Counter()
        self._halfway: set[str] = set()
        self._shut: set[str] = set()
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
    def whole(self, name: str) -> Iterator[None]:
        """Waits while `name` is between two states, and keeps it whole for the time. For those who take no turn."""
        with self._guard:
            self._guard.wait_for(lambda: name not in self._halfway)
            self._looking[name] += 1
        try:
            yield
        finally:
            with self._guard:
                self._looking[name] -= 1
                self._looking += Counter()  # names that nobody looks at go
                self._guard.notify_all()

    @contextmanager
    def halfway(self, name: str) -> Iterator[None]:
        """What is in `name` meanwhile is neither the one state nor the other. Call while holding it."""
        with self._guard:
            self._halfway.add(name)
            self._guard.wait_for(lambda: not self._looking[name])
        try:
            yield
        finally:
            with self._guard:
                self._halfway.discard(name)
                self._guard.notify_all()

    @contextmanager
    def shut(self, name: str) -> Iterator[None]:
        """Keeps those outside who `await_open`. Call while holding `name`."""
        with self._guard:
            self._shut.add(name)
        try:
            yield
        finally:
            with self._guard:
                self._shut.discard(name)
                self._guard.notify_all()

    def await_open(self, name: str) -> None:
        with self._guard:
            self._guard.wait_for(lambda: name not in self._shut)

    @contextmanager
    def all(self, *, patience_s: float = 60.0) -> Iterator[None]:
        """Waits until nobody changes anything, and keeps it so. Who has not begun is held up for a second at a time and
        no longer: somebody's change may take an hour. Raises Unavailable after `patience_s`."""
        until = time.monotonic() + patience_s
        while not self._hush():
            if time.monotonic() > until:
                raise Unavailable("environments are being changed all the time", hint="try again when that is done")
        try:
            yield
        finally:
            with self._guard:
                self._quiet = False
                self._guard.notify_all()

    def _hush(self) -> bool:
        """Tries for a while."""
        with self._guard:
            if not self._guard.wait_for(lambda: not self._quiet, _HELD_UP_S):
                return False
            self._quiet = True
            if self._guard.wait_for(lambda: self._changing == 0, _HELD_UP_S):
                return True
            self._quiet = False
            self._guard.notify_all()
            self._guard.wait_for(lambda: self._changing == 0, _HELD_UP_S)
            return False

    def forget(self, name: str) -> None:
        """A name that is gone needs no lock any more. Call while holding it."""
        with self._guard:
            self._locks.pop(name, None)

"""A Host whose time stands still until somebody moves it.

For what depends on time (backoff, leases, grace periods): no test has to wait, and every run sees the same times.
Everything but the clock is the real machine.
"""

from __future__ import annotations

import threading

from wye.errors import InvariantError
from wye.host import Host


class ClockHost(Host):
    """`now()` starts at `start` (Unix seconds), `monotonic()` at 0; `sleep` returns at once, that much later."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._start = start
        self._elapsed = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        return self._start + self.monotonic()

    def monotonic(self) -> float:
        with self._lock:
            return self._elapsed

    def sleep(self, seconds: float) -> None:
        self.advance(max(0.0, seconds))

    def advance(self, seconds: float) -> None:
        """Lets time pass. It only goes forward; see `set_back` for a clock that somebody corrects."""
        if seconds < 0:
            raise InvariantError("time does not run backwards; set_back changes the wall clock")
        with self._lock:
            self._elapsed += seconds

    def set_back(self, seconds: float) -> None:
        """Corrects the wall clock (`now`) backwards, as ntpd may; `monotonic` does not notice."""
        with self._lock:
            self._start -= seconds

"""Networks made ahead of need, by one background thread.

Knows nothing of the kernel: it is given how to build and how to demolish. Building one takes about 10 ms of a
processor; taking one takes a dictionary look-up. What was taken is replaced a little later: whoever took it is about
to start something, and should have the machine for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from wye.errors import WyeError
from wye.interfaces import NetworkShape

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0
_REST_S = 0.5


class Warm:
    """A stock of numbered networks by shape. Safe to use from several threads."""

    def __init__(self, build: Callable[[NetworkShape], int], demolish: Callable[[int], None]) -> None:
        self._build = build
        self._demolish = demolish
        self._changed = threading.Condition()
        self._wanted: dict[NetworkShape, int] = {}
        self._ready: dict[NetworkShape, deque[int]] = {}
        self._taken_at = -_REST_S
        self._closing = False
        self._thread: threading.Thread | None = None

    def want(self, shape: NetworkShape, count: int) -> None:
        """Keeps `count` in stock from now on; 0 forgets the shape."""
        with self._changed:
            if count > 0:
                self._wanted[shape] = count
                self._start()
            else:
                self._wanted.pop(shape, None)
            surplus = self._surplus(shape)
            self._changed.notify_all()
        for number in surplus:
            self._demolish(number)

    def take(self, shape: NetworkShape) -> int | None:
        """One of the stock, which is replaced soon, or at once if it was the last; None if there is none."""
        with self._changed:
            ready = self._ready.get(shape)
            if not ready:
                return None
            self._taken_at = time.monotonic()
            self._changed.notify_all()
            return ready.popleft()

    def wait(self, shape: NetworkShape, timeout_s: float) -> bool:
        """Waits until the stock of a shape is full."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._is_short(shape), timeout_s)

    def close(self) -> None:
        """Ends the thread and demolishes the stock."""
        with self._changed:
            self._closing = True
            self._wanted.clear()
            self._changed.notify_all()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        with self._changed:
            surplus = [number for shape in list(self._ready) for number in self._surplus(shape)]
            self._closing = False
        for number in surplus:
            self._demolish(number)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="wye-network-warm", daemon=True)
            self._thread.start()

    def _is_short(self, shape: NetworkShape) -> bool:
        return len(self._ready.get(shape, ())) < self._wanted.get(shape, 0)

    def _rest_s(self) -> float:
        return max(0.0, self._taken_at + _REST_S - time.monotonic())

    def _next(self) -> NetworkShape | None:
        """What to build now: one that has run out; others after a rest."""
        short = list(filter(self._is_short, self._wanted))
        empty = [shape for shape in short if not self._ready.get(shape)]
        return next(iter(empty or (short if self._rest_s() == 0 else [])), None)

    def _surplus(self, shape: NetworkShape) -> list[int]:
        ready = self._ready.get(shape, deque())
        surplus = [ready.pop() for _ in range(len(ready) - self._wanted.get(shape, 0))]
        if not ready:
            self._ready.pop(shape, None)
        return surplus

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            with self._changed:
                while not self._closing and (shape := self._next()) is None:
                    self._changed.wait(self._rest_s() or None)
                if self._closing:
                    return
            assert shape is not None
            try:
                number = self._build(shape)
            except WyeError as error:
                log.warning("no network could be made ahead: %s; next try in %g s", error, pause_s)
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                continue
            pause_s = _FIRST_PAUSE_S
            with self._changed:
                self._ready.setdefault(shape, deque()).append(number)
                surplus = self._surplus(shape)
                self._changed.notify_all()
            for spare in surplus:
                self._demolish(spare)

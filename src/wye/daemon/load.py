"""What the supervisor has under way, and whether more may begin: so that one environment keeps only itself waiting.

A check may hang for as long as it is given, and a start waits for its environment's turn. Many that only wait are no
burden; many at work at once are, for a small machine, and make each other fail.
"""

from __future__ import annotations

import itertools
import threading

_AT_WORK = 6
"""Checks and starts that may be at work at once. What takes longer than that only waits, and does not count."""
_AT_WORK_S = 0.3
_OF_ONE = 2
"""Of one environment, so that it can keep only itself waiting: of its checks, and of all else."""


class Load:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._numbers = itertools.count()
        self._running: dict[int, tuple[str, bool, float]] = {}

    def begin(self, environment: str, is_check: bool, now: float) -> int | None:
        """A number to `end` with; None: not now."""
        with self._guard:
            at_work = sum(now - since < _AT_WORK_S for _, _, since in self._running.values())
            own = sum((environment, is_check) == each[:2] for each in self._running.values())
            if at_work >= _AT_WORK or own >= _OF_ONE:
                return None
            number = next(self._numbers)
            self._running[number] = (environment, is_check, now)
            return number

    def end(self, number: int) -> None:
        with self._guard:
            del self._running[number]

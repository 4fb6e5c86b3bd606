"""What nobody has to wait for: done in order by one background thread, and to the end before `close` returns.

Only for work that the next start of the daemon would do again if this process were killed first.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

from wye.errors import WyeError

log = logging.getLogger(__name__)


class Chores:
    """Safe to use from several threads."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def put(self, chore: Callable[[], None]) -> None:
        """A chore that fails is logged and not repeated."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._queue.put(chore)

    def wait(self) -> None:
        """Returns when all chores put so far are done."""
        with self._lock:
            if self._thread is None:
                return
            done = threading.Event()
            self._queue.put(done.set)
        done.wait()

    def close(self) -> None:
        """Returns when all chores are done."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._queue.put(None)
                thread.join()

    def _run(self) -> None:
        while (chore := self._queue.get()) is not None:
            try:
                chore()
            except WyeError as error:
                log.warning("left for the next start: %s", error)

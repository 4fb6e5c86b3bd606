"""What happens, told to whoever listens. Events are news, not records: the ledger is the record.

A listener that does not keep up loses the oldest events, never holds up the verb that makes them.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Iterator

from wye.model import Event

_KEPT = 1000
_LISTENER_QUEUE = 1000


class Events:
    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._listeners: set[queue.Queue[Event]] = set()
        self._recent: deque[Event] = deque(maxlen=_KEPT)

    def emit(self, event: Event) -> None:
        with self._guard:
            self._recent.append(event)
            listeners = list(self._listeners)
        for listener in listeners:
            try:
                listener.put_nowait(event)
            except queue.Full:
                with contextlib.suppress(queue.Empty):
                    listener.get_nowait()
                with contextlib.suppress(queue.Full):
                    listener.put_nowait(event)

    def recent(self, since_at: float = 0.0) -> list[Event]:
        """The last thousand at most, oldest first."""
        with self._guard:
            return [event for event in self._recent if event.at >= since_at]

    @contextlib.contextmanager
    def listen(self) -> Iterator[queue.Queue[Event]]:
        """A queue of all events from now on."""
        listener: queue.Queue[Event] = queue.Queue(_LISTENER_QUEUE)
        with self._guard:
            self._listeners.add(listener)
        try:
            yield listener
        finally:
            with self._guard:
                self._listeners.discard(listener)

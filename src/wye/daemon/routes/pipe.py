"""Bytes from worker threads to one response, in order, in bounded memory.

A thread never touches the event loop but to wake it, and one wake-up carries all that has gathered, so a fast
producer costs the loop little. When nobody reads any more, `put` says so and everything else is dropped: what a
verb does never depends on who watches.
"""

from __future__ import annotations

import asyncio
import threading

from wye.errors import WyeError

_LIMIT_BYTES = 1 << 20


class Pipe:
    """Made in the event loop. `offer`, `put` and `end` are for the thread, `take` and `abandon` for the loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._room = threading.Condition()
        self._buffer = bytearray()
        self._ended = False
        self.abandoned = False
        self.error: WyeError | None = None
        """What ended it, if not success. Set when `take` has returned empty."""

    def offer(self, data: bytes) -> None:
        """Adds `data`, or drops it if the reader is too far behind."""
        with self._room:
            if len(self._buffer) < _LIMIT_BYTES:
                self._append(data)

    def put(self, data: bytes) -> bool:
        """Adds `data`, waiting for room. Returns whether anybody still reads."""
        with self._room:
            self._room.wait_for(lambda: self.abandoned or len(self._buffer) < _LIMIT_BYTES)
            self._append(data)
            return not self.abandoned

    def end(self, last: bytes = b"", *, error: WyeError | None = None) -> None:
        with self._room:
            self._ended = True
            self.error = error
            self._append(last)

    async def take(self) -> bytes:
        """All that has gathered, waiting for something; empty at the end."""
        while True:
            with self._room:
                data, ended = bytes(self._buffer), self._ended
                self._buffer.clear()
                self._wake.clear()
                self._room.notify()
            if data or ended:
                return data
            await self._wake.wait()

    def abandon(self) -> None:
        with self._room:
            self.abandoned = True
            self._buffer.clear()
            self._room.notify()

    def _append(self, data: bytes) -> None:
        if self.abandoned:
            return
        first = not self._buffer
        self._buffer += data
        if first or self._ended:
            try:
                self._loop.call_soon_threadsafe(self._wake.set)
            except RuntimeError:
                # The loop is closed: the daemon stops, and nobody reads any more.
                self.abandoned = True

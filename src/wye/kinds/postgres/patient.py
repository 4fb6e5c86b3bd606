"""A connection to a server that may be anybody's program: it is listened to with patience, and then given up.

The driver by itself waits for ever and gathers whatever comes. Every call on a connection waits in one place, and there
it is looked at how long the server has been silent and how much memory its answers have taken.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from psycopg.rows import TupleRow

from wye.kinds.patience import Listener, Patience, TooMuch

_LOOK_EVERY_S = 0.1

T = TypeVar("T")


class PatientConnection(psycopg.Connection[TupleRow]):
    """Raises TooMuch from any call that waits for the server; then the connection is closed."""

    patience = Patience()
    _listener: Listener | None = None

    def wait(self, gen: Generator[Any, Any, T], interval: float = _LOOK_EVERY_S, timeout: float | None = None) -> T:
        if self._listener is None:
            self._listener = Listener("postgres", self.patience)
        return super().wait(self._watched(gen, self._listener), interval, timeout)

    def _watched(self, gen: Generator[Any, Any, T], listener: Listener) -> Generator[Any, Any, T]:
        listener.ask()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    listener.heard()
                else:
                    listener.look()
                wanted = gen.send(ready)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        except TooMuch:
            self.pgconn.finish()
            raise

"""How long each step of a verb took, for its result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from wye.host import Host


class Steps:
    """Seconds by step, in the order in which they began: `with steps("start services"): ...`."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.taken: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = self._host.monotonic()
        try:
            yield
        finally:
            self.taken[name] = self.taken.get(name, 0.0) + self._host.monotonic() - began

"""How long a server may be silent, and how much it may say, before nobody listens to it any more.

A server of a fork may be any program: it may never answer, answer for ever, or send more than this machine has room
for. Meanwhile a verb waits that holds production, and the memory is that of all environments' daemon. A server that is
merely slow is waited for: it takes minutes to count a large table, and says nothing until then.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from wye.errors import Unavailable

_LOOK_EVERY = 64
"""Pieces of an answer between two looks at the memory."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class TooMuch(Unavailable):
    """A server that was given up."""

    code = "server_unreasonable"
    retryable = False


@dataclass(frozen=True, slots=True)
class Patience:
    """`memory_bytes`: how much this process may grow while one connection lasts."""

    silence_s: float = 600.0
    answer_s: float = 3600.0
    memory_bytes: int = max(1 << 30, os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES // 4)


class Listener:
    """Of one connection. Call `ask` when a question is sent, `heard` for each piece of the answer, and `look` now and
    then while nothing comes."""

    def __init__(self, server: str, patience: Patience) -> None:
        self._server = server
        self._patience = patience
        self._before = _resident_bytes()
        self._pieces = 0
        self.ask()

    def ask(self) -> None:
        self._asked = self._last = time.monotonic()

    def heard(self) -> None:
        """Raises TooMuch."""
        self._last = time.monotonic()
        self._pieces += 1
        self.look()
        if self._pieces % _LOOK_EVERY == 0 and _resident_bytes() - self._before > self._patience.memory_bytes:
            raise TooMuch(
                f"{self._server} answers with more than {self._patience.memory_bytes >> 20} MiB",
                hint="what the fork changed is too much for one diff or merge",
            )

    def look(self) -> None:
        """Raises TooMuch."""
        now, limits = time.monotonic(), self._patience
        if now - self._last > limits.silence_s:
            raise TooMuch(f"{self._server} has been silent for {limits.silence_s:g} s", hint="is it stopped or stuck?")
        if now - self._asked > limits.answer_s:
            raise TooMuch(f"{self._server} has not come to an end of its answer in {limits.answer_s:g} s")


def _resident_bytes() -> int:
    with open("/proc/self/statm", "rb", buffering=0) as file:
        return int(file.read().split()[1]) * _PAGE_BYTES

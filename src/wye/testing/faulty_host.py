"""The real host, except that one operation fails or the process dies there.

Every effect on the machine carries a label, so one run that records the labels gives the list of all points at
which a verb can be cut short; a test then runs the verb once for each of them. The fault comes just before
the effect, or (`after`) when it has happened and nobody has been told: the two sides of every crash.
"""

from __future__ import annotations

import errno
import inspect
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from wye.errors import BadRequest, InvariantError
from wye.host import Host, OperationFailed

_FAULT = re.compile(r"(kill|fail)(-after)?:([^:].*?)(?::([1-9][0-9]*))?(?<!:0)")


class FaultyHost(Host):
    """Breaks at the `nth` time that `fail_at` (raises `error`) or `kill_at` (SIGKILL to itself) is reached.

    Effects and clock are those of `real`. With `after`, the effect of the labelled method happens first; a label
    that is only announced by `at` has no effect of its own, and reaching it raises InvariantError. With
    `record`, `labels` has every label in order, and `effects` those that `after` can be used with; `record_to`
    is a file that gets a line per label at once, for a process that is going to die. Safe to use from several
    threads.
    """

    def __init__(
        self,
        real: Host | None = None,
        *,
        fail_at: str | None = None,
        error: Exception | None = None,
        kill_at: str | None = None,
        nth: int = 1,
        after: bool = False,
        record: bool = False,
        record_to: Path | None = None,
    ) -> None:
        if nth < 1 or (fail_at is not None and kill_at is not None):
            raise InvariantError("a FaultyHost breaks once, at one label, and counts from 1")
        self._real = real if real is not None else Host()
        self._label = fail_at if fail_at is not None else kill_at
        self._kills = kill_at is not None
        self._error = error
        self._left = nth
        self._after = after
        self._record = record
        self._record_to = record_to
        self._lock = threading.Lock()
        self.labels: list[str] = []
        self.effects: list[str] = []

    @classmethod
    def from_text(cls, text: str, real: Host | None = None) -> FaultyHost:
        """For a process that is told on its command line: "kill:LABEL", "fail:LABEL", "kill-after:LABEL",
        "fail-after:LABEL", each with ":N" for the Nth time; or "record:/path". Raises BadRequest."""
        if text.startswith("record:/"):
            return cls(real, record_to=Path(text.removeprefix("record:")))
        found = _FAULT.fullmatch(text)
        if found is None:
            raise BadRequest(f"{text!r} is no fault", hint="for example kill:fork:snapshot:2 or fail-after:fork:mount")
        verb, after, label, nth = found.groups()
        return cls(
            real,
            fail_at=label if verb == "fail" else None,
            kill_at=label if verb == "kill" else None,
            nth=int(nth or 1),
            after=after is not None,
        )

    @property
    def has_fired(self) -> bool:
        return self._left == 0

    def at(self, label: str) -> None:
        if self._reached(label):
            if self._after:
                raise InvariantError(f"{label} is only announced: it has no effect to fail after")
            self._fire(label)

    @contextmanager
    def lock(self, label: str, path: Path, *, wait: bool = True) -> Iterator[bool]:
        with ExitStack() as stack:
            with self._around(label):
                held = stack.enter_context(self._real.lock(label, path, wait=wait))
            yield held

    @contextmanager
    def _around(self, label: str) -> Iterator[None]:
        fires = self._reached(label, effect=True)
        if fires and not self._after:
            self._fire(label)
        yield
        if fires:
            self._fire(label)

    def _reached(self, label: str, *, effect: bool = False) -> bool:
        """Notes the label; whether this is the time to break."""
        with self._lock:
            if self._record:
                self.labels.append(label)
                if effect:
                    self.effects.append(label)
            if self._record_to is not None:
                with self._record_to.open("a") as file:
                    file.write(label + "\n")
            if label != self._label or self._left == 0:
                return False
            self._left -= 1
            return self._left == 0

    def _fire(self, label: str) -> None:
        if self._kills:
            os.kill(os.getpid(), signal.SIGKILL)
        raise self._error if self._error is not None else OperationFailed(label, "injected fault", errno.EIO)


def _labelled(name: str) -> Callable[..., Any]:
    def method(self: FaultyHost, label: str, *arguments: Any, **options: Any) -> Any:
        with self._around(label):
            return getattr(self._real, name)(label, *arguments, **options)

    return method


def _passed_on(name: str) -> Callable[..., Any]:
    def method(self: FaultyHost, *arguments: Any, **options: Any) -> Any:
        return getattr(self._real, name)(*arguments, **options)

    return method


# Whatever methods Host has or gets: those that take a label are where faults happen, the others are the real host's.
for _name, _method in inspect.getmembers(Host, inspect.isfunction):
    if not _name.startswith("_") and _name not in vars(FaultyHost):
        _takes_label = list(inspect.signature(_method).parameters)[1:2] == ["label"] and _name != "failure"
        setattr(FaultyHost, _name, _labelled(_name) if _takes_label else _passed_on(_name))

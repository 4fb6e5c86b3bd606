"""Progress on stderr: bars and spinners on a terminal, plain lines elsewhere.

Nothing appears for what is over within a moment. A line per step and subject, not per report, so that a build's
log stays readable in CI.
"""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from wye.api import wire
from wye.cli import words

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_QUIET_S = 0.3
_SHOWN = 6

_Key = tuple[str, str]


class Watch:
    """Call it with every progress line. A context manager: the display goes when the block ends."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._guard = threading.Lock()
        self._timer = threading.Timer(_QUIET_S, self._begin)
        self._timer.daemon = True
        self._begun = False
        self._waiting: dict[_Key, wire.Progress] = {}
        self._told: set[_Key] = set()
        self._display: Progress | None = None
        self._tasks: dict[_Key, TaskID] = {}

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._guard:
            self._begun = True
            self._waiting.clear()
            if self._display is not None:
                self._display.stop()

    def __call__(self, progress: wire.Progress) -> None:
        with self._guard:
            if self._begun:
                self._tell(progress)
            else:
                self._waiting[progress.step, progress.subject] = progress

    def _begin(self) -> None:
        with self._guard:
            if self._begun:
                return
            self._begun = True
            if sys.stderr.isatty():
                self._display = _display()
                self._display.start()
                if not self._waiting:
                    self._tell(wire.Progress(step=self._verb))
            for progress in self._waiting.values():
                self._tell(progress)

    def _tell(self, progress: wire.Progress) -> None:
        key = (progress.step, progress.subject)
        if self._display is not None:
            self._draw(self._display, key, progress)
        elif key not in self._told:
            self._told.add(key)
            sys.stderr.write(f"{describe(progress)}\n")
            sys.stderr.flush()

    def _draw(self, display: Progress, key: _Key, progress: wire.Progress) -> None:
        if key not in self._tasks:
            # What comes after it has ended it, as far as it can be told; it goes on if it is heard of again.
            for number, old in enumerate(reversed(self._tasks.values())):
                display.update(old, total=1, completed=1, amount="", visible=number < _SHOWN - 1)
            self._tasks[key] = display.add_task(title(progress), total=None, amount="")
        task, done = self._tasks[key], progress.done or 0
        display.update(task, total=progress.total, completed=done, amount=amount(progress), visible=True)


def describe(progress: wire.Progress) -> str:
    """ "pull postgres:16 (12.0 MiB of 80.1 MiB)", "wye/base: extracting archives"."""
    told = amount(progress)
    return f"{title(progress)} ({told})" if told else title(progress)


def title(progress: wire.Progress) -> str:
    """A step of one word is a verb; one of several says what is going on with the subject."""
    step, subject = progress.step, progress.subject
    return words.harmless(f"{subject}: {step}" if subject and " " in step else f"{step} {subject}".strip())


def amount(progress: wire.Progress) -> str:
    """How far it is, if it says."""
    if progress.done is None:
        return ""
    parts = [progress.done] if progress.total is None else [progress.done, progress.total]
    if progress.unit in ("bytes", "B"):
        return " of ".join(words.size(part) for part in parts)
    return " of ".join(f"{part:,}" for part in parts) + (f" {progress.unit}" if progress.unit else "")


def _display() -> Progress:
    # Most commands draw none, and it takes as long to import as they take.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    return Progress(
        SpinnerColumn(finished_text="·"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )

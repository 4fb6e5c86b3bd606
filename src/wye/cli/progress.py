"""Progress on stderr: bars and spinners on a terminal, plain lines elsewhere.

Nothing appears for what is over within a moment. A line per step and subject, not per report, so that a build's
log stays readable in CI.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from wye.api import wire
from wye.cli import words

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_QUIET_S = 0.3
_SHOWN = 6


class Watch:
    """Call it with every progress line. A context manager: the display goes when the block ends."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._lines: set[tuple[str, str]] = set()
        self._display: Progress | None = None
        self._tasks: dict[tuple[str, str], TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._display is not None:
            self._display.stop()

    def __call__(self, progress: wire.Progress) -> None:
        if sys.stderr.isatty():
            if time.monotonic() - self._began > _QUIET_S:
                self._draw(progress)
            return
        key = (progress.step, progress.subject)
        if key not in self._lines:
            self._lines.add(key)
            sys.stderr.write(f"{describe(progress)}\n")
            sys.stderr.flush()

    def _draw(self, progress: wire.Progress) -> None:
        if self._display is None:
            self._display = _display()
            self._display.start()
        key = (progress.step, progress.subject)
        if key not in self._tasks:
            self._tasks[key] = self._display.add_task(f"{progress.step} {progress.subject}".strip(), total=None)
            for old in list(self._tasks.values())[:-_SHOWN]:
                self._display.update(old, visible=False)
        self._display.update(
            self._tasks[key], total=progress.total, completed=progress.done or 0, amount=amount(progress)
        )


def describe(progress: wire.Progress) -> str:
    """ "pull postgres:16 (12.0 MiB of 80.1 MiB)"."""
    told = amount(progress)
    return " ".join(part for part in (progress.step, progress.subject, f"({told})" if told else "") if part)


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
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[amount]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )

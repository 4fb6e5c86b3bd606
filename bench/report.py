"""A figure, what it should reach, and how it is printed."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """`limit` None: reported only. `higher` says that more is better. `detail` explains the value."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    higher: bool = False
    runs: int = 1
    detail: dict[str, float | str] = field(default_factory=dict)

    @property
    def reached(self) -> bool | None:
        if self.limit is None:
            return None
        return self.value >= self.limit if self.higher else self.value <= self.limit


def timed(act: Callable[[], object]) -> float:
    """Seconds."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(percent / 100 * (len(ordered) - 1)))]


def ms(seconds: float) -> float:
    return round(1000 * seconds, 3)


def show(figures: Sequence[Figure], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([{**asdict(figure), "reached": figure.reached} for figure in figures], indent=2))
        return
    table = Table()
    for column in ("figure", "value", "to reach", "", "runs", "detail"):
        table.add_column(column)
    marks = {True: "[green]reached[/green]", False: "[red]missed[/red]", None: ""}
    for figure in figures:
        limit = "" if figure.limit is None else f"{'≥' if figure.higher else '≤'} {figure.limit:g} {figure.unit}"
        detail = ", ".join(f"{key} {value}" for key, value in figure.detail.items())
        table.add_row(
            figure.name, f"{figure.value:.3g} {figure.unit}", limit, marks[figure.reached], str(figure.runs), detail
        )
    Console(width=160).print(table)

"""bin/bench NAME ... [--json] [--quick]: measures and prints. Exits with 1 if a figure misses its limit."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from rich.console import Console

from bench import awake, density, merging, state
from bench.report import Figure, show

BENCHMARKS: dict[str, Callable[[bool], list[Figure]]] = {
    "state-fork": state.fork_against_raw,
    "state-fork-size": state.size,
    "state-fork-alive": state.alive,
    "fork-rate": state.rate,
    "fork-sql": awake.sql,
    "fork-shop": awake.shop,
    "production-latency": awake.latency,
    "exec": awake.execute,
    "density": density.density,
    "diff": merging.diff,
    "merge": merging.merge,
    "diff-files": merging.files,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bin/bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; none: all")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    parser.add_argument("--quick", action="store_true", help="fewer runs: to see that it works, not to quote")
    parser.add_argument("--list", action="store_true", help="print the names")
    options = parser.parse_args()
    if options.list:
        print("\n".join(BENCHMARKS))
        return 0
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    figures: list[Figure] = []
    for name in options.names or BENCHMARKS:
        Console(stderr=True).print(f"[dim]measuring {name}[/dim]")
        figures += BENCHMARKS[name](options.quick)
    show(figures, as_json=options.json)
    return 1 if any(figure.reached is False for figure in figures) else 0


if __name__ == "__main__":
    raise SystemExit(main())

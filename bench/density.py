"""Two hundred forks at once, all awake and answering: what each adds to the machine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from bench import setting
from bench.report import Figure


def density(quick: bool) -> list[Figure]:
    """Memory: PSS of every process that was added, the daemon's own growth included. Disk: exclusive bytes."""
    count = 20 if quick else 200
    with setting.daemon() as running:
        setting.up(running, setting.POSTGRES)
        running.client.fork("production", "first")
        running.client.discard("first")
        assert running.process is not None
        daemon = running.process.pid  # type: ignore[attr-defined]
        before, pids_before = _pss([daemon]), set(_pids())
        for number in range(count):
            running.client.fork("production", f"f{number}")
        answered = 0
        for environment in running.client.environments():
            if environment.source is not None:
                setting.until_answers(setting.dsn(environment))
                answered += 1
        added = set(_pids()) - pids_before
        memory = _pss(added) + _pss([daemon]) - before
        disk = sum(
            running.client.environment(f"f{number}").usage.exclusive_bytes or 0  # type: ignore[union-attr]
            for number in range(count)
        )
        growth = _pss([daemon]) - before
        kernel = _kernel_bytes()
    return [
        Figure(
            name=f"memory per fork, {answered} awake and answering",
            value=memory / count / (1 << 20),
            unit="MiB",
            limit=20,
            runs=answered,
            detail={
                "daemon's growth MiB": round(growth / (1 << 20), 1),
                "kernel slab MiB in all": round(kernel / (1 << 20)),
            },
        ),
        Figure(name=f"disk per fork, {count} awake", value=disk / count / (1 << 20), unit="MiB", limit=2, runs=count),
    ]


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _pss(pids: Iterable[int]) -> int:
    """Proportional set size in bytes, of those that are still there."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
        total += int(found.group(1)) * 1024 if found else 0
    return total


def _kernel_bytes() -> int:
    text = Path("/proc/meminfo").read_text()
    found = re.search(r"^Slab:\s+(\d+) kB", text, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0

"""Forking state alone: call to return through the SDK, the fork asleep, against the bare ioctls."""

from __future__ import annotations

import os
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench import setting
from bench.report import Figure, median, ms, percentile, timed
from wye.api.wire import EnvironmentView
from wye.drivers.btrfs import ioctls
from wye.host import Host
from wye.testing.running_daemon import RunningDaemon

_HOST = Host()


class Raw:
    """Two snapshots as the kernel makes them, with nothing around: a read-only one, and a writable one of that."""

    def __init__(self, running: RunningDaemon, environment: EnvironmentView) -> None:
        self.directory = running.root / "pool" / "bench"
        self.directory.mkdir(exist_ok=True)
        self.descriptor = os.open(self.directory, os.O_RDONLY)
        self.source = os.open(setting.volume_path(running, environment), os.O_RDONLY)
        self.names: list[str] = []

    def __call__(self) -> None:
        name = secrets.token_hex(6)
        ioctls.snapshot(_HOST, "bench", self.source, self.descriptor, f"{name}-r", read_only=True)
        taken = os.open(f"{name}-r", os.O_RDONLY, dir_fd=self.descriptor)
        try:
            ioctls.snapshot(_HOST, "bench", taken, self.descriptor, name, read_only=False)
        finally:
            os.close(taken)
        self.names += [name, f"{name}-r"]

    def close(self) -> None:
        for name in self.names:
            ioctls.destroy(_HOST, "bench", self.descriptor, name)
        os.close(self.source)
        os.close(self.descriptor)


def fork_against_raw(quick: bool) -> list[Figure]:
    runs = 20 if quick else 100
    with setting.daemon() as running:
        production = setting.up(running, setting.POSTGRES)
        raw = Raw(running, production)
        try:
            ours, theirs = [], []
            for number in range(runs + 5):
                took_raw = timed(raw)
                took = timed(lambda number=number: running.client.fork("production", f"f{number}", asleep=True))
                if number >= 5:
                    theirs.append(took_raw)
                    ours.append(took)
        finally:
            raw.close()
    return [
        Figure(
            name="state fork / two raw snapshots",
            value=median(ours) / median(theirs),
            unit="x",
            limit=2.5,
            runs=runs,
            detail={
                "fork p50 ms": ms(median(ours)),
                "raw p50 ms": ms(median(theirs)),
                "fork p95 ms": ms(percentile(ours, 95)),
            },
        )
    ]


def size(quick: bool) -> list[Figure]:
    """The same with 5 GiB in the volume against 10 MiB, in turn."""
    runs, big = (10, 1) if quick else (50, 5)
    with setting.daemon() as running:
        took: dict[str, list[float]] = {"small": [], "large": []}
        for name, size_bytes in (("small", 10 << 20), ("large", big << 30)):
            environment = setting.up(running, setting.FILES, name=name)
            _fill(setting.volume_path(running, environment) / "volumes" / "data" / "blob", size_bytes)
        os.sync()
        for number in range(runs + 3):
            for name, seen in took.items():
                fork = f"{name}-{number}"
                seconds = timed(lambda name=name, fork=fork: running.client.fork(name, fork, asleep=True))
                if number >= 3:
                    seen.append(seconds)
    small, large = median(took["small"]), median(took["large"])
    return [
        Figure(
            name=f"state fork, {big} GiB in the volume / 10 MiB",
            value=large / small,
            unit="x",
            limit=1.2,
            runs=runs,
            detail={"10 MiB p50 ms": ms(small), f"{big} GiB p50 ms": ms(large)},
        )
    ]


def _fill(path: Path, size_bytes: int) -> None:
    """Real bytes: random blocks, so that nothing is shared or sparse."""
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for number in range(size_bytes >> 20):
            file.write(number.to_bytes(8, "big") + block[8:])
        file.flush()
        os.fsync(file.fileno())


def alive(quick: bool) -> list[Figure]:
    """The same with 1,000 forks alive against 10; beside it, what the two raw snapshots take then.

    The kernel's own work goes in waves, which the raw ones show as well: each snapshot adds a reference to every child
    of the tree's root, so the leaves that hold these fill and are split in step. So each number of forks stands for
    those around it."""
    most, around = (200, 20) if quick else (1000, 100)
    half = most // 2
    spans = {10: range(10, 10 + around // 2), half: range(half - around, half + around)}
    spans[most] = range(most - around, most + around)
    raw_every = 5
    took: dict[int, list[float]] = {mark: [] for mark in spans}
    took_raw: dict[int, list[float]] = {mark: [] for mark in spans}
    with setting.daemon() as running:
        raw = Raw(running, setting.up(running, setting.POSTGRES))
        try:
            for number in range(spans[most].stop):
                took_now = timed(lambda number=number: running.client.fork("production", f"f{number}", asleep=True))
                for mark, span in spans.items():
                    if number in span:
                        took[mark].append(took_now)
                        if number % raw_every == 0:
                            took_raw[mark].append(timed(raw))
        finally:
            raw.close()
    at, raw_at = ({mark: median(found[mark]) for mark in spans} for found in (took, took_raw))
    return [
        Figure(
            name=f"state fork, {most} alive / 10 alive",
            value=at[most] / at[10],
            unit="x",
            limit=3,
            runs=len(took[most]),
            detail={f"at {mark} p50 ms": ms(at[mark]) for mark in spans},
        ),
        Figure(
            name=f"state fork, {most} alive / {half} alive",
            value=at[most] / at[half],
            unit="x",
            limit=1.15,
            runs=len(took[most]),
            detail={f"raw at {mark} p50 ms": ms(raw_at[mark]) for mark in spans},
        ),
        Figure(
            name=f"two raw snapshots, {most} alive / {half} alive",
            value=raw_at[most] / raw_at[half],
            unit="x",
            runs=len(took_raw[most]),
        ),
    ]


def rate(quick: bool) -> list[Figure]:
    """Forks per second, asleep, from one client and from eight."""
    count = 80 if quick else 400
    figures = []
    with setting.daemon() as running:
        setting.up(running, setting.POSTGRES)
        for clients in (1, 8):
            local = threading.local()

            def one(number: int, local: threading.local = local, clients: int = clients) -> None:
                if not hasattr(local, "client"):
                    local.client = running.new_client()
                local.client.fork("production", f"r{clients}-{number}", asleep=True)

            began = time.perf_counter()
            with ThreadPoolExecutor(clients) as pool:
                list(pool.map(one, range(count)))
            seconds = time.perf_counter() - began
            figures.append(
                Figure(
                    name=f"forks per second, asleep, {clients} client{'s' if clients > 1 else ''}",
                    value=count / seconds,
                    unit="/s",
                    limit=50,
                    higher=True,
                    runs=count,
                )
            )
            setting.discard_forks(running.client)
    return figures

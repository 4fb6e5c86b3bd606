"""Forks that run: until Postgres answers, until the whole shop answers, and what production feels of it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import redis

from bench import setting
from bench.report import Figure, median, ms, percentile, timed
from bench.state import Raw
from wye.api.wire import EnvironmentView
from wye.drivers.btrfs import ioctls
from wye.host import Host
from wye.testing.running_daemon import RunningDaemon

_HOST = Host()
_POSTGRES_UID = 200000 + 999


def sql(quick: bool) -> list[Figure]:
    """fork → the fork's Postgres answers through its published port, the source being written to; against a bare
    postgres of the host started on a raw snapshot of the same volume."""
    runs = 5 if quick else 20
    with setting.daemon() as running:
        production = setting.up(running, setting.POSTGRES)
        ours, theirs = [], []
        with setting.write_load(setting.dsn(production)):
            for number in range(runs + 2):
                with _bare_fork(running, production) as took_raw:
                    pass
                began = time.perf_counter()
                fork = running.client.fork("production", f"f{number}").environments[0]
                setting.until_answers(setting.dsn(fork))
                took = time.perf_counter() - began
                running.client.discard(fork.name)
                if number >= 2:
                    ours.append(took)
                    theirs.append(took_raw[0])
    return [
        Figure(
            name="fork → SQL answers / bare postgres on a raw snapshot",
            value=median(ours) / median(theirs),
            unit="x",
            limit=2,
            runs=runs,
            detail={
                "fork p50 ms": ms(median(ours)),
                "bare p50 ms": ms(median(theirs)),
                "fork p95 ms": ms(percentile(ours, 95)),
            },
        )
    ]


@contextlib.contextmanager
def _bare_fork(running: RunningDaemon, production: EnvironmentView) -> Iterator[list[float]]:
    """Seconds from the first ioctl to the first answer of the image's own postgres, run by the host directly."""
    directory = running.root / "pool" / "bench"
    directory.mkdir(exist_ok=True)
    name = secrets.token_hex(6)
    took: list[float] = []
    port = 29555
    top = os.open(directory, os.O_RDONLY)
    source = os.open(setting.volume_path(running, production), os.O_RDONLY)
    began = time.perf_counter()
    ioctls.snapshot(_HOST, "bench", source, top, f"{name}-r", read_only=True)
    taken = os.open(f"{name}-r", os.O_RDONLY, dir_fd=top)
    ioctls.snapshot(_HOST, "bench", taken, top, name, read_only=False)
    os.close(taken)
    data = directory / name / "volumes" / "data"
    (data / "postmaster.pid").unlink(missing_ok=True)
    argv = [_postgres(), "-D", str(data), "-p", str(port), "-k", "", "-h", "127.0.0.1"]
    argv += ["-c", "shared_buffers=32MB", "-c", "max_connections=20"]
    process = subprocess.Popen(
        argv,
        user=_POSTGRES_UID,
        group=_POSTGRES_UID,
        extra_groups=[],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        setting.until_answers(f"host=127.0.0.1 port={port} user=postgres dbname=postgres connect_timeout=2")
        took.append(time.perf_counter() - began)
        yield took
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait()
        ioctls.destroy(_HOST, "bench", top, name)
        ioctls.destroy(_HOST, "bench", top, f"{name}-r")
        os.close(source)
        os.close(top)


def _postgres() -> str:
    """The host's own postgres of the catalogue's major version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        raise SystemExit("the peer of this figure is the host's own postgres: apt-get install postgresql")
    return str(found[-1])


# ---------------------------------------------------------------- the shop


def _up_shop(running: RunningDaemon) -> EnvironmentView:
    ports = {"SHOP_DB_PORT": "28433", "SHOP_CACHE_PORT": "28380", "SHOP_WEB_PORT": "28081"}
    return running.client.up(setting.SHOP, environment={**os.environ, **ports}).environment


def _until_shop_answers(shop: EnvironmentView) -> None:
    deadline = time.monotonic() + 60
    conninfo = f"host=127.0.0.1 port={setting.port(shop, 'db/5432/tcp')} user=shop password=shop dbname=shop"
    setting.until_answers(conninfo, "select max(id) from orders")
    cache = redis.Redis(port=setting.port(shop, "cache/6379/tcp"))
    url = f"http://127.0.0.1:{setting.port(shop, 'web/8000/tcp')}/orders"
    while True:
        try:
            cache.get("orders:last")
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    break
        except (OSError, redis.RedisError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.002)
    cache.close()


def shop(quick: bool) -> list[Figure]:
    """fork → the whole shop answers HTTP, SQL and Redis; and what copying the same bytes alone would take."""
    runs = 5 if quick else 20
    with setting.daemon() as running:
        production = _up_shop(running)
        took = []
        for number in range(runs + 1):
            began = time.perf_counter()
            fork = running.client.fork("production", f"f{number}").environments[0]
            _until_shop_answers(fork)
            took.append(time.perf_counter() - began)
            running.client.discard(fork.name)
        took = took[1:]
        copies = [_copy(running, production) for _ in range(3)]
    return [
        Figure(
            name="fork → shop answers HTTP, SQL and Redis",
            value=ms(median(took)),
            unit="ms",
            limit=600,
            runs=runs,
            detail={"p95 ms": ms(percentile(took, 95))},
        ),
        Figure(
            name="the same / copying its bytes (cp --reflink=never) plus that start",
            value=median(took) / (median(copies) + median(took)),
            unit="x",
            runs=runs,
            detail={"copy p50 ms": ms(median(copies))},
        ),
    ]


def _copy(running: RunningDaemon, environment: EnvironmentView) -> float:
    target = running.root / "pool" / "bench" / "copy"
    target.parent.mkdir(exist_ok=True)
    argv = ["cp", "-a", "--reflink=never", str(setting.volume_path(running, environment)), str(target)]
    took = timed(lambda: subprocess.run(argv, check=False, capture_output=True))
    shutil.rmtree(target, ignore_errors=True)
    return took


def latency(quick: bool) -> list[Figure]:
    """Production's p99 while 50 forks are made, against its own just before: at several paces, asleep and awake. Beside
    them, what two raw snapshots at the same pace do to it: a commit of the file system that a writer waits for."""
    forks = 10 if quick else 50
    with setting.daemon() as running:
        production = setting.up(running, setting.POSTGRES)
        client, raw = running.client, Raw(running, production)
        figures = []
        with contextlib.closing(raw), setting.write_load(setting.dsn(production)) as times:
            for how, make, pause_s, limit in (
                ("forks are made (asleep, ten a second)", lambda n: client.fork("production", n, asleep=True), 0.1, 2),
                ("pairs of raw snapshots are made (ten a second)", lambda _: raw(), 0.1, None),
                ("forks are made (asleep, back to back)", lambda n: client.fork("production", n, asleep=True), 0.0, 2),
                ("pairs of raw snapshots are made (back to back)", lambda _: raw(), 0.0, None),
                ("forks are made (awake, one a second)", lambda n: client.fork("production", n), 1.0, 2),
                ("forks are made (awake, back to back)", lambda n: client.fork("production", n), 0.0, 2),
            ):
                figure = _latency(times, make, forks, how, pause_s, before_s=2 if quick else 8)
                figures.append(replace(figure, limit=limit))
                setting.discard_forks(client)
                client.collect()
    return figures


def _latency(
    times: setting.Times, make: Callable[[str], object], count: int, how: str, pause_s: float, before_s: float
) -> Figure:
    begin = time.perf_counter()
    time.sleep(before_s)
    middle = time.perf_counter()
    for number in range(count):
        due = time.perf_counter() + pause_s
        make(f"f{number}")
        time.sleep(max(0.0, due - time.perf_counter()))
    end = time.perf_counter()
    seen = times()
    before, during = (setting.between(seen, *span) for span in ((begin, middle), (middle, end)))
    return Figure(
        name=f"production's p99 while {count} {how}",
        value=percentile(during, 99) / percentile(before, 99),
        unit="x",
        runs=len(during),
        detail={
            "before p99 ms": ms(percentile(before, 99)),
            "during p99 ms": ms(percentile(during, 99)),
            "during p50 ms": ms(percentile(during, 50)),
            "failed": sum(1 for at, took in seen if at >= begin and took < 0),
        },
    )


def execute(quick: bool) -> list[Figure]:
    """`true` in a fork that is awake, through the SDK."""
    runs = 20 if quick else 100
    with setting.daemon() as running:
        setting.up(running, setting.FILES)
        running.client.fork("production", "f")
        running.client.exec("f", ["true"])
        took = [timed(lambda: running.client.exec("f", ["true"])) for _ in range(runs)]
    return [
        Figure(
            name="exec of true, p50",
            value=ms(median(took)),
            unit="ms",
            limit=40,
            runs=runs,
            detail={"p95 ms": ms(percentile(took, 95))},
        )
    ]

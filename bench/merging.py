"""Diff and merge: a million rows, some changed; thirty thousand files, a dozen changed; production written to."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psycopg

from bench import setting
from bench.report import Figure, median, ms, percentile, timed
from wye.api.client import Client
from wye.api.wire import EnvironmentView, MergeResult
from wye.testing.running_daemon import RunningDaemon

_TABLE = """
create table accounts (id bigint not null, branch int not null, balance bigint not null, note text not null);
insert into accounts select n, n % 100, 0, repeat('x', 60) from generate_series(1, {rows}) n;
alter table accounts add primary key (id);
vacuum (freeze, analyze) accounts;
"""


def _fill(production: EnvironmentView, rows: int) -> None:
    """Ten million take a minute, and 4 GiB of the pool at most: the log is not let grow beside the table."""
    with psycopg.connect(setting.dsn(production), autocommit=True) as connection:
        connection.execute("alter system set max_wal_size = '512MB'")
        connection.execute("select pg_reload_conf()")
        for statement in _TABLE.format(rows=rows).strip().split(";\n"):
            connection.execute(statement)
        connection.execute("checkpoint")


def _change(fork: EnvironmentView, rows: int, changed: int) -> None:
    """Updates, spread over the table; a tenth each of deletions and insertions."""
    step = rows // changed
    with psycopg.connect(setting.dsn(fork), autocommit=True) as connection:
        update, delete = changed * 8 // 10, changed // 10
        connection.execute(f"update accounts set balance = 1 where id % {step} = 0 and id <= {step * update}")
        connection.execute(f"delete from accounts where id % {step} = 1 and id <= {step * delete}")
        new = f"generate_series(1, {changed - update - delete}) n"
        connection.execute(f"insert into accounts select {rows} + n, 1, 1, 'new' from {new}")


def diff(quick: bool) -> list[Figure]:
    """100 changed rows in 1M and in 10M, in turns; then 10,000 in 1M."""
    runs = 3 if quick else 7
    rows = 100_000 if quick else 1_000_000
    with setting.daemon() as running:
        client = running.client
        for production, fork, size in (("production", "f", rows), ("large", "l", 10 * rows)):
            _fill(setting.up(running, setting.POSTGRES, production), size)
            _change(client.fork(production, fork).environments[0], size, 100)
            client.diff(fork)
        took: dict[str, list[float]] = {"f": [], "l": [], "command": []}
        for _ in range(runs):
            for fork in ("f", "l"):
                took[fork].append(timed(partial(client.diff, fork)))
            took["command"].append(timed(lambda: _cli(running, "diff", "f", "--json")))
        many = client.fork("production", "m").environments[0]
        _change(many, rows, 10_000)
        most = [timed(lambda: client.diff("m")) for _ in range(runs)]
    small, large = median(took["f"]), median(took["l"])
    return [
        Figure(
            name=f"diff, 100 changed rows of {rows:,}",
            value=ms(small),
            unit="ms",
            limit=250,
            runs=runs,
            detail={"p95 ms": ms(percentile(took["f"], 95)), "whole command p50 ms": ms(median(took["command"]))},
        ),
        Figure(
            name="the same, ten times the rows",
            value=large / small,
            unit="x",
            limit=1.3,
            runs=runs,
            detail={"p50 ms": ms(large)},
        ),
        Figure(
            name=f"diff, 10,000 changed rows of {rows:,}",
            value=ms(median(most)),
            unit="ms",
            limit=2000,
            runs=runs,
            detail={"p95 ms": ms(percentile(most, 95))},
        ),
    ]


def _cli(running: RunningDaemon, *arguments: str) -> None:
    subprocess.run(
        [str(Path(sys.executable).with_name("wye")), *arguments],
        env={**os.environ, "WYE_SOCKET": str(running.socket)},
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _live_transaction(result: MergeResult) -> float:
    """Seconds of the database's own steps, all within one transaction."""
    return sum(seconds for name, seconds in result.steps.items() if name.startswith("postgres "))


def merge(quick: bool) -> list[Figure]:
    """100 and 10,000 changed rows of 1M into a production that is written to."""
    rows = 100_000 if quick else 1_000_000
    figures = []
    with setting.daemon() as running:
        production = setting.up(running, setting.POSTGRES)
        _fill(production, rows)
        with setting.write_load(setting.dsn(production)) as times:
            time.sleep(1)
            figures += _merge_one(running.client, times, rows, 100, live_ms=60, whole_ms=1500, quick=quick)
            figures += _merge_one(running.client, times, rows, 10_000, live_ms=700, whole_ms=None, quick=quick)
    return figures


def _merge_one(
    client: Client,
    times: setting.Times,
    rows: int,
    changed: int,
    *,
    live_ms: float,
    whole_ms: float | None,
    quick: bool,
) -> list[Figure]:
    runs = 2 if quick else 5
    lives, wholes, diffs, ratios, failed = [], [], [], [], 0
    quiet: list[float] = []
    merging: list[float] = []
    for number in range(runs):
        fork = client.fork("production", "m").environments[0]
        _change_again(fork, rows, changed, number)
        diffs.append(timed(lambda: client.diff("m", limit=20)))
        begin = time.perf_counter()
        time.sleep(2)
        middle = time.perf_counter()
        result = client.merge("m")
        end = time.perf_counter()
        if not result.merged:
            raise SystemExit(f"the merge was refused: {result.conflicts[:3]}")
        lives.append(_live_transaction(result))
        wholes.append(end - middle)
        seen = times()
        before, during = (setting.between(seen, *span) for span in ((begin, middle), (middle, end)))
        ratios.append(percentile(during, 99) / percentile(before, 99))
        quiet += before
        merging += during
        failed += sum(1 for at, took in seen if at >= begin and took < 0)
        client.discard("m")
    name = f"{changed:,} changed rows of {rows:,}"
    return [
        Figure(name=f"merge, {name}: live transaction", value=ms(median(lives)), unit="ms", limit=live_ms, runs=runs),
        Figure(
            name=f"merge, {name}: whole, with rehearsal", value=ms(median(wholes)), unit="ms", limit=whole_ms, runs=runs
        ),
        Figure(
            name=f"diff, {name}",
            value=ms(median(diffs)),
            unit="ms",
            limit=2000 if changed > 1000 else 250,
            runs=runs,
            detail={"in a fork that was never compared before": "yes"},
        ),
        Figure(
            name=f"production's p99 during that merge, {changed:,} rows",
            value=median(ratios),
            unit="x",
            limit=3,
            runs=runs,
            detail={
                "failed": failed,
                "before p99 ms, all runs": ms(percentile(quiet, 99)),
                "during p99 ms, all runs": ms(percentile(merging, 99)),
                "writes during": len(merging),
            },
        ),
    ]


def _change_again(fork: EnvironmentView, rows: int, changed: int, number: int) -> None:
    step = rows // changed
    with psycopg.connect(setting.dsn(fork), autocommit=True) as connection:
        connection.execute(f"update accounts set balance = balance + 1 where id % {step} = {number % step}")


def files(quick: bool) -> list[Figure]:
    """12 changed files among 30,000."""
    count, runs = (3_000, 5) if quick else (30_000, 10)
    with setting.daemon() as running:
        production = setting.up(running, setting.FILES)
        data = setting.volume_path(running, production) / "volumes" / "data"
        for number in range(count):
            folder = data / f"{number // 300}"
            if number % 300 == 0:
                folder.mkdir()
            (folder / f"{number}.txt").write_text(f"file {number}\n" * 8)
        fork = running.client.fork("production", "f").environments[0]
        changed = setting.volume_path(running, fork) / "volumes" / "data"
        for number in range(0, 12 * 250, 250):
            (changed / f"{number // 300}" / f"{number}.txt").write_text("changed\n")
        running.client.diff("f")
        took = [timed(lambda: running.client.diff("f")) for _ in range(runs)]
        found = running.client.diff("f").total_files
    return [
        Figure(
            name=f"diff, {found} changed files of {count:,}",
            value=ms(median(took)),
            unit="ms",
            limit=50,
            runs=runs,
            detail={"p95 ms": ms(percentile(took, 95))},
        )
    ]

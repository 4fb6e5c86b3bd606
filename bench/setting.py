"""The daemon that is measured, and the projects that it runs. Kept between runs, so that images are made once."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import IO

import psycopg

from wye.api.client import Client
from wye.api.wire import EnvironmentView
from wye.testing.running_daemon import RunningDaemon

ROOT = Path(os.environ.get("WYE_BENCH_ROOT", "/var/lib/wye-bench"))
Times = Callable[[], list[tuple[float, float]]]
_TIME = struct.Struct("=dd")
SHOP = Path(__file__).parents[1] / "examples" / "shop"

POSTGRES = """
name: bench
services:
  db:
    image: wye/postgres
    environment: {POSTGRES_PASSWORD: bench, POSTGRES_HOST_AUTH_METHOD: trust}
    command: ["postgres", "-c", "shared_buffers=32MB", "-c", "max_connections=20"]
    volumes: ["data:/var/lib/postgresql/data"]
    ports: ["127.0.0.1::5432"]
    healthcheck: {test: [CMD, pg_isready, -q, -U, postgres, -h, 127.0.0.1], interval: 30s, retries: 20}
volumes: {data: {}}
"""

FILES = """
name: bench
services:
  box:
    image: wye/base
    command: ["sleep", "infinity"]
    volumes: ["data:/data"]
volumes: {data: {}}
"""


@contextlib.contextmanager
def daemon(pool: str = "14GiB") -> Iterator[RunningDaemon]:
    """Started, empty, with our images in it."""
    running = RunningDaemon(ROOT, instance="wyebch", uplinks="100.74.0.0/16", pool_bytes=pool, ports=(21000, 27999))
    running.start()
    try:
        running.discard_everything()
        yield running
        running.discard_everything()
        running.client.collect()
    finally:
        running.close()


def up(running: RunningDaemon, compose: str, name: str = "production") -> EnvironmentView:
    project = ROOT / "project"
    project.mkdir(exist_ok=True)
    (project / "compose.yaml").write_text(compose)
    return running.client.up(project, name=name, environment={}).environment


def port(environment: EnvironmentView, key: str) -> int:
    return next(each.host_port for each in environment.ports if each.key == key)


def dsn(environment: EnvironmentView, key: str = "db/5432/tcp") -> str:
    return f"host=127.0.0.1 port={port(environment, key)} user=postgres dbname=postgres connect_timeout=2"


def until_answers(conninfo: str, query: str = "select 1", timeout_s: float = 30.0) -> None:
    """Returns at the first answer. Tries without a pause: a refused connection costs little."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with psycopg.connect(conninfo, autocommit=True) as connection:
                connection.execute(query)
                return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.001)


@contextlib.contextmanager
def write_load(conninfo: str, *, pause_s: float = 0.002) -> Iterator[Times]:
    """A client that inserts and updates all the time, in a process of its own: a thread here would wait for the
    interpreter's lock whenever the benchmark itself computes. Yields what lists its (moment, seconds) so far; negative
    seconds: failed. Raises RuntimeError if that process dies."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("create table if not exists load (id bigserial primary key, at timestamptz, n int)")
    apart = multiprocessing.get_context("spawn")
    with (
        tempfile.NamedTemporaryFile(prefix="wye-bench-") as file,
        tempfile.NamedTemporaryFile(prefix="wye-bench-") as said,
    ):
        ended = apart.Event()
        worker = apart.Process(target=_write, args=(conninfo, pause_s, file.name, ended, said.name))
        worker.start()
        try:
            while not os.path.getsize(file.name):
                _require(worker, said)
                time.sleep(0.01)
            yield lambda: list(_TIME.iter_unpack(Path(file.name).read_bytes()))
            _require(worker, said)
        finally:
            ended.set()
            worker.join()


def _require(worker: BaseProcess, said: IO[bytes]) -> None:
    """That it still writes: without it everything looks quick. Raises RuntimeError with what it said."""
    if not worker.is_alive():
        said.seek(0)
        raise RuntimeError(f"what writes ended with {worker.exitcode}: {said.read().decode(errors='replace').strip()}")


def _write(conninfo: str, pause_s: float, path: str, ended: Event, said: str) -> None:
    errors = os.open(said, os.O_WRONLY | os.O_APPEND)
    os.dup2(errors, 2)
    with psycopg.connect(conninfo, autocommit=True) as connection, open(path, "ab", buffering=0) as out:
        while not ended.is_set():
            time.sleep(pause_s)
            began = time.perf_counter()
            try:
                connection.execute("insert into load (at, n) values (now(), 1)")
                connection.execute("update load set n = n + 1 where id = (select max(id) from load)")
                out.write(_TIME.pack(began, time.perf_counter() - began))
            except psycopg.Error:
                out.write(_TIME.pack(began, -1.0))


def between(seen: list[tuple[float, float]], first: float, end: float) -> list[float]:
    """The seconds of what began then and did not fail."""
    return [took for at, took in seen if first <= at < end and took >= 0]


def volume_path(running: RunningDaemon, environment: EnvironmentView) -> Path:
    return running.root / "pool" / "environments" / environment.id


def forks(client: Client) -> list[str]:
    return [environment.name for environment in client.environments() if environment.source is not None]


def discard_forks(client: Client) -> None:
    for name in forks(client):
        client.discard(name)

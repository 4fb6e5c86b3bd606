"""The demo that bin/demo runs: real parts, a daemon of its own, figures of this very run.

Its daemon keeps everything below /var/lib/wye-demo and /run/wye-demo, so that it meets no other one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import redis
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

import wye
from wye.api.wire import EnvironmentView, Progress
from wye.errors import WyeError

ROOT = Path("/var/lib/wye-demo")
RUN = Path("/run/wye-demo")
LOG = Path("/var/log/wye-demo")
SHOP = Path(__file__).parent / "shop"
PORTS = {"SHOP_DB_PORT": "15433", "SHOP_CACHE_PORT": "16380", "SHOP_WEB_PORT": "18081"}
SETTINGS = {
    "WYE_ROOT": str(ROOT),
    "WYE_RUN": str(RUN),
    "WYE_LOG": str(LOG),
    "WYE_INSTANCE": "wyedem",
    "WYE_UPLINKS": "100.70.0.0/16",
    "WYE_PORT_FIRST": "18100",
    "WYE_PORT_LAST": "18999",
    "WYE_POOL_BYTES": "8GiB",
}
FORK = "agent-1"

console = Console(highlight=False)
taken: list[tuple[str, float]] = []


def say(text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]")


@contextmanager
def timed(name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    taken.append((name, time.monotonic() - began))


# ---------------------------------------------------------------- the daemon


def daemon_pid() -> int | None:
    """The demo's own daemon, by the file it was started with; never anybody else's."""
    try:
        pid = int((RUN / "demo.pid").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if b"wye.daemon.main" in words else None


def start_daemon() -> wye.Client:
    if daemon_pid() is None:
        for directory in (ROOT, RUN, LOG):
            directory.mkdir(parents=True, exist_ok=True)
        with (LOG / "daemon.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "wye.daemon.main"],
                env={**os.environ, **SETTINGS},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        (RUN / "demo.pid").write_text(str(process.pid))
        for _ in range(600):
            if (RUN / "wye.sock").exists():
                break
            if process.poll() is not None:
                console.print((LOG / "daemon.log").read_text()[-2000:])
                raise SystemExit("the daemon ended at once")
            time.sleep(0.05)
    return wye.connect(f"unix://{RUN}/wye.sock")


def stop_daemon() -> None:
    pid = daemon_pid()
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    for _ in range(400):
        if daemon_pid() is None:
            return
        time.sleep(0.05)


def clean() -> None:
    """Everything the demo made. Debian packages stay."""
    if (ROOT / "wye.db").exists():
        client = start_daemon()
        for environment in sorted(client.environments(), key=lambda each: each.source is None):
            console.print(f"discarding {environment.name}")
            client.discard(environment.name, confirm_production=True)
    stop_daemon()
    subprocess.run(["umount", str(ROOT / "pool")], check=False, capture_output=True)
    found = subprocess.run(
        ["losetup", "-j", str(ROOT / "pool.img"), "-O", "NAME", "-n"], capture_output=True, text=True
    )
    for device in found.stdout.split():
        subprocess.run(["losetup", "-d", device], check=False)
    subprocess.run(["nft", "delete", "table", "inet", SETTINGS["WYE_INSTANCE"]], check=False, capture_output=True)
    for directory in (ROOT, RUN, LOG):
        shutil.rmtree(directory, ignore_errors=True)
    console.print("all gone")


# ---------------------------------------------------------------- watching production


class Witness:
    """Asks production over HTTP, SQL and Redis, again and again, and notes every answer and every failure."""

    def __init__(self, ports: dict[str, int]) -> None:
        self.ports = ports
        self.answers: dict[str, list[tuple[float, float]]] = {"HTTP": [], "SQL": [], "Redis": []}
        self.failures: list[str] = []
        self.ended = threading.Event()
        self.threads = [
            threading.Thread(target=self._watch, args=("HTTP", self._http), daemon=True),
            threading.Thread(target=self._watch, args=("SQL", self._sql), daemon=True),
            threading.Thread(target=self._watch, args=("Redis", self._redis), daemon=True),
        ]
        self.database = psycopg.connect(dsn(ports["db/5432/tcp"]), autocommit=True)
        self.cache = redis.Redis(port=ports["cache/6379/tcp"])

    def __enter__(self) -> Witness:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()
        self.database.close()
        self.cache.close()

    def _watch(self, name: str, ask: Callable[[], object]) -> None:
        while not self.ended.wait(0.02):
            began = time.monotonic()
            try:
                ask()
            except Exception as error:  # noqa: BLE001  whatever goes wrong is what is being looked for
                self.failures.append(f"{name}: {error}")
            self.answers[name].append((began, time.monotonic() - began))

    def _http(self) -> None:
        get(f"http://127.0.0.1:{self.ports['web/8000/tcp']}/health")

    def _sql(self) -> None:
        self.database.execute("select max(id) from orders")

    def _redis(self) -> None:
        self.cache.get("orders:last")

    def p99_ms(self, name: str, since: float, until: float) -> float:
        found = [took for at, took in self.answers[name] if since <= at < until]
        return 1000 * statistics.quantiles(found, n=100)[98] if len(found) > 2 else float("nan")

    def count(self, since: float, until: float) -> int:
        return sum(1 for answers in self.answers.values() for at, _ in answers if since <= at < until)


def dsn(port: int) -> str:
    return f"postgresql://shop:shop@127.0.0.1:{port}/shop?connect_timeout=3"


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def ask_everything(ports: dict[str, int]) -> dict[str, str]:
    """What an environment says of itself, over all three doors."""
    answers = {}
    try:
        answers["HTTP /orders"] = get(f"http://127.0.0.1:{ports['web/8000/tcp']}/orders")
    except OSError as error:
        answers["HTTP /orders"] = f"[red]{error}[/red]"
    try:
        with psycopg.connect(dsn(ports["db/5432/tcp"]), autocommit=True) as connection:
            (count,) = connection.execute("select count(*) from orders").fetchone() or (None,)
            answers["SQL orders"] = f"{count:,} rows"
    except psycopg.Error as error:
        answers["SQL orders"] = f"[red]{str(error).splitlines()[0]}[/red]"
    try:
        answers["Redis keys"] = str(redis.Redis(port=ports["cache/6379/tcp"]).dbsize())
    except redis.RedisError as error:
        answers["Redis keys"] = f"[red]{error}[/red]"
    return answers


def show_answers(title: str, columns: dict[str, dict[str, str]]) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in columns:
        table.add_column(name)
    for question in next(iter(columns.values())):
        table.add_row(question, *(answers[question] for answers in columns.values()))
    console.print(table)


def wait_for(ports: dict[str, int]) -> None:
    """Until the environment answers on all three doors."""
    deadline = time.monotonic() + 60
    while any("[red]" in answer for answer in ask_everything(ports).values()):
        if time.monotonic() > deadline:
            raise SystemExit("the environment does not answer")
        time.sleep(0.01)


# ---------------------------------------------------------------- the story


AGENT = [
    ("drop a table", None, "PGPASSWORD=shop psql -q -h db -U shop shop -c 'drop table orders cascade'"),
    ("empty the cache", None, "redis-cli -h cache flushall"),
    ("delete the app", "web", "rm -rf /app/*; ls -A /app | wc -l"),
    ("kill every process of the worker", "worker", "kill -9 -1"),
]


def ports_of(environment: EnvironmentView) -> dict[str, int]:
    return {port.key: port.host_port for port in environment.ports}


def up(client: wye.Client) -> dict[str, int]:
    seen: set[str] = set()

    def progress(news: Progress) -> None:
        line = f"{news.step} {news.subject}"
        if sys.stderr.isatty():
            status.update(line)
        elif line not in seen:
            seen.add(line)
            console.print(f"  [dim]{line}[/dim]")

    with console.status("up") as status:
        result = client.up("production", directory=str(SHOP), environment={**os.environ, **PORTS}, progress=progress)
    for notice in result.notices:
        console.print(f"  [dim]{notice}[/dim]")
    return ports_of(result.environment)


def destroy(client: wye.Client) -> None:
    for what, service, command in AGENT:
        done = client.exec(FORK, ["sh", "-c", command], service=service)
        console.print(f"  agent: {what:34} [dim]{command}[/dim] → {done.exit_code}")


def show_diff(client: wye.Client) -> None:
    changes = client.diff(FORK)
    for place in changes.places:
        console.print(
            f"  {place.place} ({place.kind}): {place.added} files added, {place.removed} removed, "
            f"{place.modified} changed, {place.changed_bytes / 1024:,.0f} KiB"
        )
    for file in changes.files[:12]:
        mark = {"added": "[green]A[/green]", "removed": "[red]D[/red]", "modified": "[yellow]M[/yellow]"}[file.change]
        console.print(f"  {mark} {file.place}: {file.path}")
    if changes.total_files > 12:
        console.print(f"  … and {changes.total_files - 12} more files")


def story(client: wye.Client) -> None:
    say("Production: Postgres with 120,000 orders and more every second, Redis, a web app, a worker")
    with timed("production up"):
        production = up(client)
        wait_for(production)
    if FORK in {environment.name for environment in client.environments()}:
        client.discard(FORK)  # an earlier run was interrupted
    with Witness(production) as witness:
        time.sleep(2)
        before = ask_everything(production)
        fork_at = time.monotonic()
        say(f"wye fork production {FORK}")
        with timed("fork, until every service was started"):
            forked = client.fork("production", FORK)
        with timed("… until it answered HTTP, SQL and Redis"):
            fork = ports_of(forked.environments[0])
            wait_for(fork)
        taken.insert(1, ("  of that: " + ", ".join(f"{k} {1000 * v:.0f} ms" for k, v in forked.steps.items()), 0.0))
        show_answers("the same answers", {"production": ask_everything(production), FORK: ask_everything(fork)})
        say(f"An agent goes to work in {FORK}")
        with timed("the agent's work"):
            destroy(client)
        show_answers("afterwards", {"production": ask_everything(production), FORK: ask_everything(fork)})
        say(f"wye diff {FORK}")
        with timed("diff"):
            show_diff(client)
        say(f"wye discard {FORK}")
        with timed("discard"):
            client.discard(FORK)
        gone_at = time.monotonic()
        time.sleep(1)
        after = ask_everything(production)
    show_answers("production", {"before": before, "after": after})
    verdict(witness, fork_at, gone_at)


def verdict(witness: Witness, fork_at: float, gone_at: float) -> None:
    table = Table(title="how long each step took", title_justify="left")
    table.add_column("step")
    table.add_column("ms", justify="right")
    for name, seconds in taken:
        table.add_row(name, f"{1000 * seconds:,.0f}" if seconds else "")
    console.print(table)
    asked = witness.count(fork_at, gone_at)
    lines = [f"{asked} questions to production meanwhile, {len(witness.failures)} failed"]
    for name in witness.answers:
        before, during = witness.p99_ms(name, 0, fork_at), witness.p99_ms(name, fork_at, gone_at)
        lines.append(f"p99 {name:6} before {before:6.1f} ms   during {during:6.1f} ms")
    console.print(Panel("\n".join(lines), title="did production notice?", expand=False))
    if witness.failures:
        console.print("\n".join(witness.failures[:5]))
        raise SystemExit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clean", action="store_true", help="remove all that the demo made")
    if parser.parse_args().clean:
        clean()
        return
    client = start_daemon()
    try:
        story(client)
    except WyeError as error:
        console.print(
            f"[red]error:[/red] {error.message}" + (f"\n[bold]hint:[/bold] {error.hint}" if error.hint else "")
        )
        raise SystemExit(error.exit_code) from error
    console.print(
        f"\nproduction goes on. Look around: [bold]WYE_SOCKET={RUN}/wye.sock bin/wye ps[/bold]"
        "\nRemove everything: [bold]bin/demo --clean[/bold]"
    )


if __name__ == "__main__":
    main()

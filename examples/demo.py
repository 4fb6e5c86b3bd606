"""The demo that bin/demo runs: real parts, a daemon of its own, figures of this very run.

Its daemon keeps everything below /var/lib/wye-demo, /run/wye-demo and /var/log/wye-demo, so that it meets no other one.
`--svg FILE` also draws what was printed; docs/demo.svg was made that way, in a second run, when images were there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import redis
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.table import Table
from rich.text import Text

import wye
from wye.api.wire import EnvironmentView, Progress
from wye.cli.progress import describe
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

console = Console(highlight=False, record=True)
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
        for _ in range(1200):
            with suppress(WyeError):
                return wye.connect(f"unix://{RUN}/wye.sock")
            if process.poll() is not None:
                raise SystemExit(f"the daemon ended at once:\n{(LOG / 'daemon.log').read_text()[-2000:]}")
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
    stop_daemon()
    erase = [sys.executable, "-m", "wye.daemon.main", "--erase", "--discard-everything"]
    subprocess.run(erase, env={**os.environ, **SETTINGS}, check=True)
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
        counts = json.loads(get(f"http://127.0.0.1:{ports['web/8000/tcp']}/orders"))
        answers["HTTP"] = f"{counts['orders']:,} orders"
    except OSError as error:
        answers["HTTP"] = f"[red]{error}[/red]"
    try:
        with psycopg.connect(dsn(ports["db/5432/tcp"]), autocommit=True) as connection:
            (orders,) = connection.execute("select count(*) from orders").fetchone() or (0,)
            answers["SQL"] = f"{orders:,} orders"
    except psycopg.Error as error:
        answers["SQL"] = f"[red]{str(error).splitlines()[0]}[/red]"
    try:
        answers["Redis"] = f"{redis.Redis(port=ports['cache/6379/tcp']).dbsize()} keys"
    except redis.RedisError as error:
        answers["Redis"] = f"[red]{error}[/red]"
    return answers


def plain_table(*, header: bool) -> Table:
    return Table(box=None, show_header=header, header_style="bold cyan", padding=(0, 2))


def show_answers(columns: dict[str, dict[str, str]]) -> None:
    table = plain_table(header=True)
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
    ("drop a table", None, "psql -q -h db -U shop shop -c 'drop table orders cascade'"),
    ("empty the cache", None, "redis-cli -h cache flushall"),
    ("delete the app", "web", "rm -rf /app/*"),
    ("kill the database's processes", "db", "kill -9 -1"),
]


def ports_of(environment: EnvironmentView) -> dict[str, int]:
    return {port.key: port.host_port for port in environment.ports}


def up(client: wye.Client) -> dict[str, int]:
    seen: set[tuple[str, str]] = set()

    def progress(news: Progress) -> None:
        key = (news.step, news.subject)
        if console.is_terminal:
            line = Text(describe(news))
            line.truncate(console.width - 4, overflow="ellipsis")
            status.update(line)
        elif key not in seen:
            seen.add(key)
            print(f"  {describe(news)}", flush=True)

    with console.status("up") as status:
        result = client.up(SHOP, environment={**os.environ, **PORTS}, progress=progress)
    for notice in result.notices:
        console.print(f"  [dim]{notice.replace(f'{SHOP}/', './')}[/dim]")
    return ports_of(result.environment)


def destroy(client: wye.Client) -> None:
    table = plain_table(header=False)
    for what, service, command in AGENT:
        done = client.exec(FORK, ["sh", "-c", command], service=service, env={"PGPASSWORD": "shop"})
        table.add_row(what, f"[dim]{command}[/dim]", f"exit {done.exit_code}")
    console.print(table)


def show_diff() -> None:
    """What the command prints, so that nobody has to wonder whether it does."""
    command = [str(Path(sys.executable).with_name("wye")), "diff", FORK]
    address = {"WYE_ADDRESS": f"unix://{RUN}/wye.sock", "FORCE_COLOR": "1", "COLUMNS": str(console.width)}
    done = subprocess.run(command, env={**os.environ, **address}, stdout=subprocess.PIPE, text=True, check=True)
    console.print(Text.from_ansi(done.stdout.rstrip("\n")))


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
        taken.append(("  of that: " + ", ".join(f"{k} {1000 * v:.0f} ms" for k, v in forked.steps.items()), 0.0))
        with timed("then, until it answered HTTP, SQL and Redis"):
            fork = ports_of(forked.environments[0])
            wait_for(fork)
        show_answers({FORK: ask_everything(fork), "production, meanwhile": ask_everything(production)})
        say(f"An agent goes to work in {FORK}")
        with timed("the agent's work"):
            destroy(client)
        console.print()
        show_answers({FORK: ask_everything(fork), "production, meanwhile": ask_everything(production)})
        say(f"wye diff {FORK}")
        with timed("diff, the command's own start included"):
            show_diff()
        say(f"wye discard {FORK}")
        with timed("discard"):
            client.discard(FORK)
        gone_at = time.monotonic()
        time.sleep(1)
        after = ask_everything(production)
    say("Production")
    show_answers({"before the fork": before, "after all this": after})
    verdict(witness, fork_at, gone_at)


def verdict(witness: Witness, fork_at: float, gone_at: float) -> None:
    say("How long each step took, in ms")
    table = plain_table(header=False)
    table.add_column("step")
    table.add_column("ms", justify="right")
    for name, seconds in taken:
        table.add_row(name, f"{1000 * seconds:,.0f}" if seconds else "")
    console.print(table)
    asked = witness.count(fork_at, gone_at)
    say("Did production notice?")
    lines = [f"  {asked} questions to it meanwhile, {len(witness.failures)} failed"]
    for name in witness.answers:
        before, during = witness.p99_ms(name, 0, fork_at), witness.p99_ms(name, fork_at, gone_at)
        lines.append(f"  {name:6} p99 before {before:6.1f} ms, meanwhile {during:6.1f} ms")
    console.print("\n".join(lines))
    if witness.failures:
        console.print("\n".join(witness.failures[:5]))
        raise SystemExit(1)


def draw(file: Path) -> None:
    """What was printed, as a picture that fetches nothing."""
    form = re.sub(r"\s*@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    console.save_svg(str(file), title="bin/demo", code_format=form, unique_id="demo")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bin/demo", description="A shop, its fork, and an agent that destroys it.")
    parser.add_argument("--clean", action="store_true", help="remove all that the demo made; Debian packages stay")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also draw what is printed, as SVG")
    options = parser.parse_args()
    if options.clean:
        clean()
        return
    if options.svg is not None:
        console.width = 110
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
    if options.svg is not None:
        draw(options.svg)


if __name__ == "__main__":
    main()

"""The demo that bin/demo runs: real parts, a daemon of its own, figures of this very run.

Its daemon keeps everything below /var/lib/wye-demo, /run/wye-demo and /var/log/wye-demo, so that it meets no other one.
`--svg FILE` also draws what was printed; docs/demo.svg was made that way, in a second run, when images were there.
"""

from __future__ import annotations

import argparse
import itertools
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
from wye.api.wire import EnvironmentView, MergeResult, Progress
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
    "WYE_POOL_BYTES": "5GiB",
}
FORK, FEATURE = "agent-1", "feature-1"
BANNER = "Priority orders leave today"

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
    console.print("removing environments, images, the pool, the network ...")
    stop_daemon()
    erase = [sys.executable, "-m", "wye.daemon.main", "--erase", "--discard-everything"]
    status = subprocess.run(erase, env={**os.environ, **SETTINGS}).returncode
    if status != 0:
        raise SystemExit(status)  # the program has said why
    for directory in (ROOT, RUN, LOG):
        shutil.rmtree(directory, ignore_errors=True)
    console.print("all gone")


# ---------------------------------------------------------------- watching production


class Witness:
    """Asks production over HTTP, SQL and Redis, again and again, and notes every answer and every failure."""

    def __init__(self, ports: dict[str, int]) -> None:
        self.ports = ports
        self.answers: dict[str, list[tuple[float, float]]] = {"HTTP": [], "SQL": [], "Redis": []}
        self.failures: list[tuple[str, float, str]] = []
        """Door, when, and what."""
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
                self.failures.append((name, began, str(error)))
            self.answers[name].append((began, time.monotonic() - began))

    def _http(self) -> None:
        get(f"{web(self.ports)}/health")

    def _sql(self) -> None:
        self.database.execute("select max(id) from orders")

    def _redis(self) -> None:
        self.cache.get("orders:last")

    def p99_ms(self, name: str, since: float, until: float) -> float:
        found = [took for at, took in self.answers[name] if since <= at < until]
        return 1000 * statistics.quantiles(found, n=100)[98] if len(found) > 2 else float("nan")

    def count(self, name: str, since: float, until: float) -> int:
        return sum(1 for at, _ in self.answers[name] if since <= at < until)

    def failed(self, name: str, since: float, until: float) -> list[str]:
        return [what for door, at, what in self.failures if door == name and since <= at < until]

    def silence_ms(self, name: str, since: float, until: float) -> float:
        """The longest time without a good answer."""
        failed = {at for door, at, _ in self.failures if door == name}
        good = [at + took for at, took in self.answers[name] if since <= at < until and at not in failed]
        return 1000 * max((later - earlier for earlier, later in itertools.pairwise(good)), default=0.0)


def dsn(port: int) -> str:
    return f"postgresql://shop:shop@127.0.0.1:{port}/shop?connect_timeout=3"


def web(ports: dict[str, int]) -> str:
    return f"http://127.0.0.1:{ports['web/8000/tcp']}"


def dsn_inside(service: str) -> str:
    return f"postgresql://shop:shop@{service}:5432/shop"


def get(url: str, body: bytes | None = None) -> str:
    """With a body it is posted."""
    with urllib.request.urlopen(url, body, timeout=5) as answer:
        return str(answer.read(), "utf-8")


def ask_everything(ports: dict[str, int]) -> dict[str, str]:
    """What an environment says of itself, over all three doors."""
    answers = {}
    try:
        counts = json.loads(get(f"{web(ports)}/orders"))
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


def ask_for_the_feature(ports: dict[str, int]) -> dict[str, str]:
    """What tells production before the merge from production after it."""
    heading = re.search(r"<h1>(.*?)</h1>", get(web(ports)))
    with psycopg.connect(dsn(ports["db/5432/tcp"]), autocommit=True) as connection:
        (column,) = connection.execute(
            "select count(*) from information_schema.columns where table_name = 'orders' and column_name = 'priority'"
        ).fetchone() or (0,)
        orders = "select count(*), count(*) filter (where priority) from orders"
        found = connection.execute(orders if column else "select count(*), null from orders").fetchone() or (0, None)
        (cents,) = connection.execute("select cents from articles where id = 7").fetchone() or (None,)
    cache = redis.Redis(port=ports["cache/6379/tcp"], decode_responses=True)
    return {
        "HTTP: the page's title": heading[1] if heading else "none",
        "SQL: orders": f"{found[0]:,}",
        "SQL: of them with priority": "no such column" if found[1] is None else f"{found[1]:,}",
        "SQL: article 7 costs": f"{cents} cents",
        "Redis: shop:banner": str(cache.get("shop:banner") or "not set"),
        "Redis: orders:placed": f"{int(cache.get('orders:placed') or 0):,}",
    }


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


PSQL = "psql -q -h db -U shop shop -c"
AGENT = [
    ("drop a table", None, f"{PSQL} 'drop table orders cascade'"),
    ("empty the cache", None, "redis-cli -h cache flushall"),
    ("delete the app", "web", "rm -rf /app/*"),
    ("kill the database's processes", "db", "kill -9 -1"),
]


DEVELOPER = [
    ("a new column", None, f"{PSQL} 'alter table orders add column priority boolean not null default false'"),
    ("filled", None, f'{PSQL} "update orders set priority = true where quantity = 5 and id > 110000"'),
    ("a price", None, f"{PSQL} 'update articles set cents = cents - 50 where id = 7'"),
    ("a key", None, f"redis-cli -h cache set shop:banner '{BANNER}'"),
    ("the app", "web", f"sed -i 's,<h1>The shop,<h1>The shop. {BANNER},' /app/web.py"),
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


def work(client: wye.Client, name: str, steps: list[tuple[str, str | None, str]]) -> None:
    table = plain_table(header=False)
    for what, service, command in steps:
        done = client.exec(name, ["sh", "-c", command], service=service, env={"PGPASSWORD": "shop"})
        table.add_row(what, f"[dim]{command}[/dim]", f"exit {done.exit_code}")
    console.print(table)


def command(*arguments: str) -> None:
    """What the command prints, so that nobody has to wonder whether it does."""
    argv = [str(Path(sys.executable).with_name("wye")), *arguments]
    address = {"WYE_ADDRESS": f"unix://{RUN}/wye.sock", "FORCE_COLOR": "1", "COLUMNS": str(console.width)}
    done = subprocess.run(argv, env={**os.environ, **address}, capture_output=True, text=True)
    console.print(Text.from_ansi(done.stdout.rstrip("\n")))
    if done.returncode != 0:
        raise SystemExit(f"{done.stderr}\nwye {' '.join(arguments)} ended with {done.returncode}")


def as_before(client: wye.Client) -> None:
    """An earlier run's forks are discarded; what it merged is taken back with all that came after it."""
    for environment in client.environments():
        if environment.name in (FORK, FEATURE):
            client.discard(environment.name)
    entries = client.log("production", limit=1000).entries
    newest = next((entry for entry in entries if entry.verb in ("merge", "restore")), None)
    if newest is not None and newest.verb == "merge":
        before = next(entry for entry in entries if entry.id == newest.previous)
        console.print(f"  [dim]an earlier run has merged: wye restore production {before.revision[:12]}[/dim]")
        client.restore("production", before.revision)


def story(client: wye.Client) -> None:
    say("Production: Postgres with 120,000 orders and more every second, Redis, a web app, a worker")
    with timed("production up"):
        production = up(client)
        wait_for(production)
    as_before(client)
    wait_for(production)
    with Witness(production) as witness:
        time.sleep(2)
        phases = {"before": (0.0, time.monotonic())}
        before = ask_everything(production)
        destroyed(client, production)
        phases["during the agent's work"] = (phases["before"][1], time.monotonic())
        time.sleep(1)
        say("Production")
        show_answers({"before the fork": before, "after all this": ask_everything(production)})
        merge_at = merged(client, production)
        phases["during the merge"] = (merge_at, time.monotonic())
        time.sleep(1)
    verdict(witness, phases)


def destroyed(client: wye.Client, production: dict[str, int]) -> None:
    """The first half: a fork is broken, looked at, and thrown away."""
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
        work(client, FORK, AGENT)
    console.print()
    show_answers({FORK: ask_everything(fork), "production, meanwhile": ask_everything(production)})
    say(f"wye diff {FORK} --stat")
    with timed("diff, the command's own start included"):
        command("diff", FORK, "--stat")
    say(f"wye discard {FORK}")
    with timed("discard"):
        client.discard(FORK)


def merged(client: wye.Client, production: dict[str, int]) -> float:
    """The second half: a fork is changed for good, and both go on in production. Answers when the merge began."""
    before = ask_for_the_feature(production)
    say(f"A developer forks production again, and changes {FEATURE}: its tables, its cache, its code")
    with timed(f"fork {FEATURE} without its worker, until it answered"):
        fork = ports_of(client.fork("production", FEATURE, asleep=True).environments[0])
        client.stop(FEATURE, ["worker"])
        client.wake(FEATURE)
        wait_for(fork)
    work(client, FEATURE, DEVELOPER)
    client.restart(FEATURE, ["web"])
    wait_for(fork)
    bought = json.loads(get(f"{web(fork)}/orders", b""))["id"]
    console.print(f"  [dim]and tries it: order {bought} is bought in {FEATURE}[/dim]")
    client.exec("production", ["psql", dsn_inside("db"), "-qc", "update articles set cents = cents + 100 where id = 7"])
    console.print("  [dim]meanwhile production takes orders, and somebody there changes the same price[/dim]")
    say(f"wye diff {FEATURE} --limit 4")
    with timed(f"diff {FEATURE}, the command's own start included"):
        command("diff", FEATURE, "--limit", "4")
    say(f"wye merge {FEATURE}")
    with timed("merge, rehearsed and refused"), console.status("merge"):
        refused = client.merge(FEATURE)
    show_conflicts(refused)
    file = RUN / "resolve.yaml"
    price = next(each for each in refused.conflicts if each.column == "cents")
    file.write_text(f"{price.id}: theirs\ndefault: ours\n")
    say(f"wye merge {FEATURE} --resolve resolve.yaml")
    console.print(
        f"  [dim]resolve.yaml: the price is theirs ({price.id}: theirs), counters are ours (default: ours)[/dim]\n"
    )
    began = time.monotonic()
    with timed("merge, rehearsed, checked and landed"):
        command(
            "merge",
            FEATURE,
            "--resolve",
            str(file),
            "--check",
            f"curl -fs --retry 5 --retry-connrefused web:8000 | grep -o '{BANNER}'",
        )
    say("Production has both")
    show_answers(
        {"before": before, FEATURE: ask_for_the_feature(fork), "production now": ask_for_the_feature(production)}
    )
    client.discard(FEATURE)
    return began


def show_conflicts(result: MergeResult) -> None:
    table = plain_table(header=True)
    for name in ("in conflict", "key", "column", "base", "ours", "theirs"):
        table.add_column(name, overflow="fold")
    for each in result.conflicts:
        sides = [side["value"] if isinstance(side, dict) and "value" in side else side
                 for side in (each.base, each.ours, each.theirs)]  # fmt: skip
        key = ", ".join(part or "" for part in each.key)
        table.add_row(each.place, key, each.column, *(str(side) for side in sides))
    console.print(table)
    console.print(f"  {len(result.conflicts)} conflicts: {result.into} is as it was")


def verdict(witness: Witness, phases: dict[str, tuple[float, float]]) -> None:
    say("How long each step took, in ms")
    table = plain_table(header=False)
    table.add_column("step")
    table.add_column("ms", justify="right")
    for name, seconds in taken:
        table.add_row(name, f"{1000 * seconds:,.0f}" if seconds else "")
    console.print(table)
    say("Did production notice? Questions asked / failed / p99 in ms")
    table = plain_table(header=True)
    table.add_column("")
    for name in witness.answers:
        table.add_column(name)
    for phase, (since, until) in phases.items():
        table.add_row(
            phase,
            *(
                f"{witness.count(name, since, until)} / {len(witness.failed(name, since, until))} / "
                f"{witness.p99_ms(name, since, until):.0f}"
                for name in witness.answers
            ),
        )
    console.print(table)
    since, until = phases["during the merge"]
    silence = witness.silence_ms("HTTP", since, until)
    console.print(f"  The merge restarts the web app, whose code it changes: no answer over HTTP for {silence:.0f} ms.")
    unexpected = [each for each in witness.failures if not (each[0] == "HTTP" and since <= each[1] < until)]
    if unexpected:
        console.print("\n".join(f"{door}: {what}" for door, _, what in unexpected[:5]))
        raise SystemExit(1)


def draw(file: Path) -> None:
    """What was printed, as a picture that fetches nothing."""
    form = re.sub(r"\s*@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    console.save_svg(str(file), title="bin/demo", code_format=form, unique_id="demo")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bin/demo", description="A shop, a fork that an agent destroys, and one that is merged."
    )
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

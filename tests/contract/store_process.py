"""Another process at the store: run by test_store.py, killed by it, read by it. No test itself.

store_process.py race PATH ME ROUNDS    prints the rounds it won, after "go" on standard input
store_process.py write PATH NAME        writes for ever; prints a number when it is durable, or "-N" when not
"""

from __future__ import annotations

import sys
from pathlib import Path

from wye.host import Host
from wye.model import ObjectId
from wye.store import sqlite
from wye.store.refs import RefConflict


def say(line: object) -> None:
    print(line, flush=True)


def race(path: Path, me: str, rounds: int) -> None:
    store = sqlite.SqliteStore(Host(), path)
    say("ready")
    sys.stdin.readline()
    mine = store.put(me.encode())
    for n in range(rounds):
        try:
            store.compare_and_swap(f"environments/round-{n}", expected=None, new=mine)
        except RefConflict:
            continue
        say(n)
    store.close()


def write(path: Path, name: str) -> None:
    """Number n is in the object that the ref points at; that object names another one, put before."""
    sqlite.CHECKPOINT_PAGES = 25  # so that checkpoints, and the log beginning anew, happen all the time
    store = sqlite.SqliteStore(Host(), path)
    at: ObjectId | None = store.read(f"environments/{name}")
    n = 0 if at is None else int(store.get(at).split()[0])
    while True:
        n += 1
        evidence = store.put(b"%d " % n + b"x" * (n * 997 % 9000))
        new = store.put(f"{n} {evidence}".encode())
        durable = n % 4 == 0
        store.compare_and_swap(f"environments/{name}", expected=at, new=new, durable=durable)
        at = new
        say(n if durable else -n)


if __name__ == "__main__":
    what, where, name, *rest = sys.argv[1:]
    if what == "race":
        race(Path(where), name, int(rest[0]))
    else:
        write(Path(where), name)

"""A merge while others want something of the same environments at the same time, or when there is no room: each has one
clear outcome, and what is there is never half of something."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Project
from wye.errors import Exhausted, NotFound, WyeError

pytestmark = [pytest.mark.host, pytest.mark.timeout(180)]

COMPOSE = """
name: raced
services:
  box:
    image: wye/base
    command: ["sleep", "infinity"]
    environment: {COLOUR: green, SIZE: "1"}
    stop_signal: SIGKILL
    volumes: ["docs:/docs"]
  cache:
    image: wye/redis
    command: [redis-server, --appendonly, "yes"]
    volumes: ["cache:/data"]
volumes: {docs: {}, cache: {}}
"""
BEFORE = ("hello", "one", "green")
AFTER = ("bye", "two", "blue")
MOMENTS_S = (0.0, 0.5)
"""How much later than the merge the other begins: it waits for a turn, or arrives in the middle."""


@dataclass
class Pair:
    """Production, and a fork "f" that differs from it in a key, a file and a variable."""

    project: Project

    def make(self) -> None:
        self.up("production", COMPOSE)
        self.redis("production", "set", "greeting", "hello")
        self.sh("production", "echo one > /docs/file")
        self.fork()

    def fork(self) -> None:
        self.project.fork()
        self.redis("f", "set", "greeting", "bye")
        self.sh("f", "echo two > /docs/file")
        self.up("f", COMPOSE.replace("green", "blue"))

    def up(self, name: str, compose: str) -> None:
        directory = self.project.directory / name
        directory.mkdir(exist_ok=True)
        (directory / "compose.yaml").write_text(compose)
        self.project.running.new_client().up(directory, name=name, environment={})

    def sh(self, name: str, script: str) -> str:
        done = self.project.sh(name, script)
        assert done.exit_code == 0, done.text
        return done.text.strip()

    def redis(self, name: str, *words: str) -> str:
        return self.project.client.exec(name, ["redis-cli", *words], service="cache").text.strip()

    def look(self, name: str = "production") -> tuple[str, ...]:
        return self.redis(name, "get", "greeting"), self.sh(name, "cat /docs/file"), self.sh(name, "echo $COLOUR")

    def pids(self) -> dict[str, int | None]:
        return {each.service: each.pid for each in self.project.client.environment("production").services}

    def verbs(self) -> list[str]:
        """The newest first."""
        return [entry.verb for entry in self.project.client.log("production", verify=True).entries]

    def back(self) -> None:
        """Production as it was, whatever a merge has come to."""
        newest = self.project.client.log("production").entries[0]
        if newest.verb == "merge":
            assert self.project.client.revert(newest.id).merged
        assert self.look() == BEFORE


@pytest.fixture
def pair(project: Project) -> Pair:
    made = Pair(project)
    made.make()
    return made


def merging(pair: Pair, other: Callable[[], Any], after_s: float = 0.0) -> tuple[Any, Any]:
    """What comes of a merge, and of `other`, which begins so much later: a value each, or a WyeError."""
    outcomes: dict[str, Any] = {}
    barrier = threading.Barrier(2)

    def run(name: str, act: Callable[[], Any], delay_s: float) -> None:
        barrier.wait()
        time.sleep(delay_s)
        try:
            outcomes[name] = act()
        except WyeError as error:
            outcomes[name] = error

    client = pair.project.running.new_client()
    acts = [("merge", lambda: client.merge("f"), 0.0), ("other", other, after_s)]
    threads = [threading.Thread(target=run, args=each) for each in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes["merge"], outcomes["other"]


def test_with_itself(pair: Pair) -> None:
    other = pair.project.running.new_client()
    for moment in MOMENTS_S:
        results = merging(pair, lambda: other.merge("f"), moment)
        assert sorted(each.merged for each in results) == [False, True]
        assert not any(each.conflicts for each in results)
        assert pair.look() == AFTER
        assert pair.verbs()[:2] == ["merge", "snapshot"]
        pair.back()
    assert pair.verbs().count("merge") == len(MOMENTS_S)


def test_with_a_discard_of_the_fork(pair: Pair) -> None:
    other = pair.project.running.new_client()
    for moment in MOMENTS_S:
        merged, discarded = merging(pair, lambda: other.discard("f"), moment)
        assert discarded.verb == "discard"
        assert [each.name for each in pair.project.client.environments()] == ["production"]
        if isinstance(merged, NotFound):
            assert pair.look() == BEFORE
        else:
            assert merged.merged
            assert pair.look() == AFTER
        pair.back()
        pair.fork()


def test_with_an_up_of_the_target(pair: Pair) -> None:
    merged, _ = merging(pair, lambda: pair.up("production", COMPOSE.replace('"1"', '"2"')), 0.0)
    assert merged.merged
    *data, colour = pair.look()
    assert tuple(data) == AFTER[:2]
    assert pair.sh("production", "echo $SIZE") == "2"
    verbs = pair.verbs()
    assert colour == ("green" if verbs.index("up") < verbs.index("merge") else "blue"), "the later one decides"


def test_with_a_restore_of_the_target(pair: Pair) -> None:
    kept = pair.project.client.snapshot("production", "before").revision
    other = pair.project.running.new_client()
    for moment in MOMENTS_S:
        merged, restored = merging(pair, lambda: other.restore("production", kept), moment)
        assert merged.merged
        assert restored.name == "production"
        verbs = pair.verbs()
        assert pair.look() == (BEFORE if verbs.index("restore") < verbs.index("merge") else AFTER)
        other.restore("production", kept)
        assert pair.look() == BEFORE


def test_snapshots_and_forks_of_the_target_have_all_of_it_or_nothing(pair: Pair) -> None:
    """A fork takes no turn of its source's."""
    client = pair.project.running.new_client()
    ended = threading.Event()

    def look_on() -> list[str]:
        names = []
        while not ended.is_set() and len(names) < 40:
            names.append(client.fork("production", f"g{len(names)}", asleep=True).environments[0].name)
            time.sleep(0.05)
        return names

    def merge() -> Any:
        try:
            return pair.project.client.merge("f")
        finally:
            ended.set()

    revisions = []
    with running(look_on) as forks:
        revisions += [client.snapshot("production", "now").revision for _ in range(2)]
        assert merge().merged
    revisions.append(client.snapshot("production", "now").revision)
    names = forks()
    seen = []
    for name in dict.fromkeys(names[:2] + names[-6:]):
        client.wake(name)
        seen.append(pair.look(name))
        client.discard(name)
    assert set(seen) <= {BEFORE, AFTER}
    assert seen == sorted(seen, key=(BEFORE, AFTER).index), "first those from before"
    for revision, expected in zip(revisions, (BEFORE, BEFORE, AFTER), strict=True):
        client.fork("production", "s", revision=revision)
        assert pair.look("s") == expected
        client.discard("s")


@contextlib.contextmanager
def running(act: Callable[[], Any]) -> Iterator[Callable[[], Any]]:
    """`act` in a thread; what it returned, once it has ended."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(act()))
    thread.start()

    def result() -> Any:
        thread.join()
        return found[0]

    try:
        yield result
    finally:
        thread.join()


@contextlib.contextmanager
def full(pool: Path) -> Iterator[None]:
    """Not a block is left."""
    filler = pool / "filler"
    try:
        with filler.open("wb") as file:
            for size in (1 << 30, 1 << 27, 1 << 24, 1 << 20, 1 << 16, 1 << 12):
                with contextlib.suppress(OSError):
                    while True:
                        at = file.seek(0, os.SEEK_END)
                        os.posix_fallocate(file.fileno(), at, size)
                        file.seek(at + size)
            os.fsync(file.fileno())
        yield
    finally:
        filler.unlink(missing_ok=True)
        os.sync()


def test_in_a_pool_that_is_full(pair: Pair) -> None:
    pair.sh("f", "for n in $(seq 40); do head -c 200000 /dev/urandom > /docs/new-$n; done; sync")
    pair.project.client.collect()
    pids = pair.pids()
    with full(pair.project.running.root / "pool"):
        refused = None
        try:
            assert pair.project.client.merge("f").merged
        except WyeError as error:
            refused = error
    merged = refused is None
    if refused is not None:
        assert isinstance(refused, Exhausted)
        assert refused.hint
    assert pair.look() == (AFTER if merged else BEFORE)
    if not merged:
        assert pair.pids() == pids, "nothing was stopped for it"
        assert pair.sh("production", "ls /docs") == "file"
    assert pair.project.client.collect().snapshots == 0
    pool = pair.project.running.root / "pool"
    assert not [*pool.glob("environments/*/.wye-merge*"), *pool.glob("scratch/*")]
    if not merged:
        assert pair.project.client.merge("f").merged, "now there is room"
    assert pair.look() == AFTER
    assert pair.sh("production", "ls /docs | wc -l") == "41"
    assert pair.project.client.log("production", verify=True).verified

"""kill -9 of the daemon at every labelled operation of a verb. Started again, it finishes or undoes the verb, and
nothing is left behind: what is there is what was there, counted from outside."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.inventory import inventory
from wye.api.client import Client
from wye.errors import NotFound, WyeError
from wye.testing.running_daemon import RunningDaemon

pytestmark = [pytest.mark.host, pytest.mark.timeout(3000)]

HERE = Path(__file__).parent
SHARE = int(os.environ.get("WYE_CRASH_SHARE", "1"))
"""Of the labels, one in so many."""
TURN = int(os.environ.get("WYE_TEST_TURN", "0"))
"""Which ones: from turn to turn they are others, until all were among them."""
"""One in so many labels is tried; 1 tries all, as `bin/test --slow` does."""

COMPOSE = """
name: crash
services:
  box:
    image: wye/base
    command: ["sleep", "infinity"]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
    ports: ["127.0.0.1::7000"]
volumes: {data: {}}
"""


class Stage:
    """A daemon that can be told to die, and a project for it."""

    def __init__(self, running: RunningDaemon, project: Path) -> None:
        self.running, self.project = running, project
        self.armed = running.root / "armed"
        self.labels = running.root / "labels"

    def start(self, fault: str) -> Client:
        self.running.command = (str(HERE / "faulty_daemon.py"), str(self.armed), fault)
        return self.running.start()

    def restart(self, fault: str) -> Client:
        self.running.kill()
        return self.start(fault)

    @contextlib.contextmanager
    def arm(self) -> Iterator[None]:
        self.armed.touch()
        try:
            yield
        finally:
            self.armed.unlink()

    def up(self) -> None:
        self.running.client.up(self.project, environment={}, wait=False)


@contextlib.contextmanager
def staged(test_root: Path, project: Path) -> Iterator[Stage]:
    """A daemon with nothing in it, and with nothing left of it afterwards."""
    running = RunningDaemon(
        test_root,
        instance="wyecra",
        uplinks="100.78.0.0/16",
        settings={"WYE_WARM_NETWORKS": "0", "PYTHONPATH": str(HERE.parents[1])},
    )
    made = Stage(running, project)
    made.armed.unlink(missing_ok=True)
    try:
        made.start(f"record:{made.labels}")
        running.discard_everything()
        running.client.collect()
        yield made
        made.armed.unlink(missing_ok=True)
        running.kill()
        running.command = ("-m", "wye.daemon.main")
        running.start()
        running.discard_everything()
    finally:
        made.armed.unlink(missing_ok=True)
        running.dismantle()


@pytest.fixture
def stage(test_root: Path, tmp_path: Path) -> Iterator[Stage]:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    with staged(test_root, tmp_path) as made:
        yield made


def same_as(stage: Stage, before: dict[str, int | list[str]], when: str) -> None:
    """Networks are taken apart in the background: the machine may need a moment to be as it was."""
    deadline = time.monotonic() + 10
    while (now := inventory(stage.running)) != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert now == before, when


def sweep(
    stage: Stage, prepare: Callable[[], None], verb: Callable[[Client], object], afterwards: Callable[[Client], None]
) -> None:
    """Runs `verb` once to learn its labels, then once for each label, dying there.

    Not the first time of all: what is done once and kept (a compiled filter) would not be reached again.
    """
    client = stage.running.client
    prepare()
    before = inventory(stage.running)
    verb(client)
    afterwards(client)
    client.collect()
    same_as(stage, before, "the first time")
    prepare()
    stage.labels.unlink(missing_ok=True)
    with stage.arm():
        verb(client)
    labels = list(dict.fromkeys(stage.labels.read_text().split()))
    assert len(labels) > 5, "the verb hardly touches the machine: are its operations labelled?"
    afterwards(client)
    client.collect()
    same_as(stage, before, "without any fault something is left behind")
    die_at_each(stage, labels, prepare, verb, afterwards, before)


def die_at_each(
    stage: Stage,
    labels: list[str],
    prepare: Callable[[], None],
    verb: Callable[[Client], object],
    afterwards: Callable[[Client], None],
    before: dict[str, int | list[str]],
) -> None:
    """The daemon that finds what is left of one death is the one that dies next: it dies only while it is armed."""
    tried = labels[TURN % min(SHARE, len(labels)) :: SHARE]
    client = stage.restart(f"kill:{tried[0]}")
    for label, following in zip(tried, [*tried[1:], ""], strict=True):
        prepare()
        with stage.arm():  # until it has died: some of it happens in the background
            with contextlib.suppress(WyeError):
                verb(client)
            died = stage.running.wait_for_death(10)
        assert died == -9, f"the daemon did not reach {label} a second time"
        client = stage.start(f"kill:{following}" if following else f"record:{stage.labels}")
        afterwards(client)
        client.collect()
        same_as(stage, before, f"after dying at {label}")
        for environment in client.environments():
            assert client.log(environment.name, verify=True).verified, f"after dying at {label}"


def discard_if_there(client: Client, name: str) -> None:
    with contextlib.suppress(NotFound):
        client.discard(name, confirm_production=True)


def forked(client: Client) -> None:
    assert client.exec("production", ["true"], service="box").exit_code == 0
    if "f" in {environment.name for environment in client.environments()}:
        assert client.exec("f", ["true"], service="box").exit_code == 0, "a fork that is there works"
    discard_if_there(client, "f")


def test_fork(stage: Stage) -> None:
    sweep(stage, stage.up, lambda client: client.fork("production", "f"), forked)


def test_fork_asleep_and_wake(stage: Stage) -> None:
    def verb(client: Client) -> None:
        client.fork("production", "f", asleep=True)
        client.wake("f")

    sweep(stage, stage.up, verb, forked)


def test_discard(stage: Stage) -> None:
    def prepare() -> None:
        stage.up()
        stage.running.client.collect()
        with contextlib.suppress(WyeError):
            discard_if_there(stage.running.client, "f")
        forked.clear()

    forked: list[str] = []

    def verb(client: Client) -> None:
        client.discard("f")

    def afterwards(client: Client) -> None:
        assert client.exec("production", ["true"], service="box").exit_code == 0
        discard_if_there(client, "f")
        assert client.log("f").entries[0].verb == "discard", "its ledger can still be read"

    stage.up()
    before = inventory(stage.running)

    def prepare_with_fork() -> None:
        prepare()
        stage.running.client.fork("production", "f")

    client = stage.running.client
    prepare_with_fork()
    stage.labels.unlink(missing_ok=True)
    with stage.arm():
        verb(client)
    labels = list(dict.fromkeys(stage.labels.read_text().split()))
    die_at_each(stage, labels, prepare_with_fork, verb, afterwards, before)


def test_up(stage: Stage) -> None:
    def afterwards(client: Client) -> None:
        there = {environment.name for environment in client.environments()}
        if "production" in there:
            assert client.exec("production", ["true"], service="box").exit_code == 0, "what is there works"
        stage.up()
        assert client.exec("production", ["true"], service="box").exit_code == 0, "up again brings it up"
        discard_if_there(client, "production")

    sweep(stage, lambda: None, lambda _: stage.up(), afterwards)


def test_restore(stage: Stage) -> None:
    revision, is_fresh = "", False

    def start_anew(client: Client) -> None:
        """The snapshots of a longer history differ in number from round to round: each round starts from nothing."""
        nonlocal revision, is_fresh
        discard_if_there(client, "production")
        client.collect()
        stage.up()
        client.exec("production", ["sh", "-c", "echo one > /data/file"], service="box")
        revision = client.snapshot("production", "one").revision
        client.exec("production", ["sh", "-c", "echo two > /data/file"], service="box")
        is_fresh = True

    def prepare() -> None:
        if not is_fresh:
            start_anew(stage.running.client)

    def verb(client: Client) -> None:
        nonlocal is_fresh
        is_fresh = False
        client.restore("production", revision)

    def afterwards(client: Client) -> None:
        found = client.exec("production", ["cat", "/data/file"], service="box")
        assert found.text in ("one\n", "two\n"), "either the one or the other, whole"
        client.restore("production", revision)
        assert client.exec("production", ["cat", "/data/file"], service="box").text == "one\n"
        start_anew(client)

    sweep(stage, prepare, verb, afterwards)

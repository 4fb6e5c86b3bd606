"""Containers outlive the daemon, a start may be cut short anywhere, and all of it can be removed afterwards."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wye.drivers.crun.listing import HALF_MADE, UNKNOWN
from wye.errors import WyeError
from wye.host import Host
from wye.interfaces import Bind, Container
from wye.model import EnvironmentId, File, Limits, SnapshotId
from wye.testing.containers import ENVIRONMENT, Containers
from wye.testing.faulty_host import FaultyHost
from wye.testing.loop_pool import loop_pool

pytestmark = pytest.mark.host

# Starts one container in the way of `full_plan`, with a fault, as a daemon of its own.
DAEMON = """
import sys, pathlib, pickle
from wye.testing.faulty_host import FaultyHost
from wye.drivers.crun.runtime import CrunRuntime
directory, plan, root, rootfs, fault = pickle.loads(bytes.fromhex(sys.stdin.read()))
host = FaultyHost.from_text(fault)
runtime = CrunRuntime(host, directory=directory / "run", log_directory=directory / "logs")
print(runtime.start(plan, root, rootfs).pid)
"""


def in_another_daemon(place: Containers, fault: str) -> subprocess.CompletedProcess[str]:
    for compiled in (place.directory / "run" / "seccomp").glob("*"):
        compiled.unlink()
    told = pickle.dumps((place.directory, full_plan(place), place.root, place.rootfs, fault)).hex()
    return subprocess.run([sys.executable, "-c", DAEMON], input=told, capture_output=True, text=True, check=False)


def full_plan(place: Containers) -> object:
    """A plan whose start takes every step that there is."""
    return place.plan(
        "sh",
        "-c",
        "echo begun; sleep 1000",
        binds=(Bind(source="volumes/data/sub", target="/data"),),
        files=(File(name="f", target="/run/f", content=""),),
        limits=Limits(memory_bytes=64 << 20),
    )


@pytest.fixture
def prepared(place: Containers) -> Containers:
    (place.volume() / "sub").mkdir()
    return place


@pytest.fixture
def labels(prepared: Containers) -> list[str]:
    """Every label of a start, in order. Labels that come more than once are in it as often."""
    file = prepared.directory / "labels"
    done = in_another_daemon(prepared, f"record:{file}")
    assert done.returncode == 0, done.stderr
    prepared.runtime.delete(f"{ENVIRONMENT}-web")
    return file.read_text().split()


def test_containers_outlive_a_daemon_that_is_killed(prepared: Containers) -> None:
    done = in_another_daemon(prepared, "kill:no-such-label")
    assert done.returncode == 0, done.stderr
    (found,) = prepared.runtime.containers()
    assert (found.pid, found.environment, found.name) == (int(done.stdout), ENVIRONMENT, "web")
    assert [line.text for line in prepared.runtime.logs(ENVIRONMENT, "web")] == ["begun"]
    assert prepared.runtime.wait(found.id, 0.01) is None
    prepared.runtime.signal(found.id, signal.SIGKILL)
    ended = prepared.runtime.wait(found.id, 20)
    assert ended is not None
    assert ended.exit_code == 137


def test_a_start_killed_anywhere_leaves_what_can_be_listed_and_removed(prepared: Containers, labels: list[str]) -> None:
    assert {"start:bundle", "start:mount", "start:bind", "start:file", "start:conmon", "start:state"} <= set(labels)
    for index, label in enumerate(labels):
        nth = labels[: index + 1].count(label)
        done = in_another_daemon(prepared, f"kill:{label}:{nth}")
        assert done.returncode == -signal.SIGKILL, (label, done.stderr)
        found = prepared.runtime.containers()
        assert [(one.pid, one.exit_code) for one in found] in ([], [(None, HALF_MADE)]), label
        assert found or prepared.leftovers() == [], label
        for one in found:
            assert (one.environment, one.name) == (ENVIRONMENT, "web"), label
            prepared.runtime.delete(one.id)
        assert prepared.leftovers() == [], label
        assert (prepared.root / "volumes" / "data" / "sub").is_dir(), label


def test_a_start_killed_right_after_conmon_began(prepared: Containers) -> None:
    done = in_another_daemon(prepared, "kill-after:start:conmon")
    assert done.returncode == -signal.SIGKILL
    # conmon and crun may be anywhere in their work just now.
    prepared.runtime.delete(f"{ENVIRONMENT}-web")
    assert prepared.leftovers() == []
    prepared.runtime.start(full_plan(prepared), prepared.root, prepared.rootfs)


def test_a_start_that_fails_anywhere_leaves_nothing(prepared: Containers, labels: list[str]) -> None:
    for label in dict.fromkeys(labels):
        if label.startswith("cgroup:"):
            continue  # Once per boot, and by now done.
        for compiled in (prepared.directory / "run" / "seccomp").glob("*"):
            compiled.unlink()
        runtime = prepared.runtime_with(FaultyHost(fail_at=label))
        with pytest.raises(WyeError, match="injected"):
            runtime.start(full_plan(prepared), prepared.root, prepared.rootfs)
        assert runtime.containers() == []
        assert prepared.leftovers() == [], label
        assert (prepared.root / "volumes" / "data" / "sub").is_dir(), label


def test_a_delete_that_fails_anywhere_is_finished_by_the_next(prepared: Containers) -> None:
    recorder = FaultyHost(record=True)
    runtime = prepared.runtime_with(recorder)
    runtime.start(full_plan(prepared), prepared.root, prepared.rootfs)
    recorder.labels.clear()
    runtime.delete(f"{ENVIRONMENT}-web")
    for label in dict.fromkeys(recorder.labels):
        container = prepared.runtime.start(full_plan(prepared), prepared.root, prepared.rootfs)
        with pytest.raises(WyeError, match="injected"):
            prepared.runtime_with(FaultyHost(fail_at=label)).delete(container.id)
        (found,) = prepared.runtime.containers()
        assert found.id == container.id
        prepared.runtime.delete(container.id)
        assert prepared.leftovers() == [], label
        assert (prepared.root / "volumes" / "data" / "sub").is_dir(), label


def test_without_conmon_a_container_runs_on_and_its_exit_code_is_unknown(place: Containers) -> None:
    container = place.start()
    conmon = place.directory / "run" / "containers" / container.id / "conmon.pid"
    os.kill(int(conmon.read_text()), signal.SIGKILL)
    assert place.runtime.container(container.id) == container
    place.runtime.signal(container.id, signal.SIGKILL)
    ended = place.runtime.wait(container.id, 20)
    assert ended is not None
    assert ended.exit_code == UNKNOWN


def test_after_a_reboot_containers_have_ended_and_can_be_removed(place: Containers) -> None:
    container = place.start()
    # As a boot leaves a directory that is no tmpfs: no process, no mount, no control group; a pid of somebody else.
    place.runtime.kill_all(container.id)
    place.runtime.wait(container.id, 20)
    bundle = place.directory / "run" / "containers" / container.id
    while Host().unmount("test:reboot", bundle / "merged", lazy=True):
        pass
    (bundle / "exit" / container.id).unlink()
    state = (bundle / "state.json").read_bytes()
    boot = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    (bundle / "state.json").write_bytes(
        state.replace(boot, b"0" * len(boot)).replace(b'"pid":%d' % (container.pid or 0), b'"pid":1')
    )
    (found,) = place.runtime_with(Host()).containers()
    assert (found.pid, found.exit_code) == (None, UNKNOWN)
    place.runtime.signal(found.id, signal.SIGKILL)
    place.start()


def test_a_pid_that_now_belongs_to_somebody_else_is_left_alone(place: Containers) -> None:
    container = place.start()
    place.runtime.kill_all(container.id)
    place.runtime.wait(container.id, 20)
    bystander = subprocess.Popen(["sleep", "100"])
    try:
        state = place.directory / "run" / "containers" / container.id / "state.json"
        was, now = b'"pid":%d' % (container.pid or 0), b'"pid":%d' % bystander.pid
        state.write_bytes(state.read_bytes().replace(was, now))
        found = place.runtime.container(container.id)
        assert found is not None
        assert (found.pid, found.exit_code) == (None, 137)
        place.runtime.signal(container.id, signal.SIGKILL)
        place.runtime.delete(container.id)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_two_daemons_do_not_list_or_touch_each_others(place: Containers) -> None:
    mine = place.start()
    other = Containers(place.directory / "other", place.rootfs, ())
    (place.directory / "other").chmod(0o711)
    theirs = other.start()
    assert mine.id == theirs.id
    other.runtime.delete(theirs.id)
    assert place.runtime.container(mine.id) == mine
    assert other.runtime.containers() == []


def test_a_running_environment_is_forked_and_the_forks_start(place: Containers, tmp_path: Path) -> None:
    with loop_pool(tmp_path) as pool:
        source, snapshot = EnvironmentId("s0urce000001"), SnapshotId("snapsh0t0001")
        pool.create(source)
        place.root = pool.environment_path(source)
        volume = place.volume()
        script = (
            "i=0; while :; do i=$((i+1)); echo $i > /tmp/n; mv /tmp/n /tmp/m; echo $i > /data/n;"
            "mkdir -p /d$i; rm -r /d$i; done"
        )
        running = place.start(
            "sh", "-c", script, name="writer", binds=(Bind(source="volumes/data", target="/data"),), durable=False
        )
        wait_for_file(volume / "n")
        pool.snapshot(source, snapshot)
        for number in range(3):
            fork = EnvironmentId(f"f0rk0000000{number}")
            pool.fork(snapshot, fork)
            place.root = pool.environment_path(fork)
            said = place.output("sh", "-c", "cat /tmp/m /data/n; ls -d /d[0-9]* | wc -l; rm -r /tmp/m; touch /tmp/x",
                                name="writer", environment=fork, durable=number != 2,
                                binds=(Bind(source="volumes/data", target="/data"),))  # fmt: skip
            assert said.split()[0].isdigit()
        assert place.runtime.container(running.id) == running
        pool.delete_environment(fork)
        place.runtime.delete(running.id)


def test_a_container_is_removed_when_its_pool_is_gone(place: Containers, tmp_path: Path) -> None:
    with loop_pool(tmp_path) as pool:
        source = EnvironmentId("s0urce000002")
        pool.create(source)
        place.root = pool.environment_path(source)
        container = place.start()
    assert not pool.path.exists()
    place.runtime.delete(container.id)
    assert place.leftovers() == []


def wait_for_file(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_starts_and_ends_of_many_at_once(place: Containers) -> None:
    def one(number: int) -> Container | None:
        container = place.start("sh", "-c", f"exit {number}", name=f"c{number}")
        return place.runtime.wait(container.id, 60)

    with ThreadPoolExecutor(8) as workers:
        ended = list(workers.map(one, range(24)))
    assert [one.exit_code for one in ended if one] == list(range(24))
    with ThreadPoolExecutor(8) as workers:
        list(workers.map(place.runtime.delete, (one.id for one in ended if one)))
    assert place.leftovers() == []

"""What people and hostile forks do wrong: a clear answer, production undisturbed, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.acceptance.conftest import COMPOSE, Project
from wye.errors import CheckFailed, Conflict, Denied, Exhausted, NotFound, WyeError

pytestmark = pytest.mark.host


def get(port: int, path: str = "/", *, patience_s: float = 10.0) -> bytes:
    """Waits while nobody listens: a service that was just started takes a moment."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return _get(port, path)
        except ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _get(port: int, path: str) -> bytes:
    try:
        return _read(port, path)
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionError):
            raise error.reason from error
        raise


def _read(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return bytes(answer.read())


def test_an_unknown_image(project: Project) -> None:
    with pytest.raises(WyeError) as caught:
        project.up(COMPOSE.replace("wye/base", "wye/no-such-thing"))
    assert "wye/no-such-thing" in caught.value.message
    assert caught.value.hint
    assert project.client.environments() == ()


def test_a_port_that_is_taken(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=rf"{port}.*is taken"):
            project.up(COMPOSE.replace("127.0.0.1::7000", f"127.0.0.1:{port}:7000"))
    assert project.client.environments() == ()
    assert project.up(COMPOSE.replace("127.0.0.1::7000", f"127.0.0.1:{port}:7000")).environment.awake


def test_a_service_that_ends_at_once(project: Project) -> None:
    with pytest.raises(CheckFailed, match=r"(?s)other.*status 3.*gone before it began"):
        project.up(COMPOSE.replace('["sleep", "infinity"]', '["sh", "-c", "echo gone before it began; exit 3"]'))


def test_a_memory_limit_that_is_hit(project: Project) -> None:
    hungry = '["tail", "/dev/zero"]'
    project.up(COMPOSE.replace('["sleep", "infinity"]', hungry + "\n    mem_limit: 32m"), wait=False)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        other = next(each for each in project.client.environment("production").services if each.service == "other")
        if other.state == "exited":
            break
        time.sleep(0.1)
    assert (other.state, other.reason) == ("exited", "out of memory")
    assert get(project.port("production"))


def test_a_fork_bomb_stays_in_its_fork(project: Project) -> None:
    project.up(COMPOSE + "x-wye: {fork: {limits: {pids: 64}}}\n")
    project.fork()
    # It may not even get as far as its last command: then its status tells.
    bomb = project.running.new_client().exec_stream("f", ["sh", "-c", "b() { b | b & }; b; sleep 60"], service="box")
    with bomb:
        said, deadline = b"", time.monotonic() + 10
        while b"ork" not in said and time.monotonic() < deadline:
            said += b"".join(each.data for each in bomb.pump(0.2))
        assert b"ork" in said, "it was told that there are no more processes"
        took = []
        for _ in range(20):
            began = time.monotonic()
            assert get(project.port("production"))
            took.append(time.monotonic() - began)
        assert max(took) < 2
        assert project.sh("production", "echo fine").text == "fine\n"
        project.client.discard("f")
    assert [each.name for each in project.client.environments()] == ["production"]


def test_a_fork_that_fills_its_disk_limit(project: Project) -> None:
    project.up()
    project.fork(disk_bytes=32 << 20)
    full = project.sh(
        "f", "dd if=/dev/urandom of=/data/big bs=1M count=128 conv=fsync 2>&1; rm -f /data/big; echo ok > /data/small"
    )
    assert "quota" in full.text.lower()
    assert project.sh("production", "dd if=/dev/zero of=/data/fine bs=1M count=64 conv=fsync 2>&1").exit_code == 0
    project.client.discard("f")


def test_a_full_pool(project: Project) -> None:
    project.up()
    pool = project.running.root / "pool"
    filler = pool / "filler"
    try:
        with filler.open("wb") as file:
            room = os.statvfs(pool).f_bavail * os.statvfs(pool).f_frsize
            for size in (1 << 30, 1 << 27, 1 << 24, 1 << 20):
                with contextlib.suppress(OSError):
                    while True:
                        at = file.seek(0, os.SEEK_END)
                        os.posix_fallocate(file.fileno(), at, size)
                        file.seek(at + size)
                        if at > room:
                            break
        written = project.sh("production", "dd if=/dev/urandom of=/data/x bs=1M count=64 conv=fsync 2>&1; true")
        assert "No space left" in written.text
        for number in range(3):
            try:
                project.fork(f"f{number}", asleep=True)
            except Exhausted as error:
                assert error.hint  # noqa: PT017  whether a fork still fits is the file system's decision
        assert get(project.port("production"))
    finally:
        filler.unlink(missing_ok=True)
    project.sh("production", "rm -f /data/x")
    os.sync()
    assert project.fork("after").awake
    assert project.client.log("production", verify=True).verified


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_a_client_that_disconnects_takes_its_process_along(project: Project, how: str) -> None:
    project.up()
    deadline = time.monotonic() + 10
    if how == "closed":
        process = project.running.new_client().exec_stream("production", ["sleep", "4711"], service="box")
        end = process.close
    else:
        command = [Path(sys.executable).with_name("wye"), "exec", "-s", "box", "production", "sleep", "4711"]
        client = subprocess.Popen(command, env={**os.environ, "WYE_SOCKET": str(project.running.socket)})
        end = lambda: (client.send_signal(signal.SIGKILL), client.wait())  # type: ignore[assignment]  # noqa: E731
    while not _runs("4711") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert _runs("4711")
    end()
    while _runs("4711") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _runs("4711")
    assert project.sh("production", "echo fine").text == "fine\n"


def _runs(argument: str) -> bool:
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError):
                if (path / "cmdline").read_bytes().split(b"\0")[:2] == [b"sleep", argument.encode()]:
                    return True
    return False


def test_two_forks_of_one_name_at_the_same_instant(project: Project) -> None:
    project.up()
    outcomes: list[str] = []
    barrier = threading.Barrier(4)

    def attempt() -> None:
        client = project.running.new_client()
        barrier.wait()
        try:
            outcomes.append(client.fork("production", "f", asleep=True).environments[0].name)
        except Conflict as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["f", "name_taken", "name_taken", "name_taken"]


def test_services_survive_the_daemon_and_are_adopted(project: Project) -> None:
    project.up()
    project.fork()
    port, pids = project.port("f"), {each.pid for each in project.client.environment("f").services}
    project.running.kill()
    assert get(port), "published ports work without the daemon"
    project.running.start()
    after = project.client.environment("f")
    assert {each.pid for each in after.services} == pids
    assert {each.state for each in after.services} == {"running"}
    os.kill(next(each.pid for each in after.services if each.service == "box") or 0, 9)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        box = next(each for each in project.client.environment("f").services if each.service == "box")
        if box.state == "exited":
            break
        time.sleep(0.05)
    assert (box.state, box.exit_code) == ("exited", 137), "an adopted service is watched"


def test_a_restart_policy_brings_a_service_back(project: Project) -> None:
    project.up(COMPOSE.replace('command: ["sleep", "infinity"]', 'command: ["sleep", "infinity"]\n    restart: always'))
    before = next(each for each in project.client.environment("production").services if each.service == "other")
    os.kill(before.pid or 0, 9)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        other = next(each for each in project.client.environment("production").services if each.service == "other")
        if other.state == "running" and other.pid != before.pid:
            break
        time.sleep(0.05)
    assert other.state == "running"
    assert other.pid != before.pid
    assert other.restarts == 1


def test_a_restart_of_the_machine(project: Project) -> None:
    """Everything that a restart ends is ended: processes, mounts, namespaces, firewall, and what lay in /run."""
    project.up()
    project.sh("production", "echo kept > /data/file")
    project.fork()
    port = project.port("production")
    project.running.power_off()
    project.running.start()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            assert get(port, "/file") == b"kept\n"
            break
        time.sleep(0.05)
    assert get(port, "/file") == b"kept\n"
    assert {each.state for each in project.client.environment("f").services} == {"running"}


def test_exec_in_a_dead_service(project: Project) -> None:
    project.up(COMPOSE.replace('["sleep", "infinity"]', '["sh", "-c", "sleep 0.2; exit 3"]'), wait=False)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _state(project, "other") != "exited":
        time.sleep(0.02)
    with pytest.raises(Conflict, match="'other' of 'production' does not run") as caught:
        project.sh("production", "true", "other")
    assert "wye logs production other" in (caught.value.hint or "")
    with pytest.raises(NotFound, match="no service 'nobody'"):
        project.sh("production", "true", "nobody")
    assert project.sh("production", "echo fine").text == "fine\n"


def _state(project: Project, service: str, environment: str = "production") -> str:
    return next(each.state for each in project.client.environment(environment).services if each.service == service)


def test_discard_of_what_has_forks(project: Project) -> None:
    """They live on, with their data and all that they have to be compared with."""
    project.up()
    project.sh("production", "echo one > /data/file")
    project.fork("f")
    project.sh("f", "echo two > /data/file")
    project.client.fork("f", "g")
    project.sh("g", "echo three > /data/file")
    project.client.discard("f")
    project.client.collect()
    assert project.sh("g", "cat /data/file").text == "three\n"
    assert [(each.change, each.path) for each in project.client.diff("g").files] == [("modified", "/file")]
    with pytest.raises(Denied, match="not a fork"):
        project.client.discard("production")
    project.client.discard("production", confirm_production=True)
    project.client.collect()
    assert get(project.port("g"), "/file") == b"three\n"
    assert [(each.change, each.path) for each in project.client.diff("g").files] == [("modified", "/file")]
    assert project.client.fork("g", "h").environments[0].awake
    assert project.client.log("g", verify=True).verified


def test_a_volume_in_use(project: Project) -> None:
    """By a process in its service, by one of the machine, by a mount: none of that keeps an environment."""
    project.up()
    project.fork()
    identity = project.client.environment("f").id
    volume = project.running.root / "pool" / "environments" / identity / "volumes" / "data"
    inside = project.running.new_client().exec_stream("f", ["sh", "-c", "exec 3> /data/held; sleep 60"], service="box")
    outside = subprocess.Popen(["sleep", "60"], cwd=volume)
    mounted = project.directory / "mounted"
    mounted.mkdir()
    subprocess.run(["mount", "--bind", volume, mounted], check=True)
    try:
        project.sh("f", "echo there > /data/file")
        project.client.discard("f")
        project.client.collect()
        assert [each.name for each in project.client.environments()] == ["production"]
        assert get(project.port("production"))
    finally:
        inside.close()
        outside.kill()
        outside.wait()
        subprocess.run(["umount", "-l", mounted], check=True)
    project.client.collect()
    assert not volume.exists()


def test_a_pool_detached_and_attached_again(project: Project) -> None:
    """The machine's owner takes it away while nothing runs, by hand, and the next start finds all of it."""
    project.up()
    project.sh("production", "echo kept > /data/file")
    project.fork(asleep=True)
    project.client.down("production")
    project.running.close()
    subprocess.run(["umount", project.running.root / "pool"], check=True)
    listed = ["losetup", "-n", "-O", "NAME", "-j", project.running.root / "pool.img"]
    for device in subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split():
        subprocess.run(["losetup", "-d", device], check=True)
    project.running.start()
    project.client.start("production")
    assert get(project.port("production"), "/file") == b"kept\n"
    assert get(project.port("f"), "/file") == b"kept\n"


def test_discard_of_what_is_not_there(project: Project) -> None:
    with pytest.raises(NotFound, match="no environment 'nope'"):
        project.client.discard("nope")

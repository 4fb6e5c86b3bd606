"""The life of services on a real daemon: order, ends, restarts, stops, sleep, logs, and what an `up` leaves alone."""

from __future__ import annotations

import itertools
import time
import urllib.request

import pytest

from tests.acceptance.conftest import COMPOSE, Project, wait_until
from wye.api.wire import LogLine, ServiceView
from wye.errors import CheckFailed

pytestmark = pytest.mark.host

OTHER = '["sleep", "infinity"]\n    stop_signal: SIGKILL'


def other(script: str, *keys: str) -> str:
    """The project with a shell script as its second service, which keeps what it wrote in /data too."""
    lines = [f"['sh', '-c', '{script}']", "volumes: ['data:/data']", *keys]
    return COMPOSE.replace(OTHER, "\n    ".join(lines))


def service(project: Project, name: str = "other", environment: str = "production") -> ServiceView:
    return next(each for each in project.client.environment(environment).services if each.replica == name)


def get(port: int) -> bytes:
    """Once: whoever is asleep answers all the same."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
        return bytes(answer.read())


def test_up_on_a_changed_file_changes_only_what_changed(project: Project) -> None:
    project.up()
    box, before = service(project, "box"), service(project)
    changed = COMPOSE.replace('["sleep", "infinity"]', '["sleep", "1000000"]')
    assert project.up(changed).changes == {"box": "unchanged", "other": "changed"}
    assert service(project, "box").pid == box.pid
    assert service(project).pid != before.pid
    after, entries = service(project), project.client.log("production").entries
    assert set(project.up(changed).changes.values()) == {"unchanged"}
    assert (service(project), project.client.log("production").entries) == (after, entries)


def test_a_sleeping_fork_wakes_on_its_first_connection_and_on_exec(project: Project) -> None:
    project.up()
    project.sh("production", "echo hello > /data/index.html")
    assert not project.fork(asleep=True).awake
    port = project.port("f")
    assert get(port) == b"hello\n"
    assert project.client.environment("f").awake
    assert not project.client.sleep("f").awake
    assert {each.pid for each in project.client.environment("f").services} == {None}
    assert project.sh("f", "cat /data/index.html").text == "hello\n"
    assert project.client.environment("f").awake
    project.client.sleep("f")
    assert (project.port("f"), get(port)) == (port, b"hello\n")


def test_dependents_wait_for_what_they_need(project: Project) -> None:
    order = """
name: small
services:
  last:
    image: wye/base
    command: ["sh", "-c", "cat /data/made /data/healthy; sleep infinity"]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
    depends_on: {job: {condition: service_completed_successfully}, slow: {condition: service_healthy}}
  slow:
    image: wye/base
    command: ["sh", "-c", "sleep 0.5; echo healthy > /data/healthy; sleep infinity"]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
    healthcheck: {test: "test -e /data/healthy", interval: 1s}
  job:
    image: wye/base
    command: ["sh", "-c", "sleep 0.5; echo made > /data/made; exit STATUS"]
    volumes: ["data:/data"]
volumes: {data: {}}
"""
    with pytest.raises(CheckFailed, match=r"job.*status 7"):
        project.up(order.replace("STATUS", "7"))
    assert service(project, "last").pid is None, "it was never started"
    project.up(order.replace("STATUS", "0"))
    wait_until(lambda: [line.text for line in project.client.logs("production", ["last"])] == ["made", "healthy"])
    assert (service(project, "job").state, service(project, "job").exit_code) == ("exited", 0)
    assert service(project, "slow").health == "healthy"


def test_restarts_come_later_and_later(project: Project) -> None:
    project.up(other("echo began; exit 1", "restart: always"), wait=False)
    wait_until(lambda: service(project).restarts >= 4)
    began = [line.at for line in project.client.logs("production", ["other"])]
    gaps = [after - before for before, after in itertools.pairwise(began)]
    assert len(gaps) >= 3
    assert gaps[0] >= 0.1
    assert gaps[1] >= 0.2
    assert gaps[2] >= 0.4


@pytest.mark.parametrize(
    ("policy", "status", "runs"),
    [("no", 1, 1), ("on-failure:2", 1, 3), ("on-failure", 0, 1)],
    ids=["never", "twice more", "only after a failure"],
)
def test_restart_policies(project: Project, policy: str, status: int, runs: int) -> None:
    project.up(other(f"echo run >> /data/runs; exit {status}", f'restart: "{policy}"'), wait=False)
    wait_until(lambda: service(project).state == "exited" and service(project).restarts == runs - 1)
    time.sleep(0.3)  # that nothing more comes cannot be waited for
    assert project.sh("production", "wc -l < /data/runs").text.strip() == str(runs)


def test_who_was_stopped_stays_down_unless_it_is_started(project: Project) -> None:
    project.up(other("exec sleep infinity", "restart: unless-stopped", "stop_signal: SIGKILL"))
    project.client.stop("production", ["other"])
    project.running.kill()
    project.running.start()
    time.sleep(0.3)  # that nothing comes cannot be waited for
    assert service(project).pid is None
    project.client.start("production", ["other"])
    assert service(project).state == "running"


def test_a_service_is_asked_with_its_own_signal(project: Project) -> None:
    asked = 'trap "echo asked > /data/asked; exit 5" USR1; while :; do sleep 0.02; done'
    project.up(other(asked, "stop_signal: SIGUSR1"))
    project.client.stop("production", ["other"])
    assert project.sh("production", "cat /data/asked").text == "asked\n"
    assert service(project).state == "stopped"


def test_who_does_not_heed_is_killed_after_its_grace(project: Project) -> None:
    project.up(other('trap "" TERM; while :; do sleep 0.02; done', "stop_grace_period: 700ms"))
    began = time.monotonic()
    project.client.stop("production", ["other"])
    assert 0.7 <= time.monotonic() - began < 5
    assert service(project).pid is None


def test_logs_since_and_the_last_and_those_to_come(project: Project) -> None:
    project.up(other("n=0; while :; do n=$((n+1)); echo $n; echo e$n >&2; sleep 0.05; done".replace("$", "$$")))
    wait_until(lambda: len(list(project.client.logs("production", ["other"]))) >= 8)
    lines = list(project.client.logs("production", ["other"]))
    assert {(line.stream, line.text[0] == "e") for line in lines} == {("stdout", False), ("stderr", True)}
    assert {line.replica for line in lines} == {"other"}
    later = list(project.client.logs("production", ["other"], since_at=lines[4].at))
    assert later[0].at >= lines[4].at
    assert lines[0] not in later
    assert len(list(project.client.logs("production", ["other"], tail=3))) == 3
    following = project.running.new_client().logs("production", ["other"], since_at=time.time(), follow=True)
    found: list[LogLine] = [next(following) for _ in range(6)]
    assert found[0].at > lines[-1].at
    assert [line.at for line in found] == sorted(line.at for line in found)

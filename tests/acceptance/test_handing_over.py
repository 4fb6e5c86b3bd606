"""A merge that restarts a service refuses none of those who connect to it meanwhile: they wait for the new one."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.conftest import Project
from wye.errors import WyeError

pytestmark = [pytest.mark.host, pytest.mark.timeout(120)]

COMPOSE = """
name: handed
services:
  box:
    image: wye/python
    command:
      - sh
      - -c
      - |
        if [ -e /data/broken ] && ! grep -q "no egress" /etc/resolv.conf; then exit 3; fi
        sleep $$LATE
        cd /data
        exec python3 -u -m http.server --protocol HTTP/1.0 7000
    environment: {LATE: "0.2"}
    stop_signal: SIGKILL
    volumes: ["data:/data"]
    ports: ["127.0.0.1::7000"]
volumes: {data: {}}
"""
LATER_THAN_ANYBODY_LOOKS = "1.5"


class Visitors:
    """Each asks for a page over a connection of its own, and for the next one when it has it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: list[tuple[float, str]] = []
        """When, and the page."""
        self.failures: list[str] = []
        self.longest_s = 0.0
        self._leave = threading.Event()

    def visit(self) -> None:
        while not self._leave.wait(0.005):
            began = time.monotonic()
            try:
                with urllib.request.urlopen(self.url, timeout=20) as answer:
                    page = answer.read().decode().strip()
            except OSError as error:
                self.failures.append(repr(error))
                continue
            now = time.monotonic()
            self.longest_s = max(self.longest_s, now - began)
            self.answers.append((now, page))

    def wait_for_more(self) -> None:
        seen = len(self.answers)
        deadline = time.monotonic() + 20
        while len(self.answers) < seen + 10 and time.monotonic() < deadline:
            time.sleep(0.005)

    @contextmanager
    def many(self, count: int = 4) -> Iterator[None]:
        threads = [threading.Thread(target=self.visit) for _ in range(count)]
        for thread in threads:
            thread.start()
        try:
            self.wait_for_more()
            yield
            self.wait_for_more()
        finally:
            self._leave.set()
            for thread in threads:
                thread.join()


def listens(project: Project, environment: str) -> None:
    """Until the service answers inside its own network."""
    ask = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7000/page')"
    deadline = time.monotonic() + 20
    while project.client.exec(environment, ["python3", "-c", ask], service="box").exit_code:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def visitors(project: Project) -> Visitors:
    project.up(COMPOSE)
    assert not project.sh("production", "echo before > /data/page").exit_code
    listens(project, "production")
    project.fork()
    return Visitors(f"http://127.0.0.1:{project.port('production')}/page")


def pid(project: Project) -> int | None:
    return project.client.environment("production").services[0].pid


def test_a_merge_makes_visitors_wait_and_refuses_nobody(project: Project, visitors: Visitors) -> None:
    project.sh("f", "echo after > /data/page")
    project.client.up(write(project, LATER_THAN_ANYBODY_LOOKS), name="f", environment={})
    before = pid(project)
    with visitors.many():
        done = project.client.merge("f")
    assert done.merged
    assert done.restarted == ("box",)
    assert pid(project) != before
    assert not visitors.failures
    pages = [page for _, page in visitors.answers]
    assert pages == sorted(pages, reverse=True), "first all from before the merge, then all from after it"
    assert set(pages) == {"before", "after"}
    assert visitors.longest_s > float(LATER_THAN_ANYBODY_LOOKS), "it was really away for so long"
    # Nobody is carried by the daemon any more.
    project.running.kill()
    later = Visitors(visitors.url)
    with later.many(1):
        pass
    project.running.start()
    assert not later.failures


def test_a_merge_that_is_taken_back_refuses_nobody_either(project: Project, visitors: Visitors) -> None:
    assert not project.sh("f", "echo after > /data/page; touch /data/broken").exit_code
    before = pid(project)
    with visitors.many(), pytest.raises(WyeError) as caught:
        project.client.merge("f")
    assert caught.value.code == "merge_unwound"
    assert pid(project) != before
    assert not visitors.failures
    assert {page for _, page in visitors.answers} == {"before"}


def write(project: Project, late: str) -> Path:
    directory = project.directory / "f"
    directory.mkdir()
    (directory / "compose.yaml").write_text(COMPOSE.replace('"0.2"', f'"{late}"'))
    return directory

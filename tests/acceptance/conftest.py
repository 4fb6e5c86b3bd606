"""A real daemon on this machine for all acceptance tests, and a small project to try things on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from wye.api.client import Client
from wye.api.process import ExecResult
from wye.api.wire import EnvironmentView, UpResult
from wye.testing.running_daemon import RunningDaemon

COMPOSE = """
name: small
services:
  box:
    image: wye/python
    command: ["python3", "-u", "-m", "http.server", "-d", "/data", "7000"]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
    ports: ["127.0.0.1::7000"]
  other:
    image: wye/base
    command: ["sleep", "infinity"]
    stop_signal: SIGKILL
volumes: {data: {}}
"""


@dataclass
class Project:
    """A directory with a compose file, and the daemon that it is brought up in."""

    running: RunningDaemon
    directory: Path

    @property
    def client(self) -> Client:
        return self.running.client

    def up(self, compose: str = COMPOSE, *, wait: bool = True) -> UpResult:
        (self.directory / "compose.yaml").write_text(compose)
        return self.client.up(self.directory, environment={}, wait=wait)

    def fork(self, name: str = "f", **options: object) -> EnvironmentView:
        return self.client.fork("production", name, **options).environments[0]  # type: ignore[arg-type]

    def sh(self, environment: str, script: str, service: str | None = "box") -> ExecResult:
        return self.client.exec(environment, ["sh", "-c", script], service=service)

    def port(self, environment: str) -> int:
        return self.client.ports(environment, "box", 7000)[0].host_port


def wait_until(true: Callable[[], bool], *, patience_s: float = 20.0) -> None:
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


@pytest.fixture(scope="package")
def daemon(test_root: Path) -> Iterator[RunningDaemon]:
    """For these tests together; others use the same root after them."""
    running = RunningDaemon(test_root, instance="wyeacc", uplinks="100.73.0.0/16")
    try:
        running.start()
        running.discard_everything()
        yield running
        if running.process is None:
            running.start()
        running.discard_everything()
        running.client.collect()
    finally:
        running.dismantle()


@pytest.fixture
def project(daemon: RunningDaemon, tmp_path: Path) -> Iterator[Project]:
    if daemon.process is None:
        daemon.start()
    yield Project(daemon, tmp_path)
    if daemon.process is None:
        daemon.start()
    daemon.discard_everything()

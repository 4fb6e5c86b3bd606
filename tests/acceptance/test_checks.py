"""Checks of a merge on a real daemon: what they may ask, for how long, what is kept of what they say and of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Project
from wye.api.wire import MergeResult
from wye.errors import BadRequest

pytestmark = [pytest.mark.host, pytest.mark.timeout(600)]

SERVER = """
import http.server, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        kind, _, rest = self.path.strip('/').partition('/')
        if kind == 'status':
            self.send_response(int(rest)); self.end_headers(); self.wfile.write(b'said so')
        elif kind == 'slow':
            self.send_response(200); self.end_headers()
            while True: self.wfile.write(b'.'); self.wfile.flush(); time.sleep(0.2)
        elif kind == 'huge':
            self.send_response(200); self.end_headers()
            while True: self.wfile.write(b'h' * 65536)
        elif kind == 'silent': time.sleep(600)
        elif kind == 'noise': self.wfile.write(bytes(range(256)) * 100)
http.server.ThreadingHTTPServer(('', 7000), Handler).serve_forever()
"""
COMPOSE = """
name: small
services:
  web:
    image: wye/python
    command: ["python3", "-u", "/srv/server.py"]
    stop_signal: SIGKILL
    volumes: ["code:/srv", "data:/data"]
    expose: ["7000"]
    x-wye: {exec: true}
  other:
    image: wye/base
    command: ["sleep", "infinity"]
    stop_signal: SIGKILL
    volumes: ["code:/srv", "data:/data"]
volumes: {code: {}, data: {}}
x-wye:
  checks:
"""
HOSTILE = "printf '\\\\033]0;owned\\\\007\\\\033[31mred\\\\r\\\\n\\\\303\\\\050\\\\000end'"


@pytest.fixture
def forked(project: Project) -> Project:
    """With a server for checks to ask, and a change to merge."""
    compose = COMPOSE.replace('"python3", "-u", "/srv/server.py"', '"sleep", "infinity"') + "    []\n"
    project.up(compose)
    done = project.client.exec("production", ["sh", "-c", "cat > /srv/server.py"], service="web", stdin=SERVER.encode())
    assert done.exit_code == 0
    return project


def merge(project: Project, *checks: str, commands: tuple[str, ...] = (), **options: Any) -> MergeResult:
    project.up(COMPOSE + "".join(f"    - {check}\n" for check in checks) + ("    []\n" if not checks else ""))
    project.fork()
    assert project.sh("f", "echo new > /data/file", "other").exit_code == 0
    return project.client.merge("f", checks=commands, **options)


def test_what_each_check_may_ask(forked: Project) -> None:
    found = merge(
        forked,
        "{http: {service: web, port: 7000, path: /status/200, body: said so}, name: body}",
        "{http: {service: web, port: 7000, path: /status/204, status: 204}, name: status}",
        "{http: {service: web, port: 7000, path: /status/500}, name: wrong status}",
        "{http: {service: web, port: 7000, path: /status/200, body: nothing like it}, name: wrong body}",
        "{http: {service: web, port: 7000, path: /huge}, name: huge, timeout: 20}",
        "{http: {service: web, port: 7000, path: /noise}, name: noise}",
        "{http: {service: web, port: 7001}, name: nobody there, timeout: 1}",
        "{run: test -f /data/file, service: other, name: inside}",
        "{run: test -f /volumes/data/file, name: shell}",
        "{run: exit 3, name: three}",
        "{run: exit 124, name: its own 124}",
    )
    passed = {check.name: check.passed for check in found.checks}
    assert passed == {
        "every service runs": True, "body": True, "status": True, "wrong status": False, "wrong body": False,
        "huge": True, "noise": False, "nobody there": False, "inside": True, "shell": True, "three": False,
        "its own 124": False,
    }  # fmt: skip
    output = {check.name: check.output for check in found.checks}
    assert "500" in output["wrong status"]
    assert "said so" in output["wrong body"]
    assert len(output["huge"]) <= 65536
    assert "ended with status 3" in output["three"]
    assert "ended with status 124" in output["its own 124"]
    assert (found.merged, found.entry) == (False, "")
    assert forked.sh("production", "ls /data", "other").text == ""


def test_time_limits_and_nothing_is_left_running(forked: Project) -> None:
    began = time.monotonic()
    found = merge(
        forked,
        "{http: {service: web, port: 7000, path: /slow}, name: drops, timeout: 2}",
        "{http: {service: web, port: 7000, path: /silent}, name: silent, timeout: 2}",
        "{run: 'echo begun; exec sleep 98765', name: waits, timeout: 2}",
        "{run: 'setsid sleep 98765 & trap \"\" TERM; while :; do yes; done', name: floods, timeout: 2}",
    )
    assert time.monotonic() - began < 120
    output = {check.name: (check.passed, check.output.splitlines()[-1]) for check in found.checks[1:]}
    late = (False, "ended by wye: it took more than 2 s")
    assert output == {"drops": late, "silent": late, "waits": late, "floods": late}
    assert all(check.seconds < 10 for check in found.checks[1:])
    assert found.checks[3].output.startswith("begun\n")
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in running if b"98765" in line]
    assert forked.client.environments(None)[0].name in ("production", "f")


def test_what_is_kept_and_how_it_is_shown(forked: Project) -> None:
    """What a check prints is hostile; the steps of the merge are in their order."""
    lines = 'seq -f "line %.0f" 3000'
    found = merge(
        forked, f'{{run: "{HOSTILE}", name: "odd \\e[2J name"}}', f"{{run: '{lines}', name: long}}", message="why"
    )
    assert found.merged, (found.conflicts, found.checks)
    evidence = forked.client.show(found.entry).evidence
    assert [name for name, _ in evidence["steps"]] == [each for each in found.steps if each != "record"]
    kept = {check["name"]: check["output"] for check in evidence["checks"]}
    assert kept["long"].startswith("line 1\n")
    assert kept["long"].count("\n") == 3000
    said = subprocess.run(
        [Path(sys.executable).with_name("wye"), "show", found.entry[:12]],
        capture_output=True,
        check=True,
        env={**os.environ, "WYE_SOCKET": str(forked.running.socket), "COLUMNS": "200"},
    ).stdout.decode()
    assert not set(said) & {chr(n) for n in range(32) if chr(n) != "\n"}
    assert "line 3000" in said
    steps = [step for step in ("read changes", "rehearse", "checks", "apply", "start what changed") if step in said]
    assert sorted(steps, key=said.rindex) == steps


def test_a_check_that_makes_no_sense_changes_nothing(forked: Project) -> None:
    with pytest.raises(BadRequest, match="timout"):
        merge(forked, "{run: 'true', timout: 5}")
    found = merge(
        forked, "{http: {service: nobody, path: /}, name: nobody}", "{run: 'true', service: nobody, name: stranger}"
    )
    assert {check.name: check.passed for check in found.checks} == {
        "every service runs": True,
        "nobody": False,
        "stranger": False,
    }

"""What diff says of real containers: what somebody did, and nothing that wye itself made."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import Project

pytestmark = pytest.mark.host

COMPOSE = """
name: small
services:
  box:
    image: wye/base
    command: ["sleep", "infinity"]
    stop_signal: SIGKILL
    deploy: {replicas: 2}
    volumes: ["data:/srv/deep/data", {type: tmpfs, target: /scratch/here}]
    configs: [{source: settings, target: /etc/box/settings}]
volumes: {data: {}}
configs: {settings: {content: "a=1"}}
"""


def test_a_fork_in_which_nobody_did_anything(project: Project) -> None:
    project.up(COMPOSE)
    project.fork()
    for service in ("box", None):
        assert project.sh("f", "ls /srv /volumes; true", service=service).exit_code == 0
    found = project.client.diff("f")
    assert [(change.place, change.path, change.change) for change in found.files] == []
    assert found.total_files == 0


def test_what_somebody_did_in_a_services_layer_and_not_in_the_shells(project: Project) -> None:
    project.up(COMPOSE)
    project.fork()
    script = "echo x >> /etc/motd; rm /etc/issue; mkdir /srv/deep/mine; echo new > /usr/local/new"
    assert project.sh("f", script).exit_code == 0
    assert project.sh("f", "echo x >> /etc/motd; echo y > /tmp/y", service=None).exit_code == 0
    found = project.client.diff("f")
    assert {(change.place, change.path, change.change) for change in found.files} == {
        ("layer box", "/etc/motd", "modified"),
        ("layer box", "/etc/issue", "removed"),
        ("layer box", "/srv/deep/mine", "added"),
        ("layer box", "/usr/local/new", "added"),
    }

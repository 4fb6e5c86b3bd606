"""What diff says of real containers: what somebody did, and nothing that wye itself made."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import Project
from wye.errors import NotFound

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


MANY = """
name: small
services:
  box:
    image: wye/python
    command: ["sleep", "infinity"]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
  other:
    image: wye/base
    command: ["sleep", "infinity"]
    stop_signal: SIGKILL
    volumes: ["more:/more"]
volumes: {data: {}, more: {}}
"""
BEFORE = r"""
import os
os.chdir('/data')
for name in ('plain', 'with space', 'quote\'"', 'tab\t', 'back\\slash', 'größe', '日本'):
    open(name, 'w').write('one\ntwo\nthree\n')
open(b'no utf-8 \xff', 'w').write('one\n')
open('run.sh', 'w').write('#!/bin/sh\n'); open('no end', 'w').write('one'); open('binary', 'wb').write(b'\0\1')
os.symlink('plain', 'link')
"""
AFTER = r"""
import os
os.chdir('/data')
for name in os.listdir('.'):
    if name not in ('run.sh', 'binary', 'link', 'plain'): open(name, 'a').write('more\n')
os.remove('plain'); os.chmod('run.sh', 0o755); open('binary', 'wb').write(b'\0\2')
os.remove('link'); os.symlink('größe', 'link')
os.makedirs('deep/er'); open('deep/er/--- a b', 'w').write('--- a/x\n+++ b/x\n@@ -1 +1 @@\n')
os.makedirs('many')
for n in range(120): open(f'many/{n:03}', 'w').write(str(n))
"""


def test_a_patch_is_for_git_and_pages_are_complete(project: Project, tmp_path: Path) -> None:
    project.up(MANY)
    argv = ["python3", "-c", BEFORE]
    assert project.client.exec("production", argv, service="box").exit_code == 0
    archive = project.sh("production", "cd / && tar -c data | base64", "box").text
    tree = tmp_path / "tree"
    (tree / "volumes").mkdir(parents=True)
    subprocess.run(["tar", "-xC", tree / "volumes"], input=base64.b64decode(archive), check=True)
    project.fork()
    assert project.client.exec("f", ["python3", "-c", AFTER], service="box").exit_code == 0
    assert project.sh("f", "echo x > /more/x", "other").exit_code == 0
    patch = project.client.patch("f")
    assert b"# left out" in patch
    subprocess.run(["git", "apply", "--whitespace=nowarn", "-"], input=patch, cwd=tree, check=True)
    after = project.sh("f", "cd / && tar -c data more | base64", "box").text
    theirs = tmp_path / "theirs" / "volumes"
    theirs.mkdir(parents=True)
    subprocess.run(["tar", "-xC", theirs], input=base64.b64decode(after), check=False)
    assert contents(tree / "volumes" / "data") == contents(theirs / "data")

    whole = project.client.diff("f", limit=1000)
    assert whole.total_files == len(whole.files) > 130
    pages = [project.client.diff("f", offset=at, limit=50).files for at in range(0, whole.total_files, 50)]
    assert [each for page in pages for each in page] == list(whole.files)
    only = project.client.diff("f", service="other")
    assert {(each.place, each.path) for each in only.files} == {("volume more", "/x")}
    with pytest.raises(NotFound, match="nobody"):
        project.client.diff("f", service="nobody")

    revision = project.client.snapshot("f").revision
    assert project.sh("f", "echo later > /more/later", "other").exit_code == 0
    assert [each.path for each in project.client.diff("f", against=revision).files] == ["/later"]
    project.fork("g")
    told = project.client.diff("g", against="f", limit=1000)
    assert {each.change for each in told.files if each.path.startswith("/many/")} == {"removed"}
    assert told.total_files == whole.total_files + 1
    wye = [Path(sys.executable).with_name("wye"), "diff", "f", "--stat"]
    env = {**os.environ, "WYE_SOCKET": str(project.running.socket), "COLUMNS": "80"}
    shown = subprocess.run(wye, capture_output=True, check=True, env=env).stdout.decode()
    assert len(shown.splitlines()) <= 24, shown


def contents(root: Path) -> dict[bytes, tuple[bytes, bool]]:
    """What git keeps of a tree: content or target by path, and whether it may be run; but for what is binary."""
    found = {}
    for path in root.rglob("*"):
        if path.is_symlink():
            found[os.fsencode(path.relative_to(root))] = (os.fsencode(path.readlink()), False)
        elif path.is_file() and path.name != "binary":
            found[os.fsencode(path.relative_to(root))] = (path.read_bytes(), bool(path.stat().st_mode & 0o100))
    return found

"""The compose specification's own schema as the oracle.

`Project.load` holds it against every file that the other tests load. Here: the real command on a whole project, planted
violations that both must refuse, and a differential test.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from wye.compose.load import Source, load
from wye.errors import WyeError

if TYPE_CHECKING:
    from conftest import Oracle, Project

SHOP = Path(__file__).parent / "data/shop/compose.yaml"

EVERYTHING: dict[str, Any] = {
    "name": "all",
    "services": {
        "web": {
            "image": "debian",
            "build": {"context": ".", "args": ["A=1"], "target": "t", "dockerfile": "D"},
            "command": ["a"],
            "entrypoint": "b",
            "environment": {"A": 1, "B": None},
            "labels": ["a=b"],
            "depends_on": {"db": {"condition": "service_started", "required": True}},
            "deploy": {
                "replicas": 2,
                "mode": "replicated",
                "resources": {"limits": {"cpus": "1", "memory": "1g", "pids": 5}, "reservations": {"memory": "1m"}},
                "restart_policy": {"condition": "any", "delay": "1s", "max_attempts": 3, "window": "1s"},
            },
            "healthcheck": {"test": ["CMD", "x"], "interval": "1s", "timeout": "1s", "retries": 3, "disable": False},
            "ports": ["80:80", 81, {"target": 82, "published": "82", "protocol": "tcp", "host_ip": "127.0.0.1"}],
            "expose": ["90", 91],
            "volumes": ["data:/a", {"type": "volume", "source": "data", "target": "/b", "volume": {"nocopy": True}}],
            "tmpfs": ["/t"],
            "secrets": ["s", {"source": "s", "target": "t", "uid": "1", "gid": "1", "mode": 256}],
            "configs": [{"source": "c", "target": "/c"}],
            "networks": {"n": {"aliases": ["x"], "priority": 1}},
            "dns": ["1.1.1.1"],
            "extra_hosts": {"h": "10.0.0.1"},
            "sysctls": {"a.b": 1},
            "ulimits": {"nofile": {"soft": 1, "hard": 2}, "core": 0},
            "cap_add": ["SYS_TIME"],
            "security_opt": ["no-new-privileges:true"],
            "group_add": ["a", 5],
            "init": True,
            "mem_reservation": "1m",
            "cpu_shares": 5,
            "stop_grace_period": "1s",
            "stop_signal": "SIGINT",
            "restart": "always",
            "pull_policy": "always",
            "logging": {"driver": "x"},
            "user": "a",
            "working_dir": "/w",
            "hostname": "h",
            "profiles": ["p"],
            "shm_size": "1m",
            "pids_limit": 5,
        },
        "db": {"image": "postgres", "network_mode": "none", "volumes_from": ["other"]},
        "other": {"image": "x"},
    },
    "volumes": {"data": {"driver": "local", "driver_opts": {"a": "b"}, "labels": {"a": "b"}}},
    "networks": {"n": {"internal": True, "ipam": {"driver": "x"}}},
    "secrets": {"s": {"environment": "HOME"}},
    "configs": {"c": {"content": "x"}},
}


def test_the_real_command_agrees_about_the_shop(tmp_path: Path) -> None:
    copy_ = tmp_path / "compose.yaml"
    copy_.write_text(SHOP.read_text().replace("!override", ""))
    done = subprocess.run(
        [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", copy_],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "body",
    [
        "image: 5", "image: [a]", "imagee: a", "ports: 80", "ports: {a: b}", "ports: [{host: 80}]", "environment: 5",
        "environment: {A: {}}", "command: 5", "depends_on: db", "depends_on: {db: {}}", "restart: false", "user: 5",
        "depends_on: {db: {condition: maybe}}", "healthcheck: {test: 5}", "healthcheck: {every: 5s}", "init: 1",
        "healthcheck: {interval: 5}", "deploy: {replicas: true}", "deploy: {resources: {limits: {cpu: 1}}}",
        "volumes: data", "volumes: [{source: a, target: /a}]", "volumes: [{type: disk, target: /a}]", "secrets: s",
        "secrets: [{source: s, uid: 5}]", "networks: 5", "networks: {n: {alias: [x]}}", "cap_add: SYS_TIME",
        "ulimits: {nofile: {soft: 1}}", "pull_policy: sometimes", "stop_grace_period: 5", "labels: 5", "tmpfs: {a: b}",
        "extends: 5", "extends: {file: x}", "build: 5", "build: {contxt: .}", "profiles: a", "logging: x", "dns: 5",
        "extra_hosts: 5", "security_opt: a", "group_add: a", "env_file: 5", "env_file: [{required: true}]", "ports:",
        "mem_reservation: [a]", "cpu_shares: {}", "develop: x", "gpus: none", "models: 5", "pid: 5", "x: 1",
    ],
)  # fmt: skip
def test_planted_violations_are_refused_by_both(project: Project, oracle: Oracle, body: str) -> None:
    text = (
        f"services:\n  web:\n    {body}\n"
        + ("" if body.startswith("image:") else "    image: a\n")
        + "  db: {image: a}\n"
    )
    assert oracle.objection(text) is not None
    project.error(text)


@pytest.mark.parametrize(
    "text",
    [
        "services: [a]", "services: {web: 5}", "volumes: [a]", "volumes: {v: {drivr: x}}",
        "networks: {n: {internl: 1}}",
        "config: {}", "name: 5", "include: a", "include: [{pth: a}]", "servces: {}",
        "volumes: {v: {external: [a]}}", "networks: {n: 5}", "networks: {n: {internal: [1]}}",
    ],
)  # fmt: skip
def test_planted_violations_at_the_top_are_refused_by_both(project: Project, oracle: Oracle, text: str) -> None:
    whole = text if text.startswith("services") else f"{text}\nservices: {{web: {{image: a}}}}\n"
    assert oracle.objection(whole) is not None
    project.error(whole)


Path_ = tuple[str | int, ...]


def paths(value: Any, prefix: Path_ = ()) -> list[Path_]:
    """The way to every value in a document."""
    found: list[Path_] = [prefix] if prefix else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += paths(item, (*prefix, key))
    return found


PATHS = paths(EVERYTHING)
RENAMED = object()
FOREIGN: list[Any] = [None, True, 0, -1, 5, 0.5, "", "x", "true", "5", [], ["x"], [5], {}, {"x": "y"}, {"a": {}}]


TOLERATED: list[tuple[Path_, Any]] = [
    # A variable may stand here, and what it becomes is a string.
    (("services", "web", "depends_on", "db", "required"), "true"),
    (("services", "web", "networks", "n", "priority"), "5"),
    # The same group twice is one group.
    (("services", "web", "group_add", 0), 5),
]


MUTATIONS = [(path, value) for path in PATHS for value in (*FOREIGN, RENAMED)]


def hold_against(project: Project, oracle: Oracle, mutations: list[tuple[Path_, Any]]) -> None:
    accepted = 0
    for path, value in mutations:
        document = mutated(path, value)
        project.write("compose.yaml", yaml.dump(document, Dumper=yaml.CSafeDumper))
        try:
            load(Source(directory=project.directory, environment={"HOME": "/h"}, profiles=frozenset({"p"})))
        except WyeError:
            continue
        accepted += 1
        objection = oracle.objection_to(document)
        assert objection is None or (path, value) in TOLERATED, (path, value, objection)
    assert accepted


def test_whatever_we_accept_the_schema_accepts(project: Project, oracle: Oracle) -> None:
    """Values of one document are replaced by values of every kind, and keys are misspelt."""
    hold_against(project, oracle, MUTATIONS[::29])


@pytest.mark.slow
@pytest.mark.parametrize("part", range(13))
def test_whatever_we_accept_the_schema_accepts_everywhere(project: Project, oracle: Oracle, part: int) -> None:
    hold_against(project, oracle, MUTATIONS[part::13])


def mutated(path: Path_, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(EVERYTHING)
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    if value is not RENAMED:
        place[path[-1]] = value
    elif isinstance(path[-1], str):
        place[f"{path[-1]}x"] = place.pop(path[-1])
    return document

"""Several files, one project: the merge rules of the compose specification, told in our own words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wye.model import Condition, Port, Service

if TYPE_CHECKING:
    from conftest import Project

FILES = (Path("compose.yaml"), Path("more.yaml"))


def merged(project: Project, base: str, override: str) -> Service:
    """The service `web` of two files."""
    project.write("compose.yaml", project.text(base))
    indented = "".join(f"    {line}\n" for line in override.strip("\n").splitlines())
    project.write("more.yaml", f"services:\n  web:\n{indented}")
    return project.load(files=FILES).spec.services["web"]


def test_a_scalar_is_replaced(project: Project) -> None:
    assert merged(project, "user: a", "image: other\nuser: b").user == "b"


def test_a_command_is_replaced_whole(project: Project) -> None:
    web = merged(project, "command: [a, b]\nentrypoint: x y", "command: c\nentrypoint: [z]")
    assert (web.command, web.entrypoint) == (("c",), ("z",))


def test_a_healthcheck_keeps_its_times_when_its_test_is_replaced(project: Project) -> None:
    check = merged(project, "healthcheck: {test: [CMD, a], interval: 7s}", "healthcheck: {test: b}").healthcheck
    assert check is not None
    assert (check.test, check.interval_s) == (("/bin/sh", "-c", "b"), 7)


@pytest.mark.parametrize(
    ("base", "override"),
    [
        ("environment: {A: 1, B: 1}", "environment: {B: 2, C: 2}"),
        ("environment: [A=1, B=1]", "environment: {B: 2, C: 2}"),
        ("environment: {A: 1, B: 1}", "environment: [B=2, C=2]"),
        ("environment: [A=1, B=1]", "environment: [B=2, C=2]"),
    ],
)
def test_environments_merge_by_name_in_either_form(project: Project, base: str, override: str) -> None:
    assert merged(project, base, override).environment == {"A": "1", "B": "2", "C": "2"}


def test_labels_merge_by_name(project: Project) -> None:
    assert merged(project, "labels: [a=1]", "labels: {b: 2}").labels == {"a": "1", "b": "2"}


def test_ports_are_joined(project: Project) -> None:
    web = merged(project, 'ports: ["80:80", "81:81"]', 'ports: ["80:80", {target: 82, published: 82}]')
    assert web.ports == tuple(Port(container=n, host=n) for n in (80, 81, 82))


def test_volumes_are_one_per_target(project: Project) -> None:
    project.write("a/x")
    web = merged(project, "volumes: [/one, /two]", "volumes: [./a:/one, {type: tmpfs, target: /three}]")
    assert [mount.target for mount in web.mounts] == ["/one", "/two", "/three"]
    assert web.mounts[0].source.startswith("bind-a-")


def test_depends_on_merges_in_either_form(project: Project) -> None:
    project.write("compose.yaml", project.text("depends_on: [a, b]", "  a: {image: i}\n  b: {image: i}\n"))
    project.write("more.yaml", "services: {web: {depends_on: {b: {condition: service_healthy}}}}")
    found = project.load(files=FILES).spec.services["web"].depends_on
    assert {name: each.condition for name, each in found.items()} == {"a": Condition.STARTED, "b": Condition.HEALTHY}


def test_networks_merge_in_either_form(project: Project) -> None:
    project.write("compose.yaml", project.text("networks: [n]", "networks: {n: {}}"))
    project.write("more.yaml", "services: {web: {networks: {n: {aliases: [x]}}}}")
    assert project.load(files=FILES).spec.services["web"].aliases == ("x",)


def test_build_merges_in_either_form(project: Project) -> None:
    project.write("app/requirements.txt")
    build = merged(project, "build: ./app", "build: {target: t, args: [A=1]}").build
    assert build is not None
    assert (build.context, build.target, build.args) == (str(project.directory / "app"), "t", {"A": "1"})


def test_lists_of_names_are_joined_once(project: Project) -> None:
    web = merged(project, "cap_add: [A, B]\ndns: 1.1.1.1", "cap_add: [B, C]\ndns: [1.1.1.1, 8.8.8.8]")
    assert (web.cap_add, web.dns) == (("A", "B", "C"), ("1.1.1.1", "8.8.8.8"))


def test_extra_hosts_are_joined_in_either_form(project: Project) -> None:
    web = merged(project, "extra_hosts: {a: 10.0.0.1}", 'extra_hosts: ["b:10.0.0.2", "a=10.0.0.1"]')
    assert web.extra_hosts == (("a", "10.0.0.1"), ("b", "10.0.0.2"))


def test_ulimits_may_change_form(project: Project) -> None:
    web = merged(project, "ulimits: {nofile: 10, core: 0}", "ulimits: {nofile: {soft: 1, hard: 2}}")
    assert web.ulimits == {"nofile": (1, 2), "core": (0, 0)}


def test_reset_removes_and_override_replaces(project: Project) -> None:
    web = merged(
        project,
        'ports: ["80:80"]\nenvironment: {A: 1, B: 1}\ncap_add: [A]\nlabels: {a: 1}\nuser: a',
        'ports: !override ["90:90"]\nenvironment: {A: !reset null}\n'
        "cap_add: !reset []\nlabels: !override {b: 2}\nuser: !reset x",
    )
    assert web.ports == (Port(container=90, host=90),)
    assert (web.environment, web.cap_add, web.labels, web.user) == ({"B": "1"}, (), {"b": "2"}, None)


def test_reset_in_what_only_an_override_has(project: Project) -> None:
    web = merged(project, "user: a", "deploy: {replicas: 2, resources: !reset {limits: {pids: 5}}}")
    assert (web.replicas, web.limits.pids) == (2, None)


def test_reset_in_a_first_file_removes_what_it_marks(project: Project) -> None:
    assert project.service("user: !reset a\nlabels: {a: 1, b: !reset 2}", judged=False).labels == {"a": "1"}


def test_services_volumes_and_networks_add_up(project: Project) -> None:
    project.write("compose.yaml", project.text("volumes: [a:/a]", "volumes: {a: {}}"))
    project.write("more.yaml", "services: {db: {image: x, volumes: [b:/b]}}\nvolumes: {b: {}}")
    spec = project.load(files=FILES).spec
    assert (set(spec.services), set(spec.volumes)) == ({"web", "db"}, {"a", "b"})


def test_paths_of_every_file_start_from_the_project(project: Project) -> None:
    project.write("data/x")
    project.write("compose.yaml", project.text("user: a"))
    project.write("sub/more.yaml", "services: {web: {volumes: [./data:/data]}}")
    loaded = project.load(files=(Path("compose.yaml"), Path("sub/more.yaml")))
    assert [bind.path for bind in loaded.binds] == [str(project.directory / "data")]


def test_documents_of_one_file_merge_too(project: Project) -> None:
    loaded = project.load("services: {web: {image: a}}\n---\nservices: {web: {image: b, user: c}}\n", judged=False)
    assert (loaded.spec.services["web"].image, loaded.spec.services["web"].user) == ("b", "c")


def test_the_override_file_is_found(project: Project) -> None:
    project.write("compose.override.yaml", "services: {web: {user: over}}")
    assert project.service("user: under").user == "over"


def test_kinds_that_do_not_fit_are_named_in_both_files(project: Project) -> None:
    project.write("compose.yaml", project.text("healthcheck: {test: x}"))
    project.write("more.yaml", "services:\n  web:\n    healthcheck: x\n")
    error = project.error(files=FILES)
    assert str(error) == "services.web.healthcheck: is a string here and a mapping in compose.yaml:4 (more.yaml:3)"
    assert error.hint is not None


def test_errors_name_the_file_that_the_value_came_from(project: Project) -> None:
    project.write("compose.yaml", project.text("user: a"))
    project.write("more.yaml", "services:\n  web:\n    portz: []\n")
    assert str(project.error(files=FILES)) == "services.web.portz: unknown key (more.yaml:3)"

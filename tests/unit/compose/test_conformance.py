"""The scenarios of the compose specification's conformance suite, as far as they are about reading a file."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from wye.model import Mount, MountKind, Port

if TYPE_CHECKING:
    from conftest import Project


def test_one_service_comes_up(project: Project) -> None:
    spec = project.load("services:\n  entry:\n    image: echo\n").spec
    assert set(spec.services) == {"entry"}
    assert (spec.volumes, spec.services["entry"].ports) == ({}, ())


def test_two_services_reach_each_other_by_name(project: Project) -> None:
    spec = project.load(
        """
        services:
          entry: {image: echo, ports: ["8080:8080"], depends_on: [target]}
          target: {image: echo, expose: [8080]}
        """
    ).spec
    assert set(spec.services["entry"].depends_on) == {"target"}
    assert spec.services["entry"].ports == (Port(container=8080, host=8080),)
    assert spec.services["target"].expose == (8080,)


def test_different_networks_are_accepted_and_shared(project: Project) -> None:
    spec = project.load(
        """
        services:
          entry: {image: echo, networks: [one]}
          target: {image: echo, networks: {two: {aliases: [back]}}}
        networks: {one: {}, two: {}}
        """
    ).spec
    assert spec.services["target"].aliases == ("back",)
    assert spec.services["entry"].network_mode is None


def test_a_volume_is_shared_by_name(project: Project) -> None:
    spec = project.load(
        """
        services:
          entry: {image: echo, volumes: ["data:/volumes"]}
          other: {image: echo, volumes: [{type: volume, source: data, target: /volumes}]}
        volumes: {data: }
        """
    ).spec
    mount = Mount(kind=MountKind.VOLUME, source="data", target="/volumes")
    assert all(service.mounts == (mount,) for service in spec.services.values())


def test_a_secret_is_a_file(project: Project) -> None:
    project.write("my_secret.txt", "secret content\n")
    spec = project.load(
        "services: {entry: {image: echo, secrets: [my_secret]}}\nsecrets: {my_secret: {file: ./my_secret.txt}}\n"
    ).spec
    (file,) = spec.services["entry"].files
    assert (file.target, base64.b64decode(file.content), file.mode) == (
        "/run/secrets/my_secret",
        b"secret content\n",
        0o444,
    )


def test_a_config_is_a_file(project: Project) -> None:
    project.write("my_config.txt", "config content\n")
    spec = project.load(
        """
        services: {entry: {image: echo, configs: [{source: my_config, target: /volumes/test.txt}]}}
        configs: {my_config: {file: ./my_config.txt}}
        """
    ).spec
    (file,) = spec.services["entry"].files
    assert (file.target, base64.b64decode(file.content), file.secret) == (
        "/volumes/test.txt",
        b"config content\n",
        False,
    )


def test_a_service_is_scaled(project: Project) -> None:
    spec = project.load("services: {entry: {image: echo}, echo: {image: echo, deploy: {replicas: 3}}}").spec
    assert {name: service.replicas for name, service in spec.services.items()} == {"entry": 1, "echo": 3}


def test_a_port_is_udp(project: Project) -> None:
    assert project.service('ports: ["10001:10001/udp"]').ports == (Port(container=10001, host=10001, protocol="udp"),)

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Project


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("  a: {restart: always}\n", "services.a: has neither an image nor a build (compose.yaml:2)"),
        ("  a: {}\n", "services.a: has neither an image nor a build (compose.yaml:2)"),
        ("  a: {image: i, ports: ['80:80']}\n  b: {image: i, ports: ['81:81', '80:90']}\n",
         "services.b.ports: the host port 80/tcp is wanted by a and b (compose.yaml:3)"),
        ("  a: {image: i, ports: ['127.0.0.1:80:80']}\n  b: {image: i, ports: ['80:80']}\n",
         "services.b.ports: the host port 80/tcp is wanted by a and b (compose.yaml:3)"),
        ("  a: {image: i, ports: ['80:80', '80:81']}\n",
         "services.a.ports: the host port 80/tcp is wanted by a twice (compose.yaml:2)"),
        ("  a: {image: i, ports: ['8000-8010:8000-8010']}\n  b: {image: i, ports: ['8005:80']}\n",
         "services.b.ports: the host port 8005/tcp is wanted by a and b (compose.yaml:3)"),
        ("  a: {image: i, network_mode: none, ports: ['80:80']}\n",
         'services.a.ports: does not go with network_mode "none" (compose.yaml:2)'),
        ("  a: {image: i, container_name: xx}\n  b: {image: i, container_name: xx}\n",
         "services.b.container_name: the services a and b are both named xx (compose.yaml:3)"),
        ("  a: {image: i, container_name: xx, scale: 2}\n",
         "services.a.container_name: 2 replicas cannot have one name (compose.yaml:2)"),
        ("  a: {image: i, scale: 2}\n  a-2: {image: i}\n",
         "services.a-2: a replica of a and one of a-2 are both named a-2 (compose.yaml:3)"),
    ],
)  # fmt: skip
def test_clashes(project: Project, body: str, message: str) -> None:
    assert str(project.error(f"services:\n{body}")) == message


@pytest.mark.parametrize(
    "body",
    [
        "  a: {image: i, ports: ['80:80']}\n  b: {image: i, ports: ['80:80/udp']}\n",
        "  a: {image: i, ports: ['80']}\n  b: {image: i, ports: ['80']}\n",
        "  a: {image: i, ports: ['127.0.0.1:80:80']}\n  b: {image: i, ports: ['127.0.0.2:80:80']}\n",
        "  a: {image: i, ports: ['80:80', '81:80']}\n",
    ],
)
def test_what_does_not_clash(project: Project, body: str) -> None:
    assert project.load(f"services:\n{body}").spec.services

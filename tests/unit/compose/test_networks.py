from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from wye.compose.load import Loaded

if TYPE_CHECKING:
    from conftest import Project

Messages = Callable[[Loaded], list[str]]
TOP = "networks: {front: {}, back: {internal: true}, vault: {internal: 'true'}}\n"


@pytest.mark.parametrize(
    ("body", "top", "egress"),
    [
        ("user: a", TOP, True),
        ("networks: [front]", TOP, True),
        ("networks: [front, back]", TOP, True),
        ("networks: [back]", TOP, False),
        ("networks: {back: , vault: {}}", TOP, False),
        ("networks: []", TOP, True),
        ("user: a", "networks: {default: {internal: true}}", False),
        ("networks: [default]", "", True),
        ("networks: [back]\nx-wye: {egress: true}", TOP, True),
        ("x-wye: {egress: false}", "", False),
    ],
)
def test_only_internal_networks_take_egress_away(project: Project, body: str, top: str, egress: bool) -> None:
    assert project.service(body, top=top).egress is egress


def test_names_besides_its_own(project: Project) -> None:
    body = "container_name: one\nnetworks: {front: {aliases: [two, three, web]}, back: {aliases: [two]}}"
    assert project.service(body, top=TOP).aliases == ("one", "two", "three")


def test_what_has_no_effect_is_said(project: Project, messages: Messages) -> None:
    body = "networks: {a: {ipv4_address: 10.0.0.5, priority: 5}}"
    top = """
    networks:
      a: {ipam: {config: [{subnet: 10.0.0.0/24}]}, driver: bridge, labels: [x]}
      b: {external: true, name: x}
      c: {driver: macvlan, driver_opts: {parent: eth0}, enable_ipv6: true, attachable: true}
    """
    assert messages(project.load(project.text(body, top))) == [
        "networks.a.ipam: has no effect; wye chooses the addresses",
        "networks.b.external: is the environment's own network; nothing outside is joined",
        "networks.c.driver: has no effect; the environment has one private network",
        "networks.c.driver_opts: has no effect; wye chooses the addresses",
        "networks.c.enable_ipv6: has no effect; the private network is IPv4",
        "services.web.networks.a.ipv4_address: has no effect; wye chooses the addresses",
    ]


@pytest.mark.parametrize(
    ("body", "message", "hint"),
    [
        ("networks: [frnt]", "services.web.networks[0]: there is no network frnt (compose.yaml:4)",
         "did you mean front?"),
        ("networks: {x: }", "services.web.networks.x: there is no network x (compose.yaml:4)",
         "add it at the top: networks: {x: }"),
        ("networks: {front: {alias: [x]}}", "services.web.networks.front.alias: unknown key (compose.yaml:4)",
         "did you mean aliases?"),
        ("networks: {front: {aliases: [a b]}}",
         'services.web.networks.front.aliases[0]: "a b" is not a host name (compose.yaml:4)', None),
        ("networks: front", "services.web.networks: must be a mapping, not a string (compose.yaml:4)", None),
        ("networks: [front]\nnetwork_mode: none",
         "services.web.network_mode: cannot be used together with networks (compose.yaml:5)", None),
    ],
)  # fmt: skip
def test_what_is_wrong(project: Project, body: str, message: str, hint: str | None) -> None:
    error = project.refusal(body, top=TOP)
    assert (str(error), error.hint) == (message, hint)

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wye.compose.ports import PortError, parse_short
from wye.model import Port

if TYPE_CHECKING:
    from conftest import Project


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", [Port(container=80)]),
        ("8080:80", [Port(container=80, host=8080)]),
        ("80/udp", [Port(container=80, protocol="udp")]),
        ("53:53/udp", [Port(container=53, host=53, protocol="udp")]),
        (":80", [Port(container=80)]),
        ("0:80", [Port(container=80)]),
        ("127.0.0.1:8080:80", [Port(container=80, host=8080, host_ip="127.0.0.1")]),
        ("127.0.0.1::80", [Port(container=80, host_ip="127.0.0.1")]),
        ("[::1]:8080:80", [Port(container=80, host=8080, host_ip="::1")]),
        ("::1:8080:80", [Port(container=80, host=8080, host_ip="::1")]),
        ("80-82", [Port(container=80), Port(container=81), Port(container=82)]),
        ("8080-8081:80-81/tcp", [Port(container=80, host=8080), Port(container=81, host=8081)]),
    ],
)
def test_short_forms(text: str, ports: list[Port]) -> None:
    assert parse_short(text) == (ports, False)


def test_a_range_for_one_port_takes_the_first() -> None:
    assert parse_short("8000-9000:80") == ([Port(container=80, host=8000)], True)


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "80:", "1:2:3:x", "80/sctp", "80/", "70000", "0", "1-0", "80-", "-80", "1:70000", "127.0.0.1:80",
        "localhost:1:80", "[::1]:80", "[::1", "1-3:1-2", "80:80:80:80", "1.2.3.4.5:1:80", "+80", "８０",
    ],
)  # fmt: skip
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(PortError):
        parse_short(text)


numbers = st.integers(1, 65535)


@given(
    container=numbers,
    host=st.none() | numbers,
    address=st.none() | st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str),
    protocol=st.sampled_from(["tcp", "udp"]),
)
def test_every_port_comes_back(container: int, host: int | None, address: str | None, protocol: str) -> None:
    text = f"{host or ''}:{container}/{protocol}"
    if address is not None:
        text = f"[{address}]:{text}" if ":" in address else f"{address}:{text}"
    assert parse_short(text) == (
        [Port(container=container, host=host, host_ip=address or "0.0.0.0", protocol=protocol)],
        False,
    )


@given(first=st.integers(1, 60000), outside=st.integers(1, 60000), length=st.integers(2, 50))
def test_ranges_run_in_step(first: int, outside: int, length: int) -> None:
    ports, _ = parse_short(f"{outside}-{outside + length - 1}:{first}-{first + length - 1}")
    assert [(port.container - first, port.host) for port in ports] == [(n, outside + n) for n in range(length)]


@given(st.text(alphabet="0123456789:-/.[]tcpudx", max_size=20))
def test_anything_is_ports_or_refused(text: str) -> None:
    try:
        ports, _ = parse_short(text)
    except PortError:
        return
    assert ports
    assert all(1 <= port.container <= 65535 and (port.host is None or 1 <= port.host <= 65535) for port in ports)


def test_all_forms_in_a_file(project: Project) -> None:
    web = project.service(
        """
        ports:
          - 3000
          - "8000:8000"
          - target: 443
            published: "8443"
            host_ip: 127.0.0.1
            protocol: tcp
            mode: host
            name: secure
            app_protocol: http
          - {target: 9000}
          - {target: 9001, published: 0}
        expose: [9100, "9200/tcp", "9300-9301"]
        """
    )
    assert web.ports == (
        Port(container=3000),
        Port(container=8000, host=8000),
        Port(container=443, host=8443, host_ip="127.0.0.1"),
        Port(container=9000),
        Port(container=9001),
    )
    assert web.expose == (9100, 9200, 9300, 9301)


def test_an_unquoted_colon_is_no_clock_time(project: Project) -> None:
    assert project.service("ports: [22:22]", judged=False).ports == (Port(container=22, host=22),)


def test_the_same_port_twice_is_one(project: Project) -> None:
    assert project.service('ports: ["80:80", "0.0.0.0:80:80/tcp"]').ports == (Port(container=80, host=80),)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('ports: ["70000:80"]', 'services.web.ports[0]: "70000" is not within 0 and 65535 (compose.yaml:4)'),
        ("ports: [{published: 80}]", 'services.web.ports[0]: "target" is missing (compose.yaml:4)'),
        ("ports: [{target: 80, hostip: x}]", "services.web.ports[0].hostip: unknown key (compose.yaml:4)"),
        ("ports: 80", "services.web.ports: must be a list, not an integer (compose.yaml:4)"),
        ("ports: [[80]]", "services.web.ports[0]: must be a string or a number, not a list (compose.yaml:4)"),
        ("ports: [true]", "services.web.ports[0]: must be a number or a string, not a boolean (compose.yaml:4)"),
        ('expose: ["80/sctp"]', 'services.web.expose[0]: the protocol "sctp" is not tcp or udp (compose.yaml:4)'),
        ('ports: ["1-65535"]', "services.web.ports[0]: 65535 ports are more than 4096 (compose.yaml:4)"),
    ],
)
def test_what_is_wrong_in_a_file(project: Project, body: str, message: str) -> None:
    assert str(project.refusal(body)) == message

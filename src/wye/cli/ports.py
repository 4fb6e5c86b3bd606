"""wye port, url: where to connect."""

from __future__ import annotations

from typing import Annotated

import typer

from wye.cli import environments
from wye.cli.session import Environment, Json, say, session_of
from wye.cli.tables import show
from wye.errors import NotFound

Service = Annotated[str | None, typer.Argument(metavar="[SERVICE]", help="Only this service's.")]
Port = Annotated[int | None, typer.Argument(metavar="[PORT]", help="Only this port of the container.")]

_SCHEMES = {443: "https", 8443: "https", 5432: "postgresql", 6379: "redis"}


def port(
    context: typer.Context,
    environment: Environment = "production",
    service: Service = None,
    container_port: Port = None,
    as_json: Json = False,
) -> None:
    """Show where an environment's published ports are; for one service only the addresses, for scripts."""
    session = session_of(context)
    found = session.client.ports(environment, service, container_port)

    def render() -> None:
        if service is not None:
            for each in found:
                say(environments.address_of(each))
        elif found:
            show(environments.port_table(found))
        else:
            say(f"{environment} publishes no ports")

    session.show_all(found, render)


def url(
    context: typer.Context,
    environment: Environment = "production",
    service: Service = None,
    container_port: Port = None,
    as_json: Json = False,
) -> None:
    """Show URLs of an environment's published TCP ports."""
    session = session_of(context)
    found = tuple(each for each in session.client.ports(environment, service, container_port) if each.protocol == "tcp")
    if not found:
        raise NotFound(f"{environment} publishes no TCP ports", hint="give the service 'ports:' in the compose file")

    def render() -> None:
        for each in found:
            say(f"{_SCHEMES.get(each.container, 'http')}://{environments.address_of(each)}")

    session.show_all(found, render)

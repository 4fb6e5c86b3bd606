"""wye start, stop, restart: single services, or all of an environment."""

from __future__ import annotations

import time

import typer

from wye.api.caller import Change
from wye.cli import environments
from wye.cli.session import Environment, Json, Services, session_of
from wye.cli.tables import show


def start(context: typer.Context, environment: Environment, services: Services = None, as_json: Json = False) -> None:
    """Start services, and what they depend on."""
    _change(context, "start", environment, services)


def stop(context: typer.Context, environment: Environment, services: Services = None, as_json: Json = False) -> None:
    """Stop services, and keep them stopped until they are started."""
    _change(context, "stop", environment, services)


def restart(context: typer.Context, environment: Environment, services: Services = None, as_json: Json = False) -> None:
    """Stop services and start them again."""
    _change(context, "restart", environment, services)


def _change(context: typer.Context, change: Change, name: str, services: list[str] | None) -> None:
    session = session_of(context)
    verb = {"start": session.client.start, "stop": session.client.stop, "restart": session.client.restart}[change]
    result = session.watch(change, lambda progress: verb(name, services or (), progress=progress))
    session.show(result, lambda: show(environments.services(result, time.time())))

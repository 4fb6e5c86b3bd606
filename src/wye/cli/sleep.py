"""wye sleep, wake: an environment that costs nothing but its bytes until it is used."""

from __future__ import annotations

import time

import typer

from wye.cli import environments
from wye.cli.session import Environment, Json, say, session_of
from wye.cli.tables import show


def sleep(context: typer.Context, environment: Environment, as_json: Json = False) -> None:
    """Stop all services of an environment; a connection to one of its ports, or exec, wakes it."""
    session = session_of(context)
    result = session.watch("sleep", lambda progress: session.client.sleep(environment, progress=progress))
    session.show(result, lambda: say(f"{environment} sleeps"))


def wake(context: typer.Context, environment: Environment, as_json: Json = False) -> None:
    """Start the services of an environment that sleeps."""
    session = session_of(context)
    result = session.watch("wake", lambda progress: session.client.wake(environment, progress=progress))
    session.show(result, lambda: show(environments.services(result, time.time())))

"""wye fork: a new environment with all that another one has."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from wye.api import wire
from wye.cli import environments, words
from wye.cli.session import Environment, Json, session_of
from wye.cli.tables import show


def fork(
    context: typer.Context,
    source: Environment,
    name: Annotated[str | None, typer.Argument(help="Name of the fork; without one it is made up.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Make NAME-1 ... NAME-N.")] = 1,
    revision: Annotated[str | None, typer.Option("--from", help="As it was at this revision.")] = None,
    asleep: Annotated[bool, typer.Option("--asleep", help="Start it only when it is first used.")] = False,
    disk: Annotated[str | None, typer.Option("--disk", help="Most that it may write, for example 5GiB.")] = None,
    as_json: Json = False,
) -> None:
    """Fork a running environment: all its data at one instant, under a new name. The source notices nothing."""
    session = session_of(context)
    disk_bytes = None if disk is None else words.parse_size(disk)
    client = session.client
    began = time.monotonic()
    with session.going_on("fork"):
        result = client.fork(source, name, count=count, revision=revision, asleep=asleep, disk_bytes=disk_bytes)
    seconds = time.monotonic() - began
    session.show(result, lambda: render(result, source, seconds))


def render(result: wire.ForkResult, source: str, seconds: float) -> None:
    names = ", ".join(environment.name for environment in result.environments)
    told = f" ({environments.steps(result.steps)})" if result.steps else ""
    show(f"{names}: forked from {source} at {words.short(result.revision)} in {words.duration(seconds)}{told}")
    if any(environment.ports for environment in result.environments):
        show("", environments.ports_of(result.environments))

"""wye ps: what is there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from wye.cli.later import later
from wye.cli.session import AnyEnvironment, Json, say, session_of

if TYPE_CHECKING:
    from wye.cli import environments, tables
else:
    environments, tables = later("environments"), later("tables")


def ps(
    context: typer.Context,
    environment: AnyEnvironment = None,
    project: Annotated[str | None, typer.Option("--project", "-p", help="Only environments of this project.")] = None,
    as_json: Json = False,
) -> None:
    """List environments, or the services of one."""
    session = session_of(context)
    now = time.time()
    if environment is not None:
        one = session.client.environment(environment)
        session.show(one, lambda: tables.show(environments.heading(one, now), "", environments.services(one, now)))
        return
    found = session.client.environments(project)

    def render() -> None:
        if found:
            tables.show(environments.listing(found, now))
        else:
            say("no environments yet: 'wye up' in the directory of a compose file makes the first")

    session.show_all(found, render)

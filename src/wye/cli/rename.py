"""wye rename: give an environment another name."""

from __future__ import annotations

from typing import Annotated

import typer

from wye.cli.session import Environment, Json, say, session_of


def rename(
    context: typer.Context,
    environment: Environment,
    new_name: Annotated[str, typer.Argument(help="What it is called from now on.")],
    as_json: Json = False,
) -> None:
    """Give an environment another name. Nothing in it restarts."""
    session = session_of(context)
    result = session.client.rename(environment, new_name)
    session.show(result, lambda: say(f"{environment} is now {result.name}"))

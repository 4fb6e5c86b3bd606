"""wye snapshot: keep an environment as it is at this instant."""

from __future__ import annotations

from typing import Annotated

import typer

from wye.cli import words
from wye.cli.session import Environment, Json, say, session_of


def snapshot(
    context: typer.Context,
    environment: Environment = "production",
    message: Annotated[str, typer.Option("--message", "-m", help="Why.")] = "",
    as_json: Json = False,
) -> None:
    """Keep all data of an environment as it is at this instant. No service stops."""
    session = session_of(context)
    result = session.client.snapshot(environment, message)
    session.show(
        result,
        lambda: say(f"{environment} at {words.short(result.revision)}, in {words.duration(result.seconds)}"),
    )

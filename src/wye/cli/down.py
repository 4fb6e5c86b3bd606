"""wye down: stop and remove an environment's containers and network."""

from __future__ import annotations

import typer

from wye.cli.session import Environment, Json, say, session_of


def down(
    context: typer.Context,
    environment: Environment = "production",
    as_json: Json = False,
) -> None:
    """Stop an environment and give its ports back. Its data stays: 'wye start' or 'wye up' brings it back."""
    session = session_of(context)
    result = session.watch("down", lambda progress: session.client.down(environment, progress=progress))
    session.show(result, lambda: say(f"{environment} is down; its data is kept"))

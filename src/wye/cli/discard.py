"""wye discard: delete an environment and its data."""

from __future__ import annotations

from typing import Annotated

import typer

from wye.cli.session import Environments, Json, say, session_of


def discard(
    context: typer.Context,
    environment: Environments,
    yes_i_mean_production: Annotated[
        bool, typer.Option("--yes-i-mean-production", help="Needed for an environment that is not a fork.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Delete environments and all their data. Forks of them live on; their history can still be read with 'wye log'."""
    session = session_of(context)
    for name in environment:
        result = session.watch(
            "discard",
            lambda progress, name=name: session.client.discard(  # type: ignore[misc]
                name, confirm_production=yes_i_mean_production, progress=progress
            ),
        )
        session.show(result, lambda name=name: say(f"{name} is discarded"))  # type: ignore[misc]

"""wye update: bring into a fork what its source has changed since."""

from __future__ import annotations

import typer

from wye.cli import outcome, resolution_file, resolutions
from wye.cli.resolutions import Resolve
from wye.cli.session import Fork, Json, session_of


def update(context: typer.Context, environment: Fork, resolve: Resolve = None, as_json: Json = False) -> None:
    """Bring into a fork what its source has changed since. In conflicts, ours is the source, theirs the fork."""
    session = session_of(context)
    choices = resolution_file.read(resolve)
    result = session.watch(
        "update",
        lambda progress: resolutions.settle(
            choices, lambda decided: session.client.update(environment, resolutions=decided, progress=progress)
        ),
    )
    outcome.finish(session, result, "update", f"wye update {environment}")

"""wye revert: take back what a merge did."""

from __future__ import annotations

import typer

from wye.cli import outcome, resolution_file, resolutions
from wye.cli.resolutions import Resolve
from wye.cli.session import Entry, Json, session_of


def revert(context: typer.Context, entry: Entry, resolve: Resolve = None, as_json: Json = False) -> None:
    """Take back what a merge did. What was done since stays; 'wye restore' is the blunt tool."""
    session = session_of(context)
    choices = resolution_file.read(resolve)
    result = session.watch(
        "revert",
        lambda progress: resolutions.settle(
            choices, lambda decided: session.client.revert(entry, resolutions=decided, progress=progress)
        ),
    )
    outcome.finish(session, result, "revert", f"wye revert {entry}")

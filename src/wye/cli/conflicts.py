"""wye conflicts: what a merge would find in conflict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wye.cli import outcome, resolution_file, resolutions
from wye.cli.resolutions import Resolve
from wye.cli.session import Fork, Into, Json, note, session_of


def conflicts(
    context: typer.Context,
    environment: Fork,
    into: Into = None,
    resolve: Resolve = None,
    template: Annotated[
        Path | None, typer.Option("--template", metavar="FILE", help="Write a resolution file to fill in.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List what a merge would find in conflict. Changes nothing; exits with 9 if there is something."""
    session = session_of(context)
    choices = resolution_file.read(resolve)
    result = session.watch(
        "conflicts",
        lambda progress: resolutions.settle(
            choices,
            lambda decided: session.client.conflicts(environment, into=into, resolutions=decided, progress=progress),
        ),
    )
    if template is not None:
        resolutions.write_template(template, result)
        note(f"note: {template} has a line for each conflict to fill in")
    target = f" --into {into}" if into else ""
    outcome.finish(session, result, "merge", f"wye merge {environment}{target}", rehearsal=True)

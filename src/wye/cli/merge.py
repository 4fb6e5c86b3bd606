"""wye merge: bring what a fork has changed into the live environment that it was forked from."""

from __future__ import annotations

from typing import Annotated

import typer

from wye.cli import outcome, resolution_file, resolutions
from wye.cli.resolutions import Resolve
from wye.cli.session import Fork, Into, Json, session_of


def merge(
    context: typer.Context,
    environment: Fork,
    into: Into = None,
    rehearse_only: Annotated[bool, typer.Option("--rehearse-only", help="Stop before the target is touched.")] = False,
    resolve: Resolve = None,
    check: Annotated[
        list[str] | None,
        typer.Option("--check", metavar="COMMAND", help="Must succeed in the rehearsal's shell. May be given often."),
    ] = None,
    message: Annotated[str, typer.Option("--message", "-m", help="Why.")] = "",
    as_json: Json = False,
) -> None:
    """Merge a fork into the live environment it came from: rehearse, check, then apply wholly or not at all."""
    session = session_of(context)
    choices = resolution_file.read(resolve)
    result = session.watch(
        "merge",
        lambda progress: resolutions.settle(
            choices,
            lambda decided: session.client.merge(
                environment,
                into=into,
                resolutions=decided,
                rehearse_only=rehearse_only,
                checks=check or (),
                message=message,
                progress=progress,
            ),
        ),
    )
    target = f" --into {into}" if into else ""
    outcome.finish(session, result, "merge", f"wye merge {environment}{target}", rehearsal=rehearse_only)

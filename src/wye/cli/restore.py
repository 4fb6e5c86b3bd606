"""wye restore: bring an environment back to one of its revisions."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from wye.cli import environments, words
from wye.cli.session import Environment, Json, session_of
from wye.cli.tables import show


def restore(
    context: typer.Context,
    environment: Environment,
    revision: Annotated[str, typer.Argument(help="A revision, as 'wye log' shows it; a prefix is enough.")],
    as_json: Json = False,
) -> None:
    """Bring all data and settings of an environment back to a revision. What it was before stays in its history."""
    session = session_of(context)
    result = session.watch("restore", lambda progress: session.client.restore(environment, revision, progress=progress))
    session.show(
        result,
        lambda: show(
            f"{environment} is as it was at {words.short(revision)}; that is now its revision"
            f" {words.short(result.revision)}, and what it was before is in its log",
            "",
            environments.services(result, time.time()),
        ),
    )

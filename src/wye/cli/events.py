"""wye events: what happens."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from wye.api import wire
from wye.cli import words
from wye.cli.log import arguments
from wye.cli.session import INTERRUPTED, Json, say, session_of


def events(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as more happens.")] = False,
    since: Annotated[str | None, typer.Option("--since", help="Only from then on: 10m, 2h, or a time.")] = None,
    as_json: Json = False,
) -> None:
    """Show what has happened lately: starts, ends, failed healthchecks, forks."""
    session = session_of(context)
    since_at = None if since is None else words.parse_since(since, time.time())
    try:
        session.show_each(session.client.events(since_at=since_at, follow=follow), lambda event: say(render(event)))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def render(event: wire.Event) -> str:
    where = f"{event.environment}/{event.service}" if event.service else event.environment
    parts = (words.moment(event.at), event.kind, where, arguments(event.detail))
    return words.harmless(" ".join(part for part in parts if part))

"""wye logs: what services write."""

from __future__ import annotations

import sys
import time
import zlib
from typing import Annotated

import typer

from wye.api import wire
from wye.cli import words
from wye.cli.session import INTERRUPTED, Environment, Json, Services, say, session_of

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


def logs(
    context: typer.Context,
    environment: Environment = "production",
    services: Services = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as more is written.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", "-n", min=0, help="Only the last lines of each.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="Only from then on: 10m, 2h, or a time.")] = None,
    timestamps: Annotated[bool, typer.Option("--timestamps", "-t", help="With the time of each line.")] = False,
    as_json: Json = False,
) -> None:
    """Show what services have written, in the order of time."""
    session = session_of(context)
    since_at = None if since is None else words.parse_since(since, time.time())
    lines = session.client.logs(environment, services or (), since_at=since_at, tail=tail, follow=follow)
    colour = sys.stdout.isatty()
    try:
        session.show_each(
            lines, lambda line: say(render(line, timestamps=timestamps, named=len(services or ()) != 1, colour=colour))
        )
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def render(line: wire.LogLine, *, timestamps: bool, named: bool, colour: bool) -> str:
    """ "web | text". A service has the same colour in every run. On a terminal, what would control it is shown instead;
    a pipe gets the line as it is."""
    text = words.harmless(line.text, keep="\t") if colour else line.text
    head = f"{words.exact_moment(line.at)} " if timestamps else ""
    if named:
        name = f"{line.replica} | "
        head += f"\x1b[{_COLOURS[zlib.crc32(line.replica.encode()) % len(_COLOURS)]}m{name}\x1b[0m" if colour else name
    return head + text

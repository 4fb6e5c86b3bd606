"""wye diff: what an environment has changed since it was forked."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from wye.cli.later import later
from wye.cli.session import Against, Environment, Json, complete_services, session_of
from wye.errors import BadRequest

if TYPE_CHECKING:
    from wye.cli import differences, stores, tables, text
else:
    differences, stores, tables, text = later("differences"), later("stores"), later("tables"), later("text")

PAGE = 1000
"""Files, rows or keys that are asked for at once."""


def diff(
    context: typer.Context,
    environment: Environment,
    against: Against = None,
    service: Annotated[
        str | None,
        typer.Option("--service", "-s", help="Only what is this service's.", autocompletion=complete_services),
    ] = None,
    stat: Annotated[bool, typer.Option("--stat", help="Only count.")] = False,
    patch: Annotated[bool, typer.Option("--patch", "-p", help="Text files alone, as 'git apply' takes them.")] = False,
    no_rows: Annotated[bool, typer.Option("--no-rows", help="A line per database, which is quick.")] = False,
    offset: Annotated[
        int | None, typer.Option("--offset", min=0, help="Leave out so many files, rows or keys first.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=0, max=10_000, help="At most so many files, rows or keys.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what differs: settings, databases with schema, rows and keys, and files with the changes of their text."""
    session = session_of(context)
    if patch:
        if stat or as_json or service or no_rows or offset is not None or limit is not None:
            raise BadRequest("--patch goes with --against alone")
        _print_patch(session.client.patch(environment, against=against))
        return
    begin, most = offset or 0, PAGE if limit is None else limit
    if stat and not as_json:
        begin = most = 0  # all is counted, whatever the page has
    result = session.client.diff(
        environment, against=against, service=service, offset=begin, limit=most, rows=not no_rows, text=not stat
    )

    def render() -> None:
        if stat:
            tables.page(*differences.stat_lines(result))
        else:
            sample = stores.SAMPLE if offset is None and limit is None else None
            tables.page(*differences.lines(result, begin + most, sample=sample))

    session.show(result, render)


def _print_patch(patch: bytes) -> None:
    """As it is, for whoever applies it; for a terminal with its control characters made visible."""
    if sys.stdout.isatty():
        tables.page(*text.lines(patch.decode(errors="backslashreplace")))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(patch)

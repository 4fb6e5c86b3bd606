"""wye log, show: what was done to an environment, by whom and when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

import typer
from rich.text import Text

from wye.api import wire
from wye.cli import outcome, words
from wye.cli.session import Entry, Environment, Json, session_of
from wye.cli.tables import coloured, page, show, table
from wye.errors import CheckFailed

_UNSAID = {"evidence", "source_id"}
"""Arguments for programs: the object that a merge's evidence is kept in (`show` has what is in it), an id."""

_ID = re.compile(r"[0-9a-f]{64}")


def log(
    context: typer.Context,
    environment: Environment = "production",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="At most so many.")] = 50,
    verify: Annotated[bool, typer.Option("--verify", help="Recompute the hash of every link of the ledger.")] = False,
    as_json: Json = False,
) -> None:
    """Show the ledger of an environment, newest first; of a discarded one too."""
    session = session_of(context)
    result = session.client.log(environment, limit=limit, verify=verify)
    session.show(result, lambda: render(result))
    if result.verified is False:
        raise typer.Exit(CheckFailed.exit_code)


def render(result: wire.LogResult) -> None:
    show(
        table(
            ("ENTRY", "WHEN", "VERB", "BY", "REVISION", "WHAT"),
            (
                (
                    words.short(entry.id),
                    words.moment(entry.at),
                    entry.verb,
                    entry.actor,
                    words.short(entry.revision),
                    entry.message or arguments(entry.arguments),
                )
                for entry in result.entries
            ),
        )
    )
    if result.verified is not None:
        word = "ok" if result.verified else "failure"
        said = "the ledger holds, down to its first entry" if result.verified else result.problem
        show(Text.assemble(coloured(word), f": {words.harmless(said)}; head {result.head}"))


def show_(
    context: typer.Context,
    entry: Entry,
    as_json: Json = False,
) -> None:
    """Show one entry of a ledger in full; of a merge also what was merged, its checks and what they said."""
    session = session_of(context)
    result = session.client.show(entry)
    session.show(result, lambda: render_entry(result))


def render_entry(entry: wire.EntryView) -> None:
    lines = [
        ("entry", entry.id),
        ("previous", entry.previous or ""),
        ("environment", entry.environment),
        ("verb", entry.verb),
        ("by", entry.actor),
        ("when", f"{words.moment(entry.at)} ({words.exact_moment(entry.at)})"),
        ("revision", entry.revision),
        ("source", entry.source or ""),
        ("message", entry.message),
        *((key, value) for key, value in entry.arguments.items() if key not in _UNSAID),
    ]
    head = [
        Text.assemble((f"{words.harmless(name):<12} ", "bold"), words.harmless(value)) for name, value in lines if value
    ]
    page(*head, *(("", *outcome.evidence_lines(entry.evidence)) if entry.evidence else ()))


def arguments(given: Mapping[str, str]) -> str:
    """In a line, as far as people want to know: ids cut short."""
    return " ".join(
        f"{key}={words.short(value) if _ID.fullmatch(value) else value}"
        for key, value in given.items()
        if value and key not in _UNSAID
    )

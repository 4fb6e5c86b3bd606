"""wye doctor: what this machine can do, what is missing, and the fix."""

from __future__ import annotations

import typer
from rich.text import Text

from wye.api import wire
from wye.cli import words
from wye.cli.session import Json, session_of
from wye.cli.tables import coloured, show


def doctor(context: typer.Context, as_json: Json = False) -> None:
    """Check this machine: what works, what works less well, what is missing and how to get it. 1 if something fails."""
    session = session_of(context)
    found = session.client.doctor()
    session.show_all(found, lambda: show(*(line for finding in found for line in lines(finding))))
    if any(finding.level == "failure" for finding in found):
        raise typer.Exit(1)


def lines(finding: wire.Finding) -> list[Text]:
    said = words.harmless(f"{finding.subject}: {finding.text}")
    told = [Text.assemble(coloured(f"{finding.level:<8}", finding.level), f" {said}")]
    if finding.fix:
        told.append(Text(f"         fix: {words.harmless(finding.fix)}"))
    return told

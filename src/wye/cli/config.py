"""wye config: the compose file as wye understands it."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from wye.cli import words
from wye.cli.session import Json, note, say, session_of
from wye.cli.up import Directory, EnvFile, Files, Lenient, Profiles, Project


def config(
    context: typer.Context,
    directory: Directory = Path(),
    file: Files = None,
    env_file: EnvFile = None,
    profile: Profiles = None,
    project_name: Project = None,
    lenient: Lenient = False,
    as_json: Json = False,
) -> None:
    """Show the compose file as wye understands it, normalised. Changes nothing."""
    session = session_of(context)
    result = session.client.config(
        directory,
        files=file or (),
        env_file=env_file,
        profiles=profile or (),
        project=project_name,
        lenient=lenient,
    )

    def render() -> None:
        for notice in result.notices:
            note(f"note: {words.harmless(notice)}")
        say(json.dumps(result.spec, indent=2, ensure_ascii=False))

    session.show(result, render)

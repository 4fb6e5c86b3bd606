"""wye up: bring an environment to what its compose file says."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from wye.api import wire
from wye.cli import environments, words
from wye.cli.session import Environment, Json, note, session_of
from wye.cli.tables import coloured, show, table

Directory = Annotated[Path, typer.Option("--directory", "-C", help="Where the compose file is.")]
Files = Annotated[
    list[str] | None, typer.Option("--file", "-f", help="Compose file; several are merged, later ones win.")
]
EnvFile = Annotated[str | None, typer.Option("--env-file", help="Variables for ${...}, instead of .env.")]
Profiles = Annotated[list[str] | None, typer.Option("--profile", help="Also services of this profile.")]
Project = Annotated[str | None, typer.Option("--project-name", "-p", help="Name of the project.")]
Lenient = Annotated[bool, typer.Option("--lenient", help="Warn of unknown keys instead of refusing them.")]


def up(
    context: typer.Context,
    environment: Environment = "production",
    directory: Directory = Path(),
    file: Files = None,
    env_file: EnvFile = None,
    profile: Profiles = None,
    project_name: Project = None,
    lenient: Lenient = False,
    pull: Annotated[bool, typer.Option("--pull", help="Fetch images again even if they are here.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when every service is ready.")] = True,
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait for that.")] = 120.0,
    as_json: Json = False,
) -> None:
    """Bring an environment up, or to what its compose file says now; changes only what differs."""
    session = session_of(context)
    began = time.monotonic()
    result = session.watch(
        "up",
        lambda progress: session.client.up(
            directory,
            name=environment,
            files=file or (),
            env_file=env_file,
            profiles=profile or (),
            project=project_name,
            lenient=lenient,
            pull=pull,
            wait=wait,
            wait_timeout_s=timeout,
            progress=progress,
        ),
    )
    session.show(result, lambda: render(result, time.monotonic() - began))


def render(result: wire.UpResult, seconds: float) -> None:
    for notice in result.notices:
        note(f"note: {words.harmless(notice)}")
    show(table(("SERVICE", "WHAT"), ((name, coloured(what)) for name, what in result.changes.items())))
    if result.environment.ports:
        show("", environments.ports_of([result.environment]))
    show("", f"{result.environment.name} is up, in {words.duration(seconds)} ({environments.steps(result.steps)})")

"""wye exec, shell: a command inside an environment."""

from __future__ import annotations

import json
import os
from typing import Annotated, Any

import typer

from wye.api.process import ExecResult
from wye.cli import terminal
from wye.cli.session import INTERRUPTED, Environment, Json, Session, say, session_of
from wye.errors import BadRequest

Service = Annotated[
    str | None, typer.Option("--service", "-s", help="In this service's container; else in the environment's shell.")
]
Variables = Annotated[list[str] | None, typer.Option("--env", "-e", help="KEY=VALUE, or KEY with its value here.")]
User = Annotated[str | None, typer.Option("--user", "-u", help="As this user: name or id, also with :group.")]
WorkingDirectory = Annotated[str | None, typer.Option("--workdir", "-w", help="In this directory.")]


def exec_(
    context: typer.Context,
    environment: Environment,
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="What to run.")],
    service: Service = None,
    env: Variables = None,
    user: User = None,
    workdir: WorkingDirectory = None,
    interactive: Annotated[
        bool | None,
        typer.Option(
            "--interactive/--no-stdin", "-i/-n", help="Pass on stdin; by itself if it is piped, or with a terminal."
        ),
    ] = None,
    tty: Annotated[
        bool | None, typer.Option("--tty/--no-tty", "-t/-T", help="With a terminal; by itself where there is one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a command in an environment; exits as it does. Options come before ENVIRONMENT.

    wye exec -s db fix-1 -- psql -U shop -c 'drop table orders'"""
    session = session_of(context)
    options: dict[str, Any] = {"service": service, "env": _variables(env or []), "user": user, "working_dir": workdir}
    if session.json:
        with session.client as client:
            result = client.exec(environment, _without_dashes(command), **options)
        say(as_document(result))
        raise typer.Exit(result.exit_code)
    with_tty = terminal.is_terminal() if tty is None else tty
    # A keyboard that is not passed on as a terminal stays with whoever else reads it: `wye exec ... | less`.
    stdin = with_tty or not terminal.has_keyboard() if interactive is None else interactive
    raise typer.Exit(_run(session, environment, _without_dashes(command), options, stdin=stdin, tty=with_tty))


def shell(
    context: typer.Context,
    environment: Environment = "production",
    service: Service = None,
    user: User = None,
) -> None:
    """Open a shell in an environment: bash, or sh where a service has no bash."""
    command = ["sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash; exec sh"]
    options: dict[str, Any] = {"service": service, "user": user}
    tty = terminal.is_terminal()
    raise typer.Exit(_run(session_of(context), environment, command, options, stdin=True, tty=tty))


def _run(
    session: Session, environment: str, command: list[str], options: dict[str, Any], *, stdin: bool, tty: bool
) -> int:
    stdin = stdin and terminal.has_stdin()
    rows, columns = terminal.size()
    if tty:
        options["env"] = {"TERM": os.environ.get("TERM", "xterm"), **(options.get("env") or {})}
    process = session.client.exec_stream(
        environment, command, stdin=stdin, tty=tty, rows=rows, columns=columns, **options
    )
    try:
        with process:
            return terminal.join(process, stdin=stdin, tty=tty)
    except KeyboardInterrupt:
        return INTERRUPTED


def as_document(result: ExecResult) -> str:
    """What is not UTF-8 is replaced; who needs the bytes leaves out --json."""
    return json.dumps(
        {
            "exit_code": result.exit_code,
            "stdout": result.stdout.decode(errors="replace"),
            "stderr": result.stderr.decode(errors="replace"),
        }
    )


def _variables(given: list[str]) -> dict[str, str]:
    variables = {}
    for each in given:
        key, separator, value = each.partition("=")
        if not key:
            raise BadRequest(f"{each!r} names no variable", hint="--env KEY=VALUE, or --env KEY")
        if separator or key in os.environ:
            variables[key] = value if separator else os.environ[key]
    return variables


def _without_dashes(command: list[str]) -> list[str]:
    """`wye exec fix-1 -- psql`: options end at the environment already, so the dashes are still there."""
    return command[1:] if command[:1] == ["--"] else command

"""The command line's entry: every command under its name, and what is the same for all.

Exit codes: 0; that of the process for exec; 130 after Ctrl-C; else those of `wye.errors` (docs/cli.md has the list).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from wye.cli import (
    collect,
    config,
    conflicts,
    diff,
    discard,
    doctor,
    down,
    events,
    execute,
    fork,
    log,
    logs,
    merge,
    ports,
    ps,
    rename,
    restore,
    revert,
    services,
    sleep,
    snapshot,
    up,
    update,
    version,
)
from wye.cli.daemon import daemon
from wye.cli.session import Session, session_of
from wye.errors import WyeError

app = typer.Typer(
    name="wye",
    help="git for running production: fork a whole live environment, see what changed, merge it back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PANELS: dict[str, dict[str, Callable[..., None]]] = {
    "Environments": {
        "up": up.up,
        "down": down.down,
        "ps": ps.ps,
        "start": services.start,
        "stop": services.stop,
        "restart": services.restart,
        "config": config.config,
    },
    "Forks": {
        "fork": fork.fork,
        "discard": discard.discard,
        "sleep": sleep.sleep,
        "wake": sleep.wake,
        "rename": rename.rename,
    },
    "Merging": {
        "diff": diff.diff,
        "merge": merge.merge,
        "conflicts": conflicts.conflicts,
        "revert": revert.revert,
        "update": update.update,
    },
    "History": {
        "snapshot": snapshot.snapshot,
        "restore": restore.restore,
        "log": log.log,
        "show": log.show_,
    },
    "Inside": {
        "exec": execute.exec_,
        "shell": execute.shell,
        "logs": logs.logs,
        "port": ports.port,
        "url": ports.url,
    },
    "Machine": {
        "events": events.events,
        "doctor": doctor.doctor,
        "collect": collect.collect,
        "version": version.version,
    },
}
_AS_GIVEN = {"exec": {"allow_interspersed_args": False}}
"""Everything after the environment belongs to the command that is run."""

for panel, commands in PANELS.items():
    for name, command in commands.items():
        app.command(name, rich_help_panel=panel, context_settings=_AS_GIVEN.get(name))(command)
app.add_typer(daemon, rich_help_panel="Machine")


def _say_what_options_take(command: Any) -> None:
    """In help: nothing for a flag, else its name. By itself typer shows types of Python: <bool>, <list[str]>."""
    context = typer.Context(command, help_option_names=["-h", "--help"])
    for each in (command, *getattr(command, "commands", {}).values()):
        for param in (*each.params, each.get_help_option(context)):
            if param.param_type_name == "argument":
                param.display_type_rich = lambda ctx: ""
            if getattr(param, "is_flag", False):
                param.metavar = ""
            elif param.metavar is None:
                param.metavar = param.name.upper().replace("_", "-")
        if each is not command and hasattr(each, "commands"):
            _say_what_options_take(each)


@app.callback()
def options(
    context: typer.Context,
    address: Annotated[
        str | None,
        typer.Option("--address", help="Where the daemon listens: unix:///path or http://host:port.", metavar="URL"),
    ] = None,
) -> None:
    """git for running production: fork a whole live environment, see what changed, merge it back."""
    session_of(context).address = address


def main() -> None:
    session = Session()
    command = typer.main.get_command(app)
    _say_what_options_take(command)
    try:
        command(obj=session, prog_name="wye")
    except WyeError as error:
        session.fail(error)
        sys.exit(error.exit_code)

"""Every command under its name, and what is the same for all.

Exit codes: 0; that of the process for exec; 130 after Ctrl-C; else those of `wye.errors` (docs/cli.md has the list).
"""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from wye import __version__
from wye.cli.session import Session, session_of
from wye.errors import WyeError

PANELS: dict[str, dict[str, str]] = {
    "Environments": {
        "up": "up:up",
        "down": "down:down",
        "ps": "ps:ps",
        "start": "services:start",
        "stop": "services:stop",
        "restart": "services:restart",
        "config": "config:config",
    },
    "Forks": {
        "fork": "fork:fork",
        "discard": "discard:discard",
        "sleep": "sleep:sleep",
        "wake": "sleep:wake",
        "rename": "rename:rename",
    },
    "Merging": {
        "diff": "diff:diff",
        "merge": "merge:merge",
        "conflicts": "conflicts:conflicts",
        "revert": "revert:revert",
        "update": "update:update",
    },
    "History": {
        "snapshot": "snapshot:snapshot",
        "restore": "restore:restore",
        "log": "log:log",
        "show": "log:show_",
    },
    "Inside": {
        "exec": "execute:exec_",
        "shell": "execute:shell",
        "logs": "logs:logs",
        "port": "ports:port",
        "url": "ports:url",
    },
    "Machine": {
        "events": "events:events",
        "doctor": "doctor:doctor",
        "collect": "collect:collect",
        "version": "version:version",
        "daemon": "daemon:daemon",
    },
}
"""Where each command is, below `wye.cli`: "module:function", or for a command that has commands an app of typer's. A
module is imported when its command is named, or all are listed: importing all takes longer than most verbs."""

_AS_GIVEN = {"exec": {"allow_interspersed_args": False}}
"""Everything after the environment belongs to the command that is run."""


class Commands(TyperGroup):
    """The commands of `PANELS`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = cast("Any", _Named())


class _Named(Mapping[str, Any]):
    """Its names are known at once; of what they mean only what is asked for is imported."""

    def __init__(self) -> None:
        self._panels = {name: panel for panel, commands in PANELS.items() for name in commands}

    def __getitem__(self, name: str) -> TyperCommand | TyperGroup:
        return _command(name, self._panels[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._panels)

    def __len__(self) -> int:
        return len(self._panels)


def _command(name: str, panel: str) -> TyperCommand | TyperGroup:
    module, _, attribute = PANELS[panel][name].partition(":")
    found = getattr(importlib.import_module(f"wye.cli.{module}"), attribute)
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(add_completion=False)
        alone.command(name, rich_help_panel=panel, context_settings=_AS_GIVEN.get(name))(found)
        found = alone
    made = cast("TyperCommand | TyperGroup", typer.main.get_command(found))
    made.rich_help_panel = panel
    _say_what_options_take(made)
    return made


app = typer.Typer(
    name="wye",
    cls=Commands,
    help="git for running production: fork a whole live environment, see what changed, merge it back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_what_options_take(command: Any) -> None:
    """In help: nothing for a flag, else its name. By itself typer shows types of Python: <bool>, <list[str]>."""
    context = typer.Context(command, help_option_names=["-h", "--help"])
    inside = {} if isinstance(command, Commands) else getattr(command, "commands", {})
    for each in (command, *inside.values()):
        for param in (*each.params, each.get_help_option(context)):
            if param.param_type_name == "argument":
                param.type = copy.copy(param.type)
                param.type.get_metavar = lambda param, ctx: ""
                if param.nargs == -1:
                    param.make_metavar = _several(param.make_metavar)
            if getattr(param, "is_flag", False):
                param.metavar = ""
            elif param.metavar is None:
                param.metavar = param.name.upper().replace("_", "-")
        if each is not command and hasattr(each, "commands"):
            _say_what_options_take(each)


def _several(make_metavar: Callable[..., str]) -> Callable[..., str]:
    return lambda ctx, usage=False: f"{make_metavar(ctx, usage=usage)}{'...' if usage else ''}"


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"wye {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    address: Annotated[
        str | None,
        typer.Option("--address", help="Where the daemon listens: unix:///path or http://host:port.", metavar="URL"),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version of wye here.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """git for running production: fork a whole live environment, see what changed, merge it back."""
    session_of(context).address = address


def run() -> None:
    """Carries out what the arguments of this process ask for. Ends it with an exit code of its own."""
    session = Session()
    command = typer.main.get_command(app)
    _say_what_options_take(command)
    try:
        command(obj=session, prog_name="wye")
    except WyeError as error:
        session.fail(error)
        sys.exit(error.exit_code)

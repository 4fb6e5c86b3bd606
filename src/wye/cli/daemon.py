"""wye daemon status, install: the process behind all this."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from wye.api.client import connect
from wye.api.start import install_unit, unit_text
from wye.cli.session import Json, say, session_of

daemon = typer.Typer(name="daemon", help="The daemon: its state, and its systemd unit.", no_args_is_help=True)


@daemon.command()
def status(context: typer.Context, as_json: Json = False) -> None:
    """Tell whether the daemon answers, its version, and what it holds. Starts none."""
    session = session_of(context)
    with connect(session.address, may_start=False) as client:
        version, found = client.version(), client.environments()
        awake = sum(environment.awake for environment in found)
        facts = {
            "address": client.address,
            "version": version.version,
            "api": version.api,
            "environments": len(found),
            "awake": awake,
        }
    if session.json:
        say(json.dumps(facts))
    else:
        say(f"wye {version.version} answers at {client.address}: {len(found)} environments, {awake} awake")


@daemon.command()
def install(
    context: typer.Context,
    show: Annotated[bool, typer.Option("--print", help="Only print the unit.")] = False,
) -> None:
    """Have systemd start the daemon with the machine, and again if it dies."""
    if show:
        say(unit_text().rstrip("\n"))
    elif install_unit():
        say("wye.service is installed, enabled and started")
    else:
        say("wye.service is written; systemd does not run here, so until it does the first 'wye' starts the daemon")

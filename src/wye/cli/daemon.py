"""wye daemon status, install, uninstall: the process behind all this."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from wye.api import start
from wye.api.client import connect
from wye.api.start import install_unit, unit_text
from wye.api.transport import NotListening
from wye.cli.session import Json, note, say, session_of
from wye.errors import BadRequest, Denied

daemon = typer.Typer(
    name="daemon", help="The daemon: its state, and its systemd unit.", no_args_is_help=True, add_completion=False
)


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
    as_json: Json = False,
) -> None:
    """Have systemd start the daemon with the machine, and again if it dies."""
    started = not show and install_unit()
    if as_json:
        say(json.dumps({"unit": str(start.UNIT), "text": unit_text(), "written": not show, "started": started}))
    elif show:
        say(unit_text().rstrip("\n"))
    elif started:
        say("wye.service is installed, enabled and started")
    else:
        say("wye.service is written; systemd does not run here, so until it does the first 'wye' starts the daemon")


@daemon.command()
def uninstall(
    yes: Annotated[bool, typer.Option("--yes", help="Yes, remove it.")] = False,
    discard_everything: Annotated[
        bool, typer.Option("--discard-everything", help="All environments and their data, too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Stop the daemon and remove all that it has on this machine. Packages, and your configuration, stay."""
    run = Path(os.environ.get("WYE_RUN") or start.RUN)
    if os.geteuid() != 0:
        raise Denied("only root can remove the daemon", hint="run it with sudo")
    if not yes:
        raise BadRequest("this removes the daemon, its pool and its images", hint="if you want that, say --yes")
    try:
        with connect(f"unix://{run / start.SOCKET}", may_start=False) as client:
            names = sorted(environment.name for environment in client.environments())
    except NotListening:
        names = []  # the daemon's own program looks again
    if names and not discard_everything:
        raise Denied(
            f"there are environments: {', '.join(names[:20])}",
            hint="discard them first, or say --discard-everything: their data is then gone for good",
        )
    note("stopping the daemon and removing what it has")
    start.uninstall(run, discard_everything=discard_everything)
    say(json.dumps({"removed": True}) if as_json else "all gone; packages and /etc/wye stay")

"""wye version: of this client, and of the daemon if one answers."""

from __future__ import annotations

import json

import typer

from wye import __version__
from wye.api.client import connect
from wye.cli.session import Json, say, session_of
from wye.errors import WyeError


def version(context: typer.Context, as_json: Json = False) -> None:
    """Show the version of wye here, and of the daemon if one answers. Starts none."""
    session = session_of(context)
    try:
        with connect(session.address, may_start=False) as client:
            there, why = client.version().version, ""
    except WyeError as error:
        there, why = None, error.message
    if session.json:
        say(json.dumps({"client": __version__, "daemon": there}))
        return
    say(f"wye {__version__}")
    say(f"daemon {there}" if there else f"daemon: {why}")

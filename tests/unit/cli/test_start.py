"""A command starts with what it needs and no more: what it imports is most of what a quick one takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"pydantic", "rich", "yaml", "websockets", "asyncio", "wye.model", "wye.api.wire.shape"}


@pytest.mark.parametrize("command", ["version", "exec"])
def test_nothing_heavy_is_imported_before_the_daemon_is_asked(command: str) -> None:
    program = (
        "import sys, typer; from wye.cli.main import app; typer.main.get_command(app).commands[sys.argv[1]];"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, command], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())

"""A command starts with what it needs and no more: what it imports is most of what a quick one takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

import wye

HEAVY = {"pydantic", "rich", "yaml", "websockets", "asyncio", "wye.model", "wye.api.wire.shape"}


@pytest.mark.parametrize("command", ["version", "exec", "ps", "diff"])
def test_nothing_heavy_is_imported_before_the_daemon_is_asked(command: str) -> None:
    program = (
        "import sys, typer; from wye.cli.commands import app; typer.main.get_command(app).commands[sys.argv[1]];"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, command], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_the_version_is_told_without_a_daemon() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from wye.cli.main import main; main()", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"wye {wye.__version__}\n"

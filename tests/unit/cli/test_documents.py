"""The documents say what the program does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wye.cli.commands import PANELS
from wye.daemon.routes import schema
from wye.errors import Exhausted, WyeError

DOCS = Path(__file__).parents[3] / "docs"


def test_openapi_is_what_the_routes_are() -> None:
    written = json.loads((DOCS / "openapi.json").read_text())
    assert written == schema(), "run: python -m wye.daemon.routes > docs/openapi.json"


@pytest.mark.parametrize("command", [name for panel in PANELS.values() for name in panel])
def test_every_command_is_described(command: str) -> None:
    table = (DOCS / "cli.md").read_text().split("### exec")[0]
    assert f"`wye {command}" in table


@pytest.mark.parametrize("branch", [*WyeError.__subclasses__(), Exhausted], ids=lambda branch: branch.__name__)
def test_every_exit_code_is_described(branch: type[WyeError]) -> None:
    if branch.__module__ == "wye.errors":
        assert f"| `{branch.code}` |" in next(
            line for line in (DOCS / "cli.md").read_text().splitlines() if line.startswith(f"| {branch.exit_code} |")
        )

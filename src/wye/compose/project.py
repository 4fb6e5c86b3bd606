"""Which project it is: its files, its variables, its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wye.compose import dotenv
from wye.compose.at import At
from wye.compose.document import is_text, parse
from wye.compose.files import NAMES, OVERRIDES, exists, read_text, shown, top
from wye.compose.findings import Findings
from wye.compose.interpolate import interpolate
from wye.compose.nodes import Origin, Table
from wye.errors import BadRequest, NotFound
from wye.model import is_name

_UNFIT = re.compile(r"[^a-z0-9_-]+")
_LONGEST = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What the caller knows of a project. Paths are absolute, or relative to `directory`."""

    directory: Path
    files: tuple[Path, ...] = ()
    """Empty: compose.yaml, or one of its older names, with its override file."""
    environment: dict[str, str] = field(default_factory=dict)
    """The caller's shell variables. This room never reads the process's own."""
    env_file: Path | None = None
    """None: `.env` in the directory, if there is one."""
    profiles: frozenset[str] = frozenset()
    project: str | None = None
    """None: COMPOSE_PROJECT_NAME, else `name:` of the file, else the directory's name made valid."""


def variables_of(source: Source) -> dict[str, str]:
    """The shell's variables over those of the env file. What is not text in the shell counts as not set.

    Raises ComposeError."""
    path = source.directory / source.env_file if source.env_file is not None else source.directory / ".env"
    shell = {name: value for name, value in source.environment.items() if is_text(name + value)}
    if source.env_file is None and not exists(path):
        return shell
    text = read_text(path, top(path, source.directory), what="the env file")
    origin = Origin(path, shown(path, source.directory), source.directory, shell)
    return {**dotenv.parse(text, origin), **shell}


def files_of(source: Source, variables: Mapping[str, str], findings: Findings) -> tuple[Path, ...]:
    """The compose files, the last the strongest. Raises NotFound if there are none."""
    if source.files:
        return tuple(source.directory / path for path in source.files)
    if variables.get("COMPOSE_FILE"):
        separator = variables.get("COMPOSE_PATH_SEPARATOR") or ":"
        return tuple(source.directory / name for name in variables["COMPOSE_FILE"].split(separator) if name)
    found = [name for name in NAMES if exists(source.directory / name)]
    if not found:
        raise NotFound(
            f"there is no compose file in {source.directory}",
            hint=f"make a {NAMES[0]}, or name a file with --file",
        )
    chosen = found[:1] + [name for name in OVERRIDES if exists(source.directory / name)][:1]
    if len(found) > 1:
        path = source.directory / found[0]
        at = At(found[0], Table({}, top(path, source.directory)), top(path, source.directory))
        findings.warn(at, f"is used; {', '.join(found[1:])} in the same directory is not")
    return tuple(source.directory / name for name in chosen)


def name_of(source: Source, files: tuple[Path, ...], variables: Mapping[str, str]) -> str:
    """The project's name. Raises ComposeError for one that was given and is not valid."""
    if source.project is not None:
        return _valid(source.project)
    if variables.get("COMPOSE_PROJECT_NAME"):
        return _valid(variables["COMPOSE_PROJECT_NAME"])
    named: At | None = None
    for path in files:
        text = read_text(path, top(path, source.directory), what="the compose file")
        for document in parse(text, Origin(path, shown(path, source.directory), source.directory, variables)):
            if isinstance(document, Table) and "name" in document.entries:
                alone = Table({"name": document.entries["name"]}, document.mark)
                named = At("", interpolate(alone, variables, lambda at, name: None), document.mark).child("name")
    if named is None:
        return made_valid(source.directory.name)
    name = named.filled()
    if not is_name(name):
        raise named.error(f'"{name}" cannot name a project', hint=f"write {made_valid(name)}")
    return name


def _valid(name: str) -> str:
    if not is_name(name):
        raise BadRequest(f'"{name}" cannot name a project', hint=f"write {made_valid(name)}")
    return name


def made_valid(text: str) -> str:
    """The nearest valid name: "My Shop" → "my-shop"."""
    return _UNFIT.sub("-", text.lower()).strip("-_")[:_LONGEST].strip("-_") or "project"

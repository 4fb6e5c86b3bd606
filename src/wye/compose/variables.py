"""A service's environment: `env_file`, then `environment` over it.

A key without a value takes the caller's, and is left out if the caller has none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from wye.compose import dotenv
from wye.compose.at import At, Fields
from wye.compose.files import exists, read_text, shown
from wye.compose.findings import Findings
from wye.compose.keys import fields
from wye.compose.nodes import Items, Origin

_NAME = re.compile(r"[^=\x00]+")


def read_environment(service: Fields, findings: Findings, project_directory: Path) -> dict[str, str]:
    """All variables that the service starts with, over those of its image. Raises ComposeError."""
    found: dict[str, str] = {}
    env_file = service.get("env_file")
    if env_file is not None:
        for item in env_file.items() if isinstance(env_file.node, Items) else (env_file,):
            found |= _env_file(item, found, findings, project_directory)
    environment = service.get("environment")
    for name, (at, value) in environment.pairs().items() if environment is not None else ():
        if not _NAME.fullmatch(name):
            raise at.error(f'"{name}" cannot be the name of a variable')
        outside = at.node.mark.origin.variables.get(name) if value is None else value
        if outside is None:
            found.pop(name, None)
        else:
            found[name] = outside
    return found


def _env_file(at: At, before: Mapping[str, str], findings: Findings, project_directory: Path) -> dict[str, str]:
    required, raw, named = True, False, at
    if not at.is_text:
        known = fields(at, ("path", "required", "format"), findings)
        named = known.required("path")
        required = known.boolean("required", True)
        form = known.get("format")
        if form is not None and form.string() not in ("raw", ""):
            raise form.error(f'"{form.string()}" is not a format', hint="the only one is raw")
        raw = form is not None and form.string() == "raw"
    outer = named.node.mark.origin
    path = outer.directory / named.filled()
    if not required and not exists(path):
        return {}
    text = read_text(path, named, what="the env file", hint="make it, or write required: false")
    origin = Origin(path, shown(path, project_directory), outer.directory, {**before, **outer.variables})
    return dotenv.parse(text, origin, raw=raw)


def plain_pairs(at: At) -> dict[str, str]:
    """A mapping or a list of `KEY=VALUE` whose missing values are empty: labels."""
    return {name: value or "" for name, (_, value) in at.pairs().items()}


def resolved_pairs(at: At) -> dict[str, str]:
    """A mapping or a list of `KEY=VALUE` whose missing values are the caller's: build arguments."""
    found: dict[str, str] = {}
    for name, (item, value) in at.pairs().items():
        given = item.node.mark.origin.variables.get(name) if value is None else value
        if given is not None:
            found[name] = given
    return found

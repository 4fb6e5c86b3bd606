"""Bind mounts → imported volumes.

A fork must not share files with its source, so a bind mount's bytes are taken into the environment. All services that
bind one place share one volume, named after it. Sources that belong to the machine itself are refused, and so is
anything that is neither a file nor a directory. The bytes are copied later, by the engine.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from wye.compose.at import At
from wye.compose.document import is_text
from wye.compose.findings import Findings
from wye.compose.machine import why_not
from wye.model import Volume

_NOT_SLUG = re.compile(r"[^a-z0-9]+")
_SLUG_LENGTH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """A bind mount as it will be taken in: `volume` is its key in `Spec.volumes`."""

    volume: str
    path: str
    single_file: bool
    services: tuple[str, ...]


def volume_name(path: str) -> str:
    """The volume that holds `path`: readable, and different for different paths."""
    slug = _NOT_SLUG.sub("-", path.rsplit("/", 1)[-1].lower()).strip("-")[:_SLUG_LENGTH].strip("-") or "root"
    return f"bind-{slug}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"


class Imports:
    """The bind mounts of one load."""

    def __init__(self, findings: Findings, home: str | None) -> None:
        self._findings = findings
        self._home = home
        self._found: dict[str, Import] = {}

    def volumes(self) -> dict[str, Volume]:
        return {
            name: Volume(name=name, imported_from=entry.path, single_file=entry.single_file)
            for name, entry in self._found.items()
        }

    def all(self) -> tuple[Import, ...]:
        return tuple(self._found[name] for name in sorted(self._found))

    def add(self, at: At, source: str, service: str) -> str | None:
        """The volume for `source`, as written at `at`; None if it was refused leniently. Raises ComposeError."""
        path = self._absolute(at, source)
        reason = why_not(path)
        if reason is not None:
            self._findings.refuse(at, f"{reason} and cannot be imported")
            return None
        real = Path(os.path.realpath(path))
        if not is_text(str(real)):
            raise at.error("the bind mount's source leads to a path that is not UTF-8")
        single_file = _is_file(at, real)
        name = volume_name(str(real))
        known = self._found.get(name)
        if known is None:
            self._findings.imported(
                at, f"{real} is imported into the environment; later changes of it are taken in by the next 'up'"
            )
        services = known.services if known is not None else ()
        services = services if service in services else (*services, service)
        self._found[name] = Import(volume=name, path=str(real), single_file=single_file, services=services)
        return name

    def _absolute(self, at: At, source: str) -> str:
        if source == "~" or source.startswith("~/"):
            if not self._home:
                raise at.error(f'"{source}" needs HOME, which is not set', hint="write an absolute path")
            source = f"{self._home}{source[1:]}"
        return os.path.normpath(at.node.mark.origin.directory / source)


def _is_file(at: At, path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        hint = f"make it first: mkdir -p {path}"
        raise at.error(f"the bind mount's source {path} is not there", hint=hint) from None
    except (OSError, ValueError) as error:
        raise at.error(f"the bind mount's source cannot be looked at: {error}") from error
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise at.error(f"{path} is neither a file nor a directory and cannot be imported")
    return stat.S_ISREG(mode)

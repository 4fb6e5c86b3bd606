"""`load`: the files of a project → a normalised `Spec`, with what the user should know about it.

This is the room's door. It gathers the files into one tree, reads the services whose profile is asked for, relates and
validates them, and assembles the spec. It reads files and nothing else: no process environment, no clock, no network;
it writes nothing. Everything wrong with the input is a ComposeError that names key, file and line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wye.compose.at import At, Fields
from wye.compose.findings import Findings, Notice
from wye.compose.gather import Gatherer
from wye.compose.imports import Import, Imports
from wye.compose.injected import Injected
from wye.compose.keys import TOP, fields, service_fields
from wye.compose.mounts import Mounts, read_volumes
from wye.compose.networks import read_networks
from wye.compose.project import Source, files_of, name_of, variables_of
from wye.compose.relations import relate
from wye.compose.service import Declared, Room, read_service
from wye.compose.settings import read_top
from wye.compose.validate import validate
from wye.model import ForkPolicy, Spec

__all__ = ["Import", "Loaded", "Notice", "Source", "load"]

_ALL_PROFILES = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A spec; what to tell the user about it; the bind mounts that are to be imported, by volume."""

    spec: Spec
    notices: tuple[Notice, ...]
    binds: tuple[Import, ...]


def load(source: Source, *, lenient: bool = False) -> Loaded:
    """Reads a project. Lenient: unknown and unsupported keys are left out with a notice instead of refused.

    Raises NotFound (no compose file) and ComposeError."""
    findings = Findings(lenient=lenient)
    variables = variables_of(source)
    files = files_of(source, variables, findings)
    project = name_of(source, files, variables)
    variables["COMPOSE_PROJECT_NAME"] = project
    tree = Gatherer(source.directory, findings).project(files, source.directory, variables)
    top = fields(At("", tree, tree.mark), (*TOP, "models", "jobs"), findings, own=True)
    for key in ("models", "jobs"):
        entry = top.get(key)
        if entry is not None and entry.entries():
            findings.refuse(entry, "is not supported")
    imports = Imports(findings, variables.get("HOME"))
    room = Room(
        project_directory=source.directory,
        findings=findings,
        mounts=Mounts(read_volumes(_section(top, "volumes"), findings), imports, findings),
        networks=read_networks(_section(top, "networks"), findings),
        secrets=Injected("secret", _section(top, "secrets"), findings),
        configs=Injected("config", _section(top, "configs"), findings),
    )
    declared, idle = _services(top, _profiles(source, variables), room)
    services = relate(declared, idle, findings)
    validate(services, declared)
    policy, settings = _settings(top, findings)
    for service in declared.values():
        settings |= service.settings
    spec = Spec(project=project, services=services, volumes=room.mounts.volumes(), fork=policy, settings=settings)
    return Loaded(spec=spec, notices=findings.notices, binds=imports.all())


def _section(top: Fields, name: str) -> Mapping[str, At]:
    at = top.get(name)
    return {} if at is None else at.entries()


def _settings(top: Fields, findings: Findings) -> tuple[ForkPolicy, dict[str, str]]:
    at = top.get("x-wye")
    return (ForkPolicy(), {}) if at is None or at.is_null else read_top(at, findings)


def _profiles(source: Source, variables: Mapping[str, str]) -> frozenset[str]:
    if source.profiles:
        return source.profiles
    return frozenset(name.strip() for name in variables.get("COMPOSE_PROFILES", "").split(",")) - {""}


def _services(top: Fields, profiles: frozenset[str], room: Room) -> tuple[dict[str, Declared], dict[str, At]]:
    """The services to run, and those whose profile is not asked for: of these only the keys are looked at."""
    at = top.get("services")
    if at is None or not at.entries():
        raise (at or top.at).error("there are no services", hint="services: {web: {image: ...}}")
    declared: dict[str, Declared] = {}
    idle: dict[str, At] = {}
    for name, entry in at.entries().items():
        if name.startswith("x-") and not {"image", "build"} & entry.entries().keys():
            continue
        wanted = entry.child("profiles")
        own = frozenset(item.filled() for item in wanted.strings()) if wanted is not entry else frozenset()
        if own and not own & profiles and _ALL_PROFILES not in profiles:
            service_fields(entry, Findings(lenient=room.findings.lenient))
            idle[name] = entry
        else:
            declared[name] = read_service(name, entry, room)
    if not declared:
        raise at.error("no service is active", hint="every service has a profile; activate one")
    return declared, idle

"""One service's mapping → `Service`, as far as it can be read on its own.

What depends on other services (links, volumes_from, implied dependencies) is added in `relations`.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
from dataclasses import dataclass
from pathlib import Path

from wye.compose import networks as nets
from wye.compose.at import At, Fields
from wye.compose.deploy import read_deploy
from wye.compose.files import exists
from wye.compose.findings import Findings
from wye.compose.health import read_healthcheck
from wye.compose.injected import Injected
from wye.compose.keys import fields, service_fields
from wye.compose.machine import why_not
from wye.compose.mounts import Mounts
from wye.compose.nodes import Items, Scalar
from wye.compose.ports import read_expose, read_ports
from wye.compose.references import hint_for, is_reference
from wye.compose.settings import read_service as read_settings
from wye.compose.variables import plain_pairs, read_environment, resolved_pairs
from wye.model import SHELL, Build, Condition, Dependency, Service, ServiceName

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")

_BUILD_KEYS = ("context", "dockerfile", "args", "target")
_BUILD_IDLE = (
    "cache_from", "cache_to", "extra_hosts", "isolation", "labels", "network", "no_cache", "no_cache_filter",
    "platforms", "provenance", "pull", "sbom", "shm_size", "tags", "ulimits",
)  # fmt: skip
_BUILD_REFUSED = ("dockerfile_inline", "additional_contexts", "secrets", "ssh", "privileged", "entitlements")
_PYTHON_PROJECT = ("requirements.txt", "pyproject.toml")
_REMOTE = re.compile(r"[a-z+]+://|git@|github\.com/")
_PULL = {"always": "always", "never": "never", "missing": "missing", "if_not_present": "missing", "build": "build"}
_PULL_OFTEN = re.compile(r"refresh|daily|weekly|every_(?:[0-9]+[wdhms])+")
_ULIMIT = re.compile(r"[a-z]+")
_CAPABILITY = re.compile(r"[A-Z][A-Z0-9_]*")
_SIGNALS = frozenset(number.name for number in signal.Signals)
_REALTIME = re.compile(r"SIGRT(?:MIN|MAX)(?:[-+][0-9]{1,2})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What all services of a load are read with."""

    project_directory: Path
    findings: Findings
    mounts: Mounts
    networks: nets.Networks
    secrets: Injected
    configs: Injected


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A service as read, with what relates it to others."""

    at: At
    service: Service
    links: tuple[tuple[str, str], ...]
    """(service, alias)."""
    volumes_from: tuple[tuple[str, bool], ...]
    """(service, read-only)."""
    settings: dict[str, str]


def read_service(name: str, at: At, room: Room) -> Declared:
    """Raises ComposeError."""
    check_name(name, at)
    known = service_fields(at, room.findings)
    deploy = read_deploy(known, room.findings)
    mode = known.read("network_mode", lambda entry: nets.read_mode(entry, room.findings))
    if mode is not None and known.get("networks") is not None:
        raise known.required("network_mode").error("cannot be used together with networks")
    endpoint = nets.read_endpoint(known.get("networks"), room.networks, room.findings)
    egress, settings = _settings(known, name, room.findings)
    _check_logging(known.get("logging"), room.findings)
    container_name = known.get("container_name")
    own_alias = (nets.host_name(container_name),) if container_name is not None else ()
    service = Service(
        name=ServiceName(name),
        image=known.read("image", _image),
        build=known.read("build", lambda entry: _build(entry, room.findings)),
        pull_policy=known.read("pull_policy", lambda entry: _pull_policy(entry, room.findings)) or "missing",
        platform=known.filled("platform"),
        command=known.read("command", words),
        entrypoint=known.read("entrypoint", words),
        environment=read_environment(known, room.findings, room.project_directory),
        working_dir=known.read("working_dir", _absolute),
        user=known.filled("user"),
        group_add=known.read("group_add", lambda entry: tuple(item.number_text() for item in entry.items())) or (),
        hostname=known.read("hostname", nets.host_name),
        aliases=tuple(dict.fromkeys(alias for alias in (*own_alias, *endpoint.aliases) if alias != name)),
        labels=known.read("labels", plain_pairs) or {},
        mounts=room.mounts.read(name, known.get("volumes"), known.get("tmpfs")),
        files=(*room.secrets.read(known.get("secrets")), *room.configs.read(known.get("configs"))),
        ports=known.read("ports", lambda entry: read_ports(entry, room.findings)) or (),
        expose=known.read("expose", read_expose) or (),
        depends_on=known.read("depends_on", lambda entry: _depends_on(entry, room.findings)) or {},
        healthcheck=known.read("healthcheck", lambda entry: read_healthcheck(entry, room.findings)),
        restart=deploy.restart,
        limits=deploy.limits,
        stop_signal=known.read("stop_signal", _signal),
        stop_grace_s=known.duration("stop_grace_period", 10.0),
        init=known.boolean("init"),
        tty=known.boolean("tty"),
        stdin_open=known.boolean("stdin_open"),
        read_only=known.boolean("read_only"),
        cap_add=known.read("cap_add", _capabilities) or (),
        cap_drop=known.read("cap_drop", _capabilities) or (),
        no_new_privileges=_no_new_privileges(known.get("security_opt"), room.findings),
        sysctls=known.read("sysctls", plain_pairs) or {},
        ulimits=known.read("ulimits", lambda entry: _ulimits(entry, room.findings)) or {},
        extra_hosts=known.read("extra_hosts", lambda entry: nets.read_extra_hosts(entry, room.findings)) or (),
        dns=known.read("dns", nets.read_dns) or (),
        network_mode=mode,
        replicas=deploy.replicas,
        egress=endpoint.egress if egress is None else egress,
    )
    return Declared(
        at=at,
        service=service,
        links=known.read("links", _links) or (),
        volumes_from=known.read("volumes_from", _volumes_from) or (),
        settings=settings,
    )


def check_name(name: str, at: At) -> None:
    """Raises ComposeError for what cannot be the name of a container and a host."""
    if name == SHELL:
        raise at.error(f"{SHELL} is the name of wye's own service", hint="choose another name")
    if not NAME.fullmatch(name):
        hint = (
            f"write {name.lower()}"
            if NAME.fullmatch(name.lower())
            else "a letter or digit, then letters, digits, _ . -"
        )
        raise at.error(
            "is not a valid service name: it must be of lower-case letters, digits, '_', '.', '-'", hint=hint
        )


def _settings(known: Fields, name: str, findings: Findings) -> tuple[bool | None, dict[str, str]]:
    at = known.get("x-wye")
    return (None, {}) if at is None or at.is_null else read_settings(at, name, findings)


def _check_logging(at: At | None, findings: Findings) -> None:
    """Logs are wye's own; only the form is judged."""
    if at is not None:
        known = fields(at, ("driver", "options"), findings)
        known.string("driver")
        known.read("options", At.entries)


def words(at: At) -> tuple[str, ...] | None:
    """A command: a list, or a string that is split as a shell would. None: the image's own."""
    if at.is_null:
        return None
    if not at.is_text:
        return tuple(item.string() for item in at.items())
    try:
        return tuple(shlex.split(at.string()))
    except ValueError as error:
        raise at.error(f"cannot be split into words: {str(error).lower()}", hint="write it as a list") from None


def _image(at: At) -> str:
    reference = at.filled()
    if not is_reference(reference):
        raise at.error(f'"{reference}" is not an image reference', hint=hint_for(reference))
    return reference


def _build(at: At, findings: Findings) -> Build:
    if at.is_text:
        return _build_from(at, Fields(at, {"context": at}))
    known = fields(at, (*_BUILD_KEYS, *_BUILD_IDLE, *_BUILD_REFUSED), findings)
    for name, entry in known.known.items():
        if name in _BUILD_REFUSED:
            findings.refuse(entry, "is not supported")
        elif name in _BUILD_IDLE:
            findings.warn(entry, "has no effect")
    return _build_from(at, known)


def _build_from(at: At, known: Fields) -> Build:
    context = known.get("context")
    text = context.filled() if context is not None else "."
    place = context if context is not None else at
    if _REMOTE.match(text):
        raise place.error("builds from elsewhere are not supported", hint="check it out and name the directory")
    directory = Path(os.path.realpath(place.node.mark.origin.directory / text))
    if not exists(directory):
        raise place.error(f"the directory {directory} is not there", hint="it is relative to the compose file")
    reason = why_not(directory)
    if reason is not None:
        raise place.error(f"{reason} and cannot be built from")
    dockerfile = known.filled("dockerfile")
    if dockerfile is None and not any(exists(directory / name) for name in _PYTHON_PROJECT):
        dockerfile = "Dockerfile" if exists(directory / "Dockerfile") else None
    return Build(
        context=str(directory),
        dockerfile=dockerfile,
        args=known.read("args", resolved_pairs) or {},
        target=known.filled("target"),
    )


def _pull_policy(at: At, findings: Findings) -> str:
    text = at.string()
    if _PULL_OFTEN.fullmatch(text):
        findings.warn(at, f'"{text}" is taken as missing')
        return "missing"
    if text not in _PULL:
        raise at.error(f'"{text}" is not a pull policy', hint="always, missing, never or build")
    return _PULL[text]


def _absolute(at: At) -> str:
    path = at.filled()
    if not path.startswith("/"):
        raise at.error(f'"{path}" is not an absolute path')
    return path


def _depends_on(at: At, findings: Findings) -> dict[str, Dependency]:
    if isinstance(at.node, Items):
        return {item.filled(): Dependency() for item in at.items()}
    found = {}
    for name, entry in at.entries().items():
        known = fields(entry, ("condition", "restart", "required"), findings)
        condition = known.required("condition")
        if condition.string() not in {each.value for each in Condition}:
            hint = ", ".join(each.value for each in Condition)
            raise condition.error(f'"{condition.string()}" is not a condition', hint=hint)
        found[name] = Dependency(
            condition=Condition(condition.string()),
            restart=known.boolean("restart"),
            required=known.boolean("required", True),
        )
    return found


def _links(at: At) -> tuple[tuple[str, str], ...]:
    found = []
    for item in at.strings():
        service, _, alias = item.filled().partition(":")
        found.append((service, nets.host_name(item, alias or service)))
    return tuple(found)


def _volumes_from(at: At) -> tuple[tuple[str, bool], ...]:
    found = []
    for item in at.strings():
        service, _, mode = item.filled().partition(":")
        if service == "container":
            raise item.error("names a container that is outside of the environment", hint="name a service of this file")
        if mode not in ("", "ro", "rw"):
            raise item.error(f'unknown mode "{mode}"', hint="the modes are ro and rw")
        found.append((service, mode == "ro"))
    return tuple(found)


def _signal(at: At) -> str:
    name = at.filled().upper()
    if name.isascii() and name.isdigit() and 0 < int(name[:4]) <= 64:
        return name
    name = name if name.startswith("SIG") else f"SIG{name}"
    if name not in _SIGNALS and not _REALTIME.fullmatch(name):
        raise at.error(f'"{at.string()}" is not a signal', hint="write it like SIGTERM")
    return name


def _capabilities(at: At) -> tuple[str, ...]:
    """Upper case, without the prefix `CAP_`."""
    found: dict[str, None] = {}
    for item in at.strings():
        name = item.string().upper().removeprefix("CAP_")
        if not _CAPABILITY.fullmatch(name):
            raise item.error(f'"{item.string()}" is not a capability', hint="write it like NET_ADMIN, or ALL")
        found[name] = None
    return tuple(found)


def _no_new_privileges(at: At | None, findings: Findings) -> bool:
    allowed = False
    for item in at.strings() if at is not None else ():
        name, _, value = item.string().replace("=", ":", 1).partition(":")
        if name != "no-new-privileges":
            findings.warn(item, "has no effect; every service has wye's own profile")
        elif value not in ("", "true", "false"):
            raise item.error(f'"{value}" is not true or false')
        else:
            allowed = value == "false"
    return not allowed


def _ulimits(at: At, findings: Findings) -> dict[str, tuple[int, int]]:
    found = {}
    for name, entry in at.entries().items():
        if not _ULIMIT.fullmatch(name):
            raise entry.error(f'"{name}" is not a limit', hint="write it like nofile")
        if isinstance(entry.node, Scalar):
            value = entry.integer(-1)
            found[name] = (value, value)
            continue
        known = fields(entry, ("soft", "hard"), findings)
        soft, hard = known.required("soft").integer(-1), known.required("hard").integer(-1)
        if hard != -1 and (soft == -1 or soft > hard):
            raise entry.error(f"the soft limit {soft} is above the hard limit {hard}")
        found[name] = (soft, hard)
    return found

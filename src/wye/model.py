"""The nouns, as frozen values. No I/O, no clock, no behaviour beyond what a value can say of itself.

Everything that is stored or hashed is one of these (`store.codec` gives the bytes). Times are Unix
seconds as floats and end in `_at`; durations end in `_s`; sizes end in `_bytes`. Mappings are plain
dicts that nobody changes after construction.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

EnvironmentName = NewType("EnvironmentName", str)
EnvironmentId = NewType("EnvironmentId", str)
"""Names an environment's bytes, containers and namespaces. Restoring gives new bytes, so a new id."""
SnapshotId = NewType("SnapshotId", str)
ObjectId = NewType("ObjectId", str)
"""SHA-256 of an object's canonical bytes, 64 lower-case hex digits."""
RevisionId = NewType("RevisionId", str)
EntryId = NewType("EntryId", str)
IntentId = NewType("IntentId", str)
ServiceName = NewType("ServiceName", str)

PRODUCTION = EnvironmentName("production")
SHELL = ServiceName("wye-shell")
"""The service that `exec` uses by default. It is in no compose file; a fork has one when asked."""

NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
"""Environments and projects. No slash, no dot: names become parts of paths and of host names."""

ID = re.compile(r"[a-z0-9]{12}")


# ---------------------------------------------------------------- spec: what is wanted


class RestartPolicy(StrEnum):
    NO = "no"
    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    UNLESS_STOPPED = "unless-stopped"


class Condition(StrEnum):
    """What `depends_on` waits for."""

    STARTED = "service_started"
    HEALTHY = "service_healthy"
    COMPLETED = "service_completed_successfully"


class MountKind(StrEnum):
    VOLUME = "volume"
    TMPFS = "tmpfs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """How to make an image from a directory. `context` is an absolute path on the machine."""

    context: str
    dockerfile: str | None = None
    args: dict[str, str] = field(default_factory=dict)
    target: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A volume (`source` is its key in `Spec.volumes`) or a tmpfs (`source` is empty) at `target`."""

    kind: MountKind
    source: str
    target: str
    read_only: bool = False
    subpath: str = ""
    size_bytes: int | None = None
    mode: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A secret or a config, resolved: `content` (base64) appears read-only at `target`."""

    name: str
    target: str
    content: str
    mode: int = 0o444
    uid: int = 0
    gid: int = 0
    secret: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """`container` published on the host. `host` None means any free port."""

    container: int
    protocol: str = "tcp"
    host: int | None = None
    host_ip: str = "0.0.0.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    condition: Condition = Condition.STARTED
    restart: bool = False
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck:
    """`test` is an argv (`CMD`) or `["/bin/sh", "-c", ...]` (`CMD-SHELL`); empty means disabled."""

    test: tuple[str, ...]
    interval_s: float = 30.0
    timeout_s: float = 30.0
    retries: int = 3
    start_period_s: float = 0.0
    start_interval_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    policy: RestartPolicy = RestartPolicy.NO
    max_retries: int | None = None
    delay_s: float | None = None
    window_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """None means no limit of its own."""

    cpus: float | None = None
    memory_bytes: int | None = None
    pids: int | None = None
    shm_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One declared member of an environment, normalised: no short forms, no relative paths."""

    name: ServiceName
    image: str | None = None
    build: Build | None = None
    pull_policy: str = "missing"
    platform: str | None = None
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    user: str | None = None
    group_add: tuple[str, ...] = ()
    hostname: str | None = None
    aliases: tuple[str, ...] = ()
    """Names besides its own that other services reach it by: container_name, links, network aliases."""
    labels: dict[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    files: tuple[File, ...] = ()
    ports: tuple[Port, ...] = ()
    expose: tuple[int, ...] = ()
    depends_on: dict[str, Dependency] = field(default_factory=dict)
    healthcheck: Healthcheck | None = None
    """None: the image's own, if it has one. An empty `test`: none at all."""
    restart: Restart = Restart()
    limits: Limits = Limits()
    stop_signal: str | None = None
    stop_grace_s: float = 10.0
    init: bool = False
    tty: bool = False
    stdin_open: bool = False
    read_only: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    no_new_privileges: bool = True
    sysctls: dict[str, str] = field(default_factory=dict)
    ulimits: dict[str, tuple[int, int]] = field(default_factory=dict)
    extra_hosts: tuple[tuple[str, str], ...] = ()
    dns: tuple[str, ...] = ()
    network_mode: str | None = None
    """None: the environment's network. Else "none" or "service:NAME"."""
    replicas: int = 1
    egress: bool = True
    """May reach beyond the environment. In forks `ForkPolicy.egress` decides instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """Data that outlives a container. With `imported_from`, a bind mount whose bytes were taken in:
    `imported_digest` says which bytes, so that `up` can tell whether the source has changed since."""

    name: str
    imported_from: str | None = None
    imported_digest: str | None = None
    single_file: bool = False
    """The source was a file: the volume holds it alone, under its base name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkPolicy:
    """`x-wye: fork:` what a fork of this project may do and use."""

    egress: bool = False
    disk_bytes: int | None = None
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A normalised compose file. Equal specs describe the same environment."""

    project: str
    services: dict[str, Service]
    volumes: dict[str, Volume] = field(default_factory=dict)
    fork: ForkPolicy = ForkPolicy()
    settings: dict[str, str] = field(default_factory=dict)
    """The rest of the top-level `x-wye`, each value as canonical JSON, for the rooms that own them."""


# ---------------------------------------------------------------- images


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """What an image says of how to run it; the names are the OCI image spec's."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    working_dir: str = "/"
    user: str = ""
    stop_signal: str = "SIGTERM"
    exposed: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    healthcheck: Healthcheck | None = None
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An unpacked root file system, read-only, at `pool/images/<digest>/rootfs`."""

    reference: str
    digest: str
    config: ImageConfig


# ---------------------------------------------------------------- history


class Verb(StrEnum):
    """What an entry or an intent says was done."""

    UP = "up"
    FORK = "fork"
    SNAPSHOT = "snapshot"
    RESTORE = "restore"
    START = "start"
    STOP = "stop"
    SLEEP = "sleep"
    WAKE = "wake"
    RENAME = "rename"
    DISCARD = "discard"
    DOWN = "down"
    MERGE = "merge"
    REVERT = "revert"
    UPDATE = "update"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """Immutable: a spec and the bytes of one instant. What git calls a commit."""

    environment: EnvironmentName
    spec: ObjectId
    images: dict[str, Image]
    """By service: exactly what ran, so that a restore never depends on a tag that has moved."""
    snapshot: SnapshotId
    parents: tuple[RevisionId, ...] = ()
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A named set of services and volumes, as recorded: all that must survive a restart of the machine."""

    name: EnvironmentName
    id: EnvironmentId
    project: str
    spec: ObjectId
    images: dict[str, Image]
    revision: RevisionId
    """The newest revision of this environment. Its live bytes descend from it."""
    awake: bool = True
    down: bool = False
    """Somebody took it down: it is asleep, holds no ports, and only `up` or `start` brings it back."""
    completed: tuple[str, ...] = ()
    """Replicas that ended well and are not restarted (migrations): a fork does not run them again."""
    stopped: tuple[str, ...] = ()
    """Services that somebody stopped: not started again until asked."""
    addresses: dict[str, str] = field(default_factory=dict)
    """Private IPv4 address by replica ("web", "web-2"): the same in every fork."""
    ports: dict[str, int] = field(default_factory=dict)
    """Host port by publication key (`publication_key`)."""
    origin: RevisionId | None = None
    """For a fork: the revision of its source that it started from."""
    base: RevisionId | None = None
    """For a fork whose databases were prepared: what it was then. What it changed, it changed since; so this is the
    merge base. None: the origin is."""
    source: EnvironmentName | None = None
    created_at: float = 0.0
    disk_bytes: int | None = None

    @property
    def is_fork(self) -> bool:
        return self.origin is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Immutable: one link of a ledger. `environments/<name>` points at the newest, so that the state and
    the record of how it came about move in one compare-and-swap."""

    previous: EntryId | None
    verb: Verb
    actor: str
    at: float
    environment: Environment
    arguments: dict[str, str] = field(default_factory=dict)
    message: str = ""
    intent: IntentId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """Recorded before effects. One that outlives its verb tells reconcile that the verb was cut short."""

    id: IntentId
    verb: Verb
    environment: EnvironmentName
    actor: str
    at: float
    arguments: dict[str, str] = field(default_factory=dict)


# ---------------------------------------------------------------- status: what is there


class State(StrEnum):
    """Of a container. The first four are OCI's."""

    CREATING = "creating"
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    RESTARTING = "restarting"
    STOPPED = "stopped"
    """Somebody asked for it to stop."""
    ASLEEP = "asleep"

    @property
    def is_alive(self) -> bool:
        return self in (State.CREATED, State.RUNNING)


class Health(StrEnum):
    NONE = "none"
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    service: str
    state: State
    health: Health = Health.NONE
    pid: int | None = None
    exit_code: int | None = None
    started_at: float | None = None
    restarts: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, for `wye events` and for those who wait."""

    at: float
    kind: str
    environment: str
    service: str = ""
    detail: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Disk: bytes that this environment alone holds, and its limit. None: the kernel cannot say."""

    exclusive_bytes: int | None
    limit_bytes: int | None = None


def is_name(text: str) -> bool:
    """Whether `text` can name an environment or a project."""
    return NAME.fullmatch(text) is not None


def published(service: Service) -> tuple[tuple[str, Port], ...]:
    """A service's published ports by publication key, which names one within an environment: "web/8000/tcp".
    One that is published twice is "web/8000/tcp#2" the second time."""
    seen: dict[str, int] = {}
    result = []
    for port in service.ports:
        key = f"{service.name}/{port.container}/{port.protocol}"
        seen[key] = seen.get(key, 0) + 1
        result.append((key if seen[key] == 1 else f"{key}#{seen[key]}", port))
    return tuple(result)


def replica_names(service: Service) -> tuple[str, ...]:
    """The containers of a service: ("web",), or ("web", "web-2", "web-3")."""
    name = str(service.name)
    return (name, *(f"{name}-{n}" for n in range(2, service.replicas + 1)))

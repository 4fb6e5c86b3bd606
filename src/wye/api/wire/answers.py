"""What a daemon answers with: errors, progress, environments, the machine."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from wye.api.wire.shape import View

# ---------------------------------------------------------------- answers: errors and progress


class Error(View):
    """A `WyeError`. `code` is stable; `exit_code` names its branch of the error tree."""

    code: str
    message: str
    hint: str | None = None
    retryable: bool = False
    exit_code: int = 1


class ErrorBody(View):
    error: Error


class Progress(View):
    """One line of news. `done` and `total` are in `unit`; None: unknown."""

    step: str
    subject: str = ""
    done: int | None = None
    total: int | None = None
    unit: str = ""


class Line(View):
    """One line of a verb that tells of its progress: exactly one of these."""

    progress: Progress | None = None
    result: Any = None
    error: Error | None = None


class Version(View):
    version: str
    api: int


# ---------------------------------------------------------------- answers: environments


class Usage(View):
    exclusive_bytes: int | None
    limit_bytes: int | None = None


class PortView(View):
    """A published port: connect to `host_ip:host_port`. `key` is "service/container port/protocol"."""

    key: str
    service: str
    container: int
    protocol: str
    host_ip: str
    host_port: int


class ServiceView(View):
    """One container. `replica` is "web" or "web-2", `service` is "web"."""

    replica: str
    service: str
    state: str
    health: str
    image: str
    address: str
    pid: int | None
    exit_code: int | None
    started_at: float | None
    restarts: int
    reason: str


class EnvironmentView(View):
    """`source`: what it was forked from, at revision `origin`. `usage` only when one environment is described."""

    name: str
    id: str
    project: str
    awake: bool
    source: str | None
    origin: str | None
    revision: str
    created_at: float
    services: tuple[ServiceView, ...] = ()
    ports: tuple[PortView, ...] = ()
    usage: Usage | None = None


class UpResult(View):
    """`changes`: by service, "created", "changed", "unchanged", "started" or "removed". `steps`: seconds."""

    environment: EnvironmentView
    changes: dict[str, str]
    notices: tuple[str, ...] = ()
    steps: dict[str, float] = Field(default_factory=dict)


class ConfigResult(View):
    """The normalised compose file, and what was noticed in reading it."""

    spec: dict[str, Any]
    notices: tuple[str, ...] = ()


class ForkResult(View):
    environments: tuple[EnvironmentView, ...]
    revision: str
    steps: dict[str, float] = Field(default_factory=dict)


class SnapshotResult(View):
    environment: str
    revision: str
    snapshot: str
    seconds: float


class LogLine(View):
    """`stream` is "stdout" or "stderr"."""

    replica: str
    at: float
    stream: str
    text: str


class Event(View):
    at: float
    kind: str
    environment: str
    service: str = ""
    detail: dict[str, str] = Field(default_factory=dict)


# ---------------------------------------------------------------- answers: the machine


class CollectResult(View):
    snapshots: int
    environments: int
    images: int
    objects: int
    freed_bytes: int | None


class Finding(View):
    """`level`: "ok", "warning" (works, less well), "failure" (does not work)."""

    subject: str
    level: str
    text: str
    fix: str = ""

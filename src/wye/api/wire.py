"""The values that cross the socket, field by field what `engine.views` has: requests first, then answers.

A request with a field that nobody knows is refused, so that a misspelt option is never silently ignored. An
answer with a field that nobody knows is read all the same, so that an older client goes on working with a newer
daemon. Times are Unix seconds, durations seconds, sizes bytes. The package `wye` (the SDK) hands these very
values to its callers.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

API = 1
"""The number in `/v1`. A change that breaks an older client raises it."""

STDIN, STDOUT, STDERR = 0, 1, 2
"""The first byte of a binary frame of exec."""

FRAME_BYTES = 64 * 1024
"""The most that one frame of exec carries."""


class Request(BaseModel):
    """What a client sends. Unknown fields are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class View(BaseModel):
    """What a daemon answers with. Unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", from_attributes=True, defer_build=True)


# ---------------------------------------------------------------- requests


class UpRequest(Request):
    """Paths are of the daemon's machine; `directory` is absolute, `files` relative to it or absolute.
    `environment`: the variables that `${...}` in the compose file may name."""

    directory: str
    files: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    env_file: str | None = None
    profiles: tuple[str, ...] = ()
    project: str | None = None
    lenient: bool = False
    pull: bool = False
    wait: bool = True
    wait_timeout_s: float = Field(default=120.0, ge=0, le=86400)


class ForkRequest(Request):
    """`count` > 1 gives name-1 … name-N. No name: "<source>-<4 random characters>"."""

    name: str | None = None
    count: int = Field(default=1, ge=1, le=1000)
    revision: str | None = None
    asleep: bool = False
    disk_bytes: int | None = Field(default=None, gt=0)


class ServicesRequest(Request):
    """For start, stop and restart. None named: all."""

    services: tuple[str, ...] = ()


class SnapshotRequest(Request):
    message: str = ""


class RestoreRequest(Request):
    revision: str


class RenameRequest(Request):
    name: str


class CollectRequest(Request):
    images: bool = False


class ExecRequest(Request):
    """The first message of exec. `env` adds to the container's own. `stdin` False: it is closed from the start."""

    argv: tuple[str, ...] = Field(min_length=1)
    service: str | None = None
    env: dict[str, str] = Field(default_factory=dict)
    working_dir: str | None = None
    user: str | None = None
    tty: bool = False
    rows: int = Field(default=24, ge=1, le=65535)
    columns: int = Field(default=80, ge=1, le=65535)
    stdin: bool = False


class ExecControl(Request):
    """A later text message of exec: a new terminal size (rows, columns), or a signal's number."""

    resize: tuple[int, int] | None = None
    signal: int | None = Field(default=None, ge=1, le=64)


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


# ---------------------------------------------------------------- answers: history


class EntryView(View):
    id: str
    previous: str | None
    environment: str
    verb: str
    actor: str
    at: float
    message: str
    arguments: dict[str, str]
    revision: str
    source: str | None = None


class LogResult(View):
    """`verified`: None if not asked; else whether the chain holds, and `problem` says where it does not."""

    entries: tuple[EntryView, ...]
    verified: bool | None = None
    problem: str = ""
    head: str = ""


class FileView(View):
    """`kind`: "file", "directory", "link", "other". `target` of a link."""

    kind: str
    size_bytes: int
    mode: int
    uid: int
    gid: int
    target: str = ""


class FileChange(View):
    """`place`: "volume data" or "layer web"; `path` within it. `change`: added, removed, modified."""

    place: str
    path: str
    change: str
    before: FileView | None
    after: FileView | None
    changed_bytes: int = 0
    metadata_only: bool = False


class PlaceChange(View):
    """A whole volume told in one line: a database's. `kind` is what it holds."""

    place: str
    kind: str
    added: int
    removed: int
    modified: int
    changed_bytes: int


class SpecChange(View):
    """`before`, `after`: JSON text, None where absent."""

    path: str
    before: str | None
    after: str | None


class DiffResult(View):
    """`files` is one page of `total_files`."""

    environment: str
    against: str
    base: str
    spec: tuple[SpecChange, ...]
    places: tuple[PlaceChange, ...]
    files: tuple[FileChange, ...]
    total_files: int


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

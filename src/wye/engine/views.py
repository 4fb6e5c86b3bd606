"""What verbs answer with: plain values for whoever asked, made from records and from what is there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wye.model import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class PortView:
    """A published port: connect to `host_ip:host_port`. `key` is "service/container port/protocol"."""

    key: str
    service: str
    container: int
    protocol: str
    host_ip: str
    host_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceView:
    """One container of an environment. `replica` is "web" or "web-2", `service` is "web"."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentView:
    name: str
    id: str
    project: str
    awake: bool
    source: str | None
    """The environment it was forked from; None for one that `up` made."""
    origin: str | None
    """The revision it was forked at."""
    revision: str
    created_at: float
    services: tuple[ServiceView, ...] = ()
    ports: tuple[PortView, ...] = ()
    usage: Usage | None = None
    """Only in `describe`: reading it for all would make listing slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpResult:
    """`changes`: by service, "created", "changed", "unchanged", "started" or "removed"."""

    environment: EnvironmentView
    changes: dict[str, str]
    notices: tuple[str, ...] = ()
    steps: dict[str, float] = field(default_factory=dict)
    """Seconds by step, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkResult:
    environments: tuple[EnvironmentView, ...]
    revision: str
    steps: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryView:
    """One line of `wye log`. `snapshot` is empty when the bytes are gone (a discarded environment)."""

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
    evidence: dict[str, Any] = field(default_factory=dict)
    """Of a merge, in `show`: what was merged, its checks and their output, the steps and their times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogResult:
    """`verified`: None if not asked; else whether the chain holds, and `problem` says where it does not."""

    entries: tuple[EntryView, ...]
    verified: bool | None = None
    problem: str = ""
    head: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileView:
    """`kind`: "file", "directory", "link", "other". `mode` as 0o755. `target` of a link."""

    kind: str
    size_bytes: int
    mode: int
    uid: int
    gid: int
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """`place`: "volume data" or "layer web"; `path` within it, absolute. `change`: added, removed, modified."""

    place: str
    path: str
    change: str
    before: FileView | None
    after: FileView | None
    changed_bytes: int = 0
    metadata_only: bool = False
    text: str | None = None
    """The unified diff of a text file; None for others, or if it was not asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceChange:
    """A whole volume told in one line, because its files say nothing to people: a database's."""

    place: str
    kind: str
    added: int
    removed: int
    modified: int
    changed_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecChange:
    """`path`: "services.web.environment.DEBUG". `before`, `after`: JSON text, None where absent."""

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffResult:
    environment: str
    against: str
    base: str
    """The revision that both are compared with, or from."""
    spec: tuple[SpecChange, ...]
    places: tuple[PlaceChange, ...]
    files: tuple[FileChange, ...]
    total_files: int
    """Of `files` before paging."""
    file_counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Of all of them, by place: how many were "added", "removed", "modified"."""
    stores: tuple[StoreChange, ...] = ()
    """Databases. A place that is here is not in `places`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotResult:
    environment: str
    revision: str
    snapshot: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectResult:
    snapshots: int
    environments: int
    images: int
    objects: int
    freed_bytes: int | None
    """None: what was deleted comes free in the background."""


# ---------------------------------------------------------------- merge


@dataclass(frozen=True, slots=True, kw_only=True)
class ConflictView:
    """What both sides did to one thing. `id` names it in a resolution; `choices`: "ours", "theirs", "value", or none
    if only a change on either side can settle it. `base`, `ours`, `theirs` are JSON."""

    id: str
    kind: str
    place: str
    key: tuple[str | None, ...]
    column: str
    base: Any
    ours: Any
    theirs: Any
    choices: tuple[str, ...]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreChange:
    """What happened in one database. `stat` fits a screen; `page` has rows or keys in full, as JSON; `refused`: why it
    could not be read at all."""

    place: str
    kind: str
    service: str
    stat: dict[str, Any]
    page: dict[str, Any] = field(default_factory=dict)
    refused: tuple[ConflictView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckView:
    """One check that was run. `output` is its first 64 KiB."""

    name: str
    passed: bool
    seconds: float
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeResult:
    """`merged` False: nothing was changed, because of `conflicts`, a check, or because it was only rehearsed.

    `steps`: seconds by step, in order. `applied`: how much by place ("postgres db": 12 rows). `restarted`: services.
    `entry`: in the target's ledger; empty if nothing was merged.
    """

    source: str
    into: str
    merged: bool
    rehearsed: bool
    entry: str = ""
    conflicts: tuple[ConflictView, ...] = ()
    checks: tuple[CheckView, ...] = ()
    applied: dict[str, int] = field(default_factory=dict)
    restarted: tuple[str, ...] = ()
    steps: dict[str, float] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    """What somebody should know of the project's settings."""

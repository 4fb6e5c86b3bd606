"""What a client sends."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from wye.api.wire.shape import Request


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


# ---------------------------------------------------------------- merging

Resolutions = dict[str, Any]
"""By conflict id: "ours", "theirs" or {"value": ...}. "default": "ours" or "theirs" for all others."""


class MergeRequest(Request):
    """`into` None: what the fork was forked from. `checks`: commands for the rehearsal's shell."""

    into: str | None = None
    resolutions: Resolutions = Field(default_factory=dict)
    rehearse_only: bool = False
    checks: tuple[str, ...] = ()
    message: str = ""


class ConflictsRequest(Request):
    into: str | None = None
    resolutions: Resolutions = Field(default_factory=dict)


class ResolutionsRequest(Request):
    """For revert and update."""

    resolutions: Resolutions = Field(default_factory=dict)

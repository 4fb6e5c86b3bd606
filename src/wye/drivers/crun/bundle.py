"""One directory per container, which holds or names everything that its start makes.

    containers/<id>/record.json    written before any effect: what it is, how to run more in it
                    config.json    for the OCI runtime
                    state.json     written after the last effect: its process and conmon's
                    pid, conmon.pid, conmon.log, exit/<id>     written by conmon
                    merged/        mount point of its root file system
                    binds/<n>      mount points of volumes' subpaths
                    files/<n>      secrets and configs

A container without `state.json` is half-made: its start was cut short. Nothing in here is reachable from inside a
container but `files`, read-only.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import msgspec

from wye.drivers.crun.process import Process
from wye.errors import BadRequest
from wye.host import Host

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,150}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What must be known of a container to list it, run more in it and remove it."""

    id: str
    environment: str
    name: str
    cgroup: str
    created_at: float
    env: dict[str, str]
    working_dir: str
    user: str
    group_add: tuple[str, ...]
    capabilities: tuple[str, ...]
    rlimits: tuple[dict[str, Any], ...]
    no_new_privileges: bool
    files: tuple[str, ...]
    """Targets; the n-th one's content is in `files/<n>`."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The processes of a container whose start came to its end."""

    boot: str
    pid: int
    ticks: int
    conmon_pid: int
    conmon_ticks: int
    started_at: float

    @property
    def process(self) -> Process:
        return Process(self.pid, self.ticks)

    @property
    def conmon(self) -> Process:
        return Process(self.conmon_pid, self.conmon_ticks)


_records = msgspec.json.Decoder(Record)
_states = msgspec.json.Decoder(State)


class Bundle:
    """The directory of one container. Cheap to make; nothing is read until asked."""

    def __init__(self, host: Host, directory: Path, container_id: str) -> None:
        self._host = host
        self.id = container_id
        self.path = directory / container_id
        self.merged = self.path / "merged"
        self.config = self.path / "config.json"
        self.exits = self.path / "exit"
        self.pid_file = self.path / "pid"
        self.conmon_pid_file = self.path / "conmon.pid"
        self.conmon_log = self.path / "conmon.log"

    def exists(self) -> bool:
        return self.path.is_dir()

    def create(self, record: Record) -> None:
        """From here on the container is listed, half-made."""
        self._host.make_directory("start:bundle", self.path, mode=0o711)
        self._host.write_file("start:record", self.path / "record.json", msgspec.json.encode(record), mode=0o600)
        self._host.at("start:directories")
        for name in ("merged", "exit", "binds", "files"):
            (self.path / name).mkdir(mode=0o711, exist_ok=True)
        # Whatever the umask: the container's root, nobody on the host, has to pass through.
        self.path.chmod(0o711)

    def finish(self, state: State) -> None:
        self._host.write_file("start:state", self.path / "state.json", msgspec.json.encode(state), mode=0o600)

    def record(self) -> Record | None:
        try:
            return _records.decode((self.path / "record.json").read_bytes())
        except FileNotFoundError:
            return None

    def state(self) -> State | None:
        try:
            return _states.decode((self.path / "state.json").read_bytes())
        except FileNotFoundError:
            return None

    def exit_code(self) -> int | None:
        """What conmon wrote down."""
        try:
            return int((self.exits / self.id).read_text())
        except FileNotFoundError:
            return None

    def bind_point(self, number: int) -> Path:
        return self.path / "binds" / str(number)

    def file(self, number: int) -> Path:
        return self.path / "files" / str(number)

    def remove(self) -> None:
        """Unmounts what is mounted here, then removes the directory. Never reaches into what was mounted."""
        points = [self.merged]
        if (self.path / "binds").is_dir():
            points += (self.path / "binds").iterdir()
        for point in points:
            while self._host.unmount("delete:unmount", point, lazy=True):
                pass
            self._host.at("delete:mount-point")
            try:
                # Fails where a mount is left, so that remove_tree below never meets one.
                os.unlink(point) if point.is_file() else os.rmdir(point)
            except FileNotFoundError:
                pass
            except OSError as error:
                raise self._host.failure("delete:mount-point", f"remove {point}", error) from error
        self._host.remove_tree("delete:bundle", self.path)


def check_name(name: str) -> None:
    """Raises BadRequest unless `name` can be part of a path, a container id and a control group."""
    if not _NAME.fullmatch(name):
        raise BadRequest(f"{name!r} cannot name a container", hint="use letters, digits, '.', '_' and '-'")


def is_id(container_id: str) -> bool:
    return _ID.fullmatch(container_id) is not None

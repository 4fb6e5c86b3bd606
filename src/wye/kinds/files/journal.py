"""What an application of a plan has set out to do, on disk before it does it.

Everything lies in one directory, `.wye-merge` at the environment's root, where no container can look. The journal is
there from the moment the first path may change until the moment the outcome stands; without it the directory is
rubbish. Which writes were done is not noted: each is recognised by its inodes, so nothing has to be written between
two swaps and a kill at any point leaves a state that says all.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wye.errors import InvariantError
from wye.host import Host

STAGING = ".wye-merge"
_JOURNAL = "journal"
_APPLIED = "applied"
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What is changed in place; `xattrs` in base64, without overlay's own save "opaque"."""

    mode: int
    uid: int
    gid: int
    xattrs: dict[str, str]
    opaque: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One write. `slot` is a name in the staging directory: before the swap it holds what is to come (inode
    `new_inode`, None: the path goes away), after it what was there (`old_inode`, None: nothing). With `before` and
    `after`, attributes change in place instead and there is no slot."""

    path: str
    slot: str
    old_inode: int | None
    new_inode: int | None
    before: Attributes | None = None
    after: Attributes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """`times`: of each directory whose entries change, (atime, mtime) in nanoseconds, for an exact undo."""

    steps: tuple[Step, ...]
    times: dict[str, tuple[int, int]]


def write(host: Host, staging: Path, journal: Journal) -> None:
    """Atomically. Not durable before the file system is synced."""
    data = {"version": _VERSION, "steps": [asdict(step) for step in journal.steps], "times": journal.times}
    host.write_file("files:journal", staging / _JOURNAL, json.dumps(data).encode(), mode=0o600)


def read(staging: Path) -> Journal | None:
    """None if there is none: nothing has changed, or the outcome stands."""
    try:
        data = json.loads((staging / _JOURNAL).read_bytes())
    except FileNotFoundError:
        return None
    if data["version"] != _VERSION:
        raise InvariantError(f"{staging} is of version {data['version']}, this wye knows {_VERSION}")
    return Journal(
        steps=tuple(_step(step) for step in data["steps"]),
        times={path: (times[0], times[1]) for path, times in data["times"].items()},
    )


def mark_applied(host: Host, staging: Path) -> None:
    """Every step is done and what it brought out was as planned: from now on a crash may be finished."""
    host.write_file("files:mark-applied", staging / _APPLIED, b"")


def is_applied(staging: Path) -> bool:
    return (staging / _APPLIED).exists()


def close(host: Host, staging: Path) -> None:
    """The outcome stands. Then removes what is left."""
    host.at("files:close-journal")
    (staging / _JOURNAL).unlink(missing_ok=True)
    host.remove_tree("files:remove-staging", staging)


def encode_xattrs(attributes: dict[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(value).decode() for name, value in attributes.items()}


def decode_xattrs(attributes: dict[str, str]) -> dict[str, bytes]:
    return {name: base64.b64decode(value) for name, value in attributes.items()}


def _step(data: dict[str, Any]) -> Step:
    for side in ("before", "after"):
        if data[side] is not None:
            data[side] = Attributes(**data[side])
    return Step(**data)

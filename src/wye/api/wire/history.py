"""What a daemon answers with: the ledger, what differs, what was merged."""

from __future__ import annotations

from pydantic import Field

from wye.api.wire.shape import Data, Text, View


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
    evidence: dict[str, Data] = Field(default_factory=dict)


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
    target: Text = ""


class FileChange(View):
    """`place`: "volume data" or "layer web"; `path` within it. `change`: added, removed, modified. `text`: a unified
    diff, if one was asked for and both sides are text."""

    place: str
    path: Text
    change: str
    before: FileView | None
    after: FileView | None
    changed_bytes: int = 0
    metadata_only: bool = False
    text: Text | None = None


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
    """`files` is one page of `total_files`; `file_counts` has all of them, by place and kind of change. A place is in
    `stores` if its content could be read, else in `places`."""

    environment: str
    against: str
    base: str
    spec: tuple[SpecChange, ...]
    places: tuple[PlaceChange, ...]
    files: tuple[FileChange, ...]
    total_files: int
    file_counts: dict[Text, dict[str, int]] = Field(default_factory=dict)
    stores: tuple[StoreChange, ...] = ()


# ---------------------------------------------------------------- merging


class ConflictView(View):
    """What both sides did to one thing. `choices`: "ours", "theirs", "value"; none: it must be repaired on a side."""

    id: str
    kind: str
    place: Text
    key: tuple[Text | None, ...]
    column: Text
    base: Data
    ours: Data
    theirs: Data
    choices: tuple[str, ...]
    detail: Text


class StoreChange(View):
    """What happened in one database. `stat` counts; `page` has rows or keys; `refused`: why it could not be read."""

    place: str
    kind: str
    service: str
    stat: dict[str, Data]
    page: dict[str, Data] = Field(default_factory=dict)
    refused: tuple[ConflictView, ...] = ()


class CheckView(View):
    """`output` is its first 64 KiB."""

    name: Text
    passed: bool
    seconds: float
    output: Text


class MergeResult(View):
    """Of merge, conflicts, revert and update. `merged` False: nothing was changed. `applied`: how much by place.
    `entry`: in the target's ledger; empty if nothing was merged. `steps`: seconds. `notices`: what
    means nothing in the project's settings of merging."""

    source: str
    into: str
    merged: bool
    rehearsed: bool
    entry: str = ""
    conflicts: tuple[ConflictView, ...] = ()
    checks: tuple[CheckView, ...] = ()
    applied: dict[str, int] = Field(default_factory=dict)
    restarted: tuple[str, ...] = ()
    steps: dict[str, float] = Field(default_factory=dict)
    notices: tuple[str, ...] = ()

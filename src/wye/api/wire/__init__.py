"""The values that cross the socket, field by field what `engine.views` has: requests first, then answers.

A request with a field that nobody knows is refused, so that a misspelt option is never silently ignored. An
answer with a field that nobody knows is read all the same, so that an older client goes on working with a newer
daemon. Times are Unix seconds, durations seconds, sizes bytes. The package `wye` (the SDK) hands these very
values to its callers.

All but the protocol's numbers is imported when something of it is first asked for. Pydantic, and making these classes,
takes longer than most calls: a client sends its request first, and imports what reads the answer while it waits.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from wye.api.wire.protocol import API, FRAME_BYTES, STDERR, STDIN, STDOUT

if TYPE_CHECKING:
    from wye.api.wire.answers import (
        CollectResult,
        ConfigResult,
        EnvironmentView,
        Error,
        ErrorBody,
        Event,
        Finding,
        ForkResult,
        Line,
        LogLine,
        PortView,
        Progress,
        ServiceView,
        SnapshotResult,
        UpResult,
        Usage,
        Version,
    )
    from wye.api.wire.history import (
        CheckView,
        ConflictView,
        DiffResult,
        EntryView,
        FileChange,
        FileView,
        LogResult,
        MergeResult,
        PlaceChange,
        SpecChange,
        StoreChange,
    )
    from wye.api.wire.requests import (
        CollectRequest,
        ConflictsRequest,
        ExecControl,
        ExecRequest,
        ForkRequest,
        MergeRequest,
        RenameRequest,
        Resolutions,
        ResolutionsRequest,
        RestoreRequest,
        ServicesRequest,
        SnapshotRequest,
        UpRequest,
    )
    from wye.api.wire.shape import Request, ValidationError, View, several

__all__ = [
    "API",
    "FRAME_BYTES",
    "STDERR",
    "STDIN",
    "STDOUT",
    "CheckView",
    "CollectRequest",
    "CollectResult",
    "ConfigResult",
    "ConflictView",
    "ConflictsRequest",
    "DiffResult",
    "EntryView",
    "EnvironmentView",
    "Error",
    "ErrorBody",
    "Event",
    "ExecControl",
    "ExecRequest",
    "FileChange",
    "FileView",
    "Finding",
    "ForkRequest",
    "ForkResult",
    "Line",
    "LogLine",
    "LogResult",
    "MergeRequest",
    "MergeResult",
    "PlaceChange",
    "PortView",
    "Progress",
    "RenameRequest",
    "Request",
    "Resolutions",
    "ResolutionsRequest",
    "RestoreRequest",
    "ServiceView",
    "ServicesRequest",
    "SnapshotRequest",
    "SnapshotResult",
    "SpecChange",
    "StoreChange",
    "UpRequest",
    "UpResult",
    "Usage",
    "ValidationError",
    "Version",
    "View",
    "several",
]

_HOMES = ("answers", "history", "requests", "shape")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for home in _HOMES:
            module = importlib.import_module(f"{__name__}.{home}")
            if name in vars(module):
                return globals().setdefault(name, vars(module)[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

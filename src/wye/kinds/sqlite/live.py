"""Databases that are in use, merged in place by a short-lived process of its own.

In WAL mode SQLite maps the `-shm` file, which every process that may write the database may also cut short: then who
touches the map is killed by SIGBUS. So no live file is opened in this process: `live_process` does it, and if it is
killed, that is an error here, like any other. What it had not committed is gone, as after every death (its locks too,
and the next one to open the file rolls back), and nothing but a commit that was under way is in doubt.

One process serves all databases of one merge, so that their transactions can be open together. It ends when this one
does: its input ends then.
"""

from __future__ import annotations

import signal
import socket
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from wye.errors import BadRequest, Unsupported, WyeError
from wye.host import Host
from wye.kinds.sqlite.apply import Rules
from wye.kinds.sqlite.changes import SqliteChanges
from wye.kinds.sqlite.database import DatabaseBusy, DatabaseFailed
from wye.merge.conflict import Conflict, Resolution

PROGRAM = "wye.kinds.sqlite.live_process"
_PATIENCE_S = 900.0


class Merge(msgspec.Struct, frozen=True, tag=True):
    """Answered by Merged, and then its transaction is open."""

    place: str
    path: str
    found: SqliteChanges
    resolutions: dict[str, Resolution]
    rules: dict[str, Rules]


class Commit(msgspec.Struct, frozen=True, tag=True):
    """Answered by Done."""

    path: str


class TakeBack(msgspec.Struct, frozen=True, tag=True):
    """Answered by Done."""

    place: str
    path: str
    inverse: SqliteChanges
    rules: dict[str, Rules]


class Merged(msgspec.Struct, frozen=True, tag=True):
    """As `apply.Application`."""

    conflicts: list[Conflict]
    inverse: SqliteChanges


class Done(msgspec.Struct, frozen=True, tag=True):
    left: list[str] = []


class Failed(msgspec.Struct, frozen=True, tag=True):
    code: str
    message: str
    hint: str | None = None


Asked = Merge | Commit | TakeBack
Answered = Merged | Done | Failed
_ERRORS: dict[str, type[WyeError]] = {
    each.code: each for each in (DatabaseBusy, DatabaseFailed, BadRequest, Unsupported)
}
_Wanted = TypeVar("_Wanted", Merged, Done)


class LiveDatabases:
    """Those below `root`, opened by a process that is started at once. To be closed, which rolls back what is open."""

    def __init__(self, host: Host, root: Path) -> None:
        self._host = host
        self._is_asked = False
        with ExitStack() as held:
            self._said = held.enter_context(tempfile.TemporaryFile())
            mine, other = socket.socketpair()
            self._socket = held.enter_context(mine)
            with other:
                argv = [sys.executable, "-P", "-m", PROGRAM, str(other.fileno()), str(root)]
                self._process = host.spawn(
                    "sqlite:start", argv, stdout=self._said, stderr=self._said, cwd="/", pass_fds=[other.fileno()]
                )
            self._socket.settimeout(_PATIENCE_S)
            self._stream = self._socket.makefile("rwb")
            self._held = held.pop_all()

    def merge(
        self,
        place: str,
        path: str,
        found: SqliteChanges,
        resolutions: Mapping[str, Resolution],
        rules: Mapping[str, Rules],
    ) -> Merged:
        """As `apply.merged`, whose transaction stays open. Raises what that does."""
        self._host.at("sqlite:open")
        self._host.at("sqlite:begin")
        return self._ask(path, Merge(place, path, found, dict(resolutions), dict(rules)), Merged)

    def commit(self, path: str) -> None:
        """Of what was merged at `path`. Durable when it returns; if it fails, it may have happened all the same."""
        self._host.at("sqlite:commit")
        self._ask(path, Commit(path), Done)

    def take_back(self, place: str, path: str, inverse: SqliteChanges, rules: Mapping[str, Rules]) -> list[str]:
        """As `apply.take_back`."""
        self._host.at("sqlite:take-back")
        return self._ask(path, TakeBack(place, path, inverse, dict(rules)), Done).left

    def close(self) -> None:
        """Nothing is locked any more when it returns."""
        with suppress(OSError):  # it is dead, and so is what was to be said to it
            self._stream.close()
        with self._held:
            self._socket.close()
            if self._is_asked:
                self._process.kill()  # nobody waits for its answer any more
            self._process.wait()

    def _ask(self, path: str, asked: Asked, wanted: type[_Wanted]) -> _Wanted:
        self._is_asked = True
        try:
            self._stream.write(msgspec.json.encode(asked) + b"\n")
            self._stream.flush()
            line = self._stream.readline()
        except TimeoutError as error:
            raise DatabaseFailed(f"{path} took too long to read or write") from error
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            raise self._death(path)
        self._is_asked = False
        answer = msgspec.json.decode(line, type=Merged | Done | Failed)
        if isinstance(answer, Failed):
            raise _ERRORS.get(answer.code, DatabaseFailed)(answer.message, hint=answer.hint)
        assert isinstance(answer, wanted)
        return answer

    def _death(self, path: str) -> DatabaseFailed:
        status = self._process.wait()
        self._said.seek(0)
        said = self._said.read(1 << 16).decode(errors="replace").strip()[-2000:]
        hint = None
        if status == -signal.SIGBUS:
            hint = "a process that has the database open has cut its -shm file short: stop it, and merge again"
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        return DatabaseFailed(
            f"what wrote into {path} was ended by {how}{f': {said}' if said else ''}; of what it had not committed,"
            " nothing is there",
            hint=hint,
        )

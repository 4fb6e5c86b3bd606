"""Database merges carried out in live files: locked, written, committed together, and taken back if need be.

All transactions are open before the first is committed, so a refusal of any changes nothing. What takes them back is on
disk before the first commit (`.wye-merge-databases` at the environment's root, where no container can look), so that
a process which dies in between leaves neither half a merge nor a doubt. A snapshot taken before the outcome stands has
that file too: it tells a later revert what the merge did. It names the environment that it is about, so that in a copy
it asks for nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from wye.host import Host
from wye.kinds.sqlite.apply import Application, Rules, merged, take_back
from wye.kinds.sqlite.changes import SqliteChanges
from wye.kinds.trees.planning import PlannedDatabase
from wye.merge.conflict import Conflict, Decisions
from wye.merge.refused import Refused

JOURNAL = ".wye-merge-databases"


class _Undo(msgspec.Struct, frozen=True):
    path: str
    place: str
    inverse: SqliteChanges


class _Journal(msgspec.Struct, frozen=True):
    environment: str
    steps: tuple[_Undo, ...]


class DatabaseApplications:
    """Of one plan, on the databases below `root`. While it holds them open, nothing else in this process may open one
    of their files (see `sqlite.database`), and their applications' writers wait."""

    def __init__(self, host: Host, root: Path, rules: Mapping[str, Rules]) -> None:
        self._host = host
        self._root = root
        self._rules = rules
        self._held = ExitStack()
        self._open: list[tuple[PlannedDatabase, Application]] = []
        self._committed: list[_Undo] = []

    def begin(self, planned: Sequence[PlannedDatabase], decisions: Decisions) -> None:
        """Merges all, each in a transaction that stays open. Raises Refused with every conflict, and then none is."""
        conflicts: list[Conflict] = []
        try:
            for each in planned:
                application = self._held.enter_context(
                    merged(self._host, each.place, self._root, each.path, each.found, decisions, self._rules)
                )
                self._open.append((each, application))
                conflicts += application.conflicts
            if conflicts:
                raise Refused(conflicts)
        except BaseException:
            self.drop()
            raise

    def commit(self) -> None:
        """Durable when it returns, and everybody sees it. Repeating it is harmless."""
        if not self._open:
            return
        steps = [_Undo(each.path, each.place, application.inverse) for each, application in self._open]
        write_journal(self._host, self._root, steps)
        try:
            for step, (_, application) in zip(steps, self._open, strict=True):
                application.commit()
                self._committed.append(step)
        finally:
            self.drop()

    def drop(self) -> None:
        """Rolls back what is open."""
        self._open = []
        self._held.close()

    def undo(self) -> list[str]:
        """As it was before `begin`, but for what others have written since; says what could not be."""
        self.drop()
        left = []
        for step in reversed(self._committed):
            left += take_back(self._host, step.place, self._root, step.path, step.inverse, self._rules)
            self._committed.remove(step)
        self.close()
        return left

    def close(self) -> None:
        """The outcome stands."""
        close_journal(self._host, self._root)


def write_journal(host: Host, root: Path, steps: Sequence[_Undo]) -> None:
    journal = _Journal(root.name, tuple(steps))
    host.write_file("sqlite:journal", root / JOURNAL, msgspec.json.encode(journal), mode=0o600)
    host.at("sqlite:sync-journal")
    descriptor = os.open(root / JOURNAL, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise host.failure("sqlite:sync-journal", f"make {root / JOURNAL} durable", error) from error
    finally:
        os.close(descriptor)


def close_journal(host: Host, root: Path) -> None:
    host.at("sqlite:close-journal")
    (root / JOURNAL).unlink(missing_ok=True)


def recover(host: Host, root: Path, *, finish: bool) -> bool:
    """After a crash: takes back what was committed, or with `finish` lets it stand. Whether there was anything."""
    journal = _read(root)
    if journal is None:
        return False
    if journal.environment == root.name and not finish:
        for step in reversed(journal.steps):
            take_back(host, step.place, root, step.path, step.inverse)
    close_journal(host, root)
    return journal.environment == root.name


def read_journal(root: Path) -> dict[str, SqliteChanges]:
    """What takes back the merge that a snapshot was taken after, by path."""
    journal = _read(root)
    return {} if journal is None else {step.path: step.inverse for step in journal.steps}


def _read(root: Path) -> _Journal | None:
    try:
        return msgspec.json.decode((root / JOURNAL).read_bytes(), type=_Journal)
    except FileNotFoundError:
        return None

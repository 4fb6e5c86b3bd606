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
from contextlib import closing
from pathlib import Path

import msgspec

from wye.host import Host
from wye.kinds.sqlite.apply import Rules
from wye.kinds.sqlite.changes import SqliteChanges
from wye.kinds.sqlite.live import LiveDatabases
from wye.kinds.trees.planning import PlannedDatabase
from wye.merge.conflict import Conflict, Resolution
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
    """Of one plan, on the databases below `root`. While it holds them open, their applications' writers wait."""

    def __init__(self, host: Host, root: Path, rules: Mapping[str, Rules]) -> None:
        self._host = host
        self._root = root
        self._rules = rules
        self._live: LiveDatabases | None = None
        self._open: list[_Undo] = []
        self._due: list[tuple[_Undo, bool]] = []
        """What may have been committed, and whether it surely was."""

    def start(self) -> None:
        """Of what `begin` needs, all that takes time and disturbs nobody."""
        if self._live is None:
            self._live = LiveDatabases(self._host, self._root)

    def begin(self, planned: Sequence[PlannedDatabase], resolutions: Mapping[str, Resolution]) -> None:
        """Merges all, each in a transaction that stays open. Raises Refused with every conflict, and then none is."""
        conflicts: list[Conflict] = []
        try:
            for each in planned:
                self.start()
                assert self._live is not None
                merged = self._live.merge(each.place, each.path, each.found, resolutions, self._rules)
                self._open.append(_Undo(each.path, each.place, merged.inverse))
                conflicts += merged.conflicts
            if conflicts:
                raise Refused(conflicts)
        except BaseException:
            self.drop()
            raise

    def commit(self) -> None:
        """Durable when it returns, and everybody sees it. Repeating it is harmless."""
        if not self._open or self._live is None:
            return
        write_journal(self._host, self._root, self._open)
        try:
            for step in self._open:
                self._due.append((step, False))
                self._live.commit(step.path)
                self._due[-1] = (step, True)
        finally:
            self.drop()

    def drop(self) -> None:
        """Rolls back what is open."""
        self._open = []
        if self._live is not None:
            self._live.close()
            self._live = None

    def undo(self) -> list[str]:
        """As it was before `begin`, but for what others have written since; says what could not be."""
        self.drop()
        left = []
        while self._due:
            step, is_committed = self._due[-1]
            # Numbers that add up would be taken off also if they had never been added.
            left += _take_back(self._host, self._root, [step], self._rules if is_committed else {})
            self._due.pop()
        self.close()
        return left

    def close(self) -> None:
        """The outcome stands."""
        close_journal(self._host, self._root)


def _take_back(host: Host, root: Path, steps: Sequence[_Undo], rules: Mapping[str, Rules]) -> list[str]:
    with closing(LiveDatabases(host, root)) as live:
        taken = [live.take_back(step.place, step.path, step.inverse, rules) for step in reversed(steps)]
    return [each for left in taken for each in left]


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
        _take_back(host, root, journal.steps, {})
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

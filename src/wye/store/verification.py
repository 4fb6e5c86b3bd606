"""Whether a ledger is still what was written: every byte re-read from the store and hashed again.

Trusts nothing that is in memory. Walks from the newest entry to the first and stops at the first thing
that is not right, since what lies behind a broken link proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from wye.errors import WyeError
from wye.model import Entry, EntryId, EnvironmentName, ObjectId, Revision, RevisionId, Spec, Verb
from wye.store.values import Values

T = TypeVar("T", Entry, Revision, Spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """The first thing that is not right. `position` counts entries from the newest, which is 0."""

    kind: str
    """"entry", "revision" or "spec"."""
    id: ObjectId
    entry: EntryId
    """The entry itself, or the one through which the revision or spec was reached."""
    position: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was read and found right, and what was not."""

    name: EnvironmentName
    head: EntryId
    entries: int
    revisions: int
    specs: int
    broken: Broken | None = None

    @property
    def is_sound(self) -> bool:
        return self.broken is None


class _Wrong(Exception):
    def __init__(self, kind: str, object_id: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.object_id = ObjectId(object_id)
        self.reason = reason


def verify(values: Values, name: EnvironmentName, head: EntryId) -> Verification:
    """Checks the chain from `head`: that every entry, revision and spec is there, holds what its id says, and is
    what it should be; that times never run backwards; that all entries are of `name`, or of what it was renamed from.
    """
    revisions: set[RevisionId] = set()
    specs: set[ObjectId] = set()
    count = 0
    broken: Broken | None = None
    following: EntryId | None = head
    later: Entry | None = None
    while following is not None:
        try:
            entry = _fresh(values, following, Entry, "entry")
            _fits(following, entry, later, name)
            _check_specs(values, entry.environment.spec, specs)
            _check_revisions(values, entry, revisions, specs)
        except _Wrong as wrong:
            broken = Broken(kind=wrong.kind, id=wrong.object_id, entry=following, position=count, reason=wrong.reason)
            break
        count += 1
        later, following = entry, entry.previous
    return Verification(name=name, head=head, entries=count, revisions=len(revisions), specs=len(specs), broken=broken)


def _fits(entry_id: EntryId, entry: Entry, later: Entry | None, name: EnvironmentName) -> None:
    """Whether `entry` can be what comes before `later`, or the newest of `name`."""
    if later is not None and entry.at > later.at:
        raise _Wrong("entry", entry_id, f"its time {entry.at} is after that of the entry that follows, {later.at}")
    if later is None:
        wanted = name
    elif later.verb is Verb.RENAME:
        return
    else:
        wanted = later.environment.name
    if entry.environment.name != wanted:
        raise _Wrong("entry", entry_id, f"it is of {entry.environment.name!r}, in the ledger of {wanted!r}")


def _check_revisions(values: Values, entry: Entry, seen: set[RevisionId], specs: set[ObjectId]) -> None:
    waiting = [entry.environment.revision]
    if entry.environment.origin is not None:
        waiting.append(entry.environment.origin)
    while waiting:
        revision_id = waiting.pop()
        if revision_id in seen:
            continue
        revision = _fresh(values, revision_id, Revision, "revision")
        _check_specs(values, revision.spec, specs)
        seen.add(revision_id)
        waiting.extend(revision.parents)


def _check_specs(values: Values, spec_id: ObjectId, seen: set[ObjectId]) -> None:
    if spec_id not in seen:
        _fresh(values, spec_id, Spec, "spec")
        seen.add(spec_id)


def _fresh(values: Values, object_id: str, wanted: type[T], kind: str) -> T:
    try:
        return values.fresh(ObjectId(object_id), wanted)[0]
    except WyeError as error:
        raise _Wrong(kind, object_id, error.message) from error

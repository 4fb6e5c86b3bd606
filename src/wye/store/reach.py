"""What refs still reach: collect deletes the rest.

An environment that is there needs its whole history: all revisions of its chain with their bytes and images,
and for a fork the revision it started from (the merge base). Revisions behind those, in another environment's
history, are kept as objects for their place in the graph; their bytes are that environment's affair. One that
was discarded keeps its objects, so that its ledger can be read, and no bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from wye.interfaces import Refs
from wye.model import Entry, EntryId, ObjectId, Revision, RevisionId, SnapshotId
from wye.store import refs
from wye.store.values import Values

_OBJECT_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reachable:
    """`images` are digests. What is not in here, and was there before this was asked for, nobody needs."""

    objects: frozenset[ObjectId]
    snapshots: frozenset[SnapshotId]
    images: frozenset[str]


@dataclass(slots=True)
class _Found:
    objects: set[ObjectId] = field(default_factory=set)
    snapshots: set[SnapshotId] = field(default_factory=set)
    images: set[str] = field(default_factory=set)
    followed: set[RevisionId] = field(default_factory=set)


def reachable(values: Values, names: Refs) -> Reachable:
    """Raises ObjectMissing, ObjectDamaged or Unreadable rather than answer with less than there is."""
    found = _Found()
    # First, and before any ref is read: what a verb puts and points at meanwhile is in one or the other.
    found.objects |= values.young()
    heads = names.list("")
    found.objects.update(heads.values())
    for ref, head in heads.items():
        if ref.startswith((refs.ENVIRONMENTS, refs.DISCARDED)):
            _follow(values, EntryId(head), found, with_bytes=ref.startswith(refs.ENVIRONMENTS))
    return Reachable(
        objects=frozenset(found.objects), snapshots=frozenset(found.snapshots), images=frozenset(found.images)
    )


def _follow(values: Values, head: EntryId, found: _Found, *, with_bytes: bool) -> None:
    following: EntryId | None = head
    while following is not None:
        entry = values.get(ObjectId(following), Entry)
        found.objects.add(ObjectId(following))
        found.objects.add(entry.environment.spec)
        found.objects.update(ObjectId(text) for text in entry.arguments.values() if _OBJECT_ID.fullmatch(text))
        environment = entry.environment
        needed = [each for each in (environment.revision, environment.origin, environment.base) if each is not None]
        for revision_id in needed:
            _add_graph(values, revision_id, found)
            if with_bytes:
                revision = values.get(ObjectId(revision_id), Revision)
                found.snapshots.add(revision.snapshot)
                found.images.update(image.digest for image in revision.images.values())
        if with_bytes:
            found.images.update(image.digest for image in entry.environment.images.values())
        following = entry.previous


def _add_graph(values: Values, start: RevisionId, found: _Found) -> None:
    """A revision and all before it, with their specs."""
    waiting = [start]
    while waiting:
        revision_id = waiting.pop()
        if revision_id not in found.followed:
            found.followed.add(revision_id)
            revision = values.get(ObjectId(revision_id), Revision)
            found.objects.update((ObjectId(revision_id), revision.spec))
            waiting.extend(revision.parents)

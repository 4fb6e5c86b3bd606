"""The chain of entries behind every environment: append, read, end.

`environments/<name>` points at the newest entry, and an entry holds the state it led to, so that the state and the
record of how it came about move in one compare-and-swap: there is no second write to lose.

Two verbs move two refs, in an order in which a crash between never loses the environment, and `settle`, called once
at start before anything else, finishes what was cut short:

* discard makes `discarded/<name>/<entry>` and then removes `environments/<name>`. In between both are there, and
  the discarded entry's `previous` is the head: the environment still exists, wholly, until the second.
* rename makes `environments/<new>` and then removes `environments/<old>`, whose head is the new one's `previous`.

The first swap is not synced; the second is and carries the first with it, as all writes go to one log in order.

A chain of hashes shows every change of what it holds, but not that a ref was moved back to an older entry: that
chain is whole too. Whoever wants to see that notes `head_id` elsewhere and later looks for it with `walk`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

from wye.errors import InvariantError, NotFound, WyeError
from wye.interfaces import Objects, Refs
from wye.model import (
    Entry,
    EntryId,
    EnvironmentName,
    Intent,
    IntentId,
    ObjectId,
    Revision,
    RevisionId,
    Spec,
    Verb,
)
from wye.store import reach, refs, verification
from wye.store.values import Values


class Ledger:
    """The ledgers of all environments in one store. Safe to use from several threads; holds no state of its own
    but a memory of decoded values. Values that come back are shared: nobody changes them."""

    def __init__(self, objects: Objects, names: Refs, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._values = Values(objects, monotonic=monotonic)
        self._refs = names

    # ------------------------------------------------------------ entries

    def head_id(self, name: EnvironmentName) -> EntryId | None:
        """The newest entry's id, which stands for the whole history: note it elsewhere to be able to prove it."""
        found = self._refs.read(refs.environment(name))
        return None if found is None else EntryId(found)

    def head(self, name: EnvironmentName) -> tuple[EntryId, Entry] | None:
        """The newest entry of an environment; None if there is no such environment."""
        found = self.head_id(name)
        return None if found is None else (found, self.get_entry(found))

    def environments(self) -> dict[EnvironmentName, Entry]:
        """The newest entry of every environment, by name in order."""
        heads = self._refs.list(refs.ENVIRONMENTS)
        return {
            EnvironmentName(ref.removeprefix(refs.ENVIRONMENTS)): self.get_entry(EntryId(head))
            for ref, head in heads.items()
        }

    def walk(self, entry_id: EntryId, limit: int | None = None) -> Iterator[tuple[EntryId, Entry]]:
        """That entry and those before it, newest first, at most `limit`."""
        following: EntryId | None = entry_id
        while following is not None and (limit is None or limit > 0):
            entry = self.get_entry(following)
            yield following, entry
            following = entry.previous
            limit = None if limit is None else limit - 1

    def append(self, name: EnvironmentName, expected: EntryId | None, entry: Entry, *, durable: bool = True) -> EntryId:
        """Makes `entry` the newest of `name`, whose newest is `expected` (None: there is no such environment).

        Durable when it returns, with all that was put before; or with the next entry that is. If the clock has been
        set back, the entry gets its predecessor's time: a ledger never runs backwards. Raises RefConflict, and then
        nothing has changed."""
        entry_id = self._put_entry(name, expected, entry)
        self._swap(refs.environment(name), expected, entry_id, durable=durable)
        return entry_id

    def rename(self, name: EnvironmentName, expected: EntryId, entry: Entry) -> EntryId:
        """Makes `entry`, of verb RENAME, the newest of the environment it names and removes `name`.

        Durable when it returns. Raises RefConflict if the new name is taken or `name` has moved on."""
        if entry.verb is not Verb.RENAME or entry.environment.name == name:
            raise InvariantError(f"{entry.verb} of {name} to {entry.environment.name} is no rename")
        entry_id = self._put_entry(entry.environment.name, expected, entry)
        self._move(refs.environment(name), expected, refs.environment(entry.environment.name), entry_id)
        return entry_id

    def discard(self, name: EnvironmentName, expected: EntryId, entry: Entry) -> EntryId:
        """Ends the environment with `entry`. Its ledger stays readable; a later collect frees its snapshots.

        Durable when it returns. Repeated after a crash, it finishes the first one and returns that one's entry.
        Raises RefConflict if `name` has moved on, and then nothing has changed."""
        begun = self._begun_discard(name, expected)
        if begun is not None:
            self._swap(refs.environment(name), expected, None)
            return begun
        entry_id = self._put_entry(name, expected, entry)
        self._move(refs.environment(name), expected, refs.discarded(name, entry_id), entry_id)
        return entry_id

    def discarded(self) -> list[tuple[EntryId, Entry]]:
        """The last entry of every environment that is gone, newest first. One name may be there several times."""
        heads = {EntryId(head) for head in self._refs.list(refs.ENVIRONMENTS).values()}
        ended = [(EntryId(last), self.get_entry(EntryId(last))) for last in self._refs.list(refs.DISCARDED).values()]
        return sorted((pair for pair in ended if pair[1].previous not in heads), key=lambda pair: -pair[1].at)

    def settle(self) -> list[EnvironmentName]:
        """Finishes discards and renames that a crash cut short; the names that went. Before any other verb."""
        gone = []
        environments = self.environments()
        for name in environments:
            head = self.head_id(name)
            if head is not None and self._begun_discard(name, head) is not None:
                self._swap(refs.environment(name), head, None)
                gone.append(name)
        for entry in environments.values():
            if entry.verb is Verb.RENAME and entry.previous is not None:
                old = self.get_entry(entry.previous).environment.name
                if self.head_id(old) == entry.previous:
                    self._swap(refs.environment(old), entry.previous, None)
                    gone.append(old)
        return gone

    def verify(self, name: EnvironmentName) -> verification.Verification:
        """Reads the whole history of `name` from the disk and checks it. Raises NotFound if there is none."""
        head = self.head_id(name)
        if head is None:
            raise NotFound(f"there is no environment {name!r}")
        return verification.verify(self._values, name, head)

    # ------------------------------------------------------------ intents

    def begin(self, intent: Intent) -> None:
        """Records that a verb is about to act. Survives this process, not a power failure on its own."""
        recorded = self._values.put(intent)
        self._refs.compare_and_swap(refs.intent(intent.id), expected=None, new=recorded, durable=False)

    def end(self, intent_id: IntentId) -> None:
        """The verb is over, well or not. Repeating it is harmless."""
        ref = refs.intent(intent_id)
        recorded = self._refs.read(ref)
        if recorded is not None:
            self._refs.compare_and_swap(ref, expected=recorded, new=None, durable=False)

    def intents(self) -> list[Intent]:
        """Verbs that have begun and not ended, oldest first. At start: those that were cut short."""
        begun = [self._values.get(recorded, Intent) for recorded in self._refs.list(refs.INTENTS).values()]
        return sorted(begun, key=lambda intent: (intent.at, intent.id))

    # ------------------------------------------------------------ what entries name

    def get_entry(self, entry_id: EntryId) -> Entry:
        """Raises ObjectMissing, ObjectDamaged, Unreadable; so do the others."""
        return self._values.get(ObjectId(entry_id), Entry)

    def put_revision(self, revision: Revision) -> RevisionId:
        return RevisionId(self._values.put(revision))

    def get_revision(self, revision_id: RevisionId) -> Revision:
        return self._values.get(ObjectId(revision_id), Revision)

    def put_spec(self, spec: Spec) -> ObjectId:
        return self._values.put(spec)

    def get_spec(self, spec_id: ObjectId) -> Spec:
        return self._values.get(spec_id, Spec)

    def put_value(self, evidence: dict[str, Any]) -> ObjectId:
        """Keeps plain JSON. It lives as long as an entry has its id as the value of an argument."""
        return self._values.put(evidence)

    def get_value(self, value_id: ObjectId) -> dict[str, Any]:
        return self._values.get(value_id, dict)

    def find_revision(self, prefix: str) -> RevisionId:
        """The revision whose id begins with `prefix`. Raises BadRequest, NotFound, Ambiguous."""
        return RevisionId(self._values.find(prefix, Revision))

    def find_entry(self, prefix: str) -> EntryId:
        """The entry whose id begins with `prefix`. Raises BadRequest, NotFound, Ambiguous."""
        return EntryId(self._values.find(prefix, Entry))

    # ------------------------------------------------------------ collect

    def reachable(self) -> reach.Reachable:
        """All that some ref still needs. Raises rather than answer with less when an object cannot be read."""
        return reach.reachable(self._values, self._refs)

    def delete_unreachable(self) -> int:
        """Deletes objects that no ref reaches and nobody has put lately (see `store.values`); how many.

        Safe while verbs run."""
        there = self._values.ids()
        return self._values.delete(there - self.reachable().objects)

    # ------------------------------------------------------------ within

    def _put_entry(self, name: EnvironmentName, expected: EntryId | None, entry: Entry) -> EntryId:
        if entry.previous != expected:
            raise InvariantError(f"an entry after {entry.previous} cannot follow {expected}")
        if entry.environment.name != name:
            raise InvariantError(f"an entry of {entry.environment.name} cannot go into the ledger of {name}")
        if expected is not None:
            before = self.get_entry(expected).at
            if entry.at < before:
                entry = dataclasses.replace(entry, at=before)
        return EntryId(self._values.put(entry))

    def _move(self, old: str, expected: EntryId, new: str, entry_id: EntryId) -> None:
        """Makes ref `new` and removes `old`; undoes the first if the second is refused."""
        self._swap(new, None, entry_id, durable=False)
        try:
            self._swap(old, expected, None)
        except WyeError:
            self._swap(new, entry_id, None, durable=False)
            raise

    def _swap(self, ref: str, expected: EntryId | None, new: EntryId | None, *, durable: bool = True) -> None:
        self._refs.compare_and_swap(
            ref,
            expected=None if expected is None else ObjectId(expected),
            new=None if new is None else ObjectId(new),
            durable=durable,
        )

    def _begun_discard(self, name: EnvironmentName, head: EntryId) -> EntryId | None:
        """The entry of a discard of `head` that has made its first swap only."""
        for last in self._refs.list(f"{refs.DISCARDED}{name}/").values():
            if self.get_entry(EntryId(last)).previous == head:
                return EntryId(last)
        return None

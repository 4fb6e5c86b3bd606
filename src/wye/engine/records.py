"""Reading and writing what is recorded: environments, specs, intents.

A verb that changes an environment goes: `begin` an intent, do what must be done before, `commit` an entry (the
one compare-and-swap, the point of no return), do what must be done after, `end`. Killed before the commit, what it
made belongs to no ref and reconcile removes it; killed after, reconcile brings what is there to what is recorded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from wye.engine.context import Engine, new_intent_id, new_snapshot_id
from wye.errors import NotFound, Unavailable, WyeError
from wye.model import (
    PRODUCTION,
    Entry,
    EntryId,
    Environment,
    EnvironmentId,
    EnvironmentName,
    Event,
    Image,
    Intent,
    ObjectId,
    Revision,
    RevisionId,
    SnapshotId,
    Spec,
    Verb,
)


@dataclass(frozen=True, slots=True)
class Head:
    """An environment as its newest entry has it."""

    id: EntryId
    entry: Entry

    @property
    def environment(self) -> Environment:
        return self.entry.environment


def find(engine: Engine, name: EnvironmentName) -> Head | None:
    found = engine.ledger.head(name)
    return None if found is None else Head(*found)


def require(engine: Engine, name: EnvironmentName) -> Head:
    """Raises NotFound, with the names that there are."""
    head = find(engine, name)
    if head is None:
        known = sorted(engine.ledger.environments())
        hint = f"there are: {', '.join(known[:20])}" if known else "there are none yet: 'wye up' makes the first one"
        production = find(engine, PRODUCTION)
        if production is not None and name in spec_of(engine, production.environment).services:
            hint = f"{name!r} is a service; an environment is named first: {PRODUCTION} {name}"
        raise NotFound(f"there is no environment {name!r}", hint=hint)
    return head


def spec_of(engine: Engine, environment: Environment) -> Spec:
    return engine.ledger.get_spec(environment.spec)


@dataclass(frozen=True, slots=True)
class Change:
    """A verb under way. `commit` appends its entry."""

    engine: Engine
    intent: Intent
    previous: EntryId | None

    def entry(
        self, environment: Environment, *, verb: Verb | None = None, message: str = "", previous: EntryId | None = None
    ) -> Entry:
        """The entry that says that this verb led to `environment`."""
        previous = previous or self.previous
        earlier = self.engine.ledger.get_entry(previous).at if previous is not None else 0.0
        return Entry(
            previous=previous,
            verb=verb or self.intent.verb,
            actor=self.intent.actor,
            at=max(self.engine.host.now(), earlier),  # a clock that was set back does not make a ledger run backwards
            environment=environment,
            arguments=self.intent.arguments,
            message=message,
            intent=self.intent.id,
        )

    def commit(
        self,
        environment: Environment,
        *,
        verb: Verb | None = None,
        message: str = "",
        previous: EntryId | None = None,
        durable: bool = True,
    ) -> Head:
        """Appends an entry and moves the ref; durable when it returns, unless the verb commits once more before it
        answers. Raises RefConflict if somebody was faster."""
        entry = self.entry(environment, verb=verb, message=message, previous=previous)
        self.engine.host.at(f"{self.intent.verb}:commit")
        entry_id = self.engine.ledger.append(environment.name, entry.previous, entry, durable=durable)
        self.engine.host.at(f"{self.intent.verb}:committed")
        return Head(entry_id, entry)


@contextmanager
def change(
    engine: Engine, verb: Verb, name: EnvironmentName, *, actor: str, previous: EntryId | None, **arguments: str
) -> Iterator[Change]:
    """Records the intent, and removes it at the end, also after an error: a verb undoes what it must itself.

    Emits an event with the verb's name when it has succeeded, "<verb>-failed" when not.
    """
    intent = Intent(
        id=new_intent_id(), verb=verb, environment=name, actor=actor, at=engine.host.now(), arguments=arguments
    )
    engine.host.at(f"{verb}:intent")
    engine.ledger.begin(intent)
    try:
        yield Change(engine, intent, previous)
    except WyeError as error:
        engine.ledger.end(intent.id)
        emit(engine, f"{verb}-failed", name, error=error.message)
        raise
    engine.host.at(f"{verb}:done")
    engine.ledger.end(intent.id)
    emit(engine, str(verb), name, actor=actor, **arguments)


def emit(engine: Engine, kind: str, name: str, service: str = "", **detail: str) -> None:
    engine.events.emit(Event(at=engine.host.now(), kind=kind, environment=name, service=service, detail=detail))


def take_snapshot(
    engine: Engine, environment: Environment, *, verb: Verb, lend_to: Collection[EnvironmentId] = ()
) -> SnapshotId:
    """All the environment's bytes at this instant, under a new id."""
    snapshot = new_snapshot_id()
    engine.host.at(f"{verb}:snapshot")
    engine.volumes.snapshot(environment.id, snapshot, lend_to=lend_to)
    return snapshot


def new_revision(
    engine: Engine,
    environment: Environment,
    snapshot: SnapshotId,
    *,
    parents: tuple[RevisionId, ...] | None = None,
    spec: ObjectId | None = None,
    images: Mapping[str, Image] | None = None,
) -> RevisionId:
    """Records a revision of `environment` whose bytes are `snapshot`; by default a child of its newest."""
    return engine.ledger.put_revision(
        Revision(
            environment=environment.name,
            spec=spec or environment.spec,
            images=dict(environment.images if images is None else images),
            snapshot=snapshot,
            parents=(environment.revision,) if parents is None else parents,
            at=engine.host.now(),
        )
    )


def keep_as_revision(engine: Engine, doing: Change, head: Head, *, message: str) -> Head:
    """Takes the live bytes into history before something changes them, so that nothing is lost."""
    environment = head.environment
    snapshot = take_snapshot(engine, environment, verb=doing.intent.verb)
    revision = new_revision(engine, environment, snapshot)
    return doing.commit(replace(environment, revision=revision), verb=Verb.SNAPSHOT, message=message, previous=head.id)


def find_revision(engine: Engine, prefix: str) -> tuple[RevisionId, Revision]:
    """A revision by unique prefix whose bytes are still there. Raises NotFound, BadRequest if ambiguous."""
    revision_id = engine.ledger.find_revision(prefix)
    revision = engine.ledger.get_revision(revision_id)
    if revision.snapshot not in engine.volumes.snapshots():
        raise Unavailable(f"the bytes of revision {revision_id[:12]} are gone: its environment was discarded")
    return revision_id, revision

"""log and show: the ledger, read and verified."""

from __future__ import annotations

from dataclasses import replace

from wye.engine.context import Engine, environment_name
from wye.engine.views import EntryView, LogResult
from wye.errors import NotFound
from wye.model import Entry, EntryId, ObjectId


def log(engine: Engine, name: str, *, limit: int = 50, verify: bool = False) -> LogResult:
    """Newest first. Of an environment that was discarded too, if no living one has its name.

    `verify` hashes the whole chain of a living environment again, revisions and specs included.
    """
    named = environment_name(name)
    head = engine.ledger.head(named)
    start = head[0] if head is not None else _discarded(engine, named)
    if start is None:
        raise NotFound(f"there is no environment {name!r}, and none of that name was discarded")
    if not verify:
        return LogResult(entries=_entries(engine, start, limit), head=start)
    outcome = engine.ledger.verify(named)
    if outcome.broken is None:
        return LogResult(entries=_entries(engine, start, limit), head=start, verified=True)
    broken = outcome.broken
    problem = f"{broken.kind} {broken.id[:12]}, {broken.position} entries back: {broken.reason}"
    return LogResult(entries=(), head=start, verified=False, problem=problem)


def show(engine: Engine, prefix: str) -> EntryView:
    """One entry, by a unique prefix of its id or of the revision that it led to, with the evidence that a merge left.

    Raises NotFound, BadRequest if ambiguous."""
    try:
        entry_id = engine.ledger.find_entry(prefix)
    except NotFound:
        entry_id = _entry_with_revision(engine, prefix)
    entry = engine.ledger.get_entry(entry_id)
    kept = entry.arguments.get("evidence")
    return replace(_view(entry_id, entry), evidence=engine.ledger.get_value(ObjectId(kept)) if kept is not None else {})


def _entry_with_revision(engine: Engine, prefix: str) -> EntryId:
    """The first entry that has the revision: later ones, and forks of it, only carry it on."""
    try:
        revision = engine.ledger.find_revision(prefix)
    except NotFound as error:
        raise NotFound(
            f"no entry and no revision begins with {prefix!r}", hint="'wye log ENVIRONMENT' lists both"
        ) from error
    newest = [engine.ledger.head_id(name) for name in engine.ledger.environments()]
    newest += [entry_id for entry_id, _ in engine.ledger.discarded()]
    found = [
        (entry.at, entry_id)
        for start in newest
        if start is not None
        for entry_id, entry in engine.ledger.walk(start)
        if revision in (entry.environment.revision, entry.environment.base)
    ]
    if not found:
        raise NotFound(
            f"revision {revision[:12]} is there, but no entry of an environment's ledger leads to it",
            hint="'wye diff ENVIRONMENT --against REVISION' shows what it holds",
        )
    return min(found)[1]


def _entries(engine: Engine, start: EntryId, limit: int) -> tuple[EntryView, ...]:
    return tuple(_view(entry_id, entry) for entry_id, entry in engine.ledger.walk(start, limit=limit))


def _discarded(engine: Engine, name: str) -> EntryId | None:
    """The newest discarded chain of that name."""
    found = [(entry.at, entry_id) for entry_id, entry in engine.ledger.discarded() if entry.environment.name == name]
    return max(found)[1] if found else None


def _view(entry_id: EntryId, entry: Entry) -> EntryView:
    return EntryView(
        id=entry_id,
        previous=entry.previous,
        environment=entry.environment.name,
        verb=str(entry.verb),
        actor=entry.actor,
        at=entry.at,
        message=entry.message,
        arguments=entry.arguments,
        revision=entry.environment.revision,
        source=entry.environment.source,
    )

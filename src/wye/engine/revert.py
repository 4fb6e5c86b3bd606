"""revert: undoes a merge by the same three-way merge with the roles swapped, so that everything written since stays.

Base is the target just after the merge, theirs is the target just before it: what the merge did, backwards, goes into
the target as it is now. Where somebody has changed the same thing since, that is a conflict like any other. Of
databases it is not the difference between the two, but what the merge wrote there (`undoing`): others write all the
time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from wye.engine import comparing, landing, proposing, records, rehearsing, undoing
from wye.engine.comparing import Side, StoreChanges
from wye.engine.context import Engine
from wye.engine.outcome import Outcome
from wye.engine.timing import Steps
from wye.engine.views import MergeResult
from wye.errors import BadRequest, InvariantError
from wye.interfaces import Progress, Report
from wye.merge.conflict import Conflict
from wye.model import Entry, Verb

_NOT_IN_PLACE = ("irreversible", "ddl-failed", "schema-mismatch")
"""Kinds of conflicts that nothing settles."""


def revert(
    engine: Engine, entry_prefix: str, *, resolutions: Mapping[str, Any] | None = None, actor: str, report: Report
) -> MergeResult:
    """`entry_prefix`: of a merge's or a revert's entry. Raises NotFound, BadRequest, Unavailable if bytes are gone."""
    entry_id = engine.ledger.find_entry(entry_prefix)
    entry = engine.ledger.get_entry(entry_id)
    if entry.verb not in (Verb.MERGE, Verb.REVERT):
        raise BadRequest(
            f"entry {entry_id[:12]} is a {entry.verb}, not a merge", hint="'wye restore' goes back to any revision"
        )
    if entry.previous is None:
        raise InvariantError(f"merge {entry_id} has nothing before it")
    earlier = engine.ledger.get_entry(entry.previous).environment
    name = entry.environment.name
    outcome = Outcome(entry_id[:12], name, Steps(engine.host))
    with engine.changing(name):
        head = records.require(engine, name)
        after = comparing.at_revision(engine, head.environment, entry.environment.revision)
        before = comparing.at_revision(engine, head.environment, earlier.revision)
        with comparing.frozen(engine, head.environment) as ours:
            report(Progress(step="read", subject=f"what merge {entry_id[:12]} did"))
            with outcome.steps("read changes"):
                proposal = _propose(engine, entry, (after, ours, before), resolutions or {})
                proposal, given = proposing.settled(engine, proposal, resolutions or {})
            rehearsing.rehearse(engine, proposal, given, (), outcome, report)
            outcome.conflicts = tuple(_with_way_back(each, name, before) for each in outcome.conflicts)
            if not outcome.is_clean or not outcome.brings_something:
                return outcome.result()
            told = {"reverts": entry_id, "restarts": ",".join(proposal.restarts())}
            with records.change(engine, Verb.REVERT, name, actor=actor, previous=head.id, **told) as doing:
                landing.land(
                    engine, doing, head, proposal, given, outcome, message=f"revert {entry_id[:12]}", report=report
                )
    return outcome.result()


def _with_way_back(conflict: Conflict, name: str, before: Side) -> Conflict:
    """What cannot be taken back in place has another way."""
    if conflict.kind not in _NOT_IN_PLACE:
        return conflict
    return replace(
        conflict, detail=f"{conflict.detail}; 'wye restore {name} {before.revision[:12]}' goes back to before it"
    )


def _propose(
    engine: Engine, entry: Entry, sides: tuple[Side, Side, Side], resolutions: Mapping[str, Any]
) -> proposing.Proposal:
    after, ours, before = sides
    if entry.intent is None:
        raise InvariantError("a merge without an intent")
    root = engine.volumes.snapshot_path(after.snapshot)
    stores = comparing.stores_of(engine, after)
    read = []
    for store in stores:
        kept = undoing.kept(root, entry.intent, store.volume)
        if kept is not None:
            earlier = partial(undoing.server_before, engine, before, store)
            read.append(StoreChanges(store, store.kind.load(kept, place=store.place, before=earlier)))
    written = undoing.kept_paths(root, entry.intent)
    paths = [change for change in comparing.file_changes(engine, after, before, stores) if change.path in written]
    return proposing.assemble(engine, after, ours, before, read, paths, resolutions, back=True)

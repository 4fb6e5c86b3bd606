"""revert: undoes a merge by the same three-way merge with the roles swapped, so that everything written since stays.

Base is the target just after the merge, theirs is the target just before it: what the merge did, backwards, goes into
the target as it is now. Where somebody has changed the same thing since, that is a conflict like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from wye.engine import comparing, landing, proposing, records, rehearsing
from wye.engine.context import Engine
from wye.engine.outcome import Outcome
from wye.engine.timing import Steps
from wye.engine.views import MergeResult
from wye.errors import BadRequest, InvariantError
from wye.interfaces import Progress, Report
from wye.model import Verb


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
    with engine.changing(name), ExitStack() as held:
        head = records.require(engine, name)
        after = comparing.at_revision(engine, head.environment, entry.environment.revision)
        before = comparing.at_revision(engine, head.environment, earlier.revision)
        with comparing.frozen(engine, head.environment) as ours:
            report(Progress(step="read", subject=f"what merge {entry_id[:12]} did"))
            with outcome.steps("read changes"):
                proposal = proposing.propose(engine, held, after, ours, before, resolutions or {}, live=False)
                proposal, given = proposing.settled(engine, held, proposal, resolutions or {}, live=False)
            rehearsing.rehearse(engine, proposal, given, (), outcome, report)
            if not outcome.is_clean or proposal.is_empty:
                return outcome.result()
            with records.change(engine, Verb.REVERT, name, actor=actor, previous=head.id, reverts=entry_id) as doing:
                landing.land(
                    engine, doing, head, proposal, given, outcome, message=f"revert {entry_id[:12]}", report=report
                )
    return outcome.result()
